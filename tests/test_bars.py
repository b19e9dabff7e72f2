"""Progress bars: only for long work, only on a terminal, gone when the work is done."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from snnc import bars
from snnc.bars import Bars
from snnc.cli.terminal import Terminal


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal that remembers what was drawn."""
    drawn = io.StringIO()
    monkeypatch.setattr(
        bars, "Console", lambda stderr: Console(file=drawn, force_terminal=True, width=80, color_system=None)
    )
    return drawn


def test_short_work_draws_nothing(screen: io.StringIO) -> None:
    assert list(Bars(print).track(range(5), 5, "short")) == [0, 1, 2, 3, 4]
    assert screen.getvalue() == ""


def test_long_work_draws_how_far_it_is(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "PATIENCE", 0.01)
    shown = Bars(print)
    for item in shown.track(range(4), 4, "outer"):
        for _ in shown.track(range(3), 3, f"inner {item}"):
            time.sleep(0.05)
    drawn = screen.getvalue()
    for part in ("outer", "inner 1", "3/4", "2/3", "0:00:0"):
        assert part in drawn
    assert all("0:00:" not in line for line in drawn.splitlines() if "outer" in line)
    length = len(drawn)
    time.sleep(0.2)
    assert len(screen.getvalue()) == length  # nothing is drawn any more


def test_messages_stand_beside_the_innermost_bar(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bars, "PATIENCE", 0.01)
    said: list[str] = []
    shown = Bars(said.append)
    shown.message("before")
    for _ in shown.track(range(2), 2, "passes"):
        for name in shown.track(["conv1", "conv2"], 2, "layers"):
            shown.message(f"at {name}")
            time.sleep(0.2)
    assert said == ["before", *(["at conv1", "at conv2"] * 2)]
    assert any("layers" in line and "at conv2" in line for line in screen.getvalue().splitlines())


def test_an_error_ends_the_bar(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "PATIENCE", 0.01)
    shown = Bars(print)

    def work() -> None:
        for item in shown.track(range(4), 4, "work"):
            time.sleep(0.05)
            if item == 2:
                raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        work()
    length = len(screen.getvalue())
    time.sleep(0.2)
    assert len(screen.getvalue()) == length


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("tty", "wanted", "verbosity", "drawn"),
    [(True, True, 0, True), (False, True, 0, False), (True, False, 0, False), (True, True, -1, False)],
)
def test_bars_need_a_terminal(
    tty: bool, wanted: bool, verbosity: int, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", Tty() if tty else io.StringIO())
    terminal = Terminal()
    try:
        terminal.bars, terminal.verbosity = wanted, verbosity
        assert isinstance(terminal.progress(), Bars) == drawn
        assert list(terminal.progress().track("ab", 2, "")) == ["a", "b"]
    finally:
        terminal.close()
