"""Ctrl-C that Python cannot answer where it comes is not forgotten."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from snnc.cli import interrupts


class Freed:
    """Does something when it is freed."""

    def __init__(self, last: Callable[[], object]) -> None:
        self.last = last

    def __del__(self) -> None:
        self.last()


def interrupted() -> None:
    signal.raise_signal(signal.SIGINT)


def interrupted_where_it_is_lost() -> None:
    freed = Freed(interrupted)
    del freed
    time.sleep(10)


def failed() -> None:
    raise ValueError("of a finalizer")


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_in_a_finalizer_comes_again() -> None:
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupts.not_lost():
        interrupted_where_it_is_lost()
    assert time.monotonic() - begun < 10


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_other_faults_of_a_finalizer_are_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    with interrupts.not_lost():
        freed = Freed(failed)
        del freed
    assert [str(each) for each in told] == ["of a finalizer"]
