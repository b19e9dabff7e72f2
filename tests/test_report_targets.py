"""The report's section on targets, with targets that refuse, differ and agree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

import pytest

from snnc.artefact import Artefact
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.report import targets
from snnc.report.document import Report
from snnc.report.energy import MODELS, account
from snnc.report.page import TOP_PROBLEMS, html
from snnc.report.targets import Fit, fits
from snnc.report.verdict import judge
from snnc.simulation.targets import Capabilities, Unsupported
from tests.conversions import Converted, convert

PROFILES: Mapping[str, str] = {"plain": "the first", "fancy": "the second"}


def capabilities(exact: bool) -> Capabilities:
    return Capabilities("a target of the test", exact, "nobody", PROFILES, "some networks")


class Strict:
    """Refuses every population, in both profiles for the same reason but in other words."""

    name: ClassVar[str] = "strict"
    capabilities: ClassVar[Capabilities] = capabilities(exact=True)

    def __init__(self, profile: str | None) -> None:
        self.profile = profile or "plain"

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        return tuple(
            Unsupported(node.name, f"onnx/{node.name}", f"{self.profile} knows no neurons", "take another")
            for node in graph.of_type(IntegrateFire)
        )


class Willing(Strict):
    """Takes everything."""

    name: ClassVar[str] = "willing"

    def check(self, graph: SnnGraph) -> tuple[Unsupported, ...]:
        return ()


class Different(Willing):
    """Takes everything, but computes something else in its second profile."""

    name: ClassVar[str] = "different"
    capabilities: ClassVar[Capabilities] = capabilities(exact=False)
    advice: ClassVar[str] = "take the first profile"

    def differences(self, graph: SnnGraph) -> tuple[str, ...]:
        return () if self.profile == "plain" else ("spikes are late", "spikes are lost")

    def emulate(self, graph: SnnGraph, q: object) -> object:
        raise NotImplementedError


@pytest.fixture(scope="module")
def made() -> Converted:
    return convert(rows=4)


@pytest.fixture
def found(made: Converted, monkeypatch: pytest.MonkeyPatch) -> tuple[Fit, ...]:
    known = {kind.name: kind for kind in (Strict, Willing, Different)}
    monkeypatch.setattr(targets, "usable_backends", lambda: (kind(None) for kind in known.values()))
    monkeypatch.setattr(targets, "load_backend", lambda name, profile=None: known[name](profile))
    return fits(made.artefact.graph)


def report(made: Converted, found: tuple[Fit, ...]) -> Report:
    measured, graph = made.measured(), made.artefact.graph
    macs = sum(measured.ann_macs.values())
    energy = account(graph, measured.costs, macs, measured.nonzero, 4, MODELS["45nm"])
    return Report(Artefact(graph), measured, judge(measured, 4), energy, None, found, {"command": "x"})


def test_profiles_with_the_same_answer_share_a_line(made: Converted, found: tuple[Fit, ...]) -> None:
    populations = len(made.artefact.graph.of_type(IntegrateFire))
    assert [(fit.target, fit.profiles) for fit in found] == [
        ("strict", ("plain", "fancy")),
        ("willing", ("plain", "fancy")),
        ("different", ("plain",)),
        ("different", ("fancy",)),
    ]
    strict, willing, same, other = found
    assert strict.answer == f"no, for {populations} reasons"
    assert strict.reason.endswith("plain knows no neurons; take another")
    assert len(strict.problems) == populations > 1
    assert (willing.answer, willing.reason) == ("yes", "results: bit for bit")
    assert (same.answer, same.results) == ("yes", "bit for bit")
    assert other.answer == "yes, but it computes something else"
    assert other.reason == "spikes are late; spikes are lost"
    assert other.results == "they differ; take the first profile"


def test_the_page_lists_what_is_in_the_way(
    made: Converted, found: tuple[Fit, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = html(report(made, found))
    section = page[page.index('id="targets"') : page.index('id="reproduce"')]
    for fit in found:
        assert fit.answer in section
    for node in made.artefact.graph.of_type(IntegrateFire):
        assert f"onnx/{node.name}<" in section
    assert "In the way of strict, plain, fancy" in section
    assert "In the way of willing" not in section
    assert len(found[0].problems) <= TOP_PROBLEMS
    monkeypatch.setattr("snnc.report.page.TOP_PROBLEMS", 1)
    shorter = html(report(made, found))
    assert f"and {len(found[0].problems) - 1} more" in shorter
    assert "snnc check ARTEFACT --target strict --profile plain" in shorter


def test_the_figures_hold_all_of_it(made: Converted, found: tuple[Fit, ...]) -> None:
    told = json.loads(report(made, found).json())["targets"]
    assert [item["fits"] for item in told] == [False, True, True, True]
    assert told[0]["problems"][0]["help"] == "take another"
    assert len(told[0]["problems"]) == len(found[0].problems)
    assert told[3]["differences"] == ["spikes are late", "spikes are lost"]


def test_the_targets_that_exist_are_asked(made: Converted) -> None:
    from snnc.backends import BACKENDS, load_backend

    asked = fits(made.artefact.graph)
    for name in BACKENDS:
        profiles = [profile for fit in asked if fit.target == name for profile in fit.profiles]
        assert sorted(profiles) == sorted(load_backend(name).capabilities.profiles)
    assert next(fit for fit in asked if fit.target == "c99").answer == "yes"
