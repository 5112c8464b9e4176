"""Keeps what a process has in its memory out of core files and out of other processes' sight. Linux.

Every program of ours that holds a key, a token or a secret calls this first. It holds for the process itself: a program started from it is
dumpable again once it runs, but inherits the limit on core files.
"""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def hide_memory() -> None:
    """No core file, no ptrace by others of our user, and /proc/PID/environ is root's (prctl(2), PR_SET_DUMPABLE). Raises `OSError`.

    The limit alone is not enough: a core pattern that names a program is run whatever the limit says (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
