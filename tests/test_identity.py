"""What a population stands for is a field of it: no name of a node, however it looks, changes a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from snnc.artefact import Artefact, load, save
from snnc.artefact.metadata import HASH, content_hash
from snnc.artefact.writer import FINE, STANDS_FOR
from snnc.compiler import Options, convert
from snnc.errors import InternalError
from snnc.ir.ann import Relu
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.ir.text import print_graph
from snnc.report.measuring import measure
from snnc.report.origin import prepared_source
from snnc.simulation.reference import ReferenceSimulator
from snnc.source.source_map import rectifier
from tests.onnx_models import model, saved

FRONT = "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear"
PIPELINE = f"{FRONT},clip-activations{{floor=true}},lower,graded,fine-skip,init-membrane,quantise-weights"
PLAIN = ("conv0", "relu0", "conv1", "relu1", "conv2", "sum", "relu2", "pool", "flat", "fc")
OURS = ("x", "y", "T", "q", "relu0", "relu0.fine", "relu0.identity", "relu0.raised", "readout", "relu0.0")
ROWS = np.random.default_rng(0).standard_normal((60, 2, 6, 6)).astype(np.float32)


def residual(names: tuple[str, ...]) -> onnx.ModelProto:
    """A small residual network whose nodes are called so, in this order."""
    rng = np.random.default_rng(1)

    def weight(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.4).astype(np.float32)

    constants = {f"w{i}": weight(4, 2 if i == 0 else 4, 3, 3) for i in range(3)}
    constants |= {"wf": weight(4, 3), "bf": weight(3)}
    make, same = onnx.helper.make_node, [1, 1, 1, 1]
    nodes = [
        make("Conv", ["x", "w0"], ["a"], pads=same),
        make("Relu", ["a"], ["b"]),
        make("Conv", ["b", "w1"], ["c"], pads=same),
        make("Relu", ["c"], ["d"]),
        make("Conv", ["d", "w2"], ["e"], pads=same),
        make("Add", ["e", "b"], ["f"]),
        make("Relu", ["f"], ["g"]),
        make("GlobalAveragePool", ["g"], ["h"]),
        make("Flatten", ["h"], ["i"]),
        make("Gemm", ["i", "wf", "bf"], ["y"]),
    ]
    for node, name in zip(nodes, names, strict=True):
        node.name = name
    return model(nodes, ["n", 2, 6, 6], constants)


def joined(names: tuple[str, ...]) -> onnx.ModelProto:
    """A network for which a conversion adds nodes of every kind that it can, with these names."""
    rng = np.random.default_rng(2)

    def weight(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.4).astype(np.float32)

    shapes = {"wa": (2, 2, 3, 3), "wb": (2, 2, 3, 3), "wc": (2, 4, 1, 1), "wd": (4, 2, 3, 3)}
    shapes |= {"wf": (3, 4, 3, 3), "wg": (3, 4, 1, 1)}
    constants = {name: weight(*shape) for name, shape in shapes.items()}
    make, same = onnx.helper.make_node, [1, 1, 1, 1]
    nodes = [
        make("Conv", ["x", "wa"], ["a"], pads=same),
        make("Conv", ["x", "wb"], ["b"], pads=same),
        make("Concat", ["a", "b"], ["ab"], axis=1),
        make("Relu", ["ab"], ["r"]),  # one rectifier in front of each convolution's pool
        make("Conv", ["r", "wc"], ["c"]),  # linear: gets a raised rectifier
        make("Conv", ["c", "wd"], ["d"], pads=same),  # whose shift a border makes up for
        make("Relu", ["d"], ["e"]),
        make("Conv", ["e", "wf"], ["f"], pads=same),
        make("Conv", ["e", "wg"], ["g"]),
        make("Add", ["f", "g"], ["s"]),
        make("GlobalAveragePool", ["s"], ["p"]),  # of each term of the sum
        make("Flatten", ["p"], ["y"]),
    ]
    for node, name in zip(nodes, names, strict=True):
        node.name = name
    return model(nodes, ["n", 2, 6, 6], constants)


def converted(
    folder: Path, names: tuple[str, ...], build: Callable[[tuple[str, ...]], onnx.ModelProto] = residual
) -> Artefact:
    path = saved(folder, build(names))
    return convert(path, ROWS, Options(pipeline=PIPELINE, threads=1)).artefact


def structure(graph: SnnGraph) -> list[tuple[object, ...]]:
    """All that a network is but for the names of its nodes."""
    place = {node.name: index for index, node in enumerate(graph)}
    first = {node.stands_for: place[node.name] for node in reversed(graph.of_type(IntegrateFire))}
    found: list[tuple[object, ...]] = []
    for node in graph:
        fields = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
        fields.pop("name")
        fields.pop("origin")
        fields["inputs"] = tuple(place[name] for name in node.inputs)
        if isinstance(node, IntegrateFire):
            fields["stands_for"] = first[node.stands_for]
        values = ((k, v.tobytes() if isinstance(v, np.ndarray) else v) for k, v in fields.items())
        found.append((type(node), *values))
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return converted(tmp_path_factory.mktemp("plain"), PLAIN)


def test_a_fine_population_stands_for_what_its_coarse_one_stands_for(plain: Artefact) -> None:
    found = {node.name: (node.stands_for, node.fine) for node in plain.graph.of_type(IntegrateFire)}
    assert found == {
        "relu0": ("relu0", False),
        "relu0.fine": ("relu0", True),
        "relu1": ("relu1", False),
        "relu2.fine": ("relu2", True),  # the coarse one had no reader left
    }
    assert "stands_for=relu0, fine=true" in print_graph(plain.graph)


NAMES = st.one_of(st.sampled_from(OURS), st.text(max_size=6), st.sampled_from([name + "." for name in PLAIN]))


ADDED = [
    f"{name}{end}" for name in "abcsp" for end in (".raised", ".border", ".0", ".1", ".flat", ".identity")
]
MORE = st.one_of(st.sampled_from([*ADDED, "readout", "r.0", "r.1"]), st.text(max_size=3))


@given(names=st.tuples(*[MORE] * 12))
@example(names=("a", "b", "r.0", "r", "c", "c.raised", "d.border", "p.1", "s", "g", "p", "p.1.flat"))
@settings(max_examples=8, deadline=None)
def test_no_name_changes_what_a_conversion_adds(
    names: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("added")
    names = tuple(name.encode("utf-8", "ignore").decode() for name in names)
    made = converted(folder, names, joined)
    assert structure(made.graph) == structure(converted(folder, tuple("abjrcdefgspy"), joined).graph)
    found = {type(node).__name__ for node in made.graph}
    assert found >= {"ConstantCurrent", "SumPool", "Reshape", "Concat"}


@given(names=st.tuples(*[NAMES] * len(PLAIN)))
@example(names=("conv0", "relu0", "c", "relu0.fine", "conv2", "s", "relu0.fine.fine", "p", "f", "relu0.f"))
@example(names=("relu0",) * len(PLAIN))
@example(names=("",) * len(PLAIN))
@settings(max_examples=12, deadline=None)
def test_no_name_changes_what_a_network_becomes(
    names: tuple[str, ...], plain: Artefact, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("named")
    names = tuple(name.encode("utf-8", "ignore").decode() for name in names)  # ONNX holds UTF-8
    made = converted(folder, names)
    assert structure(made.graph) == structure(plain.graph)
    save(made, folder / "named.snn.onnx")
    again = load(folder / "named.snn.onnx")
    assert [n.name for n in again.graph] == [n.name for n in made.graph]
    assert structure(again.graph) == structure(plain.graph)


def test_the_report_measures_each_population_against_what_it_stands_for(
    plain: Artefact, tmp_path: Path
) -> None:
    names = ("c", "relu0.fine", "d", "relu0", "e", "s", "relu0.fine.fine", "relu0.fine|", "f", "y")
    measured = []
    for index, each in enumerate((PLAIN, names)):
        folder = tmp_path / str(index)
        folder.mkdir()
        made = converted(folder, each)
        simulator = ReferenceSimulator()
        source = prepared_source(made, folder / "model.onnx", simulator)
        found = measure(made, source, ROWS[:20], None, simulator=simulator)
        measured.append([dataclasses.replace(layer, name="", onnx_node="") for layer in found.layers])
        assert all(isinstance(rectifier(source, n), Relu) for n in made.graph.of_type(IntegrateFire))
    assert repr(measured[0]) == repr(measured[1])


def test_a_population_that_stands_for_nothing_is_an_error(plain: Artefact, tmp_path: Path) -> None:
    source = prepared_source(plain, saved(tmp_path, residual(PLAIN)), ReferenceSimulator())
    for lost in ("", "conv0", "relu7"):
        with pytest.raises(InternalError, match="stands for no activation"):
            rectifier(source, plain.graph.of_type(IntegrateFire)[0].with_(stands_for=lost))
    with pytest.raises(InternalError, match="'conv0' stands for no activation"):
        rectifier(source, plain.graph["conv0"])


def as_of_old(path: Path) -> None:
    """Take out of a file what populations stand for, as versions before the field wrote it."""
    proto = onnx.load(path)
    graphs = [proto.graph, *(n.attribute[0].g for n in proto.graph.node if n.op_type == "Loop")]
    for node in (node for graph in graphs for node in graph.node):
        for entry in [e for e in node.metadata_props if e.key in (STANDS_FOR, FINE)]:
            node.metadata_props.remove(entry)
    for entry in [e for e in proto.metadata_props if e.key == HASH]:
        proto.metadata_props.remove(entry)
    proto.metadata_props.add(key=HASH, value=content_hash(proto))
    onnx.save(proto, path)


@pytest.mark.parametrize("recorded", [True, False])
def test_an_artefact_of_old_is_read_by_the_names_of_old(
    recorded: bool, plain: Artefact, tmp_path: Path
) -> None:
    path = tmp_path / "old.snn.onnx"
    metadata = plain.metadata if recorded else dataclasses.replace(plain.metadata, records=())
    save(Artefact(plain.graph, metadata), path)
    as_of_old(path)
    found = {n.name: (n.stands_for, n.fine) for n in load(path).graph.of_type(IntegrateFire)}
    assert found == {n.name: (n.stands_for, n.fine) for n in plain.graph.of_type(IntegrateFire)}


def test_a_name_of_old_that_only_looks_fine_is_read_as_it_is(tmp_path: Path) -> None:
    names = ("conv0", "relu0", "conv1", "relu0.fine", "conv2", "sum", "relu2", "pool", "flat", "fc")
    path = saved(tmp_path, residual(names))
    made = convert(path, ROWS, Options(preset="fast", threads=1)).artefact
    save(made, tmp_path / "old.snn.onnx")
    as_of_old(tmp_path / "old.snn.onnx")
    again = load(tmp_path / "old.snn.onnx").graph["relu0.fine"]
    assert isinstance(again, IntegrateFire)
    assert (again.stands_for, again.fine) == ("relu0.fine", False)
