"""Shards: immutable HDF5 files with the regions and embeddings of some hundreds of images."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import StoreError
from ..regions import Regions
from .files import atomic_path

__all__ = ["ImageRecord", "ShardReader", "file_checksum", "region_ids", "split_region_ids"]

FORMAT_VERSION = 1

_ROW_BITS = 32


@dataclass(frozen=True)
class ImageRecord:
    """What a shard stores of one image.

    Parameters
    ----------
    width, height : int
        Size of the upright image in pixels.
    regions : Regions
        Region 0 is the whole image.
    embeddings : array of shape (len(regions), d)
        Unit-length vectors; stored as float16.
    colours : uint8 array of shape (len(regions), 11)
        What :func:`retrieval_grounding.colours.region_colours` measured.
    """

    width: int
    height: int
    regions: Regions
    embeddings: npt.NDArray[np.floating[Any]]
    colours: npt.NDArray[np.uint8]


def region_ids(shard: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the int64 ids of regions: the shard's number above 32 bits of row number.

    Examples
    --------
    >>> region_ids(2, np.array([0, 5])).tolist()
    [8589934592, 8589934597]
    """
    return np.int64(shard << _ROW_BITS) + rows


def split_region_ids(
    ids: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return shard numbers and rows of region ids; the inverse of :func:`region_ids`."""
    return ids >> _ROW_BITS, ids & ((1 << _ROW_BITS) - 1)


def write_shard(
    path: Path,
    records: Sequence[ImageRecord],
    *,
    embed_labels: Callable[[list[str]], npt.NDArray[np.floating[Any]]],
    detector: str,
    encoder: str,
) -> None:
    """Write `records` to `path` in one step.

    Datasets are contiguous and uncompressed: float16 embeddings hardly compress, and readers map
    them into memory, so that many processes share one copy in the page cache.

    Parameters
    ----------
    path : Path
        The final name; the file appears there complete or not at all.
    records : sequence of ImageRecord
        At least one.
    embed_labels : callable
        Returns unit-length vectors (k, d) for k label names; stored, so that training and
        querying need no encoder for them.
    detector, encoder : str
        Fingerprints, stored as attributes.
    """
    counts = [len(record.regions) for record in records]
    labels = [label for record in records for label in record.regions.labels]
    names = sorted(set(labels))
    code = {name: number for number, name in enumerate(names)}
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(
            format_version=FORMAT_VERSION,
            detector=detector,
            encoder=encoder,
            dimension=records[0].embeddings.shape[1],
        )
        file["embeddings"] = np.concatenate([record.embeddings for record in records]).astype("f2")
        file["boxes"] = np.concatenate([record.regions.boxes for record in records])
        file["scores"] = np.concatenate([record.regions.scores for record in records])
        file["labels"] = np.array([code[label] for label in labels], dtype=np.int32)
        file["label_names"] = np.array(names, dtype=h5py.string_dtype())
        file["label_embeddings"] = embed_labels(names).astype("f2")
        file["colours"] = np.concatenate([record.colours for record in records])
        file["image_offsets"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        file["image_sizes"] = np.array([[r.width, r.height] for r in records], dtype=np.int32)


class ShardReader:
    """A shard mapped into memory; rows are read when they are touched.

    Parameters
    ----------
    path : Path
        A file that :func:`write_shard` wrote.
    number : int
        The shard's number in the catalog, for region ids.

    Raises
    ------
    StoreError
        If the file is missing, damaged or of a newer format.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.number = number
        try:
            with h5py.File(path, "r") as file:
                version = int(file.attrs["format_version"])
                if version > FORMAT_VERSION:
                    raise StoreError(
                        f"{path} has format version {version}, and this release reads up to "
                        f"{FORMAT_VERSION}; upgrade retrieval_grounding"
                    )
                self.encoder = str(file.attrs["encoder"])
                self.label_names = [name.decode() for name in file["label_names"][:]]
                self.label_embeddings: npt.NDArray[np.float16] = file["label_embeddings"][:]
                self.image_offsets: npt.NDArray[np.int64] = file["image_offsets"][:]
                self.image_sizes: npt.NDArray[np.int32] = file["image_sizes"][:]
                self._layout = {
                    name: (file[name].id.get_offset(), file[name].shape, file[name].dtype)
                    for name in ("embeddings", "boxes", "scores", "labels", "colours")
                }
            with path.open("rb") as raw:
                self._map = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise StoreError(
                f"the shard {path} is missing or damaged ({error}); build the index again"
            ) from error

    @cached_property
    def embeddings(self) -> npt.NDArray[np.float16]:
        """Embeddings of all regions, (n, d) float16."""
        view: npt.NDArray[np.float16] = self._view("embeddings")
        return view

    @cached_property
    def boxes(self) -> npt.NDArray[np.float32]:
        """Boxes of all regions, (n, 4) float32."""
        view: npt.NDArray[np.float32] = self._view("boxes")
        return view

    @cached_property
    def scores(self) -> npt.NDArray[np.float32]:
        """Scores of all regions, (n,) float32."""
        view: npt.NDArray[np.float32] = self._view("scores")
        return view

    @cached_property
    def labels(self) -> npt.NDArray[np.int32]:
        """Indices into `label_names`, (n,) int32."""
        view: npt.NDArray[np.int32] = self._view("labels")
        return view

    @cached_property
    def colours(self) -> npt.NDArray[np.uint8]:
        """Colour shares of all regions, (n, 11) uint8."""
        view: npt.NDArray[np.uint8] = self._view("colours")
        return view

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Region ids of all rows, (n,) int64."""
        return region_ids(self.number, np.arange(self.image_offsets[-1], dtype=np.int64))

    def image_slice(self, row: int) -> slice:
        """Return the region rows of image `row`."""
        return slice(int(self.image_offsets[row]), int(self.image_offsets[row + 1]))

    def image_rows(self, region_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the image row that each region row belongs to."""
        return np.searchsorted(self.image_offsets, region_rows, side="right") - 1

    def regions(self, row: int) -> Regions:
        """Return the regions of image `row`."""
        rows = self.image_slice(row)
        labels = [self.label_names[code] for code in self.labels[rows]]
        return Regions(self.boxes[rows], self.scores[rows], labels)

    def _view(self, name: str) -> Any:
        offset, shape, dtype = self._layout[name]
        count = int(np.prod(shape))
        return np.frombuffer(self._map, dtype=dtype, count=count, offset=offset).reshape(shape)


def file_checksum(path: Path) -> str:
    """Return the BLAKE2b checksum of a file, as the catalog keeps it for every shard."""
    with path.open("rb") as file:
        digest = hashlib.blake2b(digest_size=16)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
