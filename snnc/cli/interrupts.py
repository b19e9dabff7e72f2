"""Ctrl-C that comes at a moment at which Python cannot answer it."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

PAUSE = 0.05
"""Seconds after which a lost interrupt is given once more: by then its place has been left."""


@contextlib.contextmanager
def not_lost() -> Iterator[None]:
    """Give an interrupt once more where Python lost it.

    A ``KeyboardInterrupt`` that is raised in a finalizer, or in a callback of a compiled library, is printed
    and forgotten, and the program goes on as if nobody had asked it to end.
    """
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        again = threading.Timer(PAUSE, _interrupt)
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt() -> None:
    number = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and number is not None:
        signal.pthread_kill(number, signal.SIGINT)  # which ends a sleep or a wait of the main thread, too
    else:
        _thread.interrupt_main()
