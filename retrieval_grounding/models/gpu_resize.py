"""Cropping and resizing on a GPU: images are uploaded once, regions are cut out there."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    import torch

__all__ = ["resample", "resize", "upload"]


_uploaded: dict[tuple[int, str], torch.Tensor] = {}


def upload(image: Image.Image, device: str) -> torch.Tensor:
    """Return the pixels of an RGB image on a device: uint8 (3, height, width).

    They stay there as long as the image exists, so detector and encoder share one upload. The copy
    goes through pinned memory and does not block.
    """
    import torch

    key = (id(image), device)
    if key not in _uploaded:
        pixels = torch.from_numpy(np.array(image))
        if device.startswith("cuda"):
            pixels = pixels.pin_memory().to(device, non_blocking=True)
        _uploaded[key] = pixels.permute(2, 0, 1).contiguous()
        weakref.finalize(image, _uploaded.pop, key, None)
    return _uploaded[key]


def resample(
    pixels: torch.Tensor,
    boxes: npt.NDArray[np.floating],
    height: int,
    width: int,
    interpolation: str,
) -> torch.Tensor:
    """Crop boxes and resize them as Pillow does: antialiased, with fractions of pixels.

    Resizing is linear in the pixels, one axis after the other, so two matrix products serve all
    boxes of an image.

    Parameters
    ----------
    pixels : uint8 tensor of shape (3, h, w)
        An image.
    boxes : array of shape (n, 4)
        Corners in pixels.
    height, width : int
        Size of the result.
    interpolation : str
        ``"bicubic"`` or ``"bilinear"``.

    Returns
    -------
    float32 tensor of shape (n, 3, height, width)
        Integers from 0 to 255, computed in float16 on a GPU and in float32 on a CPU.
    """
    import torch

    dtype = torch.float16 if pixels.is_cuda else torch.float32
    corners = torch.tensor(np.asarray(boxes, np.float32)).to(pixels.device, non_blocking=True)
    _, rows, columns = pixels.shape
    across = _weights(corners[:, 0], corners[:, 2], columns, width, interpolation).to(dtype)
    down = _weights(corners[:, 1], corners[:, 3], rows, height, interpolation).to(dtype)
    return _scaled(pixels, across, down)


def resize(pixels: torch.Tensor, height: int, width: int, interpolation: str) -> torch.Tensor:
    """Resize a whole image, (3, height, width); see :func:`resample`."""
    _, rows, columns = pixels.shape
    device = str(pixels.device)
    across = _whole_weights(columns, width, interpolation, device)
    down = _whole_weights(rows, height, interpolation, device)
    return _scaled(pixels, across, down)[0]


@functools.lru_cache(maxsize=64)
def _whole_weights(length: int, size: int, interpolation: str, device: str) -> torch.Tensor:
    """Return the weights that scale a whole image, (1, size, length); many have the same size."""
    import torch

    start, end = torch.tensor([[0.0], [length]], device=device)
    weights = _weights(start, end, length, size, interpolation)
    if weights.is_cuda:
        weights = weights.half()
        torch.cuda.current_stream(device).synchronize()  # others may use it on their streams
    return weights


def _scaled(pixels: torch.Tensor, across: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Return an image scaled by n pairs of weights, float32 (n, 3, height, width)."""
    import torch

    channels, rows, columns = pixels.shape
    count, width, _ = across.shape
    lines = pixels.to(across.dtype).reshape(channels * rows, columns)
    narrow = (across.reshape(-1, columns) @ lines.T).view(count, width, channels, rows)
    narrow = _rounded(narrow)  # as Pillow does between the axes
    scaled = torch.einsum("nyh,nxch->ncyx", down, narrow)
    return _rounded(scaled.float())


def _rounded(values: torch.Tensor) -> torch.Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)  # halves go up, not to the even number


def _weights(
    starts: torch.Tensor, ends: torch.Tensor, length: int, size: int, interpolation: str
) -> torch.Tensor:
    """Return the weight of each of `length` pixels in each of `size` results, (n, size, length)."""
    import torch

    scale = ((ends - starts) / size)[:, None]
    pixel, target = (torch.arange(n, device=starts.device) + 0.5 for n in (length, size))
    centers = starts[:, None] + target * scale
    distance = (pixel - centers[..., None]).abs_() / scale.clamp(min=1)[..., None]
    if interpolation == "bilinear":
        weights = (1 - distance).clamp_(min=0)
    else:  # Keys' cubic with a = -1/2
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0))
    return weights / weights.sum(-1, keepdim=True)
