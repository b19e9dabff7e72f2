"""Train a network of leaky neurons on frames, from nothing, to the integers that are written."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from snnc import __version__
from snnc.artefact import Artefact, Metadata
from snnc.backends import load_simulator
from snnc.cores import available_cores
from snnc.data.leakage import row_hashes
from snnc.errors import InputError, InternalError, NonFiniteError, UsageError
from snnc.ir import snn
from snnc.ir.bounds import provable_timesteps, unproved
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, IntArray, NumberArray, Shape
from snnc.ir.layout import InputLayout
from snnc.ir.neuron import Neuron
from snnc.metrics import Share
from snnc.progress import Callback, Progress, as_progress
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import encode
from snnc.training.extra import require_torch

if TYPE_CHECKING:
    from snnc.training.leaky_network import LeakyNetwork

NEURONS = ("lif", "da-lif", "cuba-lif")
START = 0.9
"""The decay of a potential, and where learned ones begin."""

SYNAPSE = 0.5
"""The decay of the synaptic filter of CubaLIF."""

HIDDEN = 128
LARGE = 24
"""Frames from so many pixels on a side are convolved."""

EQUAL_ROWS = 32
"""Rows on which the counts of the simulator are compared with those of the module."""


@dataclass(frozen=True, slots=True)
class TrainedLeaky:
    """The result of :func:`train_leaky`.

    Attributes:
        artefact: the network in integers.
        held_back: its accuracy on rows that were not learned from.
        equal_rows: rows on which all counts were those of the module.
        decays: the least and the largest decay of each population.
    """

    artefact: Artefact
    held_back: Share
    equal_rows: int
    decays: dict[str, tuple[float, float]]


def leaky_graph(
    shape: Shape, timesteps: int, classes: int, seed: int = 0, *, filtered: bool = False
) -> snn.SnnGraph:
    """Return an untrained network in float32: two convolutions on large frames, a hidden layer, a read-out.

    Args:
        shape: of a frame.
        timesteps: T.
        classes: how many.
        seed: of the weights.
        filtered: whether a synaptic filter stands before each potential but that of the read-out.
    """
    rng = np.random.default_rng(seed)
    nodes: list[snn.SnnNode] = [
        snn.Encode(name="x", shape=shape, scale=1.0, presented=snn.Presented.SEQUENCE)
    ]

    def weights(*sizes: int) -> FloatArray:
        return (rng.normal(size=sizes) / np.sqrt(prod(sizes[1:]))).astype(np.float32)

    def population(name: str, read: str, size: Shape) -> None:
        one = np.ones(size[0], np.float32)
        nodes.append(
            snn.IntegrateFire(
                name=name,
                inputs=(read,),
                shape=size,
                threshold=one,
                bias=0 * one,
                v_init=0 * one,
                spike_scale=one,
                neuron=Neuron(count_memory=False),
                decay=START * one,
                synapse_decay=SYNAPSE * one if filtered else None,
            )
        )

    last = "x"
    if len(shape) == 3 and min(shape[1:]) >= LARGE:
        for number, (channels, kernel) in enumerate(((12, 5), (32, 3)), 1):
            half = kernel // 2
            window = Window((kernel, kernel), (2, 2), (half, half, half, half))
            weight = weights(channels, nodes[-1].channels, kernel, kernel)
            size = (channels, *window.output_size(*nodes[-1].shape[1:]))
            conv = snn.Convolution(
                name=f"conv{number}", inputs=(last,), shape=size, weight=weight, window=window
            )
            nodes.append(conv)
            last = f"lif{number}"
            population(last, conv.name, size)
    if len(nodes[-1].shape) > 1:
        nodes.append(snn.Reshape(name="flat", inputs=(last,), shape=(prod(nodes[-1].shape),)))
        last = "flat"
    inputs = nodes[-1].channels
    nodes.append(snn.Linear(name="hidden.w", inputs=(last,), shape=(HIDDEN,), weight=weights(HIDDEN, inputs)))
    population("hidden", "hidden.w", (HIDDEN,))
    nodes.append(
        snn.Linear(name="y.w", inputs=("hidden",), shape=(classes,), weight=weights(classes, HIDDEN))
    )
    decay = np.full(classes, START, np.float32)
    bias = np.zeros(classes, np.float32)
    nodes.append(snn.Readout(name="y", inputs=("y.w",), shape=(classes,), bias=bias, decay=decay))
    graph = snn.SnnGraph(name="leaky", timesteps=timesteps, outputs=("y",), nodes=tuple(nodes))
    graph.verify()
    return graph


def train_leaky(
    neurons: str,
    x: Any,
    y: Any,
    *,
    epochs: float = 30,
    method: str = "bptt",
    decays: str = "channel",
    batch: int = 50,
    rate: float = 4e-3,
    shift: int = 2,
    held_back: float = 0.1,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | Callback | None = None,
) -> TrainedLeaky:
    """Train a network of leaky neurons on frames.

    Args:
        neurons: ``lif``, with a decay of 0.9; ``da-lif``, with two that are learned; ``cuba-lif``, with a
            synaptic filter of 0.5 before a potential of 0.9.
        x: (n, T, *shape) frames: counts or numbers up to 2,047.
        y: (n,) classes from 0.
        epochs: passes over the rows.
        method: ``bptt``, ``rate`` or ``tssl``; see :mod:`snnc.training.leaky_neurons`.
        decays: of DA-LIF, for each ``layer`` or ``channel``.
        batch: rows of a gradient.
        rate: largest learning rate.
        shift: by how many pixels frames are moved at random, if they are images.
        held_back: share of the rows that the result is judged by.
        seed: of weights, rows and shifts.
        threads: of torch and the simulator; all cores by default.
        progress: as for a conversion.

    Raises:
        UsageError: torch is not installed, or an argument makes no sense.
        InputError: rows or classes do not fit.
        InternalError: a count of the simulator is not that of the module.
    """
    require_torch("training")
    import torch

    from snnc.training.leaky_network import LeakyNetwork

    if neurons not in NEURONS:
        raise UsageError(f"{neurons!r} are no leaky neurons: known are {', '.join(NEURONS)}")
    frames, labels = checked_frames(x, y)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    count = max(1, round(held_back * len(labels)))
    if not 0 < held_back < 1 or count >= len(labels):
        raise UsageError(
            f"{held_back} of {len(labels)} rows held back leaves none to learn from, or none to judge"
        )
    held, learned = order[:count], order[count:]
    classes = int(labels.max()) + 1
    graph = leaky_graph(frames.shape[2:], frames.shape[1], classes, seed, filtered=neurons == "cuba-lif")
    q = encode(graph.encoder, frames)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or available_cores())
    torch.manual_seed(seed)
    try:
        module = LeakyNetwork(graph, method, decays if neurons == "da-lif" else "none")
        _fit_scales(module, q[learned[:64]])
        parameters = [each for _, each in module.learned]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "lr": rate, "weight_decay": 0.05},
            {"params": [p for p in parameters if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
        ]
        learn(
            module,
            q[learned],
            labels[learned],
            groups,
            epochs=epochs,
            batch=batch,
            shift=shift,
            rng=rng,
            progress=as_progress(progress),
        )
        module.quantise()
        found = replace(module.quantised, name=neurons)
        proved = provable_timesteps(found)
        if proved < found.timesteps:
            raise UsageError(unproved(found, proved))
        found = replace(found, max_timesteps=proved)
        equal = compared(module, found, q[held[:EQUAL_ROWS]])
    finally:
        torch.set_num_threads(before)
    answers = load_simulator("numba", threads).run(found, q[held], found.timesteps).logits
    right = int((answers.argmax(axis=1) == labels[held]).sum())
    used = {
        node.name: (float(node.decay.min()), float(node.decay.max()))
        for node in module.graph().of_type(snn.IntegrateFire)
        if node.decay is not None
    }
    return TrainedLeaky(_artefact(found, q[learned]), Share(right, len(held)), equal, used)


def checked_frames(x: Any, y: Any) -> tuple[FloatArray, IntArray]:
    """Return frames in float32 and classes."""
    frames, labels = np.asarray(x), np.asarray(y)
    if frames.ndim not in (3, 4, 5) or not len(frames) or frames.dtype.kind not in "uifb":
        raise InputError(f"rows of the shape {frames.shape} are no frames, (n, T, *shape)")
    if labels.shape != frames.shape[:1] or labels.dtype.kind not in "ui" or labels.min() < 0:
        raise InputError(
            f"labels {labels.dtype}{labels.shape} are not a class from 0 for each of {len(frames)} rows"
        )
    real = frames.astype(np.float32)
    if not np.isfinite(real).all():
        raise NonFiniteError("the rows hold NaN or infinity: leave those out")
    if np.abs(real).max() > snn.INPUT_LIMIT:
        raise InputError(f"frames reach {np.abs(real).max():g}, beyond {snn.INPUT_LIMIT}: scale them")
    return real, labels.astype(np.int64)


def _fit_scales(module: LeakyNetwork, q: NumberArray) -> None:
    """Scale the weights of each layer in turn, so that the potentials reach the threshold about as often."""
    import torch

    frames = torch.from_numpy(np.array(q))
    with torch.no_grad():
        for node in module.source.of_type(snn.IntegrateFire):
            spread = module(frames).currents[node.name]
            for name in node.inputs:
                module.scale(name, 0.5 / max(spread, 1e-6))
            module.quantise()


def learn(
    module: LeakyNetwork,
    q: IntArray,
    labels: IntArray,
    groups: list[dict[str, Any]],
    *,
    epochs: float,
    batch: int,
    shift: int,
    rng: np.random.Generator,
    progress: Progress,
    passed: Callable[[], None] = lambda: None,
) -> None:
    """Lower the cross entropy of the answers in the second half of the steps.

    Args:
        module: what learns.
        q: (n, T, *shape), as it is quantised.
        labels: (n,) classes.
        groups: of parameters, with their largest rates, as an optimiser takes them.
        epochs: passes over the rows.
        batch: rows of a gradient.
        shift: as for :func:`train_leaky`.
        rng: of the order of rows, and shifts.
        progress: where to show how far it is.
        passed: called after each pass, and at the end.
    """
    import torch
    from torch.nn import functional

    each = max(1, len(labels) // batch)
    steps = max(2, round(epochs * each))
    optimiser = torch.optim.AdamW(groups)
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps)
    half = module.source.timesteps // 2
    rows = rng.permutation(len(labels))
    for step in progress.track(range(steps), steps, "training"):
        if step % each == 0:
            rows = rng.permutation(len(labels))
        chosen = rows[step % each * batch :][:batch]
        frames = torch.from_numpy(_shifted(q[chosen], shift, rng))
        module.quantise()
        answers = module(frames).outputs[half:]
        wanted = torch.from_numpy(labels[chosen]).expand(len(answers), -1)
        loss = functional.cross_entropy(answers.flatten(0, 1), wanted.flatten(), label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step + 1 == steps or (step + 1) % each == 0:
            passed()


def _shifted(q: IntArray, most: int, rng: np.random.Generator) -> IntArray:
    """Return images moved by up to so many pixels, with zeros where nothing was."""
    if q.ndim != 5 or not most:
        return q
    down, right = (int(n) for n in rng.integers(-most, most + 1, 2))
    found = np.zeros_like(q)
    height, width = q.shape[-2:]

    def part(move: int, size: int) -> tuple[slice, slice]:
        return slice(max(0, move), size + min(0, move)), slice(max(0, -move), size + min(0, -move))

    (to_y, from_y), (to_x, from_x) = part(down, height), part(right, width)
    found[..., to_y, to_x] = q[..., from_y, from_x]
    return found


def compared(module: LeakyNetwork, graph: snn.SnnGraph, q: IntArray) -> int:
    """Compare the counts of the simulator with those of the module; return how many rows were compared."""
    import torch

    with torch.no_grad():
        counts = module(torch.from_numpy(np.array(q))).counts
    trace = load_simulator("numba", 1).run(graph, q, graph.timesteps, RecordOptions(states=True))
    for name, found in counts.items():
        if not np.array_equal(found.numpy(), trace.counts[name]):
            raise InternalError(f"the counts of {name!r} are not those of the network that was trained")
    return len(q)


def _artefact(graph: snn.SnnGraph, q: IntArray) -> Artefact:
    layouts = [InputLayout.plain(node.shape, node.shape).as_dict() for node in (graph.encoder, graph.readout)]
    metadata = Metadata(
        snnc_version=__version__,
        pipeline="",
        input_layout=layouts[0],
        source_path="",
        source_sha256="",
        calibration={"rows": len(q), "row_hashes": row_hashes([q])},
        task="classes",
        inputs=({"name": graph.encoder.name, "dtype": "float32", "layout": layouts[0]},),
        outputs=({"name": graph.output_names[0], "layout": layouts[1], "task": "classes", "ends": ""},),
    )
    return Artefact(graph, metadata)
