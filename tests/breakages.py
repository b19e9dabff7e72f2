"""Networks broken on purpose in ten ways, and what the verdict should say of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from snnc.artefact import Artefact, Metadata
from snnc.data.input_statistics import KEY, InputStatistics
from snnc.ir import ann
from snnc.ir.ann import AnnGraph, Relu
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.neuron import Neuron
from snnc.ir.snn import IntegrateFire, SnnGraph, SnnNode, Weighted
from snnc.numerics.quantisation import groups
from snnc.passes import PASSES
from snnc.pipeline import AnyPass, Context, Pipeline, run_pipeline
from snnc.report.causes import Cause
from snnc.report.measurement import Measurement
from snnc.report.measuring import measure
from snnc.report.verdict import Verdict, judge
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.protocol import Simulator
from snnc.source.calibration import Calibration

FRONT = "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear,clip-activations"
BACK = "lower,dual-threshold{spikes-per-step=2},init-membrane,quantise-weights"


@dataclass(frozen=True)
class Setting:
    """What a user has.

    Attributes:
        graph: the trained network.
        calibration: (n, *input shape) rows.
        rows: (m, *input shape) other rows.
        labels: (m,); the network's own answers where there are no true ones.
        simulator: what runs spiking networks.
        timesteps: T.
    """

    graph: AnnGraph
    calibration: FloatArray
    rows: FloatArray
    labels: IntArray
    simulator: Simulator
    timesteps: int = 4

    @classmethod
    def labelled_by_itself(
        cls, graph: AnnGraph, calibration: FloatArray, rows: FloatArray, simulator: Simulator
    ) -> Setting:
        answers, _ = run_ann(graph, rows)
        return cls(graph, calibration, rows, answers.reshape(len(rows), -1).argmax(axis=1), simulator)


@dataclass(frozen=True)
class Made:
    """A conversion of a setting, perhaps broken.

    Attributes:
        setting: with the rows and T that it is run with.
        source: the network as it was lowered.
        graph: the spiking network.
        statistics: of the rows that it was calibrated on.
    """

    setting: Setting
    source: AnnGraph
    graph: SnnGraph
    statistics: dict[str, Any]

    def verdict(self) -> tuple[Measurement, Verdict]:
        found = measure(
            Artefact(self.graph, Metadata(calibration={KEY: self.statistics})),
            self.source,
            self.setting.rows,
            self.setting.labels,
            simulator=self.setting.simulator,
            timesteps=self.setting.timesteps,
            threads=1,
        )
        return found, judge(found, self.graph.timesteps)

    def altered(self, name: str, **changes: Callable[[IntegrateFire], object]) -> Made:
        node = self.graph[name]
        assert isinstance(node, IntegrateFire)
        changed = node.with_(**{key: make(node) for key, make in changes.items()})
        return replace(self, graph=self.graph.replacing({name: changed}))


@dataclass(frozen=True)
class Mistake:
    """A pass that makes a mistake."""

    name: ClassVar[str] = "mistake"
    make: Callable[[AnnGraph], AnnGraph]

    def run(self, graph: AnnGraph, context: Context, /) -> AnnGraph:
        return self.make(graph)


def convert(setting: Setting, before: AnyPass | None = None, after: AnyPass | None = None) -> Made:
    """Convert, with a mistake before or after the thresholds are chosen."""
    front = list(Pipeline.parse(FRONT, PASSES))
    front[-1:] = [*filter(None, [before]), front[-1], *filter(None, [after])]
    passes = [*front, *Pipeline.parse(BACK, PASSES)]
    context = Context(Calibration(setting.calibration, 1), setting.timesteps, setting.simulator)
    found, _ = run_pipeline(passes, setting.graph, context)
    assert isinstance(found, SnnGraph)
    statistics = InputStatistics.of(setting.calibration).as_dict()
    return Made(setting, context.ann().without_thresholds(), found, statistics)


def _one(random: np.random.Generator, names: list[str]) -> str:
    return names[int(random.integers(len(names)))]


def _layers(made: Made, *, first: bool = True) -> list[str]:
    names = [node.name for node in made.graph.of_type(IntegrateFire)]
    return names if first else names[1:]


def _scaled(name: str, factor: float) -> Mistake:
    def change(graph: AnnGraph) -> AnnGraph:
        node = graph[name]
        assert isinstance(node, Relu)
        assert node.threshold is not None
        return graph.replacing({name: node.with_(threshold=node.threshold * np.float32(factor))})

    return Mistake(change)


Broken = tuple[Made, str | None, set[Cause]]
"""The conversion, the layer to blame (``None``: the network), and the causes that are right."""


def normalisation(setting: Setting, random: np.random.Generator) -> Broken:
    factor, offset = [(1 / 8, 0.0), (40.0, 0.0), (0.35, 0.3), (255.0, 100.0)][int(random.integers(4))]
    wrong = (setting.calibration * factor + offset).astype(np.float32)
    return convert(replace(setting, calibration=wrong)), None, {Cause.NORMALISATION}


def threshold(setting: Setting, random: np.random.Generator) -> Broken:
    name = _one(random, _layers(convert(setting)))
    if random.random() < 0.5:
        return convert(setting, after=_scaled(name, 0.1)), name, {Cause.THRESHOLD_TOO_SMALL}
    return convert(setting, after=_scaled(name, 10)), name, {Cause.THRESHOLD_TOO_LARGE}


def shared(setting: Setting, random: np.random.Generator) -> Broken:
    """Scale channels apart without changing what the network computes, and give them one threshold."""
    folded = convert(setting).source
    names = [
        relu.name
        for relu in folded.of_type(Relu)
        if isinstance(folded[relu.inputs[0]], ann.Convolution)
        and all(isinstance(reader, ann.Convolution) for reader in folded.consumers[relu.name])
        and len(folded.consumers[folded[relu.inputs[0]].name]) == 1
    ]
    name = _one(random, names)
    size = random.uniform(4, 7)

    def spread(graph: AnnGraph) -> AnnGraph:
        relu = graph[name]
        writer = graph[relu.inputs[0]]
        assert isinstance(writer, ann.Convolution)
        k = (2 ** random.uniform(0, size, relu.channels)).astype(np.float32)
        changed: dict[str, ann.AnnNode] = {
            writer.name: writer.with_(weight=writer.weight * k[:, None, None, None], bias=writer.bias * k)
        }
        for reader in graph.consumers[name]:
            assert isinstance(reader, ann.Convolution)
            assert reader.groups == 1
            changed[reader.name] = reader.with_(weight=reader.weight / k[None, :, None, None])
        return graph.replacing(changed)

    def share(graph: AnnGraph) -> AnnGraph:
        relu = graph[name]
        assert isinstance(relu, Relu)
        assert relu.threshold is not None
        return graph.replacing(
            {name: relu.with_(threshold=np.full_like(relu.threshold, relu.threshold.max()))}
        )

    return convert(setting, Mistake(spread), Mistake(share)), name, {Cause.SHARED_THRESHOLD}


def start(setting: Setting, random: np.random.Generator) -> Broken:
    made = convert(setting)
    if random.random() < 0.3:
        for name in _layers(made):
            made = made.altered(name, v_init=lambda node: 0 * node.v_init)
        return made, None, {Cause.START_AT_ZERO}
    name = _one(random, _layers(made))
    return made.altered(name, v_init=lambda node: 0 * node.v_init), name, {Cause.START_AT_ZERO}


def unsigned(setting: Setting, random: np.random.Generator) -> Broken:
    made = convert(setting)
    plain = Neuron(count_memory=False)
    if random.random() < 0.3:
        for name in _layers(made):
            made = made.altered(name, neuron=lambda _: plain)
        return made, None, {Cause.NO_NEGATIVE_SPIKES}
    name = _one(random, _layers(made, first=False))
    return made.altered(name, neuron=lambda _: plain), name, {Cause.NO_NEGATIVE_SPIKES}


def colours(setting: Setting, random: np.random.Generator) -> Broken:
    made = convert(setting)
    wrong = replace(setting, rows=np.ascontiguousarray(setting.rows[:, ::-1]))
    return replace(made, setting=wrong), None, {Cause.CHANNEL_ORDER}


def _synapses(graph: SnnGraph, name: str) -> list[Weighted]:
    group = next(group for group in groups(graph) if name in group.sinks)
    nodes = [graph[synapse] for synapse in group.synapses]
    return [node for node in nodes if isinstance(node, Weighted)]


def coarse(setting: Setting, random: np.random.Generator) -> Broken:
    made = convert(setting)
    name = _one(random, _layers(made))
    step = int(random.choice([48, 64, 85]))
    changed: dict[str, SnnNode] = {}
    for node in _synapses(made.graph, name):
        if node.weight.ndim > 1:
            weight = np.clip(np.rint(node.weight / step) * step, -127, 127).astype(node.weight.dtype)
            changed[node.name] = node.with_(weight=weight)
    return replace(made, graph=made.graph.replacing(changed)), name, {Cause.COARSE_WEIGHTS}


def dead(setting: Setting, random: np.random.Generator) -> Broken:
    made = convert(setting)
    name = _one(random, _layers(made))
    channels = made.graph[name].channels
    size = max(2, int(channels * random.uniform(0.2, 0.5)))
    first = int(random.integers(channels - size + 1))
    block = slice(first, first + size)
    changed: dict[str, SnnNode] = {}
    for node in _synapses(made.graph, name):
        weight = node.weight.copy()
        weight[block] = 0
        changed[node.name] = node.with_(weight=weight)
    population = made.graph[name]
    assert isinstance(population, IntegrateFire)
    bias = population.bias.copy()
    bias[block] = 0
    changed[name] = population.with_(bias=bias)
    return replace(made, graph=made.graph.replacing(changed)), name, {Cause.DEAD_CHANNELS}


def bias(setting: Setting, random: np.random.Generator) -> Broken:
    made = convert(setting)
    name = _one(random, _layers(made))
    return made.altered(name, bias=lambda node: 0 * node.bias), name, {Cause.BIAS_LOST}


def timesteps(setting: Setting, random: np.random.Generator) -> Broken:
    if random.random() < 0.5:
        few = replace(setting, timesteps=1)
        return convert(few), None, {Cause.TOO_FEW_TIMESTEPS}
    made = convert(replace(setting, timesteps=8))
    return replace(made, setting=replace(setting, timesteps=2)), None, {Cause.TOO_FEW_TIMESTEPS}


BREAKAGES: dict[str, Callable[[Setting, np.random.Generator], Broken]] = {
    "wrong normalisation of calibration": normalisation,
    "one threshold ten times too small or too large": threshold,
    "one threshold for very different channels": shared,
    "potentials start at zero": start,
    "no negative spikes": unsigned,
    "blue, green, red instead of red, green, blue": colours,
    "weights too coarse": coarse,
    "a block of channels dead": dead,
    "a bias lost": bias,
    "too few time steps": timesteps,
}


def is_right(verdict: Verdict, layer: str | None, causes: set[Cause]) -> bool:
    """Whether the first finding names the cause, and the layer or the whole network."""
    first = verdict.first
    return first.cause in causes and (first.network if layer is None else first.layer == layer)
