"""Both dialects as modules of torch: equal to the reference, and back into the graph without loss."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from snnc.errors import UnknownOperationError, UsageError
from snnc.ir import ann, snn
from snnc.ir.function import COMPARISONS, OPERATORS
from snnc.ir.geometry import ABSENT, Window
from snnc.ir.graph import FloatArray
from snnc.ir.operations import ANN_KINDS
from snnc.numerics.quantisation import quantise_all
from snnc.passes import PASSES
from snnc.pipeline import Pipeline, run_pipeline
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator, encode_all
from tests.ann_graphs import Builder, context, residual_network

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.training.activations import torch_form
from snnc.training.ann_network import AnnNetwork
from snnc.training.fine import FineEdges, marked, with_fine
from snnc.training.operators import gathered
from snnc.training.spiking_network import SpikingNetwork, inexact

FRONT = "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear,clip-activations{floor=true}"
PARTIAL = ("Reciprocal", "Sqrt", "Log", "Asin", "Acos", "Atanh", "Acosh")
"""Operators that are not defined for every number."""
LOWERED = f"{FRONT},lower,dual-threshold{{spikes-per-step=2}},init-membrane"


def every_kind(seed: int = 0) -> ann.AnnGraph:
    """A network that holds a node of every kind, and rectifiers of every form."""
    b = Builder(seed, (4, 6, 6))
    b.add(
        ann.ChannelAffine(name="affine", inputs=("x",), shape=(4, 6, 6), scale=b.normal(4), shift=b.normal(4))
    )
    stem = b.relu("relu6", b.norm("bn", b.conv("conv", "affine", 8, groups=2)), ceiling=1.5)
    b.add(ann.Constant(name="place", shape=(8, 6, 6), values=b.normal(8, 6, 6)))
    b.sum("sum", stem, "place")
    uneven = Window((3, 2), (2, 1), (1, 0, 0, 1), (1, 2))
    b.conv("uneven", "sum", 6, uneven)
    shape = b.shapes["uneven"]
    b.add(
        ann.Relu(
            name="clipped",
            inputs=("uneven",),
            shape=shape,
            threshold=np.full(6, 1.5, np.float32),
            floor=np.linspace(0, 0.5, 6, dtype=np.float32),
            shift=np.full(6, 0.25, np.float32),
            levels=2,
        )
    )
    for rounding in ann.ROUNDINGS:
        b.add(
            ann.Relu(
                name=rounding,
                inputs=("uneven",),
                shape=shape,
                scale=np.full(6, 0.125, np.float32),
                lowest=-3,
                highest=12,
                rounding=rounding,
            )
        )
    b.concat("joined", "clipped", *ann.ROUNDINGS)
    b.pad("pad", "joined", (1, 1, 0), (0, 0, 2))
    channels, height, width = b.shapes["pad"]
    b.add(
        ann.Slice(
            name="slice",
            inputs=("pad",),
            shape=(-(-channels // 2), height, width - 1),
            start=(0, 0, 1),
            stop=(channels, height, width),
            step=(2, 1, 1),
        )
    )
    pool = Window((2, 2), (1, 1), (1, 0, 0, 1))
    b.max_pool("max", "slice", pool)
    b.mean("mean", "max", pool)
    b.flatten("flat", "mean")
    size = b.shapes["flat"][0]
    index = np.random.default_rng(seed).permutation(size)[: size // 2].astype(np.int32)
    index[::3] = ABSENT
    b.add(ann.Gather(name="gather", inputs=("flat",), shape=(len(index),), index=index))
    b.linear("fc", "gather", 6)
    unary = [name for name, (count, _) in OPERATORS.items() if count == 1 and name not in PARTIAL]
    functions = [f"{name}(x)" for name in unary] + [
        "LeakyRelu(x, c0)",
        "Elu(x, c0)",
        "HardSigmoid(x, c0, c1)",
        "Greater(x, c0); Where(v0, x, c1)",
        "Min(x, c0); Max(v0, c1); Add(v1, c0); Sub(v2, c1); Mul(v3, x); Div(v4, c0)",
        "Abs(x); Add(v0, c0); Pow(v1, c0); Sqrt(v2); Log(v3); Reciprocal(v4)",
        *(f"{name}(x, c0)" for name in COMPARISONS),
        "Sigmoid(x); Asin(v0); Mul(v1, c0); Acos(v2)",
        "Sigmoid(x); Atanh(v0); Exp(x); Add(v2, c0); Add(v3, c1); Acosh(v3)",
    ]
    names = set(re.findall(r"([A-Z][A-Za-z]*)\(", " ".join(functions)))
    assert names == set(OPERATORS)
    constants = np.stack([np.linspace(0.3, 0.9, 6), np.full(6, 1.25)]).astype(np.float32)
    for number, text in enumerate(functions):
        b.add(ann.Pointwise(name=f"f{number}", inputs=("fc",), shape=(6,), program=text, constants=constants))
    b.add(
        ann.Pointwise(
            name="stepped",
            inputs=("fc",),
            shape=(6,),
            program="Tanh(x)",
            constants=constants[:0],
            step=np.full(6, 0.125, np.float32),
            lowest=-3,
            highest=5,
        )
    )
    b.add(ann.Reshape(name="square", inputs=("fc",), shape=(2, 3)))
    b.add(ann.Product(name="gated", inputs=("square", "square"), shape=(2, 3)))
    b.add(ann.MatrixProduct(name="scores", inputs=("square", "gated"), shape=(2, 2), transposed=True))
    b.add(ann.MatrixProduct(name="mixed", inputs=("scores", "square"), shape=(2, 3)))
    b.add(ann.InnerSoftmax(name="weights", inputs=("mixed",), shape=(2, 3), axis=1))
    b.add(ann.Normalisation(name="layer", inputs=("mixed",), shape=(2, 3), axes=(1,), epsilon=1e-5))
    b.add(
        ann.Normalisation(
            name="power", inputs=("mixed",), shape=(2, 3), axes=(0, 1), epsilon=1e-5, centred=False
        )
    )
    b.add(ann.Maximum(name="largest", inputs=("mixed",), shape=(2, 1), axes=(1,)))
    b.add(ann.Softmax(name="softmax", inputs=("fc",), shape=(6,)))
    b.add(ann.Softmax(name="log", inputs=("fc",), shape=(6,), logarithm=True))
    graph = ann.AnnGraph(name="test", nodes=tuple(b.nodes), outputs=("softmax", "log"))
    graph.verify()
    return graph


def given_rows(graph: ann.AnnGraph, rows: int = 7, seed: int = 1) -> FloatArray:
    x: FloatArray = np.random.default_rng(seed).standard_normal((rows, *graph.nodes[0].shape))
    return x.astype(np.float32)


def tensors(graph: Any, x: Any) -> dict[str, torch.Tensor]:
    return {graph.inputs[0].name: torch.from_numpy(np.asarray(x, np.float32))}


@pytest.mark.parametrize("seed", range(3))
def test_the_module_computes_what_the_reference_does_for_every_kind_of_node(seed: int) -> None:
    graph = every_kind(seed)
    assert {type(node) for node in graph} == ANN_KINDS
    x = given_rows(graph)
    names = [node.name for node in graph]
    _, expected = run_ann(graph, x, names)
    with torch.no_grad():
        found = AnnNetwork(graph).eval()(tensors(graph, x), names)
    for name in names:
        np.testing.assert_allclose(
            found.kept[name].detach(), expected[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("folded", [False, True])
def test_batch_normalisation_folded_or_not(folded: bool) -> None:
    graph = residual_network(3, pool=True)
    if folded:
        found_, _ = run_pipeline(Pipeline.parse("fold-batchnorm", PASSES), graph, context(graph))
        assert isinstance(found_, ann.AnnGraph)
        graph = found_
    assert bool(graph.of_type(ann.BatchNormalisation)) is not folded
    x = given_rows(graph)
    with torch.no_grad():
        found = AnnNetwork(graph).eval()(tensors(graph, x))
    np.testing.assert_allclose(
        found.outputs[graph.output_names[0]], run_ann(graph, x)[0], rtol=1e-4, atol=1e-5
    )


def test_a_kind_that_is_unknown_is_named() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True, eq=False)
    class Sine(ann.AnnNode):
        pass

    b = Builder(0, (3,))
    b.add(Sine(name="wave", inputs=("x",), shape=(3,)))
    graph = ann.AnnGraph(name="test", nodes=tuple(b.nodes), outputs=("wave",))
    with pytest.raises(UnknownOperationError, match="Sine 'wave'"):
        AnnNetwork(graph)


@pytest.mark.parametrize("timesteps", [None, 2])
def test_what_was_not_learned_comes_back_bit_for_bit(timesteps: int | None) -> None:
    graph = every_kind()
    assert AnnNetwork(graph, timesteps).graph() is graph
    lowered = spiking()
    assert SpikingNetwork(lowered).graph() is lowered


@pytest.mark.parametrize(
    ("program", "constants", "whole"),
    [
        ("Mul(x, c0); Erf(v0); Add(v1, c1); Mul(x, c2); Mul(v3, v2)", [0.5**0.5, 1, 0.5], True),
        ("Div(x, c0); Erf(v0); Add(v1, c1); Mul(x, v2); Mul(v3, c2)", [2**0.5, 1, 0.5], True),
        ("Mul(x, c0); Erf(v0); Add(v1, c1); Mul(x, c2); Mul(v3, v2)", [0.71, 1, 0.5], False),
        ("Sigmoid(x); Mul(x, v0)", [], True),
        ("Mul(x, c0); Sigmoid(v0); Mul(x, v1)", [1.702], False),
        ("HardSigmoid(x, c0, c1); Mul(x, v0)", [1 / 6, 0.5], True),
        ("Softplus(x); Tanh(v0); Mul(x, v1)", [], True),
        ("Tanh(x)", [], False),
    ],
)
def test_functions_that_torch_computes_at_once(program: str, constants: list[float], whole: bool) -> None:
    b = Builder(0, (3, 2, 2))
    values = np.array(constants, np.float32).reshape(-1, 1)
    b.add(ann.Pointwise(name="f", inputs=("x",), shape=(3, 2, 2), program=program, constants=values))
    graph = ann.AnnGraph(name="test", nodes=tuple(b.nodes), outputs=("f",))
    node = graph.of_type(ann.Pointwise)[0]
    assert (torch_form(node) is not None) == whole
    x = 4 * given_rows(graph)
    with torch.no_grad():
        found = AnnNetwork(graph).eval()(tensors(graph, x)).outputs[graph.output_names[0]]
    np.testing.assert_allclose(found, run_ann(graph, x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [(0,), (2,), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("centred", [True, False])
def test_normalisations_over_any_axes(axes: tuple[int, ...], centred: bool) -> None:
    b = Builder(0, (3, 4, 5))
    b.add(
        ann.Normalisation(
            name="norm", inputs=("x",), shape=(3, 4, 5), axes=axes, epsilon=1e-3, centred=centred
        )
    )
    graph = ann.AnnGraph(name="test", nodes=tuple(b.nodes), outputs=("norm",))
    x = 2 + given_rows(graph)
    with torch.no_grad():
        found = AnnNetwork(graph).eval()(tensors(graph, x)).outputs[graph.output_names[0]]
    np.testing.assert_allclose(found, run_ann(graph, x)[0], rtol=1e-5, atol=1e-6)


@drawn(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_what_is_gathered_is_what_the_index_says(sizes: list[int], data: st.DataObject) -> None:
    """Axes that are turned, and indices that are close to that."""
    size = int(np.prod(sizes))
    order = data.draw(st.permutations(range(len(sizes))))
    index = np.arange(size).reshape(sizes).transpose(order)
    if data.draw(st.booleans()):
        index = index.copy()
        index.flat[data.draw(st.integers(0, size - 1))] = data.draw(st.integers(-1, size - 1))
    size += data.draw(st.integers(0, 3))  # what is left over is not read
    x = torch.arange(2.0 * size).reshape(2, size) + 1
    found = gathered(x, torch.from_numpy(np.array(index)))
    padded = np.concatenate([x.numpy(), np.zeros((2, 1), np.float32)], axis=1)
    np.testing.assert_array_equal(found, padded[:, index])


def test_what_was_learned_comes_back() -> None:
    graph = every_kind()
    network = AnnNetwork(graph, 2)
    for number, each in enumerate(network.learned):
        with torch.no_grad():
            each.tensor.add_(0.01 * (number + 1))
    again = AnnNetwork(network.graph(), 2).eval()
    x = tensors(graph, given_rows(graph))
    with torch.no_grad():
        for name, values in network.eval()(x).outputs.items():
            np.testing.assert_allclose(again(x).outputs[name], values, rtol=1e-4, atol=1e-5)
    changed = {node.name for node in network.graph() if node is not graph[node.name]}
    assert changed == {each.node for each in network.learned}


def spiking(timesteps: int = 2, passes: str = LOWERED, pool: bool = True) -> snn.SnnGraph:
    source = residual_network(5, pool=pool)
    text = passes.replace("spikes-per-step=2", f"spikes-per-step={timesteps}")
    graph, _ = run_pipeline(Pipeline.parse(text, PASSES), source, context(source, timesteps=timesteps))
    assert isinstance(graph, snn.SnnGraph)
    return graph


@pytest.mark.parametrize("timesteps", [1, 2, 4])
@pytest.mark.parametrize(
    "passes",
    [
        LOWERED,
        f"{FRONT},lower,graded,init-membrane{{fraction=0.3}}",
        f"{FRONT},lower,graded,fine-skip,init-membrane",
        f"{FRONT},lower,set-schedule{{kind=layerwise}},init-membrane",
    ],
)
def test_counts_and_answers_are_those_of_the_spiking_network(timesteps: int, passes: str) -> None:
    graph = spiking(timesteps, passes)
    network = SpikingNetwork(graph)
    integers = quantise_all(graph)
    q = encode_all(integers, given_rows(residual_network(5), 20))
    trace = ReferenceSimulator().run(integers, q, timesteps, RecordOptions(states=True))
    with torch.no_grad():
        found = network(tensors(graph, q), exact=True)
    for node in integers.of_type(snn.IntegrateFire):
        np.testing.assert_array_equal(found.counts[node.name].numpy(), trace.counts[node.name])
    ((name, output),) = trace.outputs.items()
    np.testing.assert_allclose(
        found.outputs[name], integers.readouts[name].decoded(output, timesteps), rtol=1e-6
    )


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_counts_after_fewer_steps(steps: int) -> None:
    graph = spiking(4)
    integers = quantise_all(graph)
    q = encode_all(integers, given_rows(residual_network(5), 10))
    names = tuple(node.name for node in graph.of_type(snn.IntegrateFire))
    trace = ReferenceSimulator().run(integers, q, 4, RecordOptions(trains=names))
    with torch.no_grad():
        found = SpikingNetwork(graph)(tensors(graph, q), steps=steps, exact=True)
    for name in names:
        np.testing.assert_array_equal(found.counts[name].numpy(), trace.trains[name][:steps].sum(axis=0))


def test_changed_parameters_become_the_compilers_integers() -> None:
    graph = spiking()
    network = SpikingNetwork(graph)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in network.learned:
            each.tensor.add_(0.05 * torch.randn(each.tensor.shape, generator=generator) * each.tensor.std())
            if each.role in ("thresholds", "starts"):
                each.tensor.add_(0.2 * torch.randn(each.tensor.shape, generator=generator))
    network.quantise()
    integers = quantise_all(network.graph())
    integers.verify()
    q = encode_all(integers, given_rows(residual_network(5), 20))
    trace = ReferenceSimulator().run(integers, q, 2, RecordOptions(states=True))
    with torch.no_grad():
        found = network(tensors(graph, q), exact=True)
    for name, counts in trace.counts.items():
        np.testing.assert_array_equal(found.counts[name].numpy(), counts)
    starts = [node.v_init / node.threshold for node in integers.of_type(snn.IntegrateFire)]
    assert max(share.max() for share in starts) < 1


@pytest.mark.parametrize(
    "passes",
    [
        f"{FRONT},lower,dual-threshold,init-membrane",
        f"{FRONT},lower,init-membrane",
        f"{FRONT},lower,dual-threshold{{negative=0.5}},init-membrane",
    ],
)
def test_networks_whose_counts_depend_on_the_order_of_spikes_are_refused(passes: str) -> None:
    with pytest.raises(UsageError, match="order matters: tune with"):
        SpikingNetwork(spiking(2, passes))
    assert inexact(spiking(1, passes)) is None or "negative" in passes or "dual" not in passes


def test_the_levels_of_a_rectifier_are_the_counts_of_its_population() -> None:
    """The clipped network, lowered in float32, has the same counts but for rounding at the steps."""
    source = residual_network(5)
    made = context(source, timesteps=2)
    clipped, _ = run_pipeline(Pipeline.parse(FRONT, PASSES), source, made)
    assert isinstance(clipped, ann.AnnGraph)
    assert any(node.floor is not None and node.floor.any() for node in clipped.of_type(ann.Relu))
    behind = LOWERED.removeprefix(FRONT + ",")
    lowered, _ = run_pipeline(Pipeline.parse(behind, PASSES), clipped, replace(made, source=clipped))
    assert isinstance(lowered, snn.SnnGraph)
    x = given_rows(source, 20)
    names = [node.name for node in clipped.of_type(ann.Relu)]
    with torch.no_grad():
        levels = AnnNetwork(clipped, 2).eval()(tensors(clipped, x), names)
    trace = ReferenceSimulator().run(lowered, encode_all(lowered, x), 2, RecordOptions(states=True))
    for name in names:
        same = levels.counts[name].numpy() == trace.counts[name]
        assert same.mean() > 0.995, name  # the input is rounded to 12 bits
        node = lowered[name]
        assert isinstance(node, snn.IntegrateFire)
        activation = node.decoded(trace.counts[name], 2)
        np.testing.assert_allclose(levels.kept[name].numpy()[same], activation[same], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("timesteps", [1, 2, 8])
@pytest.mark.parametrize("pool", [False, True])
def test_fine_rectifiers_become_what_the_pass_makes(timesteps: int, pool: bool) -> None:
    source = residual_network(5, pool=pool)
    made = context(source, timesteps=timesteps)
    clipped, _ = run_pipeline(Pipeline.parse(FRONT, PASSES), source, made)
    assert isinstance(clipped, ann.AnnGraph)
    by_pass, _ = run_pipeline(Pipeline.parse("lower,graded,fine-skip,init-membrane", PASSES), clipped, made)
    edges = FineEdges(levels=15, shortcuts=True, classifier=True)
    given, coarse = with_fine(clipped, edges, replace(made, source=clipped))
    given.verify()
    x = given_rows(source)
    plain = clipped.without_thresholds()
    np.testing.assert_allclose(run_ann(given.without_thresholds(), x)[0], run_ann(plain, x)[0], rtol=1e-5)
    lowered, _ = run_pipeline(Pipeline.parse("lower,graded,init-membrane", PASSES), given, made)
    assert isinstance(lowered, snn.SnnGraph)
    lowered = marked(lowered, coarse)
    lowered.verify()
    theirs = {node.name: node for node in by_pass if isinstance(node, snn.IntegrateFire)}
    ours = {node.name: node for node in lowered.of_type(snn.IntegrateFire)}
    assert ours.keys() == theirs.keys()
    assert any(node.fine for node in ours.values())
    for name, node in ours.items():
        other = theirs[name]
        assert (node.neuron, node.fine, node.stands_for) == (other.neuron, other.fine, other.stands_for)
        relu = clipped[node.stands_for]
        assert isinstance(relu, ann.Relu)
        assert relu.threshold is not None
        alive = relu.threshold > (0 if relu.floor is None else relu.floor)  # any threshold does elsewhere
        assert alive.sum() > 5
        np.testing.assert_allclose(node.threshold[alive], other.threshold[alive], rtol=1e-5)
        np.testing.assert_allclose(node.bias[alive], other.bias[alive], rtol=1e-3, atol=1e-4)
    q = encode_all(lowered, x)
    ((_, mine),) = ReferenceSimulator().run(lowered, q, timesteps).outputs.items()
    assert isinstance(by_pass, snn.SnnGraph)
    ((_, passes),) = ReferenceSimulator().run(by_pass, q, timesteps).outputs.items()
    np.testing.assert_allclose(mine, passes, rtol=1e-3, atol=1e-3)
