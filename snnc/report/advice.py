"""Advice against a cause: only options that the pipeline of the artefact has and that would change it."""

from __future__ import annotations

from snnc.errors import UsageError
from snnc.passes import PASSES
from snnc.pipeline import Pipeline
from snnc.report.causes import Advice


def advised(options: tuple[Advice, ...], pipeline: str, preset: str, otherwise: str) -> str:
    """Return what to try, in words.

    Args:
        options: what may help.
        pipeline: of the artefact; empty where it is unknown, and then everything is named.
        preset: that a setting goes with; empty where it is unknown.
        otherwise: what helps where none of the options is possible.
    """
    found = [_text(item, preset) for item in options if not pipeline or _helps(item, pipeline)]
    return ", or ".join(found) or otherwise


def _text(item: Advice, preset: str) -> str:
    with_preset = f"--preset {preset} " if preset else ""
    return f"{with_preset}--set {item.setting}" if item.setting else item.text


def _helps(item: Advice, pipeline: str) -> bool:
    """Whether the pipeline takes the setting and is changed by it, or lacks what another preset brings."""
    given = Pipeline.parse(pipeline, PASSES)
    if item.brings:
        return item.brings not in given.names
    if not item.setting:
        return True
    key, _, value = item.setting.partition("=")
    try:
        return given.with_settings({key: value}) != given
    except UsageError:
        return False
