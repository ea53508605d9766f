"""Running a network on an NVIDIA GPU in batches of few shapes, each recorded as a CUDA graph.

Launching the operations of a network one by one takes longer than executing them. So batches are
filled up to one of a few sizes, and each shape is recorded once and then replayed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..core.fork import ForkSafeLock
from .batch_size import RECORDING, free_memory, is_out_of_memory

if TYPE_CHECKING:
    import torch

__all__ = ["FixedBatches"]

Network = Callable[["torch.Tensor"], "torch.Tensor"]

_WARM_UP = 2  # runs before the recording, in which libraries choose their kernels
_MOST_RECORDINGS = 24  # each has an input of its own; more shapes are not recorded
_SMALLER = 4

_log = logging.getLogger(__name__)


class FixedBatches:
    """Runs a network, whose rows do not depend on each other, in batches of a few sizes.

    A size whose batches do not fit into the memory of the device is given up for smaller ones.

    Parameters
    ----------
    make_network : callable
        Returns what takes a tensor (n, ...) and returns one of n rows. It is called for each shape,
        as some networks keep tensors of the last shape, which a recording still needs later.
    sizes : sequence of int
        Rows of a batch.
    """

    def __init__(self, make_network: Callable[[], Network], sizes: Sequence[int]) -> None:
        self._make_network = make_network
        self._sizes = sorted(sizes, reverse=True)
        self._recordings: dict[tuple[int, ...], _Recording] = {}
        self._unrecorded: Network | None = None
        self._memory: Any = None  # all recordings use the same; their results are copied
        # Only recordings on the same stream share memory. It has a priority since PyTorch deals
        # out 32 streams of each, over and over: that of another thread must not be recorded.
        self._stream: torch.cuda.Stream | None = None
        self._free: torch.cuda.Event | None = None  # when the last run has been copied
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
                    with self._lock:
                        parts.append(self._run(rows[done : done + size], size))
                    done += min(size, left)
                    continue
                except RuntimeError as error:
                    if size == 1 or not is_out_of_memory(error):
                        raise
                # The error, whose traceback holds tensors that filled the memory, is gone here.
                self._give_up(size)
            return torch.cat(parts)

    def _run(self, rows: torch.Tensor, size: int) -> torch.Tensor:
        import torch

        if not rows.is_cuda:
            return self._launch(rows, size)
        stream = torch.cuda.current_stream(rows.device)
        if self._free is None or self._stream is None:
            self._free = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._stream = torch.cuda.Stream(rows.device, priority=-1)  # type: ignore[no-untyped-call]
            self._memory = torch.cuda.graph_pool_handle()
        stream.wait_event(self._free)
        key = (size, *rows.shape[1:])
        if key not in self._recordings and len(self._recordings) < _MOST_RECORDINGS:
            with RECORDING:
                self._recordings[key] = _Recording(
                    self._make_network(), rows, size, self._memory, self._stream
                )
        recording = self._recordings.get(key)
        found = self._launch(rows, size) if recording is None else recording.run(rows)
        self._free.record(stream)
        return found

    def _launch(self, rows: torch.Tensor, size: int) -> torch.Tensor:
        """Run without a recording: on a CPU, or when there are enough."""
        if self._unrecorded is None:
            self._unrecorded = self._make_network()
        padded = rows.new_zeros((size, *rows.shape[1:]))
        padded[: len(rows)] = rows
        return self._unrecorded(padded)[: len(rows)]

    def _give_up(self, size: int) -> None:
        with self._lock:
            smaller = [other for other in self._sizes if other < size]
            self._sizes = smaller or [max(1, size // _SMALLER)]
            if self._free is not None:
                self._free.synchronize()  # a recording may still be running for another thread
            for key in [key for key in self._recordings if key[0] >= size]:
                del self._recordings[key]
        free_memory()
        _log.info("batches of %d do not fit into memory; trying %d", size, self._sizes[0])


class _Recording:
    """A network's run on a batch of one shape, always in the same memory."""

    def __init__(
        self,
        network: Network,
        like: torch.Tensor,
        size: int,
        memory: Any,
        stream: torch.cuda.Stream,
    ) -> None:
        import torch

        self._network = network
        self._input = torch.empty_like(like[:1].expand(size, *like.shape[1:])).zero_()
        self._graph: torch.cuda.CUDAGraph | None = None
        current = torch.cuda.current_stream(like.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                network(self._input)
        current.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads go on allocating memory meanwhile.
            with torch.cuda.graph(
                graph, pool=memory, stream=stream, capture_error_mode="thread_local"
            ):
                self._output = network(self._input)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            _log.info("a network is not recorded as a CUDA graph: %s", error)
            return
        self._graph = graph

    def run(self, rows: torch.Tensor) -> torch.Tensor:
        """Return a copy of what the network returns for at most as many rows as it has."""
        self._input[: len(rows)] = rows
        if self._graph is None:
            return self._network(self._input)[: len(rows)]
        self._graph.replay()
        return self._output[: len(rows)].clone()
