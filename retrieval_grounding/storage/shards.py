"""Reading shards, mapped into memory."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..core.errors import StoreError
from ..core.regions import Regions
from .migrations import FORMAT_VERSION
from .region_ids import region_ids
from .shard_format import COLUMNS, ImageRecord, row_checksum

__all__ = ["ShardReader"]


class ShardReader:
    """A shard mapped into memory; pages are read when they are used.

    Parameters
    ----------
    path : Path
        A file that :func:`write_shard` wrote.
    number : int
        The shard's number in the catalog, for region ids.
    regions : int, optional
        How many regions the catalog expects; a shard with a different number is refused.

    Attributes
    ----------
    embeddings : float16 array of shape (n, d)
        Unit length.
    boxes : float32 array of shape (n, 4)
        Corners in pixels.
    scores : float32 array of shape (n,)
        Confidences of the detector.
    labels : int32 array of shape (n,)
        Indices into `label_names`.
    colors : uint8 array of shape (n, 11)
        Color shares.
    label_names : list of k str
        Labels in this shard.
    label_embeddings : float16 array of shape (k, d)
        The labels embedded as phrases.
    image_offsets : int64 array of shape (m + 1,)
        Regions of image i are rows ``image_offsets[i]`` to ``image_offsets[i + 1]``.
    image_sizes : int32 array of shape (m, 2)
        Width and height.
    content_hashes : list of m str, or None
        Hashes of the images' files; the catalog's are those in use. None in shards of releases that
        stored them in the catalog only.
    detector, encoder : str
        Fingerprints.

    Raises
    ------
    StoreError
        If the file is missing, damaged or of a newer format. Only its structure is checked here;
        ``verify`` checks the checksums.
    """

    embeddings: npt.NDArray[np.float16]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    colors: npt.NDArray[np.uint8]

    def __init__(self, path: Path, number: int, regions: int | None = None) -> None:
        self.number = number
        self.path = path
        try:
            with h5py.File(path, "r") as file:
                version = int(file.attrs["format_version"])
                if version > FORMAT_VERSION:
                    raise StoreError(
                        f"{path} has format version {version}, and this release reads up to "
                        f"{FORMAT_VERSION}; upgrade retrieval_grounding"
                    )
                self.detector = bytes(file.attrs["detector"]).decode()
                self.encoder = bytes(file.attrs["encoder"]).decode()
                self.label_names = [bytes(name).decode() for name in file["label_names"][:]]
                self.label_embeddings: npt.NDArray[np.float16] = file["label_embeddings"][:]
                self.image_offsets: npt.NDArray[np.int64] = file["image_offsets"][:]
                self.image_sizes: npt.NDArray[np.int32] = file["image_sizes"][:]
                self.content_hashes: list[str] | None = None
                if "content_hashes" in file:
                    self.content_hashes = [bytes(h).decode() for h in file["content_hashes"][:]]
                columns = _map_columns(path, file)
            self.embeddings = columns["embeddings"]
            self.boxes = columns["boxes"]
            self.scores = columns["scores"]
            self.labels = columns["labels"]
            self.colors = columns["colours"]
            self._columns = columns
            self._check_structure()
            if regions not in (None, len(self.embeddings)):
                raise ValueError(f"it has {len(self.embeddings)} regions, not {regions}")
        except StoreError:
            raise
        except Exception as error:  # h5py raises almost any error on damaged bytes
            raise StoreError(
                f"the shard {path} is missing or damaged ({error}); run "
                f"'retrieval-grounding verify {path.parent.parent} --repair'"
            ) from error

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Region ids of all rows, (n,) int64."""
        return region_ids(self.number, np.arange(len(self.embeddings), dtype=np.int64))

    def region_ids(self, row: int) -> npt.NDArray[np.int64]:
        """Return the ids of the regions of image `row`."""
        rows = self.image_slice(row)
        return region_ids(self.number, np.arange(rows.start, rows.stop, dtype=np.int64))

    def image_slice(self, row: int) -> slice:
        """Return the region rows of image `row`.

        Raises
        ------
        StoreError
            If there is no such row, so the catalog and the shard do not belong together.
        """
        if not 0 <= row < len(self.image_sizes):
            raise StoreError(
                f"the shard {self.path} has no row {row}, but the catalog expects it; run "
                f"'retrieval-grounding verify {self.path.parent.parent} --repair'"
            )
        return slice(int(self.image_offsets[row]), int(self.image_offsets[row + 1]))

    def image_rows(self, region_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the image row that each region row belongs to."""
        return np.searchsorted(self.image_offsets, region_rows, side="right") - 1

    def regions(self, row: int) -> Regions:
        """Return the regions of image `row`."""
        rows = self.image_slice(row)
        labels = [self.label_names[code] for code in self.labels[rows]]
        return Regions(self.boxes[rows], self.scores[rows], labels)

    def record(self, row: int, content_hash: str) -> ImageRecord:
        """Return what is stored about image `row`, for writing it to a different shard."""
        rows = self.image_slice(row)
        width, height = self.image_sizes[row].tolist()
        embeddings, colors = self.embeddings[rows], self.colors[rows]
        return ImageRecord(content_hash, width, height, self.regions(row), embeddings, colors)

    def row_checksum(self, row: int) -> str:
        """Return the checksum of everything that this reader returns for image `row`."""
        rows, size = self.image_slice(row), self.image_sizes[row]
        return row_checksum(self._columns, rows, size, self.label_names, self.label_embeddings)

    def _check_structure(self) -> None:
        """Raise :class:`ValueError` if reading rows could fail or go beyond the arrays."""
        offsets, names = self.image_offsets, self.label_names
        regions, dimension = self.embeddings.shape
        shapes = {
            "boxes": (regions, 4),
            "scores": (regions,),
            "labels": (regions,),
            "colours": (regions, 11),
        }
        for name, shape in shapes.items():
            found = self._columns[name].shape
            if found != shape:
                raise ValueError(f"{name} have the shape {found}, not {shape}")
        if self.label_embeddings.shape != (len(names), dimension):
            raise ValueError("labels and their embeddings differ in number")
        if self.image_sizes.shape != (len(offsets) - 1, 2):
            raise ValueError("offsets and sizes of images differ in number")
        if self.content_hashes is not None and len(self.content_hashes) != len(offsets) - 1:
            raise ValueError("hashes and sizes of images differ in number")
        if offsets[0] != 0 or offsets[-1] != regions or (np.diff(offsets) < 1).any():
            raise ValueError("the offsets of images are not in order")
        if regions and not 0 <= self.labels.min() <= self.labels.max() < len(names):
            raise ValueError("a region's label has no name")


def _map_columns(path: Path, file: h5py.File) -> dict[str, npt.NDArray[Any]]:
    """Return the datasets with one row per region as views of the mapped file."""
    with path.open("rb") as raw:
        mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
    columns = {}
    for name, dtype in COLUMNS.items():
        dataset = file[name]
        offset, shape = dataset.id.get_offset(), dataset.shape
        if offset is None or dataset.dtype != dtype:
            raise ValueError(f"{name} is not a contiguous dataset of type {dtype}")
        count = int(np.prod(shape))
        columns[name] = np.frombuffer(mapped, dtype, count, offset).reshape(shape)
    return columns
