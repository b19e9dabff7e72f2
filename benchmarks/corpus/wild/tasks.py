"""Whether a converted network still does its task: detections, text, classes, actions, masks, pictures.

Each check holds the answers of the spiking network to those of its source, on the judged rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus.wild.fidelity import sqnr

Answers = dict[str, NDArray[np.float64]]
Boxes = list[tuple[NDArray[np.float64], int, float]]
"""Detections: corners (left, top, right, bottom), class, score."""

OVERLAP = 0.5
NEAR = 0.05
"""Scores may differ by so much; a detection so near to the least score may be missing."""


@dataclass(frozen=True)
class Check:
    """What was found of a task.

    Attributes:
        said: in words, with the figure.
        holds: whether the target is met; ``None`` where there is none.
    """

    said: str
    holds: bool | None


def check(name: str, source: Answers, spiking: Answers) -> Check | None:
    """Return what is found of a network's task; ``None`` where no task is known.

    Args:
        name: of the network.
        source: what it answers, (rows, ...) each.
        spiking: what the converted network answers.
    """
    return TASKS[name](source, spiking) if name in TASKS else None


def iou(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intersection over union of a box, (4,), and others, (n, 4)."""
    low, high = np.maximum(one[:2], others[:, :2]), np.minimum(one[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return shared / np.maximum(np.prod(one[2:] - one[:2]) + areas - shared, 1e-12)


def suppressed(boxes: NDArray[np.float64], scores: NDArray[np.float64], kind: int, least: float) -> Boxes:
    """Return the boxes of one class that score highest where they overlap.

    Args:
        boxes: (n, 4).
        scores: (n,).
        kind: the class.
        least: the lowest score.
    """
    left = [int(i) for i in np.argsort(-scores) if scores[i] >= least]
    found: Boxes = []
    while left:
        best, *rest = left
        found.append((boxes[best], kind, float(scores[best])))
        apart = iou(boxes[best], boxes[rest]) < OVERLAP if rest else ()
        left = [i for i, kept in zip(rest, apart, strict=True) if kept]
    return found


def same_detections(source: Boxes, spiking: Boxes, least: float) -> tuple[int, int]:
    """Return how many detections of either network the other has, too, and how many there are.

    The same is one of the class at IoU 0.5 or more whose score differs by 0.05 at most. What scores less than
    that above the least score is not asked for.

    Args:
        source: of one row.
        spiking: of the other network.
        least: the lowest score that counts.
    """

    def has(other: Boxes, box: NDArray[np.float64], kind: int, score: float) -> bool:
        return any(
            k == kind and abs(s - score) <= NEAR and iou(box, b[None])[0] >= OVERLAP for b, k, s in other
        )

    asked = [(*each, other) for mine, other in ((source, spiking), (spiking, source)) for each in mine]
    asked = [each for each in asked if each[2] >= least + NEAR]
    return sum(has(other, box, kind, score) for box, kind, score, other in asked), len(asked)


FACE = 0.5
OBJECT = 0.3
"""Least scores."""

FACE_BOXES = ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256)))
"""Strides of UltraFace's maps, and the sizes of the boxes at each of their places, in pixels of 320 x 240."""


def faces(answers: Answers, row: int) -> Boxes:
    """Return the faces that UltraFace finds, corners in 0..1 (the boxes of the repository's `box_utils`)."""
    priors = [
        ((i + 0.5) * stride / 320, (j + 0.5) * stride / 240, size / 320, size / 240)
        for stride, sizes in FACE_BOXES
        for j in range(-(-240 // stride))
        for i in range(320 // stride)
        for size in sizes
    ]
    prior, found = np.clip(np.array(priors), 0, 1), answers["boxes"][row]
    middle = found[:, :2] * 0.1 * prior[:, 2:] + prior[:, :2]
    half = np.exp(found[:, 2:] * 0.2) * prior[:, 2:] / 2
    corners = np.concatenate([middle - half, middle + half], axis=1)
    return suppressed(corners, answers["scores"][row, :, 1], 0, FACE)


def objects(answers: Answers, row: int) -> Boxes:
    """Return the objects that YOLOX finds, corners in pixels."""
    (found,) = (value[row] for value in answers.values())
    places = [
        (i, j, stride) for stride in (8, 16, 32) for j in range(416 // stride) for i in range(416 // stride)
    ]
    grid = np.array(places, np.float64)
    middle, half = (found[:, :2] + grid[:, :2]) * grid[:, 2:], np.exp(found[:, 2:4]) * grid[:, 2:] / 2
    corners = np.concatenate([middle - half, middle + half], axis=1)
    scores = found[:, 4:5] * found[:, 5:]
    kinds = np.unique(scores.argmax(axis=1)[scores.max(axis=1) >= OBJECT])
    return [box for kind in kinds for box in suppressed(corners, scores[:, kind], int(kind), OBJECT)]


def _detections(find: Callable[[Answers, int], Boxes], least: float) -> Callable[[Answers, Answers], Check]:
    def judged(source: Answers, spiking: Answers) -> Check:
        rows = range(len(next(iter(source.values()))))
        counts = [same_detections(find(source, row), find(spiking, row), least) for row in rows]
        same, asked = (sum(each) for each in zip(*counts, strict=True))
        return Check(f"{same} of {asked} detections the same", same == asked)

    return judged


def text(scores: NDArray[np.float64]) -> str:
    """Return what a row of scores by place and sign, (places, signs), reads; the last sign is the blank."""
    best = scores.argmax(axis=1)
    read = [k for i, k in enumerate(best) if k != scores.shape[1] - 1 and (i == 0 or k != best[i - 1])]
    return " ".join(map(str, read))


def _texts(source: Answers, spiking: Answers) -> Check:
    (ours,), (theirs,) = spiking.values(), source.values()
    same = sum(text(one) == text(other) for one, other in zip(ours, theirs, strict=True))
    return Check(f"{same} of {len(ours)} texts the same", same == len(ours))


def _classes(source: Answers, spiking: Answers) -> Check:
    (ours,), (theirs,) = spiking.values(), source.values()
    same = int((ours.argmax(axis=-1) == theirs.argmax(axis=-1)).sum())
    return Check(f"{same} of {len(ours)} classes the same", same == len(ours))


def _classes_told(source: Answers, spiking: Answers) -> Check:
    return Check(_classes(source, spiking).said, None)


def _decisions(source: Answers, spiking: Answers) -> Check:
    (ours,), (theirs,) = spiking.values(), source.values()
    same = int(((ours > 0.5) == (theirs > 0.5)).sum())
    return Check(f"{same} of {ours.size} decisions the same", same == ours.size)


def _actions(source: Answers, spiking: Answers) -> Check:
    """Hold actions to 1 % of the range of all of them over the judged rows."""
    (ours,), (theirs,) = spiking.values(), source.values()
    ours, theirs = (each.reshape(len(each), -1) for each in (ours, theirs))
    away = np.abs(ours - theirs).max(axis=0)
    error, own = float(away.max() / np.ptp(theirs)), float((away / np.ptp(theirs, axis=0)).max())
    said = f"actions within {100 * error:.2f} % of their range ({100 * own:.2f} % of the own range of one)"
    return Check(said, error <= 0.01)


def _advice(source: Answers, spiking: Answers) -> Check:
    (ours,), (theirs,) = spiking.values(), source.values()
    same = int((ours.argmin(axis=-1) == theirs.argmin(axis=-1)).sum())
    return Check(f"{same} of {len(ours)} advisories the same", None)


def _mask(source: Answers, spiking: Answers) -> Check:
    (ours,), (theirs,) = (value > 0.5 for value in spiking.values()), (v > 0.5 for v in source.values())
    found = float((ours & theirs).sum() / max((ours | theirs).sum(), 1))
    return Check(f"IoU of the mask {found:.4f}", found >= 0.98)


def _picture(source: Answers, spiking: Answers) -> Check:
    """Hold a picture to 35 dB of SQNR, of which its mean is a part, as docs/metrics.md has it."""
    ((name, ours),) = spiking.items()
    found = sqnr(source[name], ours, mean=0.0)
    return Check(f"{found:.1f} dB with the mean", found is not None and found >= 35)


def _landmarks(source: Answers, spiking: Answers) -> Check:
    name = max(source, key=lambda key: source[key].size)
    away = np.linalg.norm((spiking[name] - source[name]).reshape(-1, 3)[:, :2], axis=1)
    return Check(f"landmarks off by {away.mean():.2f} pixels of 192, {away.max():.2f} at most", None)


TASKS: dict[str, Callable[[Answers, Answers], Check]] = {
    "acasxu_1_1": _advice,
    "diogenes_hopper_elu_policy": _actions,
    "espcn_x3_pytorch_tutorial": _picture,
    "fsrcnn_fp16": _picture,
    "go1_joystick_policy": _actions,
    "hls4ml_three_layer_keras": _classes_told,
    "magika_standard_v3_3": _classes,
    "mediapipe_face_landmark": _landmarks,
    "oww_hey_mycroft": _decisions,
    "ppocr_mobile_cls": _classes,
    "sat_captcha_crnn": _texts,
    "selfie_segmentation_landscape": _mask,
    "tinycnn_cifar_int8_ort": _classes_told,
    "tinynet_se_cifar_fp32": _classes_told,
    "tinynet_se_cifar_qdq_int8": _classes_told,
    "ultraface_rfb320_nopost": _detections(faces, FACE),
    "vnn23_vit_ibp_3_3_8": _classes_told,
    "yolox_nano": _detections(objects, OBJECT),
}
