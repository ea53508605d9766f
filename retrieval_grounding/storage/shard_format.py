"""Writing shards: immutable HDF5 files that hold the regions of a few hundred images each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import ModelError
from ..core.regions import Regions
from .files import as_store_error, atomic_create
from .migrations import FORMAT_VERSION
from .rows import NewShard, StoredRow

__all__ = [
    "COLUMNS",
    "MAX_LABELS",
    "MAX_LABEL_BYTES",
    "MAX_REGIONS",
    "SHARD_FILES",
    "ImageRecord",
    "row_checksum",
    "write_shard",
]


COLUMNS = {"embeddings": "f2", "boxes": "f4", "scores": "f4", "labels": "i4", "colours": "u1"}
"""Datasets with one row per region, and their types."""

MAX_REGIONS = 1 << 24
MAX_LABELS = 1 << 16
MAX_LABEL_BYTES = 1 << 10
"""What a shard may hold at most, so that opening one from a stranger takes little memory."""
SHARD_FILES = re.compile(r"(\d{6,})\.h5")
"""Names of shards; the group is the number."""


@dataclass(frozen=True)
class ImageRecord:
    """What a shard stores about one image.

    Parameters
    ----------
    content_hash : str
        Of the image's file; stored in the catalog.
    width, height : int
        Size of the upright image in pixels.
    regions : Regions
        Region 0 is the whole image.
    embeddings : array of shape (len(regions), d)
        Unit-length vectors; stored as float16.
    colors : uint8 array of shape (len(regions), 11)
        From :func:`retrieval_grounding.core.colors.region_colors`.
    thumbnail : bytes
        A small JPEG of the image; empty if none is kept.
    """

    content_hash: str
    width: int
    height: int
    regions: Regions
    embeddings: npt.NDArray[np.floating[Any]]
    colors: npt.NDArray[np.uint8]
    thumbnail: bytes = b""


def write_shard(
    folder: Path,
    number: int,
    records: Sequence[ImageRecord],
    *,
    embed_labels: Callable[[list[str]], npt.NDArray[np.floating[Any]]],
    detector: str,
    encoder: str,
) -> NewShard:
    """Write a shard atomically; it belongs to the index once the catalog has committed it.

    Parameters
    ----------
    folder : Path
        Folder of the shards.
    number : int
        From ``Catalog.next_shard``.
    records : sequence of ImageRecord
        At least one.
    embed_labels : callable
        Returns unit-length vectors (k, d) for k label names. They are stored so that training and
        querying need not embed them.
    detector, encoder : str
        Fingerprints, stored as attributes.

    Returns
    -------
    NewShard
        For :meth:`Catalog.commit`.

    Raises
    ------
    StoreError
        If the file cannot be written, or there is one already that the catalog does not know.
    ModelError
        If there are too many regions or labels for one shard, or a label is too long.
    """
    counts = [len(record.regions) for record in records]
    labels = [label for record in records for label in record.regions.labels]
    names = sorted(set(labels))
    _check_limits(sum(counts), names)
    codes = {name: code for code, name in enumerate(names)}
    vectors = embed_labels(names).astype("f2")
    columns: dict[str, npt.NDArray[Any]] = {
        "embeddings": np.concatenate([record.embeddings for record in records]),
        "boxes": np.concatenate([record.regions.boxes for record in records]),
        "scores": np.concatenate([record.regions.scores for record in records]),
        "labels": np.array([codes[label] for label in labels]),
        "colours": np.concatenate([record.colors for record in records]),
    }
    columns = {name: values.astype(COLUMNS[name]) for name, values in columns.items()}
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    sizes = np.array([[record.width, record.height] for record in records], dtype=np.int32)
    image = _hdf5_image(
        columns
        | {
            # Fixed length: HDF5 keeps strings of variable length in a heap without checksums.
            "label_names": np.array([name.encode() for name in names]),
            "label_embeddings": vectors,
            "image_offsets": offsets,
            "image_sizes": sizes,
            # Only for an index that has lost its catalog.
            "content_hashes": np.array([record.content_hash.encode() for record in records]),
        }
        | _thumbnails(records),
        {
            "format_version": FORMAT_VERSION,
            "detector": np.bytes_(detector.encode()),
            "encoder": np.bytes_(encoder.encode()),
            "dimension": vectors.shape[1],
        },
    )
    path = folder / f"{number:06d}.h5"
    with as_store_error(path):
        atomic_create(path, image)
    rows = [
        StoredRow(
            record.content_hash,
            record.width,
            record.height,
            counts[row],
            row_checksum(
                columns,
                slice(*offsets[row : row + 2]),
                sizes[row],
                names,
                vectors,
                record.thumbnail,
            ),
        )
        for row, record in enumerate(records)
    ]
    checksum = hashlib.blake2b(image, digest_size=16).hexdigest()
    return NewShard(number, path.name, checksum, rows)


def _thumbnails(records: Sequence[ImageRecord]) -> dict[str, npt.NDArray[Any]]:
    """Return the datasets of the thumbnails, or none if none is kept."""
    joined = b"".join(record.thumbnail for record in records)
    if not joined:
        return {}
    ends = np.cumsum([len(record.thumbnail) for record in records], dtype=np.int64)
    return {"thumbnails": np.frombuffer(joined, np.uint8), "thumbnail_ends": ends}


def _check_limits(regions: int, names: Sequence[str]) -> None:
    if regions > MAX_REGIONS or len(names) > MAX_LABELS:
        raise ModelError(
            f"{regions} regions with {len(names)} labels are too many for one shard; put fewer "
            "images in a shard"
        )
    for name in names:
        if len(name.encode()) > MAX_LABEL_BYTES:
            raise ModelError(
                f"the detector's label {name[:50]!r}... is longer than {MAX_LABEL_BYTES} bytes; "
                "shorten it"
            )


def _hdf5_image(arrays: dict[str, npt.NDArray[Any]], attributes: dict[str, Any]) -> bytes:
    """Return the bytes of an HDF5 file with contiguous datasets.

    The file is created in memory, so that writing it to disk is one step with ordinary errors. The
    library's newer layout protects its own structures with checksums.
    """
    import h5py

    with h5py.File(
        "shard", "w", driver="core", backing_store=False, libver=("v110", "v110")
    ) as file:
        file.attrs.update(attributes)
        for name, values in arrays.items():
            file[name] = values
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def row_checksum(
    columns: dict[str, npt.NDArray[Any]],
    rows: slice,
    size: npt.NDArray[np.int32],
    names: Sequence[str],
    vectors: npt.NDArray[np.float16],
    thumbnail: bytes = b"",
) -> str:
    """Return the BLAKE2b-128 checksum of an image's size, regions, labels and thumbnail."""
    digest = hashlib.blake2b(np.asarray(size, "<i4").tobytes(), digest_size=16)
    for name, dtype in COLUMNS.items():
        if name != "labels":
            digest.update(columns[name][rows].astype("<" + dtype).tobytes())
    for code in columns["labels"][rows].tolist():
        digest.update(names[code].encode() + b"\0" + vectors[code].astype("<f2").tobytes())
    digest.update(thumbnail)
    return digest.hexdigest()
