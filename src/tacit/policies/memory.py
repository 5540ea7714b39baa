"""Large blocks of memory stay with the process between the steps of training."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's names for the parameters of mallopt(3)."""


@cache
def keep_blocks(limit: int = 1 << 28) -> bool:
    """Have glibc keep freed blocks of up to `limit` bytes for the next request; False where there is no glibc.

    By default it hands every tensor of more than 32 MB, and most of the rest, back to the system when it is freed; the
    system then zeroes fresh pages for the next one of the same size, which took a tenth of a step of training.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, limit)) and bool(mallopt(_TRIM_THRESHOLD, (1 << 31) - 1))
