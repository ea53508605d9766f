"""A budget for the memory of all images that are decoded or wait for a model at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil

from ..core.errors import ImageError

__all__ = ["MemoryBudget", "OverBudgetError", "free_memory"]


_SHARE = 4
"""By default, an index uses one fourth of the free memory for images; models need some, too."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class OverBudgetError(ImageError):
    """An image by itself takes more memory than the budget; it does not depend on the file."""


class MemoryBudget:
    """Counts the memory of images, and lets the next one wait until there is enough.

    Images get memory in the order of their turns. So an image never waits for one that comes
    later, and if the consumer takes images in order, the one it waits for is always next.

    Parameters
    ----------
    limit : int, optional
        Bytes. By default a share of what is free, which a single image may exceed if it fits.
    """

    def __init__(self, limit: int | None = None) -> None:
        free = free_memory()
        self.limit = free // _SHARE if limit is None else limit
        self._largest = max(self.limit, free * 3 // 4) if limit is None else limit
        self._used = 0
        self._turn = 0
        self._passed: set[int] = set()
        self._waiting = False
        self._exceed = False
        self._closed = False
        self._changed = threading.Condition()

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        return self._used

    def waits(self, turn: int) -> bool:
        """Return whether the image of `turn` waits for memory that others have taken."""
        with self._changed:
            return self._waiting and turn == self._turn

    def wait_for_turn(self, turn: int) -> None:
        """Wait until all images that come earlier have what they need."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or turn == self._turn)

    def take(self, turn: int, size: int) -> None:
        """Wait until it is the turn of an image and there are `size` bytes, and take them.

        Raises
        ------
        OverBudgetError
            If there can never be as many.
        ImageError
            If the budget has been closed.
        """
        if size > self._largest:
            raise OverBudgetError(
                "too-large",
                f"decoding it takes {_amount(size)} of memory, and {_amount(self._largest)} may be "
                "used; raise that with --memory",
            )
        self.wait_for_turn(turn)
        with self._changed:
            self._waiting = True
            self._changed.wait_for(lambda: self._closed or self._fits(size))
            self._waiting = self._exceed = False
            if self._closed:
                raise ImageError("decoder-died", "the build was stopped")
            self._used += size
            self._pass(turn)

    def skip(self, turn: int) -> None:
        """Let the next image take memory if this one has not."""
        with self._changed:
            self._pass(turn)

    def give_back(self, size: int) -> None:
        """Give back `size` bytes."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def exceed(self) -> None:
        """Let the image that waits go on, since nothing more will be given back."""
        with self._changed:
            self._exceed = self._waiting
            self._changed.notify_all()

    def close(self) -> None:
        """Let all that wait fail."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return self._exceed or self._used == 0 or self._used + size <= self.limit

    def _pass(self, turn: int) -> None:
        self._passed.add(turn)
        while self._turn in self._passed:
            self._passed.remove(self._turn)
            self._turn += 1
        self._passed = {other for other in self._passed if other > self._turn}
        self._changed.notify_all()


def free_memory() -> int:
    """Return how many bytes of memory are free for this process, also in a container."""
    free = int(psutil.virtual_memory().available)
    for limit, used in _CGROUPS:
        try:
            left = int(Path(limit).read_text("ascii")) - int(Path(used).read_text("ascii"))
        except (OSError, ValueError):  # "max", or no such group
            continue
        free = min(free, max(0, left))
    return free


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
