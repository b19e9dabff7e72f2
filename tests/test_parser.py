"""The exact text form is read back to the last bit, and passes are tested by it: text in, text out."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.errors import InputError, SnncError
from snnc.ir.ann import AnnGraph
from snnc.ir.graph import Graph, Node
from snnc.ir.parser import ORDINARY, SPIKING, VALUES, parse_graph
from snnc.ir.snn import SnnGraph
from snnc.ir.text import arrays_of, print_exact
from snnc.passes.dual_threshold import DualThreshold
from snnc.passes.exact_max_pool import ExactMaxPool
from snnc.passes.fold_batchnorm import FoldBatchnorm
from tests.ann_graphs import Builder, context, residual_network
from tests.spiking_graphs import as_float, graphs, random_graph

NAMES = st.one_of(
    st.text(min_size=1, max_size=5), st.sampled_from(["return", "a:", ": T = 1", '"', "->", "a.b"])
)


def same(one: Graph[object], other: Graph[object]) -> None:  # type: ignore[type-var]
    """Hold two graphs equal, bit for bit."""
    assert type(one) is type(other)
    for field in dataclasses.fields(one):
        if field.name != "nodes":
            assert getattr(one, field.name) == getattr(other, field.name)
    assert len(one.nodes) == len(other.nodes)
    for a, b in zip(one.nodes, other.nodes, strict=True):
        assert type(a) is type(b)
        for item in dataclasses.fields(a):  # type: ignore[arg-type]
            left, right = getattr(a, item.name), getattr(b, item.name)
            if isinstance(left, np.ndarray):
                assert (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())
            else:
                assert left == right
                assert repr(left) == repr(right)  # -0.0 is no 0.0


def renamed(graph: SnnGraph, names: list[str]) -> SnnGraph:
    """Return the network with other names and origins, and a density by name."""
    told = {node.name: f"{name}{i}" for i, (node, name) in enumerate(zip(graph, names, strict=False))}
    name = {node.name: told.get(node.name, node.name) for node in graph}
    nodes = [
        node.with_(
            name=name[node.name], inputs=tuple(name[i] for i in node.inputs), origin=told.get(node.name, "")
        )
        for node in graph
    ]
    density = {name[node.name]: 1 / 3 for node in graph.nodes[1:3]}
    return replace(
        graph.with_nodes(nodes, tuple(name[each] for each in graph.outputs)), density=density, name=names[0]
    )


@given(graph=graphs(), real=st.booleans(), names=st.lists(NAMES, min_size=1, max_size=9))
@settings(max_examples=25, deadline=None)
def test_a_spiking_network_is_read_back(graph: SnnGraph, real: bool, names: list[str]) -> None:
    graph = renamed(as_float(graph, 1 / 3) if real and not graph.only_timesteps else graph, names)
    text = print_exact(graph)
    found = parse_graph(text, arrays_of(graph))
    same(found, graph)  # type: ignore[arg-type]
    assert print_exact(found) == text


def ordinary() -> list[AnnGraph]:
    """Networks that hold every operation of the dialect, before and after passes."""
    b = Builder(1)
    first = b.max_pool("pool", b.relu("relu", b.norm("bn", b.conv("conv", "x", 4)), ceiling=6.0))
    graph = b.graph(b.linear("fc", b.flatten("flat", b.concat("cat", first, first)), 3))
    made = context(graph)
    return [residual_network(), graph, FoldBatchnorm().run(graph, made)]


@pytest.mark.parametrize("graph", ordinary(), ids=str)
def test_an_ordinary_network_is_read_back(graph: AnnGraph) -> None:
    found = parse_graph(print_exact(graph), arrays_of(graph))
    same(found, graph)  # type: ignore[arg-type]
    found.verify()


def test_every_operation_and_every_field_has_a_text_form() -> None:
    common = {field.name for field in dataclasses.fields(Node)}
    for kind in (*SPIKING.values(), *ORDINARY.values()):
        for field in dataclasses.fields(kind):
            text = str(field.type).removesuffix(" | None")
            assert field.name in common or text in {"FloatArray", "IntArray", "NumberArray", "str", *VALUES}
    text = """
network n
x: Input -> (1, 6, 6)  # "an origin"
s: Slice(x) -> (1, 3, 2) {start=(0, 0, 1), stop=(1, 6, 5), step=(1, 2, 2)}
p: Pad(s) -> (3, 3, 2) {before=(0, 0, 0), after=(2, 0, 0)}
a: AveragePool(p) -> (3, 2, 1) {window=2x2}
t: Add(a, a) -> (3, 2, 1)
f: Reshape(t) -> (6,)
m: ChannelAffine(f) -> (6,) {scale=f32(6)<1.0 2.0 3.0 4.0 5.0 1e-30>, shift=f32(6)<0.1 0.2 0.3 0.4 -0.0 1.0>}
y: Softmax(m) -> (6,) {logarithm=true}
return y""".strip()
    graph = parse_graph(text)
    graph.verify()
    assert print_exact(graph) == text


GRAPH = random_graph(2)
TEXT = print_exact(GRAPH)


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_damaged_text_is_refused_or_is_another_graph(data: st.DataObject) -> None:
    text, graph = TEXT, GRAPH
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(1, 4)) :]
    refused = ""
    try:
        found = parse_graph(damaged, arrays_of(graph))
        assert isinstance(found, SnnGraph | AnnGraph)
    except InputError as error:
        refused = str(error)
    assert re.match(r"line \d+ of the text form: |a text form has|$", refused)


def test_what_is_wrong_is_named_with_its_line() -> None:
    text = print_exact(residual_network())
    with pytest.raises(InputError, match=r"line 3 .* the array @[0-9a-f]{16} is in no table that was given"):
        parse_graph(text)
    arrays = arrays_of(residual_network())
    with pytest.raises(InputError, match="line 2 of the text form: an unknown operation ends at ' -> "):
        parse_graph(text.replace("Input", "Output"), arrays)
    with pytest.raises(InputError, match="a text form has a heading"):
        parse_graph("network n")
    with pytest.raises(InputError, match=r"line 2 .*Linear needs weight, bias"):
        parse_graph("network n\nx: Linear -> (3)\nreturn x")
    with pytest.raises(InputError, match=r"line 2 .*2 values do not fill \(3,\)"):
        parse_graph("network n\nx: Relu -> (3) {ceiling=f32(3)<1 2>}\nreturn x")
    with pytest.raises(SnncError, match="a network begins with its input"):
        parse_graph("network n\nx: Relu -> (3) {ceiling=f32(3)<1 2 3>}\nreturn x").verify()


def test_text_in_text_out_a_rectifier_moves_in_front_of_a_pool() -> None:
    graph = parse_graph(
        """
network n
x: Input -> (1, 4, 4)
c: Convolution(x) -> (1, 4, 4) {weight=f32(1, 1, 1, 1)<2>, bias=f32(1)<0>, window=1x1}
first: Relu(c) -> (1, 4, 4)
d: Convolution(first) -> (1, 4, 4) {weight=f32(1, 1, 1, 1)<-1>, bias=f32(1)<3>, window=1x1}
pool: MaxPool(d) -> (1, 2, 2) {window=2x2 strides=2,2}
last: Relu(pool) -> (1, 2, 2)
return last"""
    )
    assert isinstance(graph, AnnGraph)
    assert (
        print_exact(ExactMaxPool().run(graph, context(graph)))
        == """
network n
x: Input -> (1, 4, 4)
c: Convolution(x) -> (1, 4, 4) {weight=f32(1, 1, 1, 1)<2.0>, bias=f32(1)<0.0>, window=1x1}
first: Relu(c) -> (1, 4, 4)
d: Convolution(first) -> (1, 4, 4) {weight=f32(1, 1, 1, 1)<-1.0>, bias=f32(1)<3.0>, window=1x1}
last: Relu(d) -> (1, 4, 4)
pool: MaxPool(last) -> (1, 2, 2) {window=2x2 strides=2,2}
return pool as last""".strip()
    )


SPIKING_TEXT = """
spiking network n: T = 4, K = 0, synchronous, bounds not proved
x: Encode -> (2,) {scale=0.5}
l: Linear(x) -> (2,) {weight=f32(2, 2)<1.0 0.0 0.0 1.0>}
r: IntegrateFire(l) -> (2,) {threshold=f32(2)<1.0 2.0>, bias=f32(2)<0.0 0.5>, v_init=f32(2)<0.0 0.0>, \
spike_scale=f32(2)<1.0 2.0>, neuron=NEURON, stands_for=relu}
fc: Linear(r) -> (2,) {weight=f32(2, 2)<1.0 2.0 3.0 4.0>}
y: Readout(fc) -> (2,) {bias=f32(2)<0.0 0.0>}
return y""".strip()


def test_text_in_text_out_plain_neurons_get_signs_and_memory() -> None:
    plain = SPIKING_TEXT.replace("NEURON", "unsigned M=1 per-step=1 unary")
    graph = parse_graph(plain)
    assert isinstance(graph, SnnGraph)
    graph.verify()
    assert print_exact(graph) == plain
    signed = DualThreshold(spikes_per_step=2).run(graph, context(residual_network()))
    assert print_exact(signed) == SPIKING_TEXT.replace("NEURON", "signed M=1 per-step=2 unary")
