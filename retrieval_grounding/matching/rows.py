"""Rows of a tensor, with a gradient that a GPU sums in a fixed order and without a sort."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["take_rows"]


def take_rows(values: torch.Tensor, index: torch.Tensor | slice) -> torch.Tensor:
    """Return ``values[index]``, where `index` is int64 (k,) and may have a row several times."""
    if isinstance(index, slice):
        return values[index]
    if values.device.type != "cuda" or not values.requires_grad:
        return values.index_select(0, index)
    rows: torch.Tensor = _Rows.apply(values, index)
    return rows


class _Rows(torch.autograd.Function):
    """The gradient is a product with a matrix of zeros and ones: few rows are taken often."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.shape = values.shape
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index,) = ctx.saved_tensors
        numbers = torch.arange(ctx.shape[0], device=index.device)
        chosen = (numbers[:, None] == index).to(gradient.dtype)
        return (chosen @ gradient.flatten(1)).view(ctx.shape), None
