"""What the frozen layers compute for every region, on disk: images are decoded once."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...core.errors import GroundingError
from ...core.interrupt import graceful_interrupt
from ...core.progress import progress_bar
from ...data.prefetch import LoadedImage, read_ahead
from ...models.cpu_pool import cpu_pool
from ..run_folder import RunFolder
from .examples import DescribedImage
from .towers import ClipTowers

__all__ = ["RegionCache", "cache_regions"]

_PROGRESS = "cached"
_INPUTS, _EMBEDDINGS = "inputs.bin", "embeddings.f16"
_IMAGES_PER_SAVE = 32
_CROPS_AT_ONCE = 64
_CROPS_PER_THREAD = 4
_SPARE = 1 << 28
_METHODS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class RegionCache:
    """Inputs of the upper image layers, and the original embeddings, mapped from disk.

    Parameters
    ----------
    inputs : array of shape (n, ...)
        float16, or uint8 pixels if nothing is frozen; image by image.
    embeddings : float16 array of shape (n, d)
        Unit length, of the original model.
    offsets : int64 array of shape (images + 1,)
        Rows ``offsets[i]:offsets[i + 1]`` belong to image i.
    unusable : dict of str to str
        Images whose files are gone, damaged or changed, by path, and why.
    """

    inputs: npt.NDArray[np.generic]
    embeddings: npt.NDArray[np.float16]
    offsets: npt.NDArray[np.int64]
    unusable: dict[str, str]

    def rows(self, image: int) -> npt.NDArray[np.int64]:
        """Return the rows of image number `image`."""
        return np.arange(self.offsets[image], self.offsets[image + 1])


def cache_regions(
    run: RunFolder,
    images: Sequence[DescribedImage],
    towers: ClipTowers,
    progress: bool | None,
) -> RegionCache:
    """Decode the images and run the frozen layers for their regions, unless already done.

    Parameters
    ----------
    run : RunFolder
        Where the arrays are.
    images : sequence of DescribedImage
        In a fixed order.
    towers : ClipTowers
        The original model, still whole.
    progress : bool or None
        As in :class:`.options.ClipTuningOptions`.

    Raises
    ------
    GroundingError
        If the disk is too small.
    """
    counts = [len(image.boxes) for image in images]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    blank = np.zeros((2, towers.size, towers.size, 3), np.uint8)
    inputs, embedded = _run(towers, blank)
    state = run.load_json(_PROGRESS) or {"images": 0, "unusable": {}}
    shape = (int(offsets[-1]), *inputs.shape[1:])
    if not (run.path / _EMBEDDINGS).exists():
        state = {"images": 0, "unusable": {}}
        _check_space(run.path, shape, inputs.dtype)
    arrays = (
        _open(run.path / _INPUTS, inputs.dtype, shape),
        _open(run.path / _EMBEDDINGS, np.dtype(np.float16), (shape[0], embedded.shape[1])),
    )
    done, unusable = int(state["images"]), dict(state["unusable"])
    todo = images[done:]
    with (
        graceful_interrupt() as stopping,
        progress_bar("Reading regions", len(todo), "images", progress) as advance,
        closing(read_ahead([image.path for image in todo], (), 2)) as files,
    ):
        for image, file in zip(todo, files, strict=True):
            reason = _problem(image, file)
            if reason:
                unusable[image.path] = reason
            else:
                assert isinstance(file, LoadedImage)
                assert file.image is not None
                rows = slice(offsets[done], offsets[done + 1])
                pixels = _cut(file.image, image.boxes, towers)
                arrays[0][rows], arrays[1][rows] = _run(towers, pixels)
            done += 1
            advance(1)
            if done % _IMAGES_PER_SAVE == 0 or done == len(images) or stopping():
                for array in arrays:
                    array.flush()
                run.save_json(_PROGRESS, {"images": done, "unusable": unusable})
            if stopping():
                raise KeyboardInterrupt
    return RegionCache(arrays[0], arrays[1], offsets, unusable)


def _problem(image: DescribedImage, file: object) -> str:
    if not isinstance(file, LoadedImage):
        return str(getattr(file, "reason", "unreadable"))
    return "" if file.content_hash == image.content_hash else "changed"


def _open(path: Path, kind: np.dtype[np.generic], shape: tuple[int, ...]) -> Any:
    if not path.exists():
        path.touch()
    with path.open("rb+") as file:
        file.truncate(int(np.prod(shape)) * kind.itemsize)
    return np.memmap(path, kind, "r+", shape=shape)


def _check_space(folder: Path, shape: tuple[int, ...], kind: np.dtype[np.generic]) -> None:
    needed = int(np.prod(shape)) * kind.itemsize
    free = shutil.disk_usage(folder).free
    if needed + _SPARE > free:
        raise GroundingError(
            f"what the frozen layers compute for {shape[0]:,} regions takes {needed / 1e9:.1f} GB "
            f"in {folder}, and {free / 1e9:.1f} GB are free; put the output on a larger disk, or "
            "use fewer images with --limit"
        )


def _cut(
    image: Image.Image, boxes: npt.NDArray[np.float32], towers: ClipTowers
) -> npt.NDArray[np.uint8]:
    """Return the crops that the encoder sees, uint8 (n, size, size, 3), as a build cuts them."""
    size = (towers.size, towers.size)
    method = _METHODS.get(towers.interpolation, Image.Resampling.BICUBIC)
    return np.stack(
        [
            np.asarray(image.resize(size, method, (x1, y1, x2, y2), reducing_gap=2.0))
            for x1, y1, x2, y2 in boxes.tolist()
        ]
    )


def _run(
    towers: ClipTowers, pixels: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float16]]:
    """Return inputs of the upper layers, and embeddings, of the crops of one image.

    Each image is run by itself, so that a resumed run computes the same numbers.
    """
    on_cpu = towers.device == "cpu"
    each = _CROPS_PER_THREAD if on_cpu else _CROPS_AT_ONCE
    parts = [pixels[start : start + each] for start in range(0, len(pixels), each)]
    done = cpu_pool().map(towers.run_whole, parts) if on_cpu else [*map(towers.run_whole, parts)]
    inputs, embeddings = zip(*done, strict=True)
    return np.concatenate(inputs), np.concatenate(embeddings)
