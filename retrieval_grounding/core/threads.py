"""Keeping PyTorch to the caller's thread, for work that is too small to be split."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

__all__ = ["WORTH_THREADS", "single_thread"]

WORTH_THREADS = 8
"""Queries from which on a search is worth the threads of PyTorch and FAISS."""


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run a block in which PyTorch uses only the thread that runs the block.

    The other threads of an OpenMP library wait for more work by spinning. A query consists of many
    short steps, so they would spin most of the time, beside the matcher's own threads and beside
    everything else on the machine. Other threads of the program keep their number.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
