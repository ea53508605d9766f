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
from .files import as_store_error, atomic_write_bytes
from .migrations import FORMAT_VERSION
from .rows import NewShard, StoredRow

__all__ = [
    "ImageRecord",
    "ShardReader",
    "most_open_shards",
    "region_ids",
    "split_region_ids",
    "write_shard",
]

_ROW_BITS = 32

_COLUMNS = {"embeddings": "f2", "boxes": "f4", "scores": "f4", "labels": "i4", "colours": "u1"}
"""Datasets with one row a region, mapped into memory."""


@dataclass(frozen=True)
class ImageRecord:
    """What a shard stores of one image.

    Parameters
    ----------
    content_hash : str
        Of the image's file; the catalog has it.
    width, height : int
        Size of the upright image in pixels.
    regions : Regions
        Region 0 is the whole image.
    embeddings : array of shape (len(regions), d)
        Unit-length vectors; stored as float16.
    colours : uint8 array of shape (len(regions), 11)
        What :func:`retrieval_grounding.colours.region_colours` measured.
    """

    content_hash: str
    width: int
    height: int
    regions: Regions
    embeddings: npt.NDArray[np.floating[Any]]
    colours: npt.NDArray[np.uint8]


def region_ids(
    shards: int | npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the int64 ids of regions: the shard's number above 32 bits of row number.

    Examples
    --------
    >>> region_ids(2, np.array([0, 5])).tolist()
    [8589934592, 8589934597]
    """
    return (np.asarray(shards, np.int64) << _ROW_BITS) + rows


def split_region_ids(
    ids: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return shard numbers and rows of region ids; the inverse of :func:`region_ids`."""
    return ids >> _ROW_BITS, ids & ((1 << _ROW_BITS) - 1)


def write_shard(
    folder: Path,
    number: int,
    records: Sequence[ImageRecord],
    *,
    embed_labels: Callable[[list[str]], npt.NDArray[np.floating[Any]]],
    detector: str,
    encoder: str,
) -> NewShard:
    """Write a shard in one step; it is part of the index once the catalog has committed it.

    Parameters
    ----------
    folder : Path
        Where shards lie; the file appears there complete or not at all.
    number : int
        From ``Catalog.next_shard``.
    records : sequence of ImageRecord
        At least one.
    embed_labels : callable
        Returns unit-length vectors (k, d) for k label names; stored, so that training and
        querying need no encoder for them.
    detector, encoder : str
        Fingerprints, stored as attributes.

    Raises
    ------
    StoreError
        If the file cannot be written.
    """
    counts = [len(record.regions) for record in records]
    labels = [label for record in records for label in record.regions.labels]
    names = sorted(set(labels))
    code = {name: position for position, name in enumerate(names)}
    vectors = embed_labels(names).astype("f2")
    columns: dict[str, npt.NDArray[Any]] = {
        "embeddings": np.concatenate([record.embeddings for record in records]),
        "boxes": np.concatenate([record.regions.boxes for record in records]),
        "scores": np.concatenate([record.regions.scores for record in records]),
        "labels": np.array([code[label] for label in labels]),
        "colours": np.concatenate([record.colours for record in records]),
    }
    columns = {name: values.astype(_COLUMNS[name]) for name, values in columns.items()}
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    sizes = np.array([[record.width, record.height] for record in records], dtype=np.int32)
    image = _hdf5_image(
        columns
        | {
            # Of fixed length: strings of variable length lie in a heap without checksums.
            "label_names": np.array([name.encode() for name in names]),
            "label_embeddings": vectors,
            "image_offsets": offsets,
            "image_sizes": sizes,
        },
        {
            "format_version": FORMAT_VERSION,
            "detector": np.bytes_(detector.encode()),
            "encoder": np.bytes_(encoder.encode()),
            "dimension": vectors.shape[1],
        },
    )
    path = folder / f"{number:06d}.h5"
    with as_store_error(path):
        atomic_write_bytes(path, image)
    rows = [
        StoredRow(
            record.content_hash,
            record.width,
            record.height,
            counts[row],
            _row_checksum(columns, slice(*offsets[row : row + 2]), sizes[row], names, vectors),
        )
        for row, record in enumerate(records)
    ]
    checksum = hashlib.blake2b(image, digest_size=16).hexdigest()
    return NewShard(number, path.name, checksum, rows)


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
    def colours(self) -> npt.NDArray[np.uint8]:
        """Colour shares of all regions, (n, 11) uint8."""
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
        embeddings, colours = self.embeddings[rows], self.colours[rows]
        return ImageRecord(content_hash, width, height, self.regions(row), embeddings, colours)

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


def _hdf5_image(arrays: dict[str, npt.NDArray[Any]], attributes: dict[str, Any]) -> bytes:
    """Return the bytes of an HDF5 file with contiguous datasets.

    It is made in memory, so that writing it is one step that fails in plain ways. The library's
    newer layout has checksums over all of its own structures.
    """
    with h5py.File(
        "shard", "w", driver="core", backing_store=False, libver=("v110", "v110")
    ) as file:
        file.attrs.update(attributes)
        for name, values in arrays.items():
            file[name] = values
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _row_checksum(
    columns: dict[str, npt.NDArray[Any]],
    rows: slice,
    size: npt.NDArray[np.int32],
    names: Sequence[str],
    vectors: npt.NDArray[np.float16],
) -> str:
    """Return the checksum of an image's regions, label names and label embeddings included."""
    digest = hashlib.blake2b(np.asarray(size, "<i4").tobytes(), digest_size=16)
    for name, dtype in _COLUMNS.items():
        if name != "labels":
            digest.update(columns[name][rows].astype("<" + dtype).tobytes())
    for code in columns["labels"][rows].tolist():
        digest.update(names[code].encode() + b"\0" + vectors[code].astype("<f2").tobytes())
    return digest.hexdigest()
