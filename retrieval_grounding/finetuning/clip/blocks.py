"""The chain of blocks in a tower, found by running it, and running only the upper ones.

Nothing here knows an architecture: what a container holds is taken for a chain if each block gets
exactly what the one before returned, and a cut is used only if the rest of the tower then gives
what the whole tower gives.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Anatomy", "UpperTower", "can_cut", "study"]

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Anatomy:
    """What running a tower has shown.

    Parameters
    ----------
    blocks : list of nn.Module
        The longest chain at the end: each block is run once, on the output of the one before.
    called : frozenset of int
        Ids of the modules that were run. Some only lend their weights, such as the projections in
        PyTorch's multi-head attention.
    after : list of nn.Module
        Modules that were run after the last block, outermost only.
    """

    blocks: list[nn.Module]
    called: frozenset[int]
    after: list[nn.Module]


@torch.no_grad()
def study(roots: Sequence[nn.Module], run: Callable[[], object]) -> Anatomy:
    """Run a tower once and find its chain of blocks.

    Parameters
    ----------
    roots : sequence of nn.Module
        The modules of the tower.
    run : callable
        Runs it on an example of at least two images or phrases.
    """
    modules = [module for root in roots for module in root.modules()]
    candidates = [block for root in roots for block in _contained(root)]
    calls: dict[int, list[tuple[Any, Any]]] = {}
    order: dict[int, int] = {}

    def note(module: nn.Module, given: tuple[Any, ...], returned: Any) -> None:
        order.setdefault(id(module), len(order))
        calls.setdefault(id(module), []).append((given[0] if given else None, _first(returned)))

    with contextlib.ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(note).remove)
        run()
    blocks = _chain([block for block in candidates if len(calls.get(id(block), ())) == 1], calls)
    after: list[nn.Module] = []
    if blocks:
        last, inside = order[id(blocks[-1])], {id(m) for b in blocks for m in b.modules()}
        behind = [
            module for module in modules
            if order.get(id(module), -1) > last and not inside & {id(m) for m in module.modules()}
        ]  # fmt: skip
        nested = {id(m) for module in behind for m in module.modules() if m is not module}
        after = [module for module in behind if id(module) not in nested]
    return Anatomy(blocks, frozenset(calls), after)


def _contained(root: nn.Module) -> list[nn.Module]:
    """Return what the containers of a tower hold, in order, nested containers laid flat."""
    found: list[nn.Module] = []
    for child in root.children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            found += _flat(child)
        else:
            found += _contained(child)
    # Containers inside blocks, such as the layers of an MLP, come after the blocks themselves.
    return found


def _flat(container: nn.Module) -> list[nn.Module]:
    items: list[nn.Module] = []
    for child in container.children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            items += _flat(child)
        elif any(True for _ in child.children()):  # a single layer is no block
            items.append(child)
    return items


def _chain(
    candidates: Sequence[nn.Module], calls: dict[int, list[tuple[Any, Any]]]
) -> list[nn.Module]:
    """Return the longest run of blocks, each of which gets what the one before returned."""
    best: list[nn.Module] = []
    current: list[nn.Module] = []
    for block in candidates:
        given = calls[id(block)][0][0]
        before: Any = calls[id(current[-1])][0][1] if current else None
        follows = isinstance(given, Tensor) and isinstance(before, Tensor)
        if not follows or given.shape != before.shape or not torch.equal(given, before):
            current = []
        current.append(block)
        if len(current) > max(1, len(best)):
            best = list(current)
    return best


def _first(returned: Any) -> Any:
    return returned[0] if isinstance(returned, tuple) and returned else returned


class UpperTower:
    """Runs an image tower from a block on, with the inputs of that block in place of pixels.

    Until :meth:`cut_off` the tower is whole. From then on the blocks below pass on what they get,
    so that what is left of them, the first layer for one black image, costs next to nothing.
    Threads may share it.

    Parameters
    ----------
    visual : nn.Module
        open_clip's image tower.
    block : nn.Module or None
        The first block of the upper part; None leaves the tower whole, and pixels are its inputs.
    below : sequence of nn.Module
        The blocks before it.
    size : int
        Width and height of the input.
    """

    def __init__(
        self, visual: nn.Module, block: nn.Module | None, below: Sequence[nn.Module], size: int
    ) -> None:
        self._visual = visual
        self.block = block
        self._below = below
        self._size = size
        self._now = threading.local()
        self._hook: Any = None
        if block is not None:
            self._hook = block.register_forward_pre_hook(self._keep, with_kwargs=True)

    def whole(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of the upper part and the embeddings, of any length, of pixels.

        Parameters
        ----------
        pixels : tensor of shape (n, 3, size, size)
            Normalized.
        """
        embeddings = _embedding(self._visual(pixels))
        return (pixels if self.block is None else self._now.inputs), embeddings

    def cut_off(self) -> None:
        """From now on, run only the upper part."""
        if self.block is not None:
            self._hook.remove()
            for block in self._below:
                block.forward = _pass_on
            self._hook = self.block.register_forward_pre_hook(self._replace, with_kwargs=True)

    def restore(self) -> None:
        """Make the tower whole again, and leave no trace in it."""
        if self._hook is not None:
            self._hook.remove()
        for block in self._below:
            block.__dict__.pop("forward", None)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return embeddings (n, d), of any length, of inputs of the upper part."""
        if self.block is None:
            return _embedding(self._visual(inputs))
        self._now.inputs = inputs
        shape = (1, 3, self._size, self._size)
        return _embedding(self._visual(torch.zeros(shape, device=inputs.device)))

    def _keep(self, module: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._now.inputs = given[0]

    def _replace(
        self, module: nn.Module, given: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self._now.inputs, *given[1:]), options


@torch.no_grad()
def can_cut(visual: nn.Module, blocks: Sequence[nn.Module], first: int, pixels: Tensor) -> bool:
    """Return whether running from block number `first` on gives what the whole tower gives."""
    upper = UpperTower(visual, blocks[first], blocks[:first], pixels.shape[-1])
    try:
        inputs, whole = upper.whole(pixels)
        stored = inputs.half().float()  # as it will be on disk
        if len(inputs) != len(pixels) or not stored.isfinite().all():
            return False
        upper.cut_off()
        again = upper(stored)
    except RuntimeError:  # shapes do not fit: the tower needs more than the blocks' outputs
        return False
    finally:
        upper.restore()
    distance = 1 - nn.functional.cosine_similarity(whole, again)
    return bool((distance < _TOLERANCE).all())


def _pass_on(value: Tensor, *_: Any, **__: Any) -> Tensor:
    return value


def _embedding(returned: Any) -> Tensor:
    value: Tensor = _first(returned)
    return value
