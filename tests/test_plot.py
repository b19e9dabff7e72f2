"""Pictures of spikes: what is drawn is what the reference computes, and anyone can read it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnc
from snnc.artefact import Artefact, Metadata
from snnc.backends import load_simulator
from snnc.cli import main
from snnc.cli.plot import KINDS as OFFERED
from snnc.converted_network import ConvertedNetwork
from snnc.errors import InputError, SnncError, UsageError
from snnc.ir.neuron import Schedule
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.progress import Silent
from snnc.report.answering import answer
from snnc.report.drawing import Chart
from snnc.report.plotting import KINDS, OF_MANY, Plot, draw
from snnc.report.recording import count, record
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.reference import ReferenceSimulator
from tests import browser, quadrants
from tests.spiking_graphs import graphs, random_graph, random_inputs, stepping_graphs
from tests.test_host_sections import network as host_network
from tests.test_host_sections import rows as host_rows


class Encoded(Artefact):
    """An artefact that takes rows as they are quantised."""

    def encode(self, x: Any) -> Any:
        return x


def artefact_of(graph: SnnGraph) -> Artefact:
    return Encoded(graph, Metadata("", "", "", (), None, None, "", "", {}))


@settings(max_examples=8)
@given(graph=st.one_of(graphs(), stepping_graphs()))
def test_what_is_recorded_is_what_the_reference_computes(graph: SnnGraph) -> None:
    q = random_inputs(graph, 1, 3)
    T = graph.timesteps
    trace = ReferenceSimulator().run(graph, q, T, RecordOptions(states=True))
    for each in record(artefact_of(graph), q, (), T):
        name, node = each.node.name, each.node
        np.testing.assert_array_equal(each.spikes.sum(axis=0), trace.counts[name][0])
        np.testing.assert_array_equal(each.left[-1], trace.potentials[name][0])
        taken = each.reached - each.left
        per_spike = node.threshold.reshape(-1, *(1,) * (len(node.shape) - 1))
        np.testing.assert_array_equal(taken, each.spikes * per_spike * (node.breakpoints is None))
        start = node.v_init.reshape(per_spike.shape)
        if graph.schedule is Schedule.SYNCHRONOUS:
            assert (each.start == start).all()
        assert each.spikes.shape == (T + graph.settle_steps, *node.shape)


@settings(max_examples=4)
@given(graph=graphs())
def test_what_is_counted_is_what_the_reference_counts(graph: SnnGraph) -> None:
    q = random_inputs(graph, 70, 3)
    T = graph.timesteps
    found = count(artefact_of(graph), q, (), T, ReferenceSimulator(), Silent())
    names = tuple(each.node.name for each in found)
    trace = ReferenceSimulator().run(graph, q, T, RecordOptions(states=True, trains=names))
    assert names == tuple(node.name for node in graph.of_type(IntegrateFire))
    for each in found:
        values, times = np.unique(trace.counts[each.node.name], return_counts=True)
        assert each.counts == dict(zip(values.tolist(), times.tolist(), strict=True))
        units = np.abs(trace.trains[each.node.name].astype(np.int64)).sum(axis=(0, 1))
        np.testing.assert_array_equal(each.units, units)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> quadrants.Files:
    return quadrants.write(tmp_path_factory.mktemp("plot"))


@pytest.fixture(scope="module")
def made(files: quadrants.Files) -> ConvertedNetwork:
    options: dict[str, Any] = {"preset": "balanced", "timesteps": 4, "threads": 1, "task": "classes"}
    found = snnc.convert(files.model, files.calibration, preprocessing=quadrants.PREPROCESSING, **options)
    found.save(files.folder / "made.snn.onnx")
    return found


NAMES = ("a $x$", "<b>", "c", "d", "e", "f")


def test_the_answer_is_that_of_a_run_that_ends_there(made: ConvertedNetwork) -> None:
    x = quadrants.images(3, 2)[0]
    found = answer(made, x[1:2], NAMES, 4)
    for t in range(1, 5):
        trace = made.simulate(x[1:2], timesteps=t, backend="reference")
        (values,) = made.decode(trace).values()
        np.testing.assert_allclose(found.values[t - 1], values[0], rtol=1e-5)
    assert found.shares is not None
    np.testing.assert_allclose(found.shares.sum(axis=1), 1)
    assert found.first()[0] == int(made.simulate(x[1:2]).logits.argmax())
    with pytest.raises(UsageError, match="2 class names were given, and quadrants has 6 outputs"):
        answer(made, x[:1], ("a", "b"), 4)
    untold = replace(made, metadata=replace(made.metadata, task=""))
    assert answer(untold, x[:1], (), 4).shares is None


def pictured(made: ConvertedNetwork, kind: str) -> Chart:
    x, y = quadrants.images(20, 2)
    named = {"classes": NAMES} if kind in ("answers", "walk") else {}
    return made.plot(kind, x, y, threads=1, **named)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_anyone_can_read_it(made: ConvertedNetwork, kind: str) -> None:
    chart = pictured(made, kind)
    assert chart == pictured(made, kind)  # nothing depends on the clock
    svg = ElementTree.fromstring(chart.file())
    title, description = svg[1], svg[2]
    assert (title.text, description.text) == (chart.title, chart.description)
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-labelledby"] == f"{title.attrib['id']} {description.attrib['id']}"
    assert chart.rows
    assert {len(row) for row in chart.rows} == {len(chart.columns)}
    assert "T = 4" in chart.title
    page = chart.page()
    assert "<b>" not in page
    for cell in chart.rows[0]:
        assert cell.replace("<", "&lt;").replace(">", "&gt;") in page


def test_the_data_of_pictures(made: ConvertedNetwork) -> None:
    x, y = quadrants.images(20, 2)
    node = made.graph.of_type(IntegrateFire)[0]
    trace = made.simulate(x[:1], backend="reference")
    states = ReferenceSimulator().run(made.graph, made.encode(x[:1]), 4, RecordOptions(states=True))
    (row,) = pictured(made, "raster").rows
    sent, back = (int(cell.replace(",", "")) for cell in row[3:5])
    assert sent - back == states.counts[node.name].sum()
    rows = made.plot("potentials", x, neurons=[f"{node.name}:0,3,4"], threads=1).rows
    assert sum(int(cell[3]) for cell in rows) == states.counts[node.name][0, 0, 3, 4]
    assert float(rows[-1][4]) == states.potentials[node.name][0, 0, 3, 4]
    flat = made.plot("potentials", x, neurons=[f"{node.name}:{3 * 8 + 4}"], threads=1)
    assert [cell[1:] for cell in flat.rows] == [cell[1:] for cell in rows]
    answers = pictured(made, "answers")
    assert answers.rows[-1][1] == NAMES[int(trace.logits.argmax())]
    assert f"The label is {NAMES[int(y[0])]}." in answers.description
    counts = pictured(made, "counts").rows
    assert sum(int(cell[2].replace(",", "")) for cell in counts) == 20 * np.prod(node.shape)


def test_large_networks_and_step_functions() -> None:
    for seed in (1, 4):
        graph = random_graph(seed, neuron=None, negative=True)
        q = random_inputs(graph, 3, seed)
        for kind in ("raster", "potentials", "counts", "activity"):
            chart = draw(artefact_of(graph), q, None, Plot(kind), ReferenceSimulator())
            ElementTree.fromstring(chart.svg)


@pytest.mark.parametrize(
    ("plot", "says"),
    [
        ({"kind": "film"}, "there is no picture 'film'; known: raster"),
        ({"kind": "raster", "neurons": ["relu:0"]}, "single neurons are for potentials"),
        ({"kind": "potentials", "neurons": ["relu:0"], "layers": ["relu"]}, "leave out the others"),
        ({"kind": "potentials", "neurons": ["relu"]}, "write LAYER:INDEX"),
        ({"kind": "potentials", "neurons": ["relu:9,9,9"]}, "is no neuron: give an index below 128"),
        ({"kind": "potentials", "neurons": ["relu:128"]}, "is no neuron"),
        ({"kind": "potentials", "neurons": ["relu:-1"]}, "is no neuron"),
        ({"kind": "potentials", "neurons": ["relu:x"]}, "is no neuron"),
        (
            {"kind": "raster", "layers": ["nowhere"]},
            "there is no layer 'nowhere' in quadrants; its layers: relu",
        ),
        ({"kind": "counts", "classes": ["a"]}, "class names are for answers and walk"),
        ({"kind": "answers", "layers": ["relu"]}, "answers are of the whole network"),
        ({"kind": "counts", "row": 1}, "is of all rows"),
        ({"kind": "raster", "row": 20}, "there is no row 20: there are 20"),
        ({"kind": "answers", "classes": ["a", "b"]}, "2 class names were given"),
    ],
)
def test_mistakes_are_one_line(made: ConvertedNetwork, plot: dict[str, Any], says: str) -> None:
    x, _ = quadrants.images(20, 2)
    with pytest.raises(SnncError, match=says) as caught:
        draw(made, x, None, Plot(**plot), load_simulator("numba", 1))
    assert "\n" not in str(caught.value)


def test_a_network_without_maps() -> None:
    graph = random_graph(3, flat=True)
    with pytest.raises(UsageError, match="no layer has height and width"):
        draw(
            artefact_of(graph), random_inputs(graph, 2, 0), None, Plot("activity"), load_simulator("numba", 1)
        )


def test_answers_that_ordinary_onnx_makes() -> None:
    made = snnc.convert(host_network(), host_rows(96), timesteps=4, preset="fast", threads=1)
    x = host_rows(5, 9)
    (expected,) = made.decode(made.simulate(x[2:3]), x[2:3]).values()
    found = answer(made, x[2:3], (), 4)
    np.testing.assert_array_equal(found.values, expected.reshape(1, -1))
    assert found.steps == (4,)
    chart = made.plot("answers", x, row=2, threads=1)
    assert "behind the last step alone" in chart.description
    assert [row[0] for row in chart.rows] == ["4"]


def test_the_command_line(
    made: ConvertedNetwork, files: quadrants.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact, test = str(files.folder / "made.snn.onnx"), str(files.test)
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\n\nthree\nfour\nfive\nsix\n", encoding="utf-8")
    svg, page = tmp_path / "a.svg", tmp_path / "a.html"
    call = ("plot", artefact, "--data", test, "--threads", "1")
    assert (
        main([*call, "--kind", "answers", "--row", "3", "--classes", str(names), "-o", str(svg), "--json"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["title"] in svg.read_text(encoding="utf-8")
    assert told["rows"][-1][1] in ("one", "two", "three", "four", "five", "six")
    assert main([*call, "--kind", "counts", "--limit", "9", "-o", str(page)]) == 0
    assert "9 rows" in page.read_text(encoding="utf-8")
    capsys.readouterr()
    for more, code, says in (
        (["-o", str(svg)], 2, "exists already"),
        (["-o", str(tmp_path / "b.png")], 2, "pictures are .svg"),
        (["-o", str(tmp_path / "b.svg"), "--classes", "nowhere.txt"], 5, "is no file"),
        (["-o", str(tmp_path / "b.svg"), "--kind", "answers", "--classes", "a,,b"], 5, "an empty name"),
        (["-o", str(tmp_path / "b.svg"), "--kind", "answers", "--classes", "a,b"], 2, "2 class names"),
        (["-o", str(tmp_path / "b.svg"), "--kind", "film"], 2, "film"),
    ):
        assert main([*call, *more]) == code
        assert says in capsys.readouterr().err
        assert not list(tmp_path.glob("b.*"))
    assert set(OFFERED) == set(KINDS) > set(OF_MANY)


def test_without_matplotlib(made: ConvertedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="pip install matplotlib"):
        pictured(made, "raster")


@pytest.mark.skipif(browser.BROWSER is None, reason="needs Chromium: benchmarks/report/install_chromium.sh")
@pytest.mark.parametrize("kind", ["raster", "walk"])
def test_nothing_overflows_or_is_cut(made: ConvertedNetwork, kind: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(pictured(made, kind).page().replace("<details>", "<details open>"), encoding="utf-8")
    seen = browser.look(page, 360)
    assert seen.width == seen.scrolled == 360
    assert not seen.wide
    assert not seen.cut
    assert not seen.console
    assert seen.charts == 1
    assert seen.texts > 3


def test_no_text_is_a_formula(made: ConvertedNetwork) -> None:
    texts = re.findall(r"<text[^>]*>(.*?)</text>", pictured(made, "walk").svg)
    assert any("a $x$" in text for text in texts)


def test_rows_that_do_not_fit(made: ConvertedNetwork) -> None:
    with pytest.raises(InputError):
        made.plot("raster", np.zeros((2, 5, 5), np.uint8))
