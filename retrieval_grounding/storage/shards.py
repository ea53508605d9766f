"""Reading shards, mapped into memory."""

from __future__ import annotations

import mmap
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..core.errors import StoreError
from ..core.regions import Regions
from .migrations import FORMAT_VERSION
from .region_ids import region_ids
from .shard_format import _COLUMNS, ImageRecord, _row_checksum

__all__ = ["ShardReader", "most_open_shards"]


def most_open_shards() -> int:
    """Return how many shards a process may keep open: half of the files that the system allows.

    Opening one takes some milliseconds, and a phrase reads from nearly all of them.
    """
    try:
        import resource
    except ImportError:  # Windows allows more than it is ever good to keep
        return 4096
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if allowed == resource.RLIM_INFINITY else max(1, min(allowed // 2, 4096))


class ShardReader:
    """A shard mapped into memory; rows are read when they are touched.

    Parameters
    ----------
    path : Path
        A file that :func:`write_shard` wrote.
    number : int
        The shard's number in the catalog, for region ids.
    regions : int, optional
        How many it must have: with others it belongs to another catalog.

    Raises
    ------
    StoreError
        If the file is missing, damaged or of a newer format. Only its structure is checked; the
        checksums are checked by ``verify``.
    """

    def __init__(self, path: Path, number: int, regions: int | None = None) -> None:
        self.number = number
        self.path = path
        try:
            with h5py.File(path, "r") as file:
                self.format_version = int(file.attrs["format_version"])
                if self.format_version > FORMAT_VERSION:
                    raise StoreError(
                        f"{path} has format version {self.format_version}, and this release reads "
                        f"up to {FORMAT_VERSION}; upgrade retrieval_grounding"
                    )
                self.detector = bytes(file.attrs["detector"]).decode()
                self.encoder = bytes(file.attrs["encoder"]).decode()
                self.label_names = [bytes(name).decode() for name in file["label_names"][:]]
                self.label_embeddings: npt.NDArray[np.float16] = file["label_embeddings"][:]
                self.image_offsets: npt.NDArray[np.int64] = file["image_offsets"][:]
                self.image_sizes: npt.NDArray[np.int32] = file["image_sizes"][:]
                self._layout = {
                    name: (file[name].id.get_offset(), file[name].shape, file[name].dtype)
                    for name in _COLUMNS
                }
            with path.open("rb") as raw:
                self._map = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
            self._check_structure()
            if regions not in (None, len(self.embeddings)):
                raise ValueError(f"it has {len(self.embeddings)} regions, not {regions}")
        except StoreError:
            raise
        except Exception as error:  # h5py raises nearly anything on damaged bytes
            raise StoreError(
                f"the shard {path} is missing or damaged ({error}); run "
                f"'retrieval-grounding verify {path.parent.parent} --repair'"
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
    def colors(self) -> npt.NDArray[np.uint8]:
        """Color shares of all regions, (n, 11) uint8."""
        view: npt.NDArray[np.uint8] = self._view("colours")
        return view

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Region ids of all rows, (n,) int64."""
        return region_ids(self.number, np.arange(self.image_offsets[-1], dtype=np.int64))

    def region_ids(self, row: int) -> npt.NDArray[np.int64]:
        """Return the ids of the regions of image `row`."""
        rows = self.image_slice(row)
        return region_ids(self.number, np.arange(rows.start, rows.stop, dtype=np.int64))

    def image_slice(self, row: int) -> slice:
        """Return the region rows of image `row`.

        Raises
        ------
        StoreError
            If there is no such row: the catalog and the shard do not belong together.
        """
        if not 0 <= row < len(self.image_sizes):
            raise StoreError(
                f"the shard {self.path} has no row {row}, unlike the catalog says; run "
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
        """Return what is stored of image `row`, to be written to another shard."""
        rows = self.image_slice(row)
        width, height = self.image_sizes[row].tolist()
        embeddings, colors = self.embeddings[rows], self.colors[rows]
        return ImageRecord(content_hash, width, height, self.regions(row), embeddings, colors)

    def row_checksum(self, row: int) -> str:
        """Return the checksum of all that this reader gives for image `row`."""
        columns = {name: self._view(name) for name in _COLUMNS}
        rows, size = self.image_slice(row), self.image_sizes[row]
        return _row_checksum(columns, rows, size, self.label_names, self.label_embeddings)

    def _check_structure(self) -> None:
        """Raise :class:`ValueError` where reading rows could fail or reach outside the file."""
        offsets, names = self.image_offsets, self.label_names
        regions, dimension = self.embeddings.shape
        shapes = {
            "boxes": (regions, 4),
            "scores": (regions,),
            "labels": (regions,),
            "colours": (regions, 11),
        }
        for name, shape in shapes.items():
            if self._layout[name][1] != shape:
                raise ValueError(f"{name} have the shape {self._layout[name][1]}, not {shape}")
        if self.label_embeddings.shape != (len(names), dimension):
            raise ValueError("labels and their embeddings differ in number")
        if self.image_sizes.shape != (len(offsets) - 1, 2):
            raise ValueError("offsets and sizes of images differ in number")
        if offsets[0] != 0 or offsets[-1] != regions or (np.diff(offsets) < 1).any():
            raise ValueError("the offsets of images are not in order")
        if regions and not 0 <= self.labels.min() <= self.labels.max() < len(names):
            raise ValueError("a region's label has no name")

    def _view(self, name: str) -> Any:
        offset, shape, dtype = self._layout[name]
        if offset is None or dtype != _COLUMNS[name]:
            raise ValueError(f"{name} are not contiguous {_COLUMNS[name]}")
        count = int(np.prod(shape))
        return np.frombuffer(self._map, dtype=dtype, count=count, offset=offset).reshape(shape)
