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

__all__ = ["Limits"]


_OOM_SCORE = b"500"  # as if the process used half of the machine's memory
_MARGIN_BYTES = 1 << 28  # of address space, for libraries that are loaded when needed
_USUAL_BYTES = 1 << 28


class Limits:
    """Limits of this process: it may not write files, start processes or dump its memory.

    Pipes stay usable. On Linux, it becomes the first process to kill if memory runs out. What a
    system lacks is left out.

    Parameters
    ----------
    seconds : float
        What decoding one image may take, on the clock and of the processor. The system ends a
        process that takes more; usually, the process that started this one does so before.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._processor_time = 0.0
        self._extended = True
        sys.dont_write_bytecode = True
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # NumPy would start threads
            os.environ[name] = "1"
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_bytes(_OOM_SCORE)
        if sys.platform != "win32":
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            for kind in ("RLIMIT_CORE", "RLIMIT_FSIZE"):
                with contextlib.suppress(AttributeError, OSError, ValueError):
                    resource.setrlimit(getattr(resource, kind), (0, 0))
            self._allow_threads(False)

    def start(self, need: int, *, threads: bool = False) -> None:
        """Start the clock for an image that should need `need` bytes; half as much more is allowed.

        Limits that suffice stay as they are, to save time.

        Parameters
        ----------
        need : int
            Bytes.
        threads : bool
            The decoder aborts if it cannot start threads, which the system counts as processes.
        """
        if threads != self._threads:
            self._allow_threads(threads)
        if sys.platform == "win32":
            faulthandler.dump_traceback_later(self._seconds + 2, exit=True)
            return
        signal.setitimer(signal.ITIMER_REAL, self._seconds + 2)
        now = time.process_time()
        if now + self._seconds + 2 > self._processor_time:
            self._processor_time = now + 2 * self._seconds + 2
            _limit(resource.RLIMIT_CPU, int(self._processor_time) + 1)
        large = need > _USUAL_BYTES
        if large or self._extended:
            self._extended = large
            used = _address_space()
            if used is not None:
                wanted = max(need, _USUAL_BYTES) * 3 // 2
                _limit(resource.RLIMIT_AS, used + wanted + _MARGIN_BYTES)

    def _allow_threads(self, allowed: bool) -> None:
        self._threads = allowed
        if sys.platform != "win32":
            with contextlib.suppress(AttributeError, OSError, ValueError):
                _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
                resource.setrlimit(resource.RLIMIT_NPROC, (hard if allowed else 0, hard))

    def stop(self) -> None:
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
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    except OSError:
        return None
    return pages * resource.getpagesize()
