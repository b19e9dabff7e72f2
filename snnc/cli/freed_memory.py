"""Keeping memory that is freed, in processes of the command line that make many large arrays."""

from __future__ import annotations

import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Settings of ``mallopt`` in glibc's malloc.h."""

LARGEST = 1 << 30
"""Bytes of an array up to which its memory is kept, and of free memory at the end of the heap."""

LARGEST_BEFORE = 1 << 25
"""Bytes of an array that older releases of glibc allow."""


def keep_freed_memory() -> bool:
    """Let this process use the memory of freed arrays again, and say whether it will.

    Of itself glibc gives the memory of large arrays back to the system, which clears it and maps it anew for
    the next one: a tenth of the time of a conversion or a training. Other C libraries are left as they are.
    """
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):  # no POSIX system, or another library
        return False
    if not library:
        return False
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    large = any(mallopt(M_MMAP_THRESHOLD, most) for most in (LARGEST, LARGEST_BEFORE))
    return large and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))
