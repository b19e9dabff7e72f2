"""A network in sections computes what it computed whole, and no division leaves spikes more to do."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from snnc.frontend.host.closure import greatest_closure
from snnc.frontend.host.cutting import cut, ports
from snnc.frontend.host.dividing import HostMode, read_divided
from snnc.frontend.host.partition import LEAST_GAIN, Wiring, divide, host_nodes, unfit
from snnc.frontend.loading import load
from snnc.frontend.simplify import simplify
from snnc.frontend.tensor_shapes import tensors_of
from snnc.ir.batch import joined
from snnc.source.ann_session import AnnSession
from snnc.source.host import Host
from snnc.source.host_sections import Section
from snnc.source.islands import SourceSegments

WILD = Path(__file__).parents[2] / "shared/wild"
SIZE = 6


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    fed = {value.name: feeds[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, fed), strict=True))


def divided(
    model: onnx.ModelProto, refused: dict[int, str], islands: int = 0
) -> tuple[Wiring, tuple[Section | None, ...], onnx.ModelProto, Host]:
    wiring = Wiring(model, tensors_of(model))
    sections = divide(wiring, frozenset(refused), islands)
    while more := unfit(wiring, sections):
        refused = more | refused
        sections = divide(wiring, frozenset(refused), islands)
    parts = cut(model, wiring, sections)
    host = Host(
        inputs=ports(wiring, (value.name for value in model.graph.input)),
        outputs=ports(wiring, (value.name for value in model.graph.output)),
        entries=ports(parts.wiring, parts.entries),
        exits=ports(parts.wiring, parts.exits),
        prefix=parts.prefix,
        suffix=parts.suffix,
        nodes=host_nodes(wiring, sections, refused),
        macs=sum(wiring.macs),
        batch=wiring.tensors.batch,
        islands=parts.islands,
    )
    return wiring, sections, parts.body, host


def in_sections(body: onnx.ModelProto, host: Host, feeds: dict[str, Any]) -> dict[str, Any]:
    known = host.before(feeds)
    if host.islands:
        return through(body, host, known)
    made = run(body, known) if body.graph.output else {}
    return host.behind(known, [made[port.name] for port in host.exits])


def through(body: onnx.ModelProto, host: Host, known: dict[str, Any]) -> dict[str, Any]:
    """Run segment after segment: each from its own entries alone, to the exits that follow from them."""
    made: dict[str, Any] = {}
    extractor = onnx.utils.Extractor(body)

    def segment(number: int, values: dict[str, Any]) -> dict[str, Any]:
        names = [name for name, found in host.segments.items() if found == number]
        exits = [port.name for port in host.exits if roots(body, port.name) <= set(names)]
        found = run(extractor.extract_model(names, exits), values)
        made.update(found)
        return found

    host.through(known, segment)
    return host.behind(known, [made[port.name] for port in host.exits])


def roots(body: onnx.ModelProto, name: str) -> set[str]:
    """Return the inputs that a tensor depends on."""
    inputs = {value.name for value in body.graph.input}
    makers = {output: node for node in body.graph.node for output in node.output}
    found, waiting = set(), [name]
    while waiting:
        here = waiting.pop()
        found |= {here} & inputs
        waiting += makers[here].input if here in makers else ()
    return found


ANY = ("MatMul", "Relu", "Sigmoid", "Add", "Mul", "Reshape")
SPIKING = ("MatMul", "MatMul", "Relu", "Add", "Reshape", "Sigmoid")


@st.composite
def networks(
    draw: st.DrawFn, *, layered: bool = False, gated: bool = False
) -> tuple[onnx.ModelProto, frozenset[int]]:
    """Draw a network of vectors with a free batch, and some of its nodes.

    Where it is ``layered``, what spikes can do stands in the middle, and is more. Where it is ``gated``, what
    they cannot do stands between it.
    """
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    inputs = [f"in{i}" for i in range(draw(st.integers(1, 2)))]
    tensors, nodes, constants = list(inputs), [], []
    kinds = draw(st.lists(st.sampled_from(ANY), min_size=2, max_size=9))
    if layered:
        ends = [draw(st.lists(st.sampled_from(ANY[2:]), max_size=3)) for _ in range(2)]
        middle = draw(st.lists(st.sampled_from(SPIKING), max_size=4))
        for _ in range(draw(st.integers(1, 2)) if gated else 0):
            middle += ["MatMul", "TopK", "MatMul", "Relu", "MatMul"]
        kinds = [*ends[0], "MatMul", "Relu", *middle, "MatMul", *ends[1]]
    for index, kind in enumerate(kinds):
        nearest = tensors[-1:] if gated and draw(st.integers(0, 9)) else tensors[-2:]
        read = [draw(st.sampled_from(nearest if layered else tensors))]
        if kind in ("Add", "Mul"):
            read.append(draw(st.sampled_from(tensors)))
        if kind == "MatMul":
            constants.append(
                numpy_helper.from_array(generator.normal(size=(SIZE, SIZE)).astype("f4"), f"w{index}")
            )
            read.append(f"w{index}")
        if kind == "Reshape":  # to the shape of any tensor, as exporters compute it
            nodes.append(helper.make_node("Shape", [draw(st.sampled_from(tensors))], [f"shape{index}"]))
            read.append(f"shape{index}")
        if kind == "TopK":
            constants.append(numpy_helper.from_array(np.array([SIZE]), f"k{index}"))
            read.append(f"k{index}")
        made_of = [f"t{index}", f"places{index}"][: 1 + (kind == "TopK")]
        nodes.append(helper.make_node(kind, read, made_of, name=f"n{index}"))
        tensors.append(f"t{index}")
    made = tensors[len(inputs) :]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    if gated:
        outputs = list(dict.fromkeys([made[-1], *outputs[:1]]))
    declare = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", SIZE])  # noqa: E731
    graph = helper.make_graph(nodes, "drawn", [*map(declare, inputs)], [*map(declare, outputs)], constants)
    opset = draw(st.sampled_from((13, 18)))
    model, _ = simplify(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), "drawn"
    )
    moving = [i for i, node in enumerate(model.graph.node) if node.op_type != "Shape"]
    refused = draw(st.lists(st.sampled_from(moving), min_size=1, max_size=3)) if moving else []
    return model, frozenset(refused)


@given(networks(), st.integers(0, 3))
def test_sections_compute_what_the_whole_computes(
    drawn: tuple[onnx.ModelProto, frozenset[int]], islands: int
) -> None:
    model, refused = drawn
    _, sections, body, host = divided(model, dict.fromkeys(refused, "refused"), islands)
    assert all(section is None or section.is_host for section in (sections[index] for index in refused))
    assert len(host.islands) <= islands
    x = np.random.default_rng(0).normal(size=(3, SIZE)).astype(np.float32)
    feeds = {value.name: x + i for i, value in enumerate(model.graph.input)}
    whole = run(model, feeds)
    found = in_sections(body, host, feeds)
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(found[name], value)


@given(networks(), st.integers(0, 2))
def test_no_division_leaves_spikes_more(drawn: tuple[onnx.ModelProto, frozenset[int]], islands: int) -> None:
    model, refused = drawn
    wiring = Wiring(model, tensors_of(model))
    places = [index for index, moves in enumerate(wiring.moves) if moves]
    if len(places) > (7, 5, 4)[islands]:
        return
    whole = max(sum(wiring.macs), 1)

    def possible(sections: dict[int, Any]) -> bool:
        return all(sections[other] <= sections[index] for index in places for other in wiring.before[index])

    def worth(sections: dict[int, Any], most: int) -> float:
        """Return the share of the spikes, less what the islands must bring."""
        spiking = [index for index in places if not sections[index].is_host]
        return sum(wiring.macs[index] for index in spiking) / whole - LEAST_GAIN * most

    best = -1.0
    for most in range(islands + 1):
        order = [Section.PREFIX, *map(Section, range(1, 2 * most + 2)), Section.SUFFIX]
        for tried in itertools.product(order, repeat=len(places)):
            sections = dict(zip(places, tried, strict=True))
            if all(sections[index].is_host for index in refused) and possible(sections):
                best = max(best, worth(sections, most))
    found = {index: divide(wiring, refused, islands)[index] for index in places}
    assert possible(found)
    used = {section for section in found.values() if section is not None and section.is_host}
    assert worth(found, len(used - {Section.PREFIX, Section.SUFFIX})) == pytest.approx(best)


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=7),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=10),
)
def test_closure_is_the_smallest_of_the_greatest(weights: list[int], pairs: list[tuple[int, int]]) -> None:
    requires = [(a % len(weights), b % len(weights)) for a, b in pairs]
    closed = [
        set(chosen)
        for size in range(len(weights) + 1)
        for chosen in itertools.combinations(range(len(weights)), size)
        if all(b in chosen for a, b in requires if a in chosen)
    ]
    most = max(sum(weights[i] for i in found) for found in closed)
    best = [found for found in closed if sum(weights[i] for i in found) == most]
    assert greatest_closure(weights, requires) == set.intersection(*best)


def wild() -> Iterator[str]:
    if WILD.exists():
        yield from (
            entry["file"].removesuffix(".onnx") for entry in json.loads((WILD / "index.json").read_text())
        )


@pytest.mark.parametrize("name", list(wild()) or [pytest.param("", marks=pytest.mark.skip("no ../shared"))])
def test_public_networks_in_sections(name: str) -> None:
    sys.path.insert(0, str(WILD / "data"))
    from inputs import feeds  # type: ignore[import-not-found]

    rows = feeds(name, 1)[0]
    model, _ = simplify(load(WILD / f"models/{name}.onnx").proto, name)
    for value in model.graph.input:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if axis:
                size.dim_value = rows[value.name].shape[axis]
    kinds = {"Sigmoid", "Tanh", "Softmax", "LSTM", "ConvTranspose", "Erf", "PRelu", "LeakyRelu", "HardSwish"}
    wiring = Wiring(model, tensors_of(model))
    refused = {i: "refused" for i, n in enumerate(model.graph.node) if n.op_type in kinds and wiring.moves[i]}
    if not refused:  # then some from the middle
        refused = {
            i: "refused" for i, n in enumerate(model.graph.node) if n.op_type in ("Reshape", "Transpose")
        }
        refused = {i: reason for i, reason in refused.items() if wiring.moves[i]}
    if any(value.name not in wiring.tensors.rows for value in model.graph.input):
        pytest.skip("an input has no entry per row")
    _, _, body, host = divided(model, refused)
    try:
        whole = run(model, rows)
    except Exception as error:  # noqa: BLE001, onnxruntime's exceptions have no root of their own
        pytest.skip(f"onnxruntime does not run it without its optimisations: {str(error)[:80]}")
    found = in_sections(body, host, rows)
    for key, value in whole.items():
        if value.dtype == np.float16:  # of which onnxruntime keeps more digits between nodes
            np.testing.assert_allclose(found[key], value, atol=1e-3)
        else:
            np.testing.assert_array_equal(found[key], value)


@given(networks(layered=True))
def test_what_is_read_and_what_the_host_keeps_are_the_network(
    drawn: tuple[onnx.ModelProto, frozenset[int]],
) -> None:
    parts_are_the_whole(drawn[0], HostMode.EDGES)


@settings(max_examples=25)
@given(networks(layered=True, gated=True))
def test_segments_and_islands_are_the_network(drawn: tuple[onnx.ModelProto, frozenset[int]]) -> None:
    parts_are_the_whole(drawn[0], HostMode.ANY)


def parts_are_the_whole(model: onnx.ModelProto, mode: HostMode) -> None:
    reading = read_divided(model, "drawn", "drawn.onnx", mode)
    if reading.network is None or reading.host is None:
        return
    host, network = reading.host, reading.network
    x = np.random.default_rng(1).normal(size=(3, SIZE)).astype(np.float32)
    feeds = {value.name: x + i for i, value in enumerate(model.graph.input)}
    known = host.before(feeds)
    entries = SourceSegments(network.graph, host, network.layouts, network.given, 1).entries(known)
    answers = network.graph.answers
    values = AnnSession(network.graph, list(dict.fromkeys(answers.values())), 1).run(joined(entries))
    exits = [network.given[port.name].to_source(values[answers[port.name]]) for port in host.exits]
    found = host.behind(known, exits)
    for name, value in run(model, feeds).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4)
    again = read_divided(model, "drawn", "drawn.onnx", kept=host.nodes)
    assert again.host is not None
    assert again.host.as_dict() == host.as_dict()


def test_rows_that_depend_on_each_other_are_refused() -> None:
    value = helper.make_tensor_value_info
    weights = numpy_helper.from_array(np.eye(SIZE, dtype=np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="a"),
        helper.make_node("Relu", ["a"], ["b"], name="b"),
        helper.make_node("MatMul", ["b", "w"], ["c"], name="c"),
        helper.make_node("Softmax", ["c"], ["y"], name="mixing", axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "mixing",
        [value("x", TensorProto.FLOAT, ["n", SIZE])],
        [value("y", TensorProto.FLOAT, ["n", SIZE])],
        [weights],
    )
    model, _ = simplify(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), "mixing"
    )
    reading = read_divided(model, "mixing", "mixing.onnx", HostMode.EDGES)
    assert reading.network is None
    assert any("the other rows" in found.message for found in reading.diagnostics)
