"""`snnc report`: the page, the figures, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from snnc.cli import main
from snnc.report.drawing import percent
from snnc.report.energy import microjoules
from snnc.report.schema import schema
from snnc.report.terms import TERMS
from tests import quadrants
from tests.quadrants import Files

ROOT = Path(__file__).parent.parent
PICTURES = ("--pictures", "--row", "2", "--classes", "north,east,south,west,<even>,odd")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def artefact(files: Files) -> Path:
    path = files.folder / "quadrants.snn.onnx"
    data = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
    assert main(["convert", str(files.model), *data, "-o", str(path), "-T", "4", "--preset", "paper"]) == 0
    return path


@pytest.fixture(scope="module")
def written(artefact: Path, files: Files) -> tuple[str, dict[str, Any]]:
    page, figures = files.folder / "report.html", files.folder / "report.json"
    data = ["--data", str(files.test), "--curve", "1,2,4,8", *PICTURES]
    assert main(["report", str(artefact), *data, "-o", str(page), "--json-file", str(figures)]) == 0
    return page.read_text(encoding="utf-8"), json.loads(figures.read_text(encoding="utf-8"))


def refused(capsys: pytest.CaptureFixture[str], code: int, *parts: object) -> str:
    capsys.readouterr()
    assert main(["report", *map(str, parts)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


class Tags(HTMLParser):
    """Collects tags and identifiers, and fails on tags that are not closed."""

    VOID = frozenset({"meta", "link", "br", "path", "use"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def parsed(page: str) -> Tags:
    found = Tags()
    found.feed(page)
    assert not found.open
    return found


def test_the_figures_keep_the_published_schema(written: tuple[str, dict[str, Any]]) -> None:
    published = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    assert published == schema(), "run python -m snnc.report.schema > docs/report.schema.json"
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(written[1], published)


def test_every_total_is_the_sum_of_its_terms(written: tuple[str, dict[str, Any]]) -> None:
    layers = written[1]["layers"]
    assert [layer["name"] for layer in layers] == ["relu", "readout"]
    assert layers[0]["onnx_node"] == "relu"
    for layer in layers:
        for kind in ("local", "cumulative"):
            split = layer[kind]
            assert split["total"] == pytest.approx(sum(split[term] for term in TERMS))
            assert split["mean"]["total"] == pytest.approx(sum(split["mean"][term] for term in TERMS))


def test_the_page_fetches_and_runs_nothing(written: tuple[str, dict[str, Any]]) -> None:
    page = parsed(written[0])
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "img", "object", "embed", "form"}
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for _, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("href", "src", "xlink:href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)", written[0])


def test_every_chart_has_title_table_and_text(written: tuple[str, dict[str, Any]]) -> None:
    page = parsed(written[0])
    identifiers = [str(a["id"]) for _, a in page.tags if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    charts = [a for t, a in page.tags if t == "svg"]
    assert len(charts) == sum(t == "figure" for t, _ in page.tags) >= 6
    for attributes in charts:
        assert attributes["role"] == "img"
        title, description = str(attributes["aria-labelledby"]).split()
        for part in (title, description):
            assert re.search(rf'id="{part}">[^<]{{10,}}<', written[0])
    for figure in re.findall(r"<figure>.*?</figure>", written[0], flags=re.DOTALL):
        assert "<figcaption>" in figure
        assert re.search(r"<details>.*<table>.*<td", figure, flags=re.DOTALL)


def test_an_energy_is_told_alike_everywhere(
    artefact: Path, files: Files, written: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    energy = written[1]["energy"]
    capsys.readouterr()
    assert main(["report", str(artefact), "--data", str(files.test), "--curve", "none"]) == 0
    terminal = capsys.readouterr().out
    for item in (energy["snn"], energy["baselines"]["fair"], energy["baselines"]["fp32"]):
        text = microjoules(item["picojoules"])
        assert f"<td>{text}</td>" in written[0]
        assert f"<td>{text} µJ</td>" in written[0]
        assert f"{text} µJ" in terminal


def test_nothing_has_no_sign(written: tuple[str, dict[str, Any]]) -> None:
    # The section that tells the command holds paths, which may well have a "-0" in them.
    page = re.sub(
        r'<section aria-labelledby="reproduce".*?</section>|<svg.*?</svg>', "", written[0], flags=re.DOTALL
    )
    cells = re.findall(r"<t[dh][^>]*>([^<]*)<", page)
    assert len(cells) > 50
    assert not [cell for cell in cells if re.search(r"-0(\.0*)?(?![.\d])", cell)]
    assert percent(-1e-9) == "0.0\N{NO-BREAK SPACE}%"


def test_the_data_of_the_curve_hold_the_source(written: tuple[str, dict[str, Any]]) -> None:
    value = percent(written[1]["accuracy_against_timesteps"]["ann_top1"])
    assert f"<td>ANN</td><td></td><td>{value}</td>" in re.sub(' class="text"', "", written[0])


def test_the_first_screen_holds_the_verdict(written: tuple[str, dict[str, Any]]) -> None:
    page, figures = written
    verdict = figures["verdict"]
    for text in (verdict["text"], verdict["cause"], verdict["layer"]):
        assert text in page[: page.index("<main>")]


def test_pictures_show_one_row_and_all(written: tuple[str, dict[str, Any]]) -> None:
    page = written[0]
    sections = {
        key: page[page.index(f'<h2 id="{key}">') : page.index("</section>", page.index(f'<h2 id="{key}">'))]
        for key in ("one-row", "all-rows")
    }
    for key, titles in (
        (
            "one-row",
            ("One image through", "Answer after every step", "Spikes of every layer", "Potentials of"),
        ),
        ("all-rows", ("Spike counts of neurons", "Where neurons fire")),
    ):
        captions = re.findall("<figcaption>(.*?)</figcaption>", sections[key])
        assert [each.startswith(title) for each, title in zip(captions, titles, strict=True)]
    assert "row 2, T = 4" in sections["one-row"]
    assert "&lt;even&gt;" in sections["one-row"]
    assert "<even>" not in page
    told = shlex.split(unescape(written[1]["reproduce"]["command"]))
    assert " ".join(PICTURES) in " ".join(told)


def test_pictures_are_drawn_where_they_are_asked_for(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", files.test, "--limit", "3", "--curve", "none")
    page = tmp_path / "plain.html"
    assert main(["report", *map(str, (artefact, *data, "-o", page))]) == 0
    assert 'id="one-row"' not in page.read_text(encoding="utf-8")
    out = ("-o", tmp_path / "r.html")
    assert "--row needs --pictures" in refused(capsys, 2, artefact, *data, *out, "--row", "1")
    assert "--pictures adds to the page: give -o" in refused(capsys, 2, artefact, *data, "--pictures")
    told = refused(capsys, 5, artefact, *data, *out, "--pictures", "--row", "3")
    assert "there is no row 3: there are 3, from 0 on" in told
    assert "2 class names were given" in refused(capsys, 2, artefact, *data, *out, "--classes", "a,b")


def test_again_gives_the_same_bytes(
    artefact: Path, files: Files, written: tuple[str, dict[str, Any]]
) -> None:
    page, figures = files.folder / "again.html", files.folder / "again.json"
    data = ["--data", str(files.test), "--curve", "1,2,4,8", *PICTURES, "--threads", "1"]
    assert main(["report", str(artefact), *data, "-o", str(page), "--json-file", str(figures)]) == 0
    assert page.read_text(encoding="utf-8") == written[0]
    assert json.loads(figures.read_text(encoding="utf-8")) == written[1]


def test_the_curve_holds_what_eval_measures(
    artefact: Path, files: Files, written: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The preset sends one spike a step, so one simulation gives all of them."""
    for point in written[1]["accuracy_against_timesteps"]["this_artefact"]:
        capsys.readouterr()
        assert (
            main(["eval", str(artefact), "--data", str(files.test), "-T", str(point["timesteps"]), "--json"])
            == 0
        )
        assert json.loads(capsys.readouterr().out)["top1"] == point["top1"]


def test_steps_that_the_curve_leaves_out_are_told(
    artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    asked = ["--data", str(files.test), "--limit", "3", "--curve", "1,300", "--json"]
    assert main(["report", str(artefact), *asked]) == 0
    captured = capsys.readouterr()
    assert "warning: the curve leaves out T = 300: integers are proved up to T = 256" in captured.err
    points = json.loads(captured.out)["accuracy_against_timesteps"]["this_artefact"]
    assert [point["timesteps"] for point in points] == [1, 4]


def test_a_second_curve_is_converted_for_each(
    artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--data", str(files.test), "--limit", "40", "--curve", "2,4", "--reconvert"]
    capsys.readouterr()
    assert main(["report", str(artefact), *asked, "--calib", str(files.calibration), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["accuracy_against_timesteps"]
    assert [point["timesteps"] for point in found["converted_for_each"]] == [2, 4]
    assert found["converted_for_each"][1] == found["this_artefact"][1]  # T = 4 is what it was converted for
    assert "--reconvert needs calibration rows" in refused(capsys, 2, artefact, *asked)


def test_the_command_that_is_told_makes_the_report_again(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, source, calibration = (tmp_path / f"the user's {name}" for name in ("x.npz", "n.onnx", "c.npz"))
    for copy, original in ((data, files.test), (source, files.model), (calibration, files.calibration)):
        copy.write_bytes(original.read_bytes())
    asked = ["report", str(artefact), "--data", str(data), "--source", str(source), "--limit", "9"]
    asked += ["--curve", "2", "--reconvert", "--calib", str(calibration)]

    def told(words: list[str]) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*words, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    first = told(asked)
    name, *words = shlex.split(first["reproduce"]["command"])
    assert name == "snnc"
    words[words.index("REPORT.html")] = str(tmp_path / "r.html")
    assert told(words) == first


def test_without_labels_agreement_takes_the_place_of_accuracy(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "unlabelled.npz"
    np.savez(data, x=quadrants.images(1, 5)[0])  # and one image alone
    assert main(["report", str(artefact), "--data", str(data), "-o", str(tmp_path / "r.html"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"]["snn"] is None
    assert found["accuracy"]["agreement"]["n"] == 1
    assert found["accuracy_against_timesteps"]["measured"] == "agreement"
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "agreement with the ANN" in page
    assert "1 row<" in page
    assert "1 rows" not in page
    assert main(["report", str(artefact), "--data", str(data), "--curve", "none"]) == 0
    assert "of 1 row." in capsys.readouterr().out


def test_the_terminal(artefact: Path, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["report", str(artefact), "--data", str(files.test), "--curve", "none"]) == 0
    told = capsys.readouterr().out
    for words in (
        "relu",
        "readout",
        "quantisation",
        "Cause: ",
        "Try: ",
        "fair baseline",
        "fp32 ANN",
        "spiking-onnx",
    ):
        assert words in told


def test_what_is_refused(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", files.test)
    assert "no rows to run" in refused(capsys, 2, artefact)
    assert "does not exist" in refused(capsys, 5, artefact, *data, "-o", tmp_path / "no" / "r.html")
    assert "unknown cost model 'best'" in refused(capsys, 2, artefact, *data, "--cost-model", "best")
    assert "write time steps" in refused(capsys, 2, artefact, *data, "--curve", "a,b")
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros((3, 5, 5), np.uint8))
    assert "error: " in refused(capsys, 5, artefact, "--data", other)
    there = tmp_path / "there.html"
    there.write_text("mine", encoding="utf-8")
    assert "--force" in refused(capsys, 2, artefact, *data, "-o", there)
    assert there.read_text(encoding="utf-8") == "mine"


def test_a_missing_extra_is_named(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    for name in [name for name in sys.modules if name.startswith(("snnc.report.page", "snnc.report.charts"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "snnc.report.drawing", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    told = refused(capsys, 2, artefact, "--data", files.test, "-o", tmp_path / "r.html")
    assert "pip install jinja2 matplotlib" in told
    figures = tmp_path / "r.json"
    assert main(["report", str(artefact), "--data", str(files.test), "--json-file", str(figures)]) == 0
    assert figures.exists()


def test_a_thousand_classes_and_three_images(tmp_path: Path) -> None:
    """Names, tables and the rules of the verdict hold with far more classes than rows."""
    random = np.random.default_rng(0)
    model = quadrants.network(classes=1000)
    path, rows = tmp_path / "wide.onnx", tmp_path / "rows.npz"
    path.write_bytes(model.SerializeToString())
    x = random.uniform(-1, 1, (40, 1, 8, 8)).astype(np.float32)
    np.savez(rows, x=x, y=random.integers(0, 1000, 40))
    artefact, page, figures = (tmp_path / name for name in ("wide.snn.onnx", "wide.html", "wide.json"))
    made = ["convert", str(path), "--calib", str(rows), "-o", str(artefact), "-T", "2", "--preset", "fast"]
    assert main(made) == 0
    asked = ["--data", str(rows), "--limit", "3", "-o", str(page), "--json-file", str(figures)]
    assert main(["report", str(artefact), *asked]) == 0
    found = json.loads(figures.read_text(encoding="utf-8"))
    jsonschema.validate(found, schema())
    assert found["n"] == 3
    assert found["layers"][-1]["shape"] == [1000]
    assert len(found["disagreements"]) <= 3
    text = page.read_text(encoding="utf-8")
    parsed(text)
    assert len(text) < 1_500_000


def test_rows_that_are_no_numbers_are_refused(
    tmp_path: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact, rows = tmp_path / "plain.snn.onnx", tmp_path / "rows.npz"
    x = np.random.default_rng(0).uniform(-1, 1, (40, 1, 8, 8)).astype(np.float32)
    np.savez(rows, x=x)
    made = ["convert", str(files.model), "--calib", str(rows), "-o", str(artefact), "--preset", "fast"]
    assert main(made) == 0
    x[3, 0, 2, 2] = np.nan
    np.savez(rows, x=x)
    page = tmp_path / "r.html"
    assert "NaN" in refused(capsys, 5, artefact, "--data", rows, "-o", page)
    assert not page.exists()
