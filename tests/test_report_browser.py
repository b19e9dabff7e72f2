"""The report's page in a real browser, without network."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from snnc.analysis.evaluation import Share
from snnc.artefact import Artefact
from snnc.progress import Silent
from snnc.report.causes import Cause
from snnc.report.curve import Curve, Point
from snnc.report.document import Report
from snnc.report.drawing import wrapped
from snnc.report.energy import MODELS, LayerEnergy, account
from snnc.report.page import html
from snnc.report.pictures import pictured
from snnc.report.targets import fits
from snnc.report.verdict import Size, judge
from snnc.simulation.reference import ReferenceSimulator
from tests import browser
from tests.conversions import Converted, convert

NAME = "/model/backbone/encoder/stage3/stage3.{}/bottleneck/activation_post_process_relu_{}/Relu"


@pytest.fixture(scope="module")
def made() -> Converted:
    return convert(rows=6)


@pytest.fixture(scope="module")
def report(made: Converted) -> Report:
    found = made.measured()
    graph = made.artefact.graph
    macs = sum(found.ann_macs.values())
    energy = account(graph, found.costs, macs, found.nonzero, 4, MODELS["45nm"])
    curve = Curve(4, False, None, tuple(Point(T, Share(T, 6)) for T in (1, 2, 4)), (), True)
    return Report(
        Artefact(graph), found, judge(found, 4), energy, curve, fits(graph), {"command": "snnc report"}
    )


@pytest.fixture(scope="module")
def long_report(report: Report) -> Report:
    """Sixty layers with names as exporters make them."""
    populations = report.measurement.populations
    names = [NAME.format(i // 3, i) for i in range(60)]
    layers = tuple(replace(populations[i % len(populations)], name=name) for i, name in enumerate(names))
    energies = tuple(LayerEnergy(name, 1e5, 1e6) for name in names)
    return replace(
        report,
        measurement=replace(report.measurement, layers=layers),
        energy=replace(report.energy, layers=energies),
    )


@pytest.fixture(scope="module")
def pages(
    report: Report, long_report: Report, made: Converted, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    simulator = ReferenceSimulator()
    pictures = pictured(
        made.artefact, made.rows, None, 1, simulator=simulator, timesteps=4, progress=Silent()
    )
    for name, item in (
        ("short", report),
        ("long", long_report),
        ("pictures", replace(report, pictures=pictures)),
    ):
        found[name] = folder / f"{name}.html"
        found[name].write_text(html(item), encoding="utf-8")
    return found


def test_names_are_broken_but_not_cut() -> None:
    name = NAME.format(7, 21)
    lines = wrapped(name).split("\n")
    assert "".join(lines) == name
    assert max(map(len, lines)) <= 26
    assert all(line[-1] in "/._-:" for line in lines[:-1])
    assert wrapped("x" * 60).split("\n") == ["x" * 26, "x" * 26, "x" * 8]
    assert wrapped("relu") == "relu"


@pytest.mark.parametrize("name", [r"$\frac$", "a$b_$", r"\$x$", "层/激活", "a\tb", "<b>&amp;</b>"])
def test_names_are_drawn_as_they_stand(report: Report, name: str) -> None:
    """No name is taken for a formula or for HTML, and none makes a warning."""
    found = report.measurement
    layers = tuple(replace(layer, name=name, onnx_node=name) for layer in found.layers)
    energy = replace(
        report.energy,
        model=replace(report.energy.model, name=name),
        layers=tuple(replace(layer, name=name) for layer in report.energy.layers),
    )
    page = html(replace(report, measurement=replace(found, layers=layers), energy=energy))
    charts = re.findall("<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) == 7
    drawn = [unescape(text) for chart in charts for text in re.findall("<text[^>]*>(.*?)</text>", chart)]
    assert any(name in text for text in drawn)
    assert name in unescape(page)
    assert "<b>" not in page


def test_sixty_layers_are_all_there(pages: dict[str, Path]) -> None:
    page = pages["long"].read_text(encoding="utf-8")
    assert page.count(NAME.format(19, 59)) >= 6  # every data table, whole
    assert "NaN" not in page


@pytest.mark.skipif(browser.BROWSER is None, reason="needs Chromium: benchmarks/report/install_chromium.sh")
@pytest.mark.parametrize(
    ("kind", "width"),
    [("short", 1440), ("long", 360), ("short", 390), ("long", 768), ("pictures", 1440), ("pictures", 360)],
)
def test_nothing_overflows_is_cut_or_complains(pages: dict[str, Path], kind: str, width: int) -> None:
    seen = browser.look(pages[kind], width)
    assert seen.width == seen.scrolled == width
    assert not seen.wide
    assert not seen.cut
    assert not seen.silent
    assert (seen.scrolling > 0) == (width < 1440)
    assert not seen.console
    assert seen.charts == 7 + 6 * (kind == "pictures")
    assert seen.texts > 60


@pytest.mark.skipif(browser.BROWSER is None, reason="needs Chromium: benchmarks/report/install_chromium.sh")
def test_the_browser_sees_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        '<meta name="viewport" content="width=device-width"><p style="width:900px">wide</p>'
        '<svg width="50" height="20" style="overflow:visible"><text x="30" y="10">beyond</text></svg>'
        '<script>console.error("complaint")</script>',
        encoding="utf-8",
    )
    seen = browser.look(page, 360)
    assert seen.scrolled > 360
    assert any("wide" in item for item in seen.wide)
    assert any("beyond" in item for item in seen.cut)
    assert any("complaint" in line for line in seen.console)


@pytest.mark.parametrize(
    ("size", "box"), [("little", "verdict calm"), ("some", "verdict some"), ("much", "verdict")]
)
def test_the_box_of_the_verdict_shows_how_much_is_lost(size: str, box: str, report: Report) -> None:
    wrong = replace(report.verdict.first, cause=Cause.TOO_FEW_TIMESTEPS)
    told = replace(report.verdict, findings=(wrong,), size=Size(size))
    assert f'<section class="{box}"' in html(replace(report, verdict=told))
