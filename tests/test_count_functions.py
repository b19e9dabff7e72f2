"""Functions of spike counts: what they compute, everywhere alike, and what they refuse."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from math import isqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from snnc.analysis import costs
from snnc.artefact import Artefact
from snnc.backends import load_backend, load_simulator
from snnc.backends.deployment import deploy, verify
from snnc.backends.numba_cpu.kernels.functions import EXACT, quotient
from snnc.errors import InputError, UsageError
from snnc.ir.batch import Rows, joined
from snnc.ir.bounds import count_bounds, function_bounds, overflow, provable_timesteps, unproved
from snnc.ir.graph import IntArray, Shape
from snnc.ir.neuron import Schedule
from snnc.ir.parser import parse_graph
from snnc.ir.snn import (
    CountMatrixProduct,
    CountMaximum,
    CountNormalisation,
    CountProduct,
    CountSoftmax,
    Encode,
    Function,
    IntegrateFire,
    Readout,
    SnnGraph,
    SnnNode,
)
from snnc.ir.text import arrays_of, print_exact
from snnc.simulation.count_functions import count_function, square_root
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from snnc.simulation.single_pass import counted, counted_input, problem
from tests.spiking_graphs import as_float, counting_graphs, random_graph, random_inputs
from tests.test_equivalence import assert_same

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

KINDS = (CountProduct, CountMatrixProduct, CountSoftmax, CountNormalisation, CountMaximum)

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def drawn(data: st.DataObject, shape: Shape, most: int) -> IntArray:
    """Return counts, (3, *shape), some of them at their largest."""
    seed = data.draw(st.integers(0, 2**20))
    rng = np.random.default_rng(seed)
    found = rng.integers(-most, most + 1, (3, *shape))
    return np.where(rng.random(found.shape) < 0.2, np.sign(found) * most, found)


@st.composite
def functions(draw: st.DrawFn) -> tuple[Function, list[Shape]]:
    """Draw a function and the shapes that it reads."""
    shape = draw(shapes)
    rank = len(shape)
    lowest, highest = -draw(st.integers(0, 300)), draw(st.integers(1, 32767))
    axes = tuple(sorted(draw(st.sets(st.integers(0, rank - 1), min_size=1))))
    requantiser: dict[str, Any] = {
        "multiplier": draw(st.integers(1, 2**20)),
        "shift": draw(st.integers(0, 40)),
        "lowest": lowest,
        "highest": highest,
    }
    kind = draw(st.sampled_from(KINDS))
    if kind is CountProduct:
        first = tuple(size if draw(st.booleans()) else 1 for size in shape)
        read = [first, shape] if draw(st.booleans()) else [shape, first]
        return CountProduct(name="f", inputs=("a", "b"), shape=shape, **requantiser), read
    if kind is CountMatrixProduct:
        inner, columns, transposed = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.booleans())
        shape = shape if rank > 1 else (2, *shape)
        second = (columns, inner) if transposed else (inner, columns)
        read = [(*shape[:-1], inner), (*shape[:-2], *second)]
        made = (*shape[:-1], columns)
        return CountMatrixProduct(
            name="f", inputs=("a", "b"), shape=made, transposed=transposed, **requantiser
        ), read
    if kind is CountSoftmax:
        table = sorted(draw(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=60)), reverse=True)
        table[0] = max(table[0], 1)
        return CountSoftmax(
            name="f",
            inputs=("a",),
            shape=shape,
            axis=draw(st.integers(0, rank - 1)),
            table=np.array(table, np.int32),
            levels=highest,
        ), [shape]
    if kind is CountNormalisation:
        return CountNormalisation(
            name="f",
            inputs=("a",),
            shape=shape,
            axes=axes,
            epsilon=draw(st.integers(1, 2**30)),
            factor=draw(st.integers(1, 2**20)),
            lowest=lowest,
            highest=highest,
            centred=draw(st.booleans()),
        ), [shape]
    reduced = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return CountMaximum(name="f", inputs=("a",), shape=reduced, axes=axes), [shape]


def plainly(node: Function, counts: list[IntArray]) -> IntArray:
    """Compute a function in Python's integers, which never overflow, element by element of its equation."""
    read = [count.astype(object) for count in counts]

    def requantise(total: int) -> int:
        assert isinstance(node, CountProduct | CountMatrixProduct)
        made = (total * node.multiplier + (2 ** (node.shift - 1) if node.shift else 0)) // 2**node.shift
        return min(max(made, node.lowest), node.highest)

    match node:
        case CountProduct():
            return np.vectorize(requantise, otypes=[object])(read[0] * read[1])
        case CountMatrixProduct():
            second = read[1].swapaxes(-1, -2) if node.transposed else read[1]
            total = (read[0][..., :, :, None] * second[..., None, :, :]).sum(axis=-2)
            return np.vectorize(requantise, otypes=[object])(total)
        case CountMaximum():
            return read[0].max(axis=tuple(axis + 1 for axis in node.axes), keepdims=True)
        case CountSoftmax():
            groups = np.moveaxis(read[0], node.axis + 1, -1)
            last = len(node.table) - 1

            def share(row: Any) -> Any:
                e = [int(node.table[min(max(row) - n, last)]) for n in row]
                return np.array([(node.levels * each + sum(e) // 2) // sum(e) for each in e], object)

            return np.moveaxis(np.apply_along_axis(share, -1, groups), -1, node.axis + 1)
        case CountNormalisation():
            axes = tuple(axis + 1 for axis in node.axes)
            rest = tuple(axis for axis in range(read[0].ndim) if axis not in axes)
            turned = read[0].transpose(*rest, *axes)
            rows = turned.reshape(-1, node.elements(node.shape))

            def normalise(row: Any) -> list[int]:
                n, first = len(row), sum(row) if node.centred else 0
                under = n * sum(each * each for each in row) - first * first + node.epsilon
                d = isqrt(under * 4**8)
                made = (((n * each - first) * node.factor + d // 2) // d for each in row)
                return [min(max(each, node.lowest), node.highest) for each in made]

            made = np.array([normalise(row) for row in rows], object).reshape(turned.shape)
            return made.transpose(np.argsort((*rest, *axes)))


@given(drawn_function=functions(), most=st.sampled_from([1, 15, 255, 32767, 2**20]), data=st.data())
def test_the_definition_is_the_equation_in_integers_that_never_overflow(
    drawn_function: tuple[Function, list[Shape]], most: int, data: st.DataObject
) -> None:
    node, read = drawn_function
    assert node.verify(read) is None
    if node.reach([most] * len(read), read) >= 2**63:
        return
    counts = [drawn(data, shape, most) for shape in read]
    made = count_function(node, counts)
    assert made.dtype == np.int64
    assert np.array_equal(made, plainly(node, counts).astype(np.int64))
    assert np.abs(made).max() <= node.largest([most] * len(read))


@given(st.integers(0, 2**62 - 1), st.integers(-2, 2))
def test_the_square_root_is_exact(value: int, beside: int) -> None:
    values = [value, max(0, min(isqrt(value) ** 2 + beside, 2**62 - 1))]
    assert square_root(np.array(values, np.int64)).tolist() == [isqrt(each) for each in values]


@given(st.integers(1, EXACT - 1), st.integers(-EXACT + 1, EXACT - 1), st.integers(-1, 1))
@example(EXACT - 1, EXACT - 1, -1)
@example(1, -EXACT + 1, 1)
def test_quotients_are_exact(w: int, x: int, beside: int) -> None:
    near = max(-EXACT + 1, min(x // w * w + beside, EXACT - 1))
    for each in (x, near):
        assert quotient(float(each), float(w), 1.0 / float(w)) == each // w


def small(node: Function, read: Sequence[Shape], limit: int, timesteps: int = 1) -> SnnGraph:
    """Return a network that applies one function to inputs of a given magnitude."""
    names = ("a", "b")[: len(read)]
    encoders = [
        Encode(name=n, shape=shape, scale=1.0, limit=limit) for n, shape in zip(names, read, strict=True)
    ]
    weight = np.ones(node.shape[0], np.int8)
    return SnnGraph(
        name="one function",
        nodes=(
            *encoders,
            node,
            _weight(node, weight),
            Readout(name="y", inputs=("w",), shape=node.shape, bias=np.zeros(node.shape[0], np.int32)),
        ),
        outputs=("y",),
        timesteps=timesteps,
    )


def _weight(node: Function, weight: IntArray) -> SnnNode:
    from snnc.ir.snn import ChannelWeight

    return ChannelWeight(name="w", inputs=(node.name,), shape=node.shape, weight=weight)


@given(drawn_function=functions(), limit=st.integers(1, 2047), timesteps=st.sampled_from([1, 2, 8]))
def test_nothing_exceeds_its_bound(
    drawn_function: tuple[Function, list[Shape]], limit: int, timesteps: int
) -> None:
    graph = small(*drawn_function, limit, timesteps)
    found = overflow(graph, timesteps)
    reached = function_bounds(graph, timesteps)["f"]
    assert (found is not None and found.bits == 64) == (reached >= 2**63)
    assert provable_timesteps(graph) in ((0, timesteps) if graph.only_timesteps else range(257))


def exploding(kind: str) -> SnnGraph:
    """Return a network whose integers leave int64."""
    requantiser: dict[str, Any] = {"multiplier": 2**30, "shift": 40, "lowest": 0, "highest": 9}
    shape = (2, 70, 70)
    node: Function
    if kind == "product":
        node = CountMatrixProduct(name="f", inputs=("a", "b"), shape=shape, **requantiser)
        return small(node, [shape, shape], 2047, 16)
    node = CountNormalisation(
        name="f", inputs=("a",), shape=shape, axes=(0, 1, 2), epsilon=1, factor=9, lowest=-9, highest=9
    )
    return small(node, [shape], 2047)


@pytest.mark.parametrize("kind", ["product", "norm"])
def test_what_could_overflow_is_refused_with_a_cure(kind: str) -> None:
    graph = exploding(kind)
    graph.verify()
    found = overflow(graph, graph.timesteps)
    assert found is not None
    assert "the sums of 'f' could reach" in str(found)
    assert provable_timesteps(graph) == 0
    assert "beyond int64; ask for fewer levels or steps, or leave the operation to the host" in unproved(
        graph, 0
    )
    with pytest.raises(InputError, match="beyond int64; convert it again with fewer levels"):
        ReferenceSimulator().run(graph, random_inputs(graph, 1, 0), graph.timesteps)


@settings(max_examples=15)
@given(graph=counting_graphs())
def test_counts_stay_within_their_bounds(graph: SnnGraph) -> None:
    names = tuple(node.name for node in graph if isinstance(node, Function | IntegrateFire))
    trace = ReferenceSimulator().run(
        graph, random_inputs(graph, 4, 1), graph.timesteps, RecordOptions(trains=names)
    )
    bounds = count_bounds(graph, graph.timesteps)
    for name in names:
        assert np.abs(np.cumsum(trace.trains[name], axis=0)).max() <= bounds[name]


def test_the_random_networks_have_every_function_and_they_say_something() -> None:
    lively, seen = 0, set()
    for seed in range(24):
        graph = random_graph(seed, functions=2, blocks=0)
        names = {node.name: type(node) for node in graph if isinstance(node, Function)}
        seen |= set(names.values())
        trace = ReferenceSimulator().run(
            graph, random_inputs(graph, 8, seed), 4, RecordOptions(trains=tuple(names))
        )
        lively += sum(len(np.unique(trace.trains[name].sum(axis=0))) > 2 for name in names) > len(names) / 2
    assert seen == set(KINDS)
    assert lively > 18


@settings(max_examples=12)
@given(graph=counting_graphs(), threads=st.integers(1, 2), batch=st.integers(1, 5))
def test_numba_agrees(graph: SnnGraph, threads: int, batch: int) -> None:
    names = tuple(node.name for node in graph if isinstance(node, Function))
    q = random_inputs(graph, batch, 5)
    record = RecordOptions(states=True, activity=True, trains=names)
    expected = ReferenceSimulator().run(graph, q, graph.timesteps, record)
    found = load_simulator("numba", threads).run(graph, q, graph.timesteps, record)
    for kept in ("outputs", "counts", "potentials", "trains"):
        wanted = getattr(expected, kept)
        assert list(getattr(found, kept)) == list(wanted)
        for name, values in wanted.items():
            assert np.array_equal(getattr(found, kept)[name], values), (kept, name)
    assert list(found.activity) == list(expected.activity)
    for name, activity in expected.activity.items():
        assert np.array_equal(found.activity[name].units, activity.units)


def proved(graph: SnnGraph) -> SnnGraph:
    """Return a network with its bounds, or with a smaller T and inputs until they are proved."""
    while not provable_timesteps(graph):
        limit = graph.encoders[0].limit // 2
        graph = replace(graph.map(Encode, lambda node: node.with_(limit=limit)), timesteps=1)  # noqa: B023
    return replace(graph, max_timesteps=provable_timesteps(graph, at_most=graph.timesteps))


@settings(max_examples=60)
@given(
    drawn_function=functions(),
    limit=st.sampled_from([1, 15, 255, 2047]),
    timesteps=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_every_simulator_agrees_on_any_shape(
    drawn_function: tuple[Function, list[Shape]], limit: int, timesteps: int, seed: int
) -> None:
    graph = proved(small(*drawn_function, limit, timesteps))
    assert_same(graph, extreme_inputs(graph, seed), graph.timesteps)


def extreme_inputs(graph: SnnGraph, seed: int) -> Rows:
    """Return inputs of which a third are as large as they can be."""
    rng = np.random.default_rng(seed)
    found = {}
    for node in graph.encoders:
        q = rng.integers(-node.limit, node.limit + 1, (3, *node.shape))
        found[node.name] = np.where(rng.random(q.shape) < 0.3, np.sign(q) * node.limit, q).astype(np.int32)
    return joined(found)


@needs_gcc
@settings(max_examples=8)
@given(drawn_function=functions(), limit=st.sampled_from([1, 15, 255, 2047]), timesteps=st.integers(1, 2))
def test_c_agrees_on_any_shape(
    drawn_function: tuple[Function, list[Shape]],
    limit: int,
    timesteps: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    graph = proved(small(*drawn_function, limit, timesteps))
    folder = tmp_path_factory.mktemp("c")
    deploy(Artefact(graph), load_backend("c99"), folder / "bundle")
    verdict = verify(folder / "bundle").verdict
    assert verdict is not None
    assert verdict.wrong == 0


def test_c_takes_values_of_four_axes_and_refuses_more() -> None:
    shape = (2, 1, 2, 1, 2)
    node = CountMaximum(name="f", inputs=("a",), shape=(2, 1, 1, 1, 2), axes=(2,))
    (found,) = load_backend("c99").check(small(node, [shape], 3))
    assert found.reason == f"CountMaximum of the shape {node.shape}, which has more than 4 axes"


@settings(max_examples=8)
@given(graph=counting_graphs())
def test_text_holds_every_bit(graph: SnnGraph) -> None:
    text = print_exact(graph)
    assert print_exact(parse_graph(text, arrays_of(graph))) == text


@pytest.mark.parametrize("seed", range(3))
def test_one_pass_over_counts_is_the_same(seed: int) -> None:
    graph = random_graph(seed, functions=2, schedule=Schedule.LAYERWISE, blocks=1)
    assert problem(graph) is None
    q = random_inputs(graph, 4, 1)
    whole = ReferenceSimulator().run(graph, q, 4)
    one = ReferenceSimulator().run(counted(graph, 4), counted_input(q, 4), 1)
    assert np.array_equal(one.logits, whole.logits)
    with pytest.raises(UsageError, match="alone"):
        counted(graph, 5)


@pytest.mark.parametrize("target", ["nir", "loihi", "akida"])
@pytest.mark.parametrize("kind", KINDS)
def test_targets_without_functions_refuse_them(target: str, kind: type[SnnNode]) -> None:
    graph = next(g for g in (random_graph(seed, functions=2) for seed in range(40)) if g.of_type(kind))
    reasons = [found.reason for found in load_backend(target).check(graph)]
    assert f"the target knows no {kind.__name__}" in reasons


def test_operations_of_functions_have_figures_of_their_own() -> None:
    requantiser: dict[str, Any] = {"multiplier": 1, "shift": 0, "lowest": -9, "highest": 9}
    shape = (2, 3, 4)
    wanted: dict[Function, tuple[int, int, int]] = {
        CountProduct(name="f", inputs=("a", "b"), shape=shape, **requantiser): (48, 0, 0),
        CountMatrixProduct(name="f", inputs=("a", "b"), shape=(2, 3, 5), **requantiser): (150, 0, 0),
        CountSoftmax(
            name="f", inputs=("a",), shape=shape, axis=2, table=np.array([9, 1], np.int32), levels=7
        ): (24, 24, 24),
        CountNormalisation(
            name="f", inputs=("a",), shape=shape, axes=(0,), epsilon=1, factor=1, lowest=-9, highest=9
        ): (48, 0, 24 + 12),
        CountMaximum(name="f", inputs=("a",), shape=(1, 3, 4), axes=(0,)): (0, 0, 0),
    }
    for node, (products, lookups, divisions) in wanted.items():
        second = (2, 4, 5) if isinstance(node, CountMatrixProduct) else shape
        graph = small(node, [shape, second][: len(node.inputs)], 3)
        graph.verify()
        q = random_inputs(graph, 2, 0)
        trace = ReferenceSimulator().run(graph, q, 1, RecordOptions(activity=True))
        found = costs.count(graph, trace.activity, 2, 1)
        assert (found.products, found.lookups, found.divisions) == (products, lookups, divisions)
        events = trace.activity["f"].events.sum() / 2  # each reaches the one weight behind it
        assert found.macs == products + events
        assert found.first_layer_macs == 0
        assert found.as_dict()["table_lookups"] == lookups


def test_before_quantisation_the_spikes_are_the_same() -> None:
    graph = random_graph(5, functions=0)
    functional = random_graph(5, functions=1)
    assert len(functional.nodes) > len(graph.nodes)
    plain = functional.map(IntegrateFire, lambda node: node.with_(breakpoints=None, step_values=None))
    plain = replace(plain, max_timesteps=0)
    q = random_inputs(plain, 4, 0)
    exact = ReferenceSimulator().run(plain, q, 4, RecordOptions(states=True))
    scaled = ReferenceSimulator().run(as_float(plain), q, 4, RecordOptions(states=True))
    for name, counts in exact.counts.items():
        assert np.array_equal(counts, scaled.counts[name])
