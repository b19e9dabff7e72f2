"""The output of ``snnc convert`` about its choice of preset and steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnc.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snnc.compiler import Options
    from snnc.search.choice import Candidate, Choice, Tried


def planned(among: Mapping[Candidate, Options], rows: int) -> dict[str, object]:
    """Return the JSON form of what would be compared, and on which rows."""
    from snnc.search.choice import FEWEST_ROWS, LIMIT, split

    fitted, held = split(rows) if rows >= FEWEST_ROWS and len(among) > 1 else ((), ())
    return {
        "limit": LIMIT,
        "rows_fitted": len(fitted),
        "rows_held": len(held),
        "candidates": [
            {
                "preset": each.preset,
                "timesteps": each.timesteps,
                "pipeline": options.passes().text,
            }
            for each, options in among.items()
        ],
    }


def planned_text(among: Mapping[Candidate, Options], rows: int) -> str:
    """Return the same in words."""
    from snnc.search.choice import FEWEST_ROWS, LIMIT, split

    lines = [f"{each}: {options.passes().text}" for each, options in among.items()]
    if len(among) == 1:
        return "\n".join(["only this candidate meets the options:", *lines])
    if rows < FEWEST_ROWS:
        return "\n".join(["too few rows to compare presets; one of these would be chosen:", *lines])
    fitted, held = split(rows)
    ladder = len({each.preset for each in among}) == 1
    head = (
        f"compared would be{', by halves' if ladder else ''}, each made with {len(fitted)} of the rows and "
        f"judged on {len(held)} others; taken is the one of fewest operations that loses at most "
        f"{LIMIT:g} point, or the most accurate:"
    )
    return "\n".join([head, *lines])


def show(terminal: Terminal, choice: Choice) -> None:
    """Say what was chosen and why, and show its neighbours on the front."""
    terminal.text(f"chose {choice.chosen}: {choice.reason}")
    beside = {each.candidate for each in choice.neighbours()}
    shown = [each for each in choice.front() if each.candidate in beside or each.candidate == choice.chosen]
    if len(shown) > 1:
        columns = ("front", "latency", "payload", "operations / MACs", "points lost", "95 %, at most")
        terminal.table(columns, [_row(each, choice) for each in shown])
    if choice.held:
        terminal.text(
            f"Lost by the source's own confidence on {choice.held} rows held back, each made with "
            f"{choice.fitted} of the others; {len(choice.tried)} were tried. What is written uses all rows."
        )
    for candidate, why in choice.failed:
        terminal.text(f"not possible: {candidate}: {why}")


def _row(each: Tried, choice: Choice) -> tuple[str, ...]:
    return (
        ("→ " if each.candidate == choice.chosen else "") + str(each.candidate),
        str(each.point.latency),
        each.point.payload,
        f"{each.point.synops:.2f}",
        f"{each.loss.points:.2f}",
        f"{each.loss.upper:.2f}",
    )
