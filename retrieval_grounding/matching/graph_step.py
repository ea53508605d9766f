"""Training steps on an NVIDIA GPU: each is one CUDA graph instead of a thousand launches.

The network is small: launching its operations takes several times as long as executing them. So the
operations of a step, from augmentation to the average of weights, are recorded once, with shapes
into which every batch fits, and replayed for every batch. The host prepares the next batch
meanwhile, and waits for the GPU only at the end of an epoch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from ..models.batch_size import RECORDING
from .dataset import Examples
from .resident_step import ResidentSteps
from .train_state import TrainingState
from .training_step import DIMENSIONS, Step, StepSize

__all__ = ["GraphSteps", "StepBuffer"]


_WARM_UP = 3  # steps before the recording, in which libraries allocate what they need
_ALIGNMENT = 16

_log = logging.getLogger(__name__)


class StepBuffer:
    """A step on the device, always in the same place, to which steps are copied with padding.

    Parameters
    ----------
    like : Step
        Arrays of the types that will be copied.
    size : StepSize
        Into which they fit.
    device : torch.device
        Where the tensors are.
    """

    def __init__(self, like: Step, size: StepSize, device: torch.device) -> None:
        self.size = size
        self._pinned = device.type == "cuda"
        self._places = []
        end = 0
        for name, array in zip(DIMENSIONS, like, strict=True):
            shape = size.shape(name)
            length = array.dtype.itemsize * math.prod(shape)
            self._places.append((slice(end, end + length), shape))
            end += -(-length // _ALIGNMENT) * _ALIGNMENT
        self._bytes = torch.zeros(end, dtype=torch.uint8, device=device)
        types = [torch.from_numpy(array).dtype for array in like]
        self.step = Step(
            *(
                self._bytes[place].view(dtype).view(shape)
                for dtype, (place, shape) in zip(types, self._places, strict=True)
            )
        )

    def copy(self, step: Step) -> None:
        """Copy a step, in one transfer for which nothing waits."""
        host = torch.zeros(len(self._bytes), dtype=torch.uint8, pin_memory=self._pinned)
        data = host.numpy()
        for array, (place, shape) in zip(step, self._places, strict=True):
            target = data[place].view(array.dtype).reshape(shape)
            target[tuple(map(slice, array.shape))] = array
        self._bytes.copy_(host, non_blocking=True)


class GraphSteps:
    """Executes the steps of a training run: the first ones plainly, then as a graph.

    If the graph cannot be recorded, all are executed plainly.

    Parameters
    ----------
    state : TrainingState
        What is trained, on a GPU.
    steps : ResidentSteps
        Draws steps and computes their losses.
    """

    def __init__(self, state: TrainingState, steps: ResidentSteps) -> None:
        self._state = state
        self._steps = steps
        self._device = next(state.model.parameters()).device
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._size = StepSize(0, 0, 0, 0)
        self._buffer: StepBuffer | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._plain_steps = 0
        self._fails = False
        self._loss = torch.empty(0)

    def expect(self, examples: Examples, batches: Sequence[npt.NDArray[np.int64]]) -> None:
        """Prepare for the batches of an epoch, so that one graph serves them."""
        self._size = self._size.joined(self._steps.size(examples, batches))

    def run(self, batch: Examples, random: np.random.Generator) -> torch.Tensor:
        """Train on a batch and return its loss, without waiting for it."""
        step = self._steps.draw(batch, random)
        self._size = self._size.joined(step.size)
        if self._buffer is None or self._buffer.size != self._size:
            self._buffer = StepBuffer(step, self._size, self._device)
            self._graph, self._plain_steps = None, 0
        self._buffer.copy(step)
        if self._graph is None and not self._fails and self._plain_steps == _WARM_UP:
            self._record()
        if self._graph is None:
            return self._run_plainly()
        self._graph.replay()
        return self._loss.clone()

    def _run_plainly(self) -> torch.Tensor:
        """Take a step on the stream of the recording, as what is allocated belongs to a stream."""
        self._plain_steps += 1
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss = self._train()
        current.wait_stream(self._stream)
        return loss.clone()

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with RECORDING, torch.cuda.graph(graph, stream=self._stream):
                self._loss = self._train()
        except RuntimeError as error:
            _log.info("training steps are not recorded as a CUDA graph: %s", error)
            self._fails = True
            # The generator of dropout would stay in the state of a recording.
            generator = torch.cuda.default_generators[self._device.index or 0]
            generator.graphsafe_set_state(generator.clone_state())
            return
        self._graph = graph

    def _train(self) -> torch.Tensor:
        assert self._buffer is not None
        return self._state.step(self._steps.loss(self._buffer.step))
