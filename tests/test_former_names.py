"""Former names of options still work, and a user who writes them is told the present ones."""

from __future__ import annotations

import logging

import pytest

from snnc.compiler import Options, convert
from snnc.ir.neuron import Schedule
from snnc.pass_options import RENAMED, RENAMED_VALUES, former_names
from snnc.passes import PASSES
from snnc.pipeline import Pipeline
from tests import quadrants


@pytest.mark.parametrize(("name", "option"), RENAMED)
def test_a_former_name_means_the_present_one(name: str, option: str) -> None:
    new = RENAMED[name, option]
    old = Pipeline.parse(f"{name}{{{option}=0.5}}", PASSES)
    assert old == Pipeline.parse(f"{name}{{{new}=0.5}}", PASSES)
    assert old.text == f"{name}{{{new}=0.5}}"
    assert former_names(f"lower,{name}{{x=1, {option}=0.5}}", ()) == former_names(
        "", [(f"{name}.{option}", "0.5")]
    )
    assert former_names(f"{name}{{{new}=0.5}}", [(f"{name}.{new}", "0.5")]) == []


@pytest.mark.parametrize(("name", "option", "word"), RENAMED_VALUES)
def test_a_former_word_means_the_present_one(name: str, option: str, word: str) -> None:
    new = RENAMED_VALUES[name, option, word]
    assert Pipeline.parse(f"{name}{{{option}={word}}}", PASSES).text == f"{name}{{{option}={new}}}"
    assert len(former_names("", [(f"{name}.{option}", word)])) == 1


def test_artefacts_from_before_have_the_layerwise_schedule() -> None:
    assert Schedule("barrier") is Schedule.LAYERWISE
    with pytest.raises(ValueError, match="sometime"):
        Schedule("sometime")


def test_a_conversion_warns_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("snnc"), "propagate", True)
    rows, _ = quadrants.images(60, 1)
    settings = {"set-schedule.kind": "barrier"}
    preprocessing = quadrants.PREPROCESSING
    options = Options(timesteps=2, preset="fast", settings=settings)
    with caplog.at_level("WARNING", "snnc"):
        made = convert(quadrants.network(), rows, options, preprocessing=preprocessing).artefact
    assert made.graph.schedule is Schedule.LAYERWISE
    # pytest may hear a record twice: at the logger, where a verb that ran before ended its way, and above.
    (record,) = dict.fromkeys(found for found in caplog.records if "called" in found.getMessage())
    assert "set-schedule.kind=barrier is now called set-schedule.kind=layerwise" in record.getMessage()
