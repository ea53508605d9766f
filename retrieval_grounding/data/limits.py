"""Limits that the operating system enforces on a process that decodes."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import time
from pathlib import Path

if sys.platform != "win32":
    import resource

__all__ = ["end_limits", "limit_decoding", "limit_process"]


_OOM_SCORE = "500"  # as if the process used half of the machine's memory
_MARGIN_BYTES = 1 << 28  # of address space, for libraries that are loaded when needed


def limit_process() -> None:
    """Forbid this process to write files, start processes and dump its memory.

    Pipes stay usable. On Linux, it becomes the first process to kill if memory runs out. What a
    system lacks is left out.
    """
    sys.dont_write_bytecode = True
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # NumPy would start threads
        os.environ[name] = "1"
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for kind in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NPROC"):
            with contextlib.suppress(AttributeError, OSError, ValueError):
                resource.setrlimit(getattr(resource, kind), (0, 0))


def limit_decoding(need: int, seconds: float) -> None:
    """Limit the memory and the time that this process may take until :func:`end_limits`.

    The system ends a process that takes more time. Usually the process that started this one does
    so before; this counts if that process is gone.

    Parameters
    ----------
    need : int
        Bytes that it should need; half as much again is allowed.
    seconds : float
        Time on the clock and of the processor.
    """
    if sys.platform == "win32":
        faulthandler.dump_traceback_later(seconds + 2, exit=True)
        return
    used = _address_space()
    if used is not None:
        _limit(resource.RLIMIT_AS, used + need * 3 // 2 + _MARGIN_BYTES)
    _limit(resource.RLIMIT_CPU, int(time.process_time() + seconds) + 2)
    signal.setitimer(signal.ITIMER_REAL, seconds + 2)


def end_limits() -> None:
    """Stop the clock."""
    if sys.platform == "win32":
        faulthandler.cancel_dump_traceback_later()
    else:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit(kind: int, value: int) -> None:
    """Set a soft limit; a lower hard limit stays."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (value if hard < 0 else min(value, hard), hard))


def _address_space() -> int | None:
    """Return the address space that this process uses, where the system says so."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except OSError:
        return None
    return pages * resource.getpagesize()
