"""Cropping and resizing on a GPU: images are uploaded once, and regions are cut out there."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    import torch

__all__ = ["crop", "resize", "upload"]


_MOST_WEIGHTS = 1 << 27
"""Weights of crops that are computed together: 0.5 GB."""

_uploaded: dict[tuple[int, str], tuple[torch.Tensor, torch.cuda.Event | None]] = {}


def upload(image: Image.Image, device: str) -> torch.Tensor:
    """Return the pixels of an RGB image on a device: uint8 (3, height, width).

    They stay there as long as the image exists, so detector and encoder share one upload. The copy
    goes through pinned memory and does not block.
    """
    import torch

    key = (id(image), device)
    if key not in _uploaded:
        on_gpu = device.startswith("cuda")
        pixels = torch.from_numpy(np.array(image))
        if on_gpu:
            pixels = pixels.pin_memory().to(device, non_blocking=True)
        pixels = pixels.permute(2, 0, 1).contiguous()
        copied = torch.cuda.current_stream(device).record_event() if on_gpu else None
        _uploaded[key] = pixels, copied
        weakref.finalize(image, _uploaded.pop, key, None)
    pixels, copied = _uploaded[key]
    if copied is not None:  # perhaps on the stream of another thread
        torch.cuda.current_stream(device).wait_event(copied)
    return pixels


def crop(
    images: Sequence[torch.Tensor],
    boxes: Sequence[npt.NDArray[np.floating]],
    size: int,
    interpolation: str,
) -> torch.Tensor:
    """Crop boxes and resize them to squares as Pillow does: antialiased, with fractions of pixels.

    Resizing is linear in the pixels, one axis after the other, so two matrix products serve all
    boxes of an image. Their weights are computed for many images together, since launching an
    operation takes longer than executing it.

    Parameters
    ----------
    images : sequence of uint8 tensors of shape (3, h, w)
        Any sizes.
    boxes : sequence of arrays of shape (k, 4)
        Corners in pixels, inside each image.
    size : int
        Width and height of the results.
    interpolation : str
        ``"bicubic"`` or ``"bilinear"``.

    Returns
    -------
    float32 tensor of shape (n, 3, size, size)
        The boxes of all images, n > 0. Integers from 0 to 255, computed in float16 on a GPU and in
        float32 on a CPU.
    """
    import torch

    parts = []
    for group in _groups(images, boxes, size):
        pixels, own = [image for image, _ in group], [part for _, part in group]
        parts += _crop_group(pixels, own, size, interpolation)
    return torch.cat(parts)


def _groups(
    images: Sequence[torch.Tensor], boxes: Sequence[npt.NDArray[np.floating]], size: int
) -> list[list[tuple[torch.Tensor, npt.NDArray[np.floating]]]]:
    """Divide images, and the boxes of one if need be, into groups whose weights fit into memory."""
    groups: list[list[tuple[torch.Tensor, npt.NDArray[np.floating]]]] = []
    count = longest = 0
    for pixels, own in zip(images, boxes, strict=True):
        side = max(pixels.shape[1:])
        most = max(1, _MOST_WEIGHTS // (side * size))
        for start in range(0, len(own), most):
            part = own[start : start + most]
            count, longest = count + len(part), max(longest, side)
            if not groups or count * longest * size > _MOST_WEIGHTS:
                groups.append([])
                count, longest = len(part), side
            groups[-1].append((pixels, part))
    return groups


def _crop_group(
    images: Sequence[torch.Tensor],
    boxes: Sequence[npt.NDArray[np.floating]],
    size: int,
    interpolation: str,
) -> list[torch.Tensor]:
    import torch

    device = images[0].device
    counts = [len(own) for own in boxes]
    shapes = np.repeat([pixels.shape[1:] for pixels in images], counts, axis=0)
    table = np.concatenate([np.concatenate(boxes), shapes], axis=1).astype(np.float32)
    left, top, right, bottom, rows, columns = torch.from_numpy(table).to(device).T
    across = _weights(left, right, columns, int(shapes[:, 1].max()), size, interpolation)
    down = _weights(top, bottom, rows, int(shapes[:, 0].max()), size, interpolation)
    if device.type == "cuda":
        across, down = across.half(), down.half()
    ends = np.cumsum(counts)
    scaled = [
        _scaled(
            pixels,
            across[end - count : end, :, : pixels.shape[2]],
            down[end - count : end, :, : pixels.shape[1]],
        )
        for pixels, count, end in zip(images, counts, ends.tolist(), strict=True)
    ]
    return [_rounded(part.float()) for part in scaled]


def resize(pixels: torch.Tensor, height: int, width: int, interpolation: str) -> torch.Tensor:
    """Resize a whole image, (3, height, width); see :func:`crop`."""
    _, rows, columns = pixels.shape
    device = str(pixels.device)
    across = _whole_weights(columns, width, interpolation, device)
    down = _whole_weights(rows, height, interpolation, device)
    return _rounded(_scaled(pixels, across, down)[0].float())


@functools.lru_cache(maxsize=64)
def _whole_weights(length: int, size: int, interpolation: str, device: str) -> torch.Tensor:
    """Return the weights that scale a whole image, (1, size, length); many have the same size."""
    import torch

    start, end = torch.tensor([[0.0], [length]], device=device)
    weights = _weights(start, end, end, length, size, interpolation)
    if weights.is_cuda:
        weights = weights.half()
        torch.cuda.current_stream(device).synchronize()  # others may use it on their streams
    return weights


def _scaled(pixels: torch.Tensor, across: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Return an image (3, h, w) scaled by weights (n, width, w) and (n, height, h), unrounded."""
    import torch

    channels, rows, columns = pixels.shape
    count, width, _ = across.shape
    lines = pixels.to(across.dtype).reshape(channels * rows, columns)
    narrow = (across.reshape(-1, columns) @ lines.T).view(count, width, channels, rows)
    narrow = _rounded(narrow)  # as Pillow does between the axes
    return torch.einsum("nyh,nxch->ncyx", down, narrow)


def _rounded(values: torch.Tensor) -> torch.Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)  # halves go up, not to the even number


def _weights(
    starts: torch.Tensor,
    ends: torch.Tensor,
    lengths: torch.Tensor,
    longest: int,
    size: int,
    interpolation: str,
) -> torch.Tensor:
    """Return the weight of each pixel in each of `size` results, (n, size, longest).

    The pixels of a line number `lengths`, (n,); the weights of what is beyond are zeros.
    """
    import torch

    scale = ((ends - starts) / size)[:, None]
    pixel, target = (torch.arange(n, device=starts.device) + 0.5 for n in (longest, size))
    centers = starts[:, None] + target * scale
    distance = (pixel - centers[..., None]).abs_() / scale.clamp(min=1)[..., None]
    if interpolation == "bilinear":
        weights = (1 - distance).clamp_(min=0)
    else:  # Keys' cubic with a = -1/2
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0))
    weights *= (pixel < lengths[:, None])[:, None]
    return weights / weights.sum(-1, keepdim=True)
