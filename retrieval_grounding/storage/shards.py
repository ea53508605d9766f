"""Reading shards, mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import StoreError
from ..core.regions import Regions
from .region_ids import region_ids
from .rows import MAX_SIDE
from .shard_file import map_shard
from .shard_format import MAX_LABELS, MAX_REGIONS, ImageRecord, row_checksum

__all__ = ["ShardReader", "boxes_inside"]


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
            self._read(path, regions)
        except StoreError:
            raise
        except Exception as error:  # h5py raises almost any error on damaged bytes
            raise self.damaged(str(error), "missing or damaged") from error

    def _read(self, path: Path, expected_regions: int | None) -> None:
        found = map_shard(path)
        self.detector, self.encoder = found.detector, found.encoder
        columns = self._columns = found.arrays
        self.embeddings = columns["embeddings"]
        self.boxes = columns["boxes"]
        self.scores = columns["scores"]
        self.labels = columns["labels"]
        self.colors = columns["colours"]
        _check_shapes(columns, found.dimension)
        if expected_regions not in (None, len(self.embeddings)):
            raise ValueError(f"it has {len(self.embeddings)} regions, not {expected_regions}")
        self.label_names = [bytes(name).decode() for name in columns["label_names"]]
        self.label_embeddings: npt.NDArray[np.float16] = np.array(columns["label_embeddings"])
        self.image_offsets: npt.NDArray[np.int64] = np.array(columns["image_offsets"])
        self.image_sizes: npt.NDArray[np.int32] = np.array(columns["image_sizes"])
        self.content_hashes: list[str] | None = None
        if "content_hashes" in columns:
            self.content_hashes = [bytes(value).decode() for value in columns["content_hashes"]]
        self._check_values()

    def damaged(self, problem: str, state: str = "damaged") -> StoreError:
        """Return the error that reports damage to the shard."""
        return StoreError(
            f"the shard {self.path} is {state} ({problem}); run "
            f"'retrieval-grounding verify {self.path.parent.parent} --repair'"
        )

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
        return slice(self.image_offsets.item(row), self.image_offsets.item(row + 1))

    def image_rows(self, region_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the image row that each region row belongs to."""
        return np.searchsorted(self.image_offsets, region_rows, side="right") - 1

    def regions(self, row: int) -> Regions:
        """Return the regions of image `row`.

        Raises
        ------
        StoreError
            If a box or a score is impossible.
        """
        rows = self.image_slice(row)
        labels = [self.label_names[code] for code in self.labels[rows]]
        try:
            return Regions(self.boxes[rows], self.scores[rows], labels)
        except ValueError as error:
            raise self.damaged(str(error)) from error

    def record(self, row: int, content_hash: str) -> ImageRecord:
        """Return what is stored about image `row`, for writing it to a different shard."""
        rows = self.image_slice(row)
        width, height = self.image_sizes[row].tolist()
        embeddings, colors = self.embeddings[rows], self.colors[rows]
        regions, thumbnail = self.regions(row), self.thumbnail(row)
        return ImageRecord(content_hash, width, height, regions, embeddings, colors, thumbnail)

    def thumbnail(self, row: int) -> bytes:
        """Return a small JPEG of image `row`; empty if none is kept."""
        ends = self._columns.get("thumbnail_ends")
        if ends is None:
            return b""
        start, stop = int(ends[row - 1]) if row else 0, int(ends[row])
        return self._columns["thumbnails"][start:stop].tobytes()

    def row_checksum(self, row: int) -> str:
        """Return the checksum of everything that this reader returns for image `row`."""
        rows, size = self.image_slice(row), self.image_sizes[row]
        names, vectors = self.label_names, self.label_embeddings
        return row_checksum(self._columns, rows, size, names, vectors, self.thumbnail(row))

    def _check_values(self) -> None:
        """Raise :class:`ValueError` if reading rows could fail or go beyond the arrays."""
        offsets, regions = self.image_offsets, len(self.embeddings)
        if offsets[0] != 0 or offsets[-1] != regions or (np.diff(offsets) < 1).any():
            raise ValueError("the offsets of images are not in order")
        if not 0 < self.image_sizes.min() <= self.image_sizes.max() <= MAX_SIDE:
            raise ValueError("the size of an image is out of range")
        if not 0 <= self.labels.min() <= self.labels.max() < len(self.label_names):
            raise ValueError("a region's label has no name")
        if "thumbnail_ends" in self._columns:
            ends = self._columns["thumbnail_ends"]
            if ends[0] < 0 or ends[-1] != len(self._columns["thumbnails"]):
                raise ValueError("the thumbnails have another length than their images say")
            if (np.diff(ends) < 0).any():
                raise ValueError("the thumbnails are not in order")
        if not np.isfinite(self.label_embeddings).all():
            raise ValueError("a label's embedding is not finite")


def boxes_inside(
    boxes: npt.NDArray[np.float32], sizes: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """Return which boxes (n, 4) are boxes inside images of the given sizes (n, 2)."""
    limits = sizes.astype(np.float32)
    inside = (boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= limits)
    return np.array(inside.all(axis=1), bool)


def _check_shapes(columns: dict[str, npt.NDArray[Any]], dimension: int) -> None:
    """Raise :class:`ValueError` if shapes disagree; nothing is read, and little allocated."""
    regions = len(columns["embeddings"])
    labels, images = len(columns["label_names"]), len(columns["image_offsets"]) - 1
    if regions > MAX_REGIONS or labels > min(MAX_LABELS, regions):
        raise ValueError(f"{regions} regions with {labels} labels are too many for a shard")
    shapes = {
        "embeddings": (regions, dimension),
        "boxes": (regions, 4),
        "scores": (regions,),
        "labels": (regions,),
        "colours": (regions, 11),
        "label_names": (labels,),
        "label_embeddings": (labels, dimension),
        "image_offsets": (images + 1,),
        "image_sizes": (images, 2),
    }
    if "content_hashes" in columns:  # shards of the first releases lack them
        shapes["content_hashes"] = (images,)
    if ("thumbnails" in columns) != ("thumbnail_ends" in columns):
        raise ValueError("thumbnails are incomplete")
    if "thumbnails" in columns:
        shapes |= {"thumbnails": (columns["thumbnails"].size,), "thumbnail_ends": (images,)}
    for name, shape in shapes.items():
        found = columns[name].shape
        if found != shape:
            raise ValueError(f"{name} have the shape {found}, not {shape}")
    if images > regions:
        raise ValueError(f"{images} images have only {regions} regions")
