"""The image tower of a dual encoder: loaded when it is first needed, and made fast on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core.fork import ForkSafeLock
from ..core.lazy import Lazy

if TYPE_CHECKING:
    import torch

__all__ = ["ImageTower"]

_CROPS_WORTH_CONVERTING = 64
"""Each batch of a build has more; for one photograph, conversion costs more than it saves."""


class ImageTower:
    """Embeds crops that have the tower's input size.

    A query needs no image tower, and loading one takes longer than answering. So it is loaded
    when it is first called, or by :meth:`load`.

    Parameters
    ----------
    load : callable
        Returns the network, in evaluation mode, on any device.
    size : int
        Width and height of its input.
    device : str
        Where to run.
    """

    def __init__(self, load: Callable[[], Any], size: int, device: str) -> None:
        self._load = load
        self._size = size
        self._device = device
        self._network: Lazy[Any] = Lazy(self._prepare)
        self._converted: Any = None
        self._tried_converting = False
        self._lock = ForkSafeLock()

    def load(self) -> None:
        """Load the network if it has not been loaded.

        Raises
        ------
        ModelError
            If it cannot be loaded.
        """
        self._network.get()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return unit-length float32 embeddings (n, d) of normalized pixels (n, 3, size, size)."""
        from torch.nn import functional

        embeddings = (self._converted or self._network.get())(pixels)
        return functional.normalize(embeddings.float(), dim=-1)

    def convert_for(self, count: int) -> None:
        """Convert the tower to OpenVINO if that is installed and `count` crops are worth it."""
        if self._tried_converting or self._device != "cpu" or count < _CROPS_WORTH_CONVERTING:
            return
        from .cpu_pool import cpu_pool
        from .openvino import has_openvino, openvino_tower

        with self._lock:
            if not self._tried_converting and has_openvino():
                network = self._network.get()
                self._converted = openvino_tower(network, self._example(), cpu_pool().size)
            self._tried_converting = True

    @property
    def library(self) -> str:
        """Name of the library that runs the tower in a build."""
        from .openvino import has_openvino

        failed = self._tried_converting and self._converted is None
        runs = has_openvino() and self._device == "cpu" and not failed
        return "OpenVINO" if runs else "PyTorch"

    def _prepare(self) -> Any:
        import torch

        network = self._load()
        on_gpu = self._device.startswith("cuda")
        if on_gpu or self._device == "cpu":
            from .fuse_bn import fuse_batch_norm

            network = fuse_batch_norm(network.to("cpu"), self._example())
        if on_gpu:
            from .gpu_tower import tower_on_gpu

            return tower_on_gpu(network, self._example(), self._device)
        return network.to(self._device).to(memory_format=torch.channels_last)

    def _example(self) -> torch.Tensor:
        import torch

        shape = (1, 3, self._size, self._size)
        return torch.linspace(-1, 1, 3 * self._size**2).view(shape)
