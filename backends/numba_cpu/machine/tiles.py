"""Tile registers of x86-64 processors (AMX): whether this process may use them."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache

from snnc.backends.numba_cpu.machine.cpu import detect

ARCH_PRCTL = 158
REQUEST_PERMISSION = 0x1023
TILE_DATA = 18
"""Numbers of Linux: a system call, what is asked of it, and for which registers."""


@cache
def usable() -> bool:
    """Ask Linux for the tile registers, once for the process and all of its threads.

    They take 8 kB of a thread's state, so that a process has them only if it asks. Other systems are not
    asked.
    """
    if not detect().amx or sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    try:
        answer: int = ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA)
    except (OSError, AttributeError):  # a C library without it
        return False
    return answer == 0
