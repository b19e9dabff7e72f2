"""Rows of the networks: some to calibrate on, and others to judge by, from other images, sounds or files.

Crops of one image are not two images. Where a network has few images of its own, the others of the folder
and CIFAR images in its size are calibrated on; where it has one sound, tones that are made up; where it has
states of a system, states that are drawn. A network with a single real input is judged on that, and named.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from PIL import Image

Rows = dict[str, np.ndarray]
"""Inputs of a network by name, (rows, ...)."""

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ("astronaut", "chelsea", "dog", "horses", "ocr_sample", "page")
MOST_ROWS = 4000
"""Calibration rows at most: small networks of which states can be drawn get as many."""

MOST_JUDGED = 64

IMAGE_ROWS = 64
"""Images that are resized for a network to calibrate on."""

MIXED_ROWS = 2000
"""Mixtures of two rows."""

SOUNDS = 8
"""Made-up sounds."""


@dataclass(frozen=True)
class Material:
    """What a network is calibrated on and judged by, a row each.

    Attributes:
        used: to calibrate on.
        judged: to judge by.
        said: where both are from, in words.
        is_single: whether all that is judged by comes from one real input.
    """

    used: list[Rows]
    judged: list[Rows]
    said: str
    is_single: bool = False


def inputs_of(folder: Path) -> Any:
    """Return the module that reads the samples of a folder of networks.

    Raises:
        ClickException: there is none.
    """
    path = folder / "data/inputs.py"
    spec = importlib.util.spec_from_file_location("wild_inputs", path)
    if spec is None or spec.loader is None:
        raise click.ClickException(f"{path} cannot be read")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def material(folder: Path, name: str) -> Material:
    """Return the rows of a network."""
    inputs = inputs_of(folder)
    if name in PICTURED:
        return _pictured(inputs, name)
    if name in MADE:
        return MADE[name](inputs)
    feeds: list[Rows] = inputs.feeds(name, 2 * MOST_ROWS)
    if len(feeds) == 1:  # of many rows
        (feed,) = feeds
        feeds = [{k: v[i : i + 1] for k, v in feed.items()} for i in range(len(next(iter(feed.values()))))]
    if name in STATES:
        used, judged = feeds[0::2], feeds[1::2]
        drawn = STATES[name](used, MOST_ROWS - len(used))
        return Material([*used, *drawn], judged, f"{len(used)} states of the network's own, and drawn ones")
    if name in STREAMS:
        half = len(feeds) // 2
        if name in FEW:
            drawn = _between(feeds[:half], MIXED_ROWS)
            said = f"the first half of the recordings ({half} rows), and mixtures of two of these"
            return Material([*feeds[:half], *drawn], feeds[half:], said)
        return Material(feeds[:half], feeds[half:], "the first half of the recordings")
    return Material(feeds[0::2], feeds[1::2], "every other row")


STREAMS = frozenset({"dtln_model_1", "ecg_model", "oww_embedding", "silero_vad_16k_op15"})
"""Networks whose rows follow one another in time."""

FEW = frozenset({"silero_vad_16k_op15"})
"""Of these, those that come with too few rows to calibrate on."""


def _between(feeds: Sequence[Rows], count: int) -> list[Rows]:
    """Return rows that lie between two others, at random, from half to one and a half of their spread."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(max(count, 0)):
        one, other = random.choice(len(feeds), 2, replace=False)
        share = np.float32(random.uniform())
        norm, wide = np.sqrt(share**2 + (1 - share) ** 2), random.uniform(0.5, 1.5)
        mixed = {}
        for key, value in feeds[one].items():
            mean = np.mean([feed[key] for feed in feeds], axis=0)
            away = share * (value - mean) + (1 - share) * (feeds[other][key] - mean)
            mixed[key] = (mean + wide * away / norm).astype(value.dtype)
        found.append(mixed)
    return found


ENCOUNTERS = ((-0.3284, 0.68), (-0.5, 0.5), (-0.5, 0.5), (-0.5, 0.5), (-0.5, 0.5))
"""Ranges of the inputs of ACAS Xu as it normalises them: distance, two angles, two speeds."""


def _encounters(feeds: Sequence[Rows], count: int) -> list[Rows]:
    """Return encounters of two aircraft of which every number is drawn on its own from its whole range."""
    random = np.random.default_rng(0)
    low, high = np.array(ENCOUNTERS).T
    return [
        {
            key: random.uniform(low, high).astype(np.float32).reshape(value.shape)
            for key, value in feeds[0].items()
        }
        for _ in range(count)
    ]


STATES: dict[str, Callable[[Sequence[Rows], int], list[Rows]]] = {
    "acasxu_1_1": _encounters,
    "diogenes_hopper_elu_policy": _between,
    "go1_joystick_policy": _between,
    "latent_radio_decoder": _between,
}
"""Networks of states, and how others are drawn."""


def cifar(inputs: Any, count: int) -> list[Image.Image]:
    """Return CIFAR-10 images of the test set, evenly spaced."""
    images = inputs.corpus("cifar10_test_dev", 5000)
    return [Image.fromarray(images[i]) for i in np.linspace(0, len(images) - 1, count).astype(int)]


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _letterbox(inputs: Any, image: Image.Image, size: int) -> np.ndarray:
    scale = min(size / image.width, size / image.height)
    values = inputs.arr(_resized(image, int(image.width * scale), int(image.height * scale)), True)
    found = np.full((size, size, 3), 114, np.float32)
    found[: values.shape[0], : values.shape[1]] = values
    return found


PICTURED: dict[str, tuple[str, tuple[str, ...], Callable[[Any, Image.Image], np.ndarray]]] = {
    "ultraface_rfb320_nopost": (
        "input",
        ("astronaut",),
        lambda m, image: m.chw((m.arr(_resized(image, 320, 240)) - 127) / 128),
    ),
    "mediapipe_face_landmark": (
        "input_1",
        ("astronaut",),
        lambda m, image: m.chw(m.arr(_resized(image, 192, 192)) / 255),
    ),
    "selfie_segmentation_landscape": (
        "input_1:0",
        ("astronaut",),
        lambda m, image: (m.arr(_resized(image, 256, 256).crop((0, 0, 256, 144))) / 255)[None],
    ),
    "yolox_nano": ("images", ("dog", "horses"), lambda m, image: m.chw(_letterbox(m, image, 416))),
    "espcn_x3_pytorch_tutorial": (
        "input",
        ("dog",),
        lambda m, image: m.luma(
            image.resize((672, 672), Image.Resampling.LANCZOS).resize((224, 224), Image.Resampling.BICUBIC)
        ),
    ),
    "fsrcnn_fp16": (
        "input",
        ("chelsea",),
        lambda m, image: m.luma(_resized(image, 150, 100)).astype(np.float16),
    ),
}
"""Networks of images: their input, the images that they are judged by, and what makes a row of an image."""

FACES = (1.5, 1.7, 1.9)
"""Widths of the crops of the one face, in heads."""


def _pictured(inputs: Any, name: str) -> Material:
    """Return the rows of a network of images: those that it is judged by, and all others."""
    entry, judged, row = PICTURED[name]
    others = [image for image in IMAGES if image not in judged]
    images = [*map(inputs.img, others), *cifar(inputs, IMAGE_ROWS - len(others))]
    used = [{entry: row(inputs, image)} for image in images]
    shown = [inputs.img(image) for image in judged]
    if name == "mediapipe_face_landmark":
        shown = [inputs.face(width, 192) for width in FACES]
    said = f"{len(others)} other images, and CIFAR images resized"
    return Material(used, [{entry: row(inputs, image)} for image in shown], said, len(judged) == 1)


def _lines(inputs: Any) -> Material:
    """Return lines of text: those of one page to calibrate on, those of another to judge by."""
    judged = inputs.ppocr_cls()
    page = inputs.img("page")
    height, used = max(page.height // 24, 16), []
    for top in range(0, page.height - height, height):
        for turn in (0, 180):
            line = page.crop((0, top, page.width, top + height)).rotate(turn)
            width = min(192, int(48 * line.width / line.height))
            row = np.zeros((48, 192, 3), np.float32)
            row[:, :width] = (inputs.arr(_resized(line, width, 48), True) / 255 - 0.5) / 0.5
            used.append({"x": inputs.chw(row)})
    return Material(used, judged, "the lines of another page, upright and upside down")


def _sounds(inputs: Any) -> Material:
    """Return one recording to judge by, and chords of decaying harmonics to calibrate on."""
    (judged,) = inputs.feeds("basic_pitch_nmp", 1)
    ((name, real),) = judged.items()
    random, used = np.random.default_rng(0), []
    time = np.arange(real.shape[1]) / 22_050
    for _ in range(SOUNDS):
        sound = 0.01 * random.standard_normal(real.shape[1])
        for _ in range(4):
            start, pitch = random.uniform(0, 1.5), 440 * 2 ** ((random.integers(45, 90) - 69) / 12)
            loudness = np.where(time > start, np.exp(-3 * np.maximum(time - start, 0)), 0)
            sound += sum(
                loudness * np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6) if pitch * k < 11_000
            )
        loudest = np.abs(sound).max()
        used.append({name: (float(np.abs(real).max()) * sound / loudest).astype(np.float32)[None, :, None]})
    return Material(used, [judged], f"{SOUNDS} made-up chords", is_single=True)


def _files(inputs: Any) -> Material:
    """Return bytes of files: those that come with the network to judge by, this project's to calibrate on."""
    judged = inputs.feeds("magika_standard_v3_3", 1000)
    ((name, _),) = judged[0].items()
    paths = [
        path
        for folder in ("docs", "snnc", "tests", "models", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and path.stat().st_size > 100 and "__pycache__" not in path.parts
    ]
    kinds: dict[str, list[Path]] = {}
    for path in paths:
        kinds.setdefault(path.suffix, []).append(path)
    chosen = [kept[i] for i in range(IMAGE_ROWS) for kept in kinds.values() if i < len(kept)][:IMAGE_ROWS]
    used = [{name: file_row(path.read_bytes())[None]} for path in chosen]
    return Material(used, judged, f"{len(used)} files of this project")


def file_row(content: bytes) -> np.ndarray:
    """Return the first and last 1,024 bytes of a file, (2048,) int32, as magika takes them; 256 for none."""
    begin, end = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
    found = np.full(2048, 256, np.int32)
    found[: len(begin)] = np.frombuffer(begin, np.uint8)
    found[2048 - len(end) :] = np.frombuffer(end, np.uint8)
    return found


def _words(inputs: Any) -> Material:
    """Return windows of two recordings: of each, every other third of a second or so."""
    feeds = inputs.feeds("oww_hey_mycroft", 1000)
    used = [feed for i, feed in enumerate(feeds) if i // 2 % 2 == 0]
    judged = [feed for i, feed in enumerate(feeds) if i // 2 % 2]
    return Material(used, judged, "other windows of the same two recordings")


MADE: dict[str, Callable[[Any], Material]] = {
    "basic_pitch_nmp": _sounds,
    "magika_standard_v3_3": _files,
    "oww_hey_mycroft": _words,
    "ppocr_mobile_cls": _lines,
}
"""Networks whose rows are made in another way."""


def joined(feeds: Sequence[Rows]) -> Rows:
    """Return several rows as one batch; what has no rows, such as a sample rate, stays as it is."""
    return {
        name: np.concatenate([feed[name] for feed in feeds]) if value.ndim else value
        for name, value in feeds[0].items()
    }


def spread(feeds: Sequence[Rows], count: int) -> list[Rows]:
    """Return so many of the rows, evenly spaced."""
    if count >= len(feeds):
        return list(feeds)
    return [feeds[i] for i in np.linspace(0, len(feeds) - 1, count).astype(int)]


def numbers(feed: Rows) -> tuple[str, ...]:
    """Return ``--fix`` of the inputs that are single numbers, such as a sample rate."""
    return tuple(f"{name}={value.item()}" for name, value in feed.items() if not value.ndim)


def open_shapes(path: Path, feed: Rows) -> tuple[str, ...]:
    """Return ``--shape`` of the inputs whose sizes a file leaves open, beside the batch."""
    found = []
    for value in onnx.load(path, load_external_data=False).graph.input:
        sizes = value.type.tensor_type.shape.dim
        if value.name in feed and any(size.dim_value < 1 for size in sizes[1:]):
            found.append(f"{value.name}={','.join(map(str, feed[value.name].shape))}")
    return tuple(found)
