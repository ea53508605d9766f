"""The datasets of a shard's file, mapped into memory after their description has been checked.

HDF5 can show the content of other files (links, external storage, virtual datasets), run plugins
(filters) and claim sizes that the file does not have. A shard needs none of that, so only its
description is read through the HDF5 library; the values are read from the mapped file.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.errors import StoreError
from .files import open_regular
from .migrations import FORMAT_VERSION
from .shard_format import COLUMNS, MAX_LABEL_BYTES

if TYPE_CHECKING:
    import h5py

__all__ = ["ShardFile", "map_shard"]

_MAX_ATTRIBUTE_BYTES = 1 << 16
_NUMBERS = ("format_version", "dimension")
_TEXTS = ("detector", "encoder")
_TYPES = COLUMNS | {
    "label_embeddings": "f2",
    "image_offsets": "i8",
    "image_sizes": "i4",
    "label_names": "S",
}
_OPTIONAL = {"content_hashes": "S", "thumbnails": "u1", "thumbnail_ends": "i8"}
"""Which shards of the first releases lack, and those of an index that keeps no thumbnails."""


@dataclass(frozen=True)
class ShardFile:
    """What a shard's file contains.

    Parameters
    ----------
    detector, encoder : str
        Fingerprints.
    dimension : int
        Length of the embeddings.
    arrays : dict of str to array
        Every dataset, as a view of the mapped file.
    """

    detector: str
    encoder: str
    dimension: int
    arrays: dict[str, npt.NDArray[Any]]


def map_shard(path: Path) -> ShardFile:
    """Map a shard's file into memory.

    Raises
    ------
    StoreError
        If it is of a newer format, or not a regular file.
    Exception
        Of any type, if it is not the file of a shard: h5py raises almost any error on damaged
        bytes.
    """
    import h5py  # here and below, because commands that open no shard start sooner
    from h5py import h5a

    with open_regular(path) as raw:
        mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
    with h5py.File(path, "r") as file:
        version = _number(file, "format_version")
        if version > FORMAT_VERSION:
            raise StoreError(
                f"{path} has format version {version}, and this release reads up to "
                f"{FORMAT_VERSION}; upgrade retrieval_grounding"
            )
        types = _TYPES | {name: kind for name, kind in _OPTIONAL.items() if name in file}
        members, attributes = file.id.get_num_objs(), h5a.get_num_attrs(file.id)
        if (members, attributes) != (len(types), len(_NUMBERS) + len(_TEXTS)):
            raise ValueError(f"it has {members} datasets and {attributes} attributes")
        return ShardFile(
            detector=_text(file, "detector"),
            encoder=_text(file, "encoder"),
            dimension=_number(file, "dimension"),
            arrays={name: _map(file, name, dtype, mapped) for name, dtype in types.items()},
        )


def _number(file: h5py.File, name: str) -> int:
    from h5py import h5a, h5t

    attribute = h5a.open(file.id, name.encode())
    if not isinstance(attribute.get_type(), h5t.TypeIntegerID) or attribute.shape != ():
        raise ValueError(f"the attribute {name} is not an integer")
    return int(file.attrs[name])


def _text(file: h5py.File, name: str) -> str:
    from h5py import h5a, h5t

    attribute = h5a.open(file.id, name.encode())
    kind = attribute.get_type()
    if (
        not isinstance(kind, h5t.TypeStringID)
        or kind.is_variable_str()
        or attribute.shape != ()
        or kind.get_size() > _MAX_ATTRIBUTE_BYTES
    ):
        raise ValueError(f"the attribute {name} is not a short text of fixed length")
    return bytes(file.attrs[name]).decode()


def _map(file: h5py.File, name: str, dtype: str, mapped: mmap.mmap) -> npt.NDArray[Any]:
    """Return a dataset as a view of the mapped file, if it is plain and inside the file."""
    from h5py import h5d, h5l, h5t

    key = name.encode()
    if file.id.links.get_info(key).type != h5l.TYPE_HARD:
        raise ValueError(f"{name} is a link to a different place")
    dataset = h5d.open(file.id, key)
    layout = dataset.get_create_plist()
    # Asking a virtual dataset for its shape would open the files that it shows.
    if layout.get_layout() != h5d.CONTIGUOUS or layout.get_external_count():
        raise ValueError(f"{name} is not a contiguous dataset of this file")
    if layout.get_nfilters():
        raise ValueError(f"{name} is filtered")
    stored = dataset.get_type()
    if dtype == "S":
        is_text = isinstance(stored, h5t.TypeStringID) and not stored.is_variable_str()
        if not is_text or not 0 < stored.get_size() <= MAX_LABEL_BYTES:
            raise ValueError(f"{name} are not short texts of fixed length")
        dtype = f"S{stored.get_size()}"
    elif not stored.equal(h5t.py_create(np.dtype(dtype))):
        raise ValueError(f"{name} are not of the type {np.dtype(dtype)}")
    shape, offset = dataset.shape, dataset.get_offset()
    count = math.prod(shape)
    if offset is None or not count:
        raise ValueError(f"{name} has no values")
    if offset + count * np.dtype(dtype).itemsize > len(mapped):
        raise ValueError(f"{name} extends beyond the file")
    return np.frombuffer(mapped, dtype, count, offset).reshape(shape)
