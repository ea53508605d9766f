"""Running a network on an NVIDIA GPU in batches of few sizes, each recorded as a CUDA graph.

Launching the operations of a network one by one takes longer than executing them, and cuDNN
compiles kernels for each new shape, which takes seconds. So batches are filled up to one of a few
sizes. Each is recorded once and then replayed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..core.fork import ForkSafeLock
from .batch_size import free_memory, is_out_of_memory

if TYPE_CHECKING:
    import torch

__all__ = ["FixedBatches"]

Network = Callable[["torch.Tensor"], "torch.Tensor"]

_WARM_UP = 2  # runs before the recording, in which libraries choose and compile kernels
_SMALLER = 4

_log = logging.getLogger(__name__)


class FixedBatches:
    """Runs a network, whose rows do not depend on each other, in batches of a few sizes.

    A size whose batches do not fit into the memory of the device is given up for smaller ones.

    Parameters
    ----------
    network : callable
        Takes a tensor (n, ...) and returns one of n rows.
    sizes : sequence of int
        Rows of a batch.
    """

    def __init__(self, network: Network, sizes: Sequence[int]) -> None:
        self._network = network
        self._sizes = sorted(sizes, reverse=True)
        self._recordings: dict[tuple[int, ...], _Recording] = {}
        self._lock = ForkSafeLock()

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what the network returns for `rows`, (n, ...), n > 0.

        Raises
        ------
        torch.OutOfMemoryError
            If even a single row does not fit.
        """
        import torch

        parts: list[torch.Tensor] = []
        done = 0
        with torch.inference_mode():
            while done < len(rows):
                left = len(rows) - done
                size = next((size for size in self._sizes if size <= left), self._sizes[-1])
                try:
                    parts.append(self._run(rows[done : done + size], size))
                except RuntimeError as error:
                    if size == 1 or not is_out_of_memory(error):
                        raise
                    self._give_up(size)
                    continue
                done += min(size, left)
            return torch.cat(parts)

    def _run(self, rows: torch.Tensor, size: int) -> torch.Tensor:
        key = (size, *rows.shape[1:])
        with self._lock:
            if key not in self._recordings:
                self._recordings[key] = _Recording(self._network, rows, size)
            return self._recordings[key].run(rows)

    def _give_up(self, size: int) -> None:
        with self._lock:
            smaller = [other for other in self._sizes if other < size]
            self._sizes = smaller or [max(1, size // _SMALLER)]
            self._recordings = {k: kept for k, kept in self._recordings.items() if k[0] < size}
        free_memory()
        _log.info("batches of %d do not fit into memory; trying %d", size, self._sizes[0])


class _Recording:
    """A network's run on a batch of one size, always in the same memory."""

    def __init__(self, network: Network, like: torch.Tensor, size: int) -> None:
        import torch

        self._network = network
        layout = torch.channels_last if like.ndim == 4 else torch.contiguous_format
        self._input = like.new_zeros((size, *like.shape[1:])).contiguous(memory_format=layout)
        self._graph: torch.cuda.CUDAGraph | None = None
        if like.is_cuda:
            self._record()

    def _record(self) -> None:
        import torch

        device = self._input.device
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        current = torch.cuda.current_stream(device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._network(self._input)
        current.wait_stream(stream)
        self._free = torch.cuda.Event()  # type: ignore[no-untyped-call]
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads go on allocating memory meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._output = self._network(self._input)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            _log.info("a network is not recorded as a CUDA graph: %s", error)
            return
        self._graph = graph

    def run(self, rows: torch.Tensor) -> torch.Tensor:
        """Return a copy of what the network returns for at most as many rows as it has."""
        import torch

        if self._graph is None:
            self._input[: len(rows)] = rows
            return self._network(self._input)[: len(rows)]
        stream = torch.cuda.current_stream(rows.device)
        stream.wait_event(self._free)  # another thread's stream may still copy from here
        self._input[: len(rows)] = rows
        self._graph.replay()
        found = self._output[: len(rows)].clone()
        self._free.record(stream)
        return found
