"""Networks as modules of PyTorch: equal to the reference, whole and step by step, in every kind of node."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnc
from snnc.artefact import Artefact, Metadata
from snnc.converted_network import ConvertedNetwork
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError, NonFiniteError, UnknownOperationError, UsageError
from snnc.ir import snn
from snnc.ir.batch import Batch, Rows
from snnc.ir.geometry import Window
from snnc.ir.neuron import Neuron, Schedule
from snnc.ir.operations import KINDS
from snnc.ir.snn import SnnGraph
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests import quadrants
from tests.spiking_graphs import as_float, graphs, plain_graphs, random_graph, random_inputs, stepping_graphs
from tests.test_host_sections import network as host_network
from tests.test_host_sections import rows as host_rows

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[torch])", allow_module_level=True)

import torch

from snnc.backends.torch_module.module import Run, SpikingModule


def module_of(graph: SnnGraph) -> SpikingModule:
    return SpikingModule(Artefact(graph, Metadata("", "", "", (), None, None, "", "", {})))


def tensors(graph: SnnGraph, q: Rows) -> dict[str, Any]:
    arrays = q.arrays if isinstance(q, Batch) else {graph.input.name: q}
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def assert_same(graph: SnnGraph, q: Rows, timesteps: int) -> None:
    """Compare outputs, counts and potentials of a run, and of its steps, with the reference."""
    names = tuple(node.name for node in graph.of_type(snn.IntegrateFire))
    record = RecordOptions(states=True, trains=names)
    expected = ReferenceSimulator().run(graph, q, timesteps, record)
    module = module_of(graph)
    given = tensors(graph, q)
    _compare(module.run(given, timesteps), expected.outputs, expected.counts, expected.potentials)
    if graph.schedule is Schedule.LAYERWISE:
        with pytest.raises(UsageError, match="is layerwise"):
            module.reset()
        return
    module.reset(timesteps)
    found = None
    for t in range(timesteps + graph.settle_steps):
        found = module.step(given)
        for name in names:
            np.testing.assert_array_equal(found.spikes[name].numpy(), expected.trains[name][t])
    assert found is not None
    _compare(found, expected.outputs, expected.counts, expected.potentials)
    with pytest.raises(UsageError, match="call reset first"):
        module.step(given)


def _compare(found: Run, *wanted: dict[str, Any]) -> None:
    for values, arrays in zip((found.outputs, found.counts, found.potentials), wanted, strict=True):
        assert set(values) == set(arrays)
        for name, array in arrays.items():
            tensor = values[name].numpy()
            assert (tensor.dtype, tensor.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(tensor, array)


@settings(max_examples=12)
@given(graph=graphs(), timesteps=st.sampled_from((1, 2, 4, 8)))
def test_it_computes_what_the_reference_computes(graph: SnnGraph, timesteps: int) -> None:
    assert_same(graph, random_inputs(graph, 3, 5), graph.timesteps if graph.only_timesteps else timesteps)


@settings(max_examples=8)
@given(graph=stepping_graphs())
def test_step_functions(graph: SnnGraph) -> None:
    assert_same(graph, random_inputs(graph, 3, 5), graph.timesteps)


@settings(max_examples=4)
@given(graph=plain_graphs())
def test_networks_in_floats(graph: SnnGraph) -> None:
    assert_same(as_float(graph), random_inputs(graph, 3, 5), 4)


def population(
    name: str, current: str, shape: tuple[int, ...], rng: np.random.Generator
) -> snn.IntegrateFire:
    channels = shape[0]
    return snn.IntegrateFire(
        name=name,
        inputs=(current,),
        shape=shape,
        threshold=rng.integers(200, 900, channels).astype(np.int32),
        bias=rng.integers(-40, 90, channels).astype(np.int32),
        v_init=np.full(channels, 100, np.int32),
        spike_scale=np.ones(channels, np.float32),
        neuron=Neuron(levels=4, spikes_per_step=None),
    )


def functions_of_counts(seed: int, schedule: Schedule) -> SnnGraph:
    """Return a network that holds every function of counts, and what random networks leave out."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> Any:
        return rng.integers(-60, 61, shape).astype(np.int8)

    pool = Window((2, 2), (1, 1), (0, 1, 1, 0))
    scaled: dict[str, Any] = {"multiplier": 3, "shift": 5, "lowest": -20, "highest": 90}
    table = np.array([64, 40, 20, 9, 3, 0], np.int32)
    nodes: list[snn.SnnNode] = [snn.Encode(name="x", shape=(2, 3, 4), scale=0.1)]
    for name, shape in (("p", (2, 3, 4)), ("r", (2, 4, 3))):
        nodes += [
            snn.Reshape(name=f"{name}x", inputs=("x",), shape=(24,)),
            snn.Linear(name=f"{name}l", inputs=(f"{name}x",), shape=(24,), weight=weight(24, 24)),
            snn.Reshape(name=f"{name}i", inputs=(f"{name}l",), shape=shape),
            population(name, f"{name}i", shape, rng),
        ]
    nodes += [
        snn.CurrentMaxPool(name="c", inputs=("pi",), shape=(2, 3, 4), window=pool),
        population("q", "c", (2, 3, 4), rng),
        snn.CountMatrixProduct(name="m", inputs=("p", "r"), shape=(2, 3, 3), **scaled),
        snn.CountMatrixProduct(name="mt", inputs=("p", "q"), shape=(2, 3, 3), transposed=True, **scaled),
        snn.CountSoftmax(name="s", inputs=("m",), shape=(2, 3, 3), axis=2, table=table, levels=50),
        snn.CountProduct(name="g", inputs=("s", "mt"), shape=(2, 3, 3), **scaled),
        snn.CountNormalisation(
            name="n",
            inputs=("m",),
            shape=(2, 3, 3),
            axes=(1, 2),
            epsilon=5,
            factor=900,
            lowest=-60,
            highest=60,
        ),
        snn.CountNormalisation(
            name="nr",
            inputs=("p",),
            shape=(2, 3, 4),
            axes=(0,),
            epsilon=3,
            factor=700,
            lowest=-9,
            highest=60,
            centred=False,
        ),
        snn.CountMaximum(name="h", inputs=("n",), shape=(2, 3, 1), axes=(2,)),
        snn.CountMaxPool(name="w", inputs=("p",), shape=(2, 3, 4), window=pool),
        snn.SumPool(name="u", inputs=("w",), shape=(2, 3, 4), window=pool),
        snn.ConstantCurrent(name="k", shape=(5,), values=rng.integers(-9, 9, 5).astype(np.int32)),
    ]
    ends = {"g": 18, "n": 18, "nr": 24, "h": 6, "u": 24}
    nodes += [snn.Reshape(name=f"{name}v", inputs=(name,), shape=(size,)) for name, size in ends.items()]
    total = sum(ends.values())
    nodes += [
        snn.Concat(name="all", inputs=tuple(f"{name}v" for name in ends), shape=(total,)),
        snn.Linear(name="y", inputs=("all",), shape=(5,), weight=weight(5, total)),
        snn.Readout(name="out", inputs=("y", "k"), shape=(5,), bias=np.arange(5, dtype=np.int32), scale=0.5),
    ]
    graph = SnnGraph(name="functions", nodes=tuple(nodes), outputs=("out",), timesteps=4, schedule=schedule)
    graph.verify()
    return graph


@pytest.mark.parametrize("schedule", Schedule)
def test_functions_of_counts(schedule: Schedule) -> None:
    for seed in range(4):
        graph = functions_of_counts(seed, schedule)
        q = random_inputs(graph, 3, seed)
        names = tuple(node.name for node in graph if isinstance(node, snn.Function))
        trains = ReferenceSimulator().run(graph, q, 4, RecordOptions(trains=names)).trains
        assert all(len(np.unique(train)) > 2 for train in trains.values())  # it is no silence that is equal
        assert_same(graph, q, 4)


def test_every_kind_is_met() -> None:
    met = {type(node) for node in functions_of_counts(0, Schedule.SYNCHRONOUS)}
    for seed in range(20):
        met |= {type(node) for node in random_graph(seed, routed=True)}
    assert met == KINDS - {snn.Delay}  # which is refused


def test_unknown_kinds_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("Shuffled", (snn.SnnNode,), {})
    graph = random_graph(3, blocks=0)
    changed = graph.with_nodes([*graph, kind(name="s", inputs=(graph.input.name,), shape=(1,))])
    with pytest.raises(UnknownOperationError, match="Shuffled is no operation"):
        module_of(changed)
    monkeypatch.setattr("snnc.ir.operations.KINDS", KINDS | {kind})
    with pytest.raises(UnknownOperationError, match="nothing is known of Shuffled 's' here"):
        module_of(changed)


@pytest.fixture(scope="module")
def made() -> ConvertedNetwork:
    rows = quadrants.images(200, 1)[0]
    options: dict[str, Any] = {"preset": "balanced", "timesteps": 4, "threads": 1}
    return snnc.convert(quadrants.network(), rows, preprocessing=quadrants.PREPROCESSING, **options)


def test_an_artefact(made: ConvertedNetwork, tmp_path: Path) -> None:
    x = quadrants.images(20, 3)[0]
    prepared = Preprocessing.from_dict(quadrants.PREPROCESSING).apply(x, (1, 8, 8))
    (expected,) = made.decode(made.simulate(x, backend="reference")).values()
    module = made.to_torch()
    found = module(torch.from_numpy(prepared))
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), expected)
    q = module.encode(torch.from_numpy(prepared))
    np.testing.assert_array_equal(q["image"].numpy(), made.encode(x))
    (more,) = made.decode(made.simulate(x, timesteps=7, backend="reference")).values()
    np.testing.assert_array_equal(module(torch.from_numpy(prepared), 7).numpy(), more)
    made.save(tmp_path / "made.snn.onnx")
    for again in (snnc.to_torch(tmp_path / "made.snn.onnx"), snnc.to_torch(made)):
        np.testing.assert_array_equal(again(torch.from_numpy(prepared)).numpy(), expected)
    copy = SpikingModule(
        replace(made, graph=made.graph.map(snn.Linear, lambda n: n.with_(weight=n.weight * 0)))
    )
    assert not np.array_equal(copy(torch.from_numpy(prepared)).numpy(), expected)
    copy.load_state_dict(module.state_dict())
    np.testing.assert_array_equal(copy(torch.from_numpy(prepared)).numpy(), expected)


def test_layouts_of_the_source() -> None:
    graph = random_graph(5)
    channels, height, width = graph.input.shape
    layout = {
        "source_shape": [height * width, channels],
        "grid": [height, width, channels],
        "axes": [2, 0, 1],
    }
    metadata = Metadata("", "", "", (), None, layout, "", "", {})
    artefact = Artefact(graph, metadata)
    x = np.random.default_rng(0).normal(size=(4, height * width, channels)).astype(np.float32)
    trace = ReferenceSimulator().run(graph, artefact.encode(x), graph.timesteps)
    (expected,) = artefact.decode(trace).values()
    np.testing.assert_array_equal(SpikingModule(artefact)(torch.from_numpy(x)).numpy(), expected)


def test_ordinary_onnx_is_no_part_of_a_module() -> None:
    made = snnc.convert(host_network(), host_rows(96), timesteps=4, preset="fast", threads=1)
    with pytest.raises(UsageError, match="7 nodes run as ordinary ONNX, which is no part of the module"):
        made.to_torch()


def test_gradients_pass_where_nothing_is_clipped(made: ConvertedNetwork) -> None:
    prepared = Preprocessing.from_dict(quadrants.PREPROCESSING).apply(quadrants.images(8, 3)[0], (1, 8, 8))
    module = made.to_torch()
    exact = module(torch.from_numpy(prepared))
    weights = [each for name, each in module.named_parameters() if name.endswith("weight")]
    for weight in weights:
        weight.requires_grad_(True)
    found = module(torch.from_numpy(prepared))
    assert torch.equal(found.detach(), exact)
    found[:, 0].sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.abs().sum() > 0) for weight in weights)


def test_mistakes_are_one_line(made: ConvertedNetwork) -> None:
    module = made.to_torch()
    x = torch.zeros(2, 1, 8, 8)
    with pytest.raises(InputError, match=r"tensors of shape \(batch, 1, 8, 8\), not \(2, 8, 8\)"):
        module(x[:, 0])
    with pytest.raises(InputError, match="what its preprocessing makes"):
        module(x.to(torch.uint8))
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        module(x / 0)
    with pytest.raises(InputError, match="takes the inputs 'image', and got 'y'"):
        module({"y": x})
    with pytest.raises(InputError, match="T must be at least 1"):
        module(x, 0)
    with pytest.raises(UsageError, match="call reset first"):
        module.step(module.encode(x))
    with pytest.raises(UsageError, match=r"was cast from torch\.float64 to torch\.float32"):
        made.to_torch().float()(x)
    with pytest.raises(UsageError, match=r"was cast from torch\.float32 to torch\.float64"):
        made.to_torch().double()(x)


@pytest.mark.skipif(importlib.util.find_spec("spikingjelly") is None, reason="spikingjelly is not installed")
@pytest.mark.parametrize("seed", [1, 2, 6])
def test_in_the_shape_of_spikingjelly(seed: int) -> None:
    from spikingjelly.activation_based import functional

    from snnc.backends.torch_module import to_spikingjelly

    graph = random_graph(seed)
    artefact = Artefact(graph, Metadata("", "", "", (), None, None, "", "", {}))
    x = np.random.default_rng(seed).normal(size=(4, *graph.input.shape)).astype(np.float32)
    names = tuple(node.name for node in graph.of_type(snn.IntegrateFire))
    record = RecordOptions(states=True, trains=names)
    expected = ReferenceSimulator().run(graph, artefact.encode(x), 4, record)
    (answers,) = artefact.decode(expected).values()
    net, y = to_spikingjelly(artefact), list[Any]()
    for _ in range(2):
        y = []
        for t in range(4):
            y.append(net(torch.from_numpy(x)))
            assert net.last is not None
            for name in names:
                np.testing.assert_array_equal(net.last.spikes[name].numpy(), expected.trains[name][t])
        assert net.last is not None
        _compare(net.last, expected.outputs, expected.counts, expected.potentials)
        np.testing.assert_allclose(torch.stack(y).mean(0).numpy(), answers, rtol=1e-6)
        functional.reset_net(net)
    several = to_spikingjelly(artefact, "m")
    sequence = torch.from_numpy(x).expand(4, *x.shape)
    assert torch.equal(several(sequence), torch.stack(y))
    functional.reset_net(several)
    with pytest.raises(UsageError, match="3 steps were given"):
        several(sequence[:3])
    with pytest.raises(UsageError, match="layerwise or has settle steps"):
        to_spikingjelly(replace(artefact, graph=replace(graph, settle_steps=1)))
