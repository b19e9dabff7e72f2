"""The networks that are timed: known shapes with random weights, and trained networks that were converted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.common import corpus_data
from benchmarks.speed import networks
from snnc.artefact import Artefact, load
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.data.readings import NetworkInput
from snnc.ir.bounds import provable_timesteps
from snnc.ir.neuron import Neuron
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.models import PREFIX, calibration_data, resolve, test_data

KEPT = Path(__file__).resolve().parent.parent.parent / "build" / "speed"
CALIBRATION_ROWS = 1000
TRAINED_FOR = 4
"""T for which trained networks are converted; other T are runs of the same network."""


SHAPES = re.compile(r"(\w+), (?:(\d+)%|M = (\d+)(, graded)?)")


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to time.

    Attributes:
        name: in the tables.
        graph: the spiking network.
        model: its source, as the bytes of an ONNX file.
        encode: quantises rows.
        x: (n, *input shape) float32, as the source takes them.
        shapes: whether it only has the shapes of something, with random weights.
    """

    name: str
    graph: SnnGraph
    model: bytes
    encode: Callable[[NDArray[Any]], NDArray[np.int32]]
    x: NDArray[np.float32]
    shapes: bool

    def rows(self, batch: int) -> NDArray[np.float32]:
        """Return so many rows, the same ones again if there are fewer."""
        return np.ascontiguousarray(np.resize(self.x, (batch, *self.x.shape[1:])))

    @property
    def input_name(self) -> str:
        """Name of the source's input."""
        return str(onnx.load_from_string(self.model).graph.input[0].name)


def subject(name: str, timesteps: int = TRAINED_FOR, precision: str = "int8") -> Subject:
    """Return a network for T steps by its name in the tables, such as ``resnet18, 15%``.

    Args:
        name: of the shapes and their density, or of a trained network.
        timesteps: T.
        precision: of a trained network; shapes are made in integers.
    """
    if SHAPES.fullmatch(name) is None:
        return _trained(name, precision)
    return _shaped(name, min(timesteps, networks.MOST_STEPS))


@cache
def _shaped(name: str, timesteps: int) -> Subject:
    shapes = SHAPES.fullmatch(name)
    if shapes is None:
        raise ValueError(f"{name} is no name of shapes")
    network, percent, levels, graded = shapes.groups()
    pair = networks.make(network, int(percent or 15) / 100, timesteps)
    graph = pair.graph
    if levels:
        graph = with_levels(graph, int(levels), graded=bool(graded))
    x = (pair.q * np.float32(1 / 500)).astype(np.float32)
    return Subject(name, graph, pair.model.SerializeToString(), Artefact(graph).encode, x, shapes=True)


def with_levels(graph: SnnGraph, levels: int, *, graded: bool) -> SnnGraph:
    """Return the network with spikes of several levels, and thresholds as many times finer."""
    neuron = Neuron(levels=levels, spikes_per_step=None if graded else 1)

    def finer(node: IntegrateFire) -> IntegrateFire:
        threshold = np.maximum(1, node.threshold // levels).astype(np.int32)
        return node.with_(neuron=neuron, threshold=threshold, v_init=threshold // 2)

    made = graph.map(IntegrateFire, finer)
    return replace(made, max_timesteps=provable_timesteps(made))


@cache
def _trained(name: str, precision: str) -> Subject:
    suffix = "" if precision == "int8" else f"_{precision}"
    preprocessing: Preprocessing | None
    x: NDArray[Any]
    path = KEPT / f"{re.sub(r'[^A-Za-z0-9]+', '_', name)}{suffix}.snn.onnx"
    if name.startswith(PREFIX):
        entry = resolve(name)
        source, preprocessing = entry.path, Preprocessing.from_dict(entry.preprocessing)
        calibration, x = calibration_data(entry)[0], test_data(entry)[0]
    else:
        network = {n.name: n for n in corpus_data.networks(corpus_data.DEFAULT)}[name]
        rows = corpus_data.sets(corpus_data.DEFAULT, network, CALIBRATION_ROWS)
        source, preprocessing = network.path, rows.preprocessing
        calibration, x = rows.calibration, rows.x
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        options = Options(timesteps=TRAINED_FOR, preset="balanced", precision=precision, threads=1)
        made = convert(source, calibration, options, preprocessing=preprocessing).artefact
        path.write_bytes(made.model().SerializeToString())
    artefact = load(path)
    if preprocessing is not None:
        x = preprocessing.apply(x[:64], NetworkInput.of(artefact.layout))
    plain = replace(artefact, metadata=replace(artefact.metadata, preprocessing=None))
    return Subject(name, artefact.graph, Path(source).read_bytes(), plain.encode, x.astype(np.float32), False)
