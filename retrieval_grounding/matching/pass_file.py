"""Files of image passes: one for each shard and matcher, mapped into memory."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..storage.files import atomic_path, file_checksum, open_regular
from .image_pass import PLACES, ImagePass

__all__ = ["PassOrigin", "open_pass", "pass_bytes", "write_pass"]


# Magic number, units of a region, regions, duplicates, checksum of the shard, matcher.
_HEADER = struct.Struct("<8sQQQ16s16s")
_MAGIC = b"RGPASS\0\1"  # the last byte is the version; a reader ignores files of any other


@dataclass(frozen=True)
class PassOrigin:
    """What an image pass was computed from.

    Parameters
    ----------
    shard, matcher : str
        BLAKE2b-128 of the shard's file and of the matcher's, in hexadecimal.
    """

    shard: str
    matcher: str

    def as_bytes(self) -> tuple[bytes, bytes]:
        """Return both as 16 bytes each."""
        return bytes.fromhex(self.shard), bytes.fromhex(self.matcher)


def pass_bytes(regions: int, width: int) -> int:
    """Return the approximate size of the file for this many regions and a network of `width`."""
    return _HEADER.size + regions * (4 * width + 2 * PLACES + 4 + 8 + 4)


def write_pass(path: Path, known: ImagePass, origin: PassOrigin) -> str:
    """Write the image pass of a shard in one step; return the checksum of the file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    units = known.units.shape[1]
    sizes = (units, len(known.counted), len(known.duplicates))
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            file.write(_HEADER.pack(_MAGIC, *sizes, *origin.as_bytes()))
            for column, kind in _columns(known):
                file.write(np.ascontiguousarray(column, kind).tobytes())
        checksum = file_checksum(temporary)
    return checksum


def _columns(known: ImagePass) -> list[tuple[npt.NDArray[Any], str]]:
    return [
        (known.units, "<f2"),
        (known.duplicate_ends, "<i8"),
        (known.counted, "<f4"),
        (known.places, "<u2"),
        (known.duplicates, "<u2"),
    ]


def open_pass(
    path: Path,
    checksum: str,
    origin: PassOrigin,
    offsets: npt.NDArray[np.int64],
    width: int,
) -> ImagePass:
    """Map the image pass of a shard into memory.

    Parameters
    ----------
    path : Path
        The file.
    checksum : str
        That the catalog records for it; the whole file is read and compared.
    origin : PassOrigin
        What it must have been computed from.
    offsets : int64 array of shape (images + 1,)
        Of the shard.
    width : int
        Of the matcher's network.

    Raises
    ------
    ValueError
        If it is not the file that was recorded, or not what it should be.
    OSError, StoreError
        If it cannot be opened.
    """
    with open_regular(path) as file:
        if file_checksum(file) != checksum:
            raise ValueError("its checksum differs from the recorded one")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if len(mapped) < _HEADER.size:
        raise ValueError("it is too short")
    magic, units, regions, duplicates, shard, matcher = _HEADER.unpack_from(mapped)
    if magic != _MAGIC or (shard, matcher) != origin.as_bytes():
        raise ValueError("it belongs to another shard, matcher or release")
    if (units, regions) != (2 * width, offsets[-1]):
        raise ValueError("it is of another size than the shard or the network")
    shapes = ((regions, units), (regions,), (regions,), (regions, PLACES), (duplicates,))
    kinds = ("<f2", "<i8", "<f4", "<u2", "<u2")
    needed = sum(
        np.dtype(kind).itemsize * int(np.prod(shape, dtype=object))
        for kind, shape in zip(kinds, shapes, strict=True)
    )
    if len(mapped) != _HEADER.size + needed:
        raise ValueError("it is of another size than its header says")
    columns: list[npt.NDArray[Any]] = []
    start = _HEADER.size
    for kind, shape in zip(kinds, shapes, strict=True):
        count = int(np.prod(shape))
        column = np.frombuffer(mapped, kind, count, start).reshape(shape)
        columns.append(column)
        start += column.nbytes
    unit, ends, counted, places, same = columns
    found = ImagePass(unit, places, counted, same, ends)
    _check(found, offsets)
    return found


def _check(found: ImagePass, offsets: npt.NDArray[np.int64]) -> None:
    """Raise :class:`ValueError` if a number points beyond its image."""
    counts = np.diff(offsets)
    sizes = np.repeat(counts, counts)
    ends = found.duplicate_ends
    if ends[0] < 0 or ends[-1] != len(found.duplicates) or (np.diff(ends) < 0).any():
        raise ValueError("its duplicates are not in order")
    own = np.repeat(sizes, np.diff(ends, prepend=0))
    orders = PLACES // 3
    if (
        (found.duplicates >= own).any()
        or (found.places > sizes[:, None]).any()
        or (found.places[:, :orders] >= sizes[:, None]).any()
        or not np.isfinite(found.counted).all()
    ):
        raise ValueError("a number in it points beyond its image")
