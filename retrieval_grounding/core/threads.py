"""How many threads work for one task, and how they wait: settled here for every library.

PyTorch, FAISS and BLAS each bring threads of OpenMP, which wait for more work by spinning. Many
short steps keep them spinning most of the time, beside the library's own threads and beside
everything else on the machine. So a task that is short, or that has others beside it, runs in one
thread, and where there are several tasks they share the threads of `models.cpu_pool`, which sleep.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["WORTH_THREADS", "shorten_spinning", "single_thread"]

WORTH_THREADS = 8
"""Queries from which on a search outside of queries is worth the threads of FAISS."""

_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_SPINS = 2000  # some tens of microseconds: enough from one layer to the next


def shorten_spinning() -> None:
    """Let threads of OpenMP spin for microseconds instead of milliseconds before they sleep.

    OpenMP libraries read this once, when they are loaded, so it must be called before that. It
    changes the environment of this process, unless the user has chosen how threads wait.
    """
    if not any(name in os.environ for name in _CHOICES):
        os.environ["GOMP_SPINCOUNT"] = str(_SPINS)  # GNU
        os.environ["KMP_BLOCKTIME"] = "0"  # Intel and LLVM, in milliseconds


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run a block in which PyTorch and FAISS use only the thread that runs the block.

    Other threads of the program keep their number.
    """
    torch, faiss = sys.modules.get("torch"), sys.modules.get("faiss")
    usual = None if torch is None else torch.get_num_threads()
    usual_faiss = None if faiss is None else faiss.omp_get_max_threads()
    if torch is not None:
        torch.set_num_threads(1)
    if faiss is not None:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        if torch is not None:
            torch.set_num_threads(usual)
        if faiss is not None:
            faiss.omp_set_num_threads(usual_faiss)
