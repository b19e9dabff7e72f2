"""Whoever must know what a network computes refuses what is unknown.

Consumers are listed from the tables of simulators, targets and passes, and by their signatures: every public
function of the package that takes a spiking network.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import pytest

import snnc
from snnc.analysis import certificate
from snnc.analysis.costs import macs_of_ann
from snnc.analysis.node_costs import fan_outs
from snnc.artefact import Metadata
from snnc.artefact.writer import build_model
from snnc.backends import BACKENDS, SIMULATORS, load_backend, load_simulator
from snnc.compensation.sensitivity import operations as sensitivity_operations
from snnc.errors import InternalError, SnncError, UnknownOperationError
from snnc.ir import ann, snn
from snnc.ir.bounds import provable_timesteps, step_bounds
from snnc.ir.kinds import ValueKind
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.operations import KINDS, Firing
from snnc.ir.snn import IntegrateFire, SnnGraph, SnnNode
from snnc.ir.text import print_exact, print_graph
from snnc.passes import PASSES
from snnc.pipeline import run_pipeline
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator
from snnc.simulation.single_pass import counted
from snnc.simulation.targets import unknown_operations
from snnc.source.ann_session import AnnSession
from tests.ann_graphs import context, residual_network
from tests.spiking_graphs import as_float, random_graph, random_inputs

WHAT = "this version of snnc knows"


@dataclasses.dataclass(frozen=True, slots=True)
class Leaky(Neuron):
    """A setting that nothing knows."""

    leak: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refractory(IntegrateFire):
    """Likewise, of the population."""

    pause: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shuffled(SnnNode):
    """A kind of node that nothing knows."""

    reads = ValueKind.SPIKES
    gives = ValueKind.SPIKES

    def verify(self, input_shapes: Any) -> str | None:
        return None


def leaky(graph: SnnGraph) -> SnnGraph:
    def leak(node: IntegrateFire) -> SnnNode:
        settings = {f.name: getattr(node.neuron, f.name) for f in dataclasses.fields(node.neuron)}
        return node.with_(neuron=Leaky(**settings, leak=1))

    return graph.map(IntegrateFire, leak)


def refractory(graph: SnnGraph) -> SnnGraph:
    def pause(node: IntegrateFire) -> SnnNode:
        settings = {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}
        return Refractory(**settings, pause=2)

    return graph.map(IntegrateFire, pause)


def shuffled(graph: SnnGraph) -> SnnGraph:
    """Put a node of unknown kind behind the input."""
    first = graph.nodes[0]
    new = Shuffled(name="shuffled", inputs=(first.name,), shape=first.shape)
    rest = [n.with_(inputs=tuple("shuffled" if i == first.name else i for i in n.inputs)) for n in graph]
    return graph.with_nodes([first, new, *rest[1:]])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Swish(ann.AnnNode):
    """A kind of node of the ordinary dialect that nothing knows."""

    def verify(self, input_shapes: Any) -> str | None:
        return None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sloped(ann.Relu):
    """A rectifier with a setting that nothing knows."""

    slope: float = 0.1


def foreign(kind: type[ann.AnnNode]) -> ann.AnnGraph:
    """Return an ordinary network whose first rectifier is of another kind."""
    graph = residual_network()
    node = graph["relu0"]
    return graph.replacing({node.name: kind(name=node.name, inputs=node.inputs, shape=node.shape)})


CHANGES = (leaky, refractory, shuffled)
GRAPHS = {
    schedule: random_graph(3, schedule=schedule, neuron=Neuron(), blocks=1, flat=True)
    for schedule in Schedule
}


def refused(call: Callable[[], Any]) -> bool:
    """Whether a call raises for what is unknown, or returns a reason that says so."""
    try:
        return WHAT in str(call())
    except UnknownOperationError:
        return True


every = pytest.mark.parametrize("change", CHANGES)
both = pytest.mark.parametrize("schedule", Schedule)


@every
@both
@pytest.mark.parametrize("name", SIMULATORS)
def test_every_simulator_refuses(name: str, change: Any, schedule: Schedule) -> None:
    graph = GRAPHS[schedule]
    q = random_inputs(graph, 2, 0)
    simulator = load_simulator(name, 1)
    simulator.run(graph, q, graph.timesteps)
    with pytest.raises(UnknownOperationError, match=WHAT):
        simulator.run(change(graph), q, graph.timesteps)


@every
@both
@pytest.mark.parametrize(
    ("target", "profile"),
    [(name, profile) for name in BACKENDS for profile in load_backend(name).capabilities.profiles],
)
def test_every_target_refuses(target: str, profile: str, change: Any, schedule: Schedule) -> None:
    backend = load_backend(target, profile)
    assert not refused(lambda: backend.check(GRAPHS[schedule]))
    assert refused(lambda: backend.check(change(GRAPHS[schedule])))


def spiking_passes() -> list[str]:
    found = {name: typing.get_type_hints(load().run)["graph"] for name, load in PASSES.items()}
    return [name for name, takes in found.items() if takes is SnnGraph]


@every
@pytest.mark.parametrize("name", spiking_passes())
def test_every_pass_refuses(name: str, change: Any) -> None:
    graph = as_float(GRAPHS[Schedule.SYNCHRONOUS])
    made = context(residual_network(), rows=8)
    assert refused(lambda: PASSES[name]()().run(change(graph), made))
    with pytest.raises(UnknownOperationError, match=WHAT):
        run_pipeline([PASSES[name]()()], change(graph), made)


def by_pass(name: str, graph: ann.AnnGraph) -> Any:
    return PASSES[name]()().run(graph, context(graph))


def by_pipeline(name: str, graph: ann.AnnGraph) -> Any:
    return run_pipeline([PASSES[name]()()], graph, context(graph))


def ordinary_consumers() -> dict[str, Callable[[ann.AnnGraph], Any]]:
    found: dict[str, Callable[[ann.AnnGraph], Any]] = {
        "session": lambda graph: AnnSession(graph, [graph.output], 1),
        "reference": lambda graph: run_ann(graph, context(graph).calibration.rows),
        "macs": macs_of_ann,
        "text": print_graph,
        "exact": print_exact,
        "sensitivity": sensitivity_operations,
    }
    for name, load in PASSES.items():
        if typing.get_type_hints(load().run)["graph"] is ann.AnnGraph:
            found[name] = partial(by_pass, name)
            found[f"pipeline {name}"] = partial(by_pipeline, name)
    return found


@pytest.mark.parametrize("kind", [Swish, Sloped])
@pytest.mark.parametrize("name", ordinary_consumers())
def test_whoever_reads_the_ordinary_dialect_refuses(name: str, kind: type[ann.AnnNode]) -> None:
    with pytest.raises(UnknownOperationError, match=WHAT):
        ordinary_consumers()[name](foreign(kind))


ARGUMENTS: dict[str, Any] = {
    "timesteps": 2,
    "proved": 1,
    "synapses": [],
    "steps": 2,
    "images": 2,
    "spikes_per_step": 1,
    "settle_steps": 0,
    "activity": {},
    "simulator": ReferenceSimulator(),
    "inputs": random_inputs(GRAPHS[Schedule.SYNCHRONOUS], 2, 0),
    "x": random_inputs(GRAPHS[Schedule.SYNCHRONOUS], 2, 0),
    "y": None,
    "encode": lambda x: x,
    "given": None,
    "confidence": 0.9,
    "divisible": (),
    "output": "y",
    "ends": "Softmax",
    "metadata": Metadata("", "", "", (), None, None, "", "", {}),
}
"""What a function is given beside the network."""

PRODUCTS = {
    *("cut", "found", "costs", "neurons", "sets", "kept", "members"),
    *("widths", "program", "places", "golden", "layers", "group", "order", "exact", "backend", "profile"),
    *(
        "node",
        "context",
        "counted",
        "ann_macs",
        "outputs",
        "rows",
        "batch",
        "factors",
        "source",
        "model",
        "name",
    ),
}
"""Arguments that are made from the same network, or only together with one: their makers refuse it."""

INDIFFERENT = {
    "attach": "writes the settings of the whole network",
    "c_index": "numbers",
    "checked_labels": "looks at the number of outputs",
    "check_host": "looks at the shapes between host and network",
    "check_input": "looks at the shape of the input",
    "main_program": "names inputs and outputs; the C that it calls is generated by what refuses",
    "packed_graph": "writes the text form, which refuses",
    "ports": "numbers inputs and outputs",
    "golden_inputs": "names inputs",
    "fits": "asks the targets, which refuse",
    "guide": "names inputs and outputs",
    "has_classes": "looks at the shapes of the outputs",
    "knobs": "groups of populations, which `scaled` changes",
    "latencies": "counts steps; in the layerwise schedule, by `depth`, which refuses",
    "latency_steps": "counts steps; in the layerwise schedule, by `depth`, which refuses",
    "rows_of_task": "looks at shapes",
    "run_part": "hands the network to its simulators, which refuse",
    "runs_once": "looks at the schedule",
    "shapes_of": "looks at the shapes of the outputs",
    "several_inputs_or_outputs": "counts inputs and outputs",
    "sides": "numbers inputs and outputs",
    "sketch": "names inputs and outputs; the C that it calls is generated by what refuses",
    "tensor_names": "names inputs and outputs",
    "unknown_operations": "finds them",
}
"""Functions to which it is the same what a node computes, and why."""


def functions() -> list[FunctionType]:
    """Return every public function of the package that takes a spiking network."""
    found = []
    for module in pkgutil.walk_packages(snnc.__path__, "snnc."):
        if module.name.startswith(
            ("snnc.models.", "snnc.training.", "snnc.backends.torch_module.", "snnc.cli")
        ):
            continue  # what trains needs torch; the command line only calls the others
        for name, function in sorted(vars(importlib.import_module(module.name)).items()):
            if not isinstance(function, FunctionType) or function.__module__ != module.name:
                continue
            takes = [str(kind) for key, kind in function.__annotations__.items() if key != "return"]
            if not name.startswith("_") and {"SnnGraph", "snn.SnnGraph"}.intersection(takes):
                found.append(function)
    return found


def needed(function: Callable[..., Any]) -> list[str]:
    """Return the arguments that a function cannot do without."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is inspect.Parameter.empty]


FUNCTIONS = functions()
CONSUMERS = [
    pytest.param(function, id=f"{function.__module__}.{function.__name__}")
    for function in FUNCTIONS
    if function.__name__ not in INDIFFERENT and not PRODUCTS.intersection(needed(function))
]


def test_no_exception_is_made_for_what_is_not_there() -> None:
    assert {function.__name__ for function in FUNCTIONS}.issuperset(INDIFFERENT)
    assert len(CONSUMERS) > 30


@every
@both
@pytest.mark.parametrize("function", CONSUMERS)
def test_every_function_that_takes_a_network_refuses(
    function: Callable[..., Any], change: Any, schedule: Schedule
) -> None:
    hints = typing.get_type_hints(function)
    names = needed(function)
    unknown = [name for name in names if hints[name] is not SnnGraph and name not in ARGUMENTS]
    assert not unknown, f"give {unknown} in ARGUMENTS, or say why not"
    graph = change(GRAPHS[schedule])
    arguments = {name: graph if hints[name] is SnnGraph else ARGUMENTS[name] for name in names}
    assert refused(lambda: function(**arguments))


@every
def test_the_text_form_refuses(change: Any) -> None:
    with pytest.raises(UnknownOperationError, match=WHAT):
        print_graph(change(GRAPHS[Schedule.SYNCHRONOUS]))


def test_what_is_unknown_is_named() -> None:
    graph = GRAPHS[Schedule.SYNCHRONOUS]
    (first, *_) = unknown_operations(leaky(graph))
    assert first.reason == "Leaky is no neuron that this version of snnc knows"
    (only,) = unknown_operations(shuffled(graph))
    assert (only.node, only.reason) == ("shuffled", f"Shuffled is no operation that {WHAT}")
    assert not unknown_operations(graph)


def test_a_target_says_what_it_knows() -> None:
    graph = GRAPHS[Schedule.SYNCHRONOUS]
    (first, *_) = unknown_operations(graph, rules={Firing.PLAIN})
    assert first.reason == "the target knows no neurons that fire by 'limited'"
    (only,) = unknown_operations(graph, kinds=KINDS - {snn.Readout})
    assert (only.node, only.reason) == (graph.output, "the target knows no Readout")


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classification knows the kind, and nobody was taught what it computes."""
    monkeypatch.setattr("snnc.ir.operations.KINDS", KINDS | {Shuffled})


@pytest.mark.usefixtures("listed")
@both
@pytest.mark.parametrize("name", SIMULATORS)
def test_a_simulator_that_was_not_taught_a_kind_refuses_it(name: str, schedule: Schedule) -> None:
    graph = shuffled(GRAPHS[schedule])
    with pytest.raises(InternalError, match="Shuffled"):
        load_simulator(name, 1).run(graph, random_inputs(graph, 2, 0), graph.timesteps)


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("target", BACKENDS)
def test_a_target_that_was_not_taught_a_kind_refuses_it(target: str) -> None:
    found = load_backend(target).check(shuffled(GRAPHS[Schedule.SYNCHRONOUS]))
    assert any("Shuffled" in problem.reason for problem in found)


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    "call",
    [
        lambda graph: step_bounds(graph, 2),
        fan_outs,
        lambda graph: counted(graph, 2),
        build_model,
        lambda graph: provable_timesteps(graph),
        lambda graph: certificate.quantised(graph),
    ],
)
@both
def test_a_model_that_was_not_taught_a_kind_refuses_it(call: Any, schedule: Schedule) -> None:
    with pytest.raises(SnncError, match=r"Shuffled|'shuffled'"):
        call(shuffled(GRAPHS[schedule]))
