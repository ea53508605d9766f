"""Region ids: a shard number and a row in one integer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["region_ids", "split_region_ids"]


_ROW_BITS = 32


def region_ids(
    shards: int | npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the int64 ids of regions: shard number << 32, plus row.

    Examples
    --------
    >>> region_ids(2, np.array([0, 5])).tolist()
    [8589934592, 8589934597]
    """
    return (np.asarray(shards, np.int64) << _ROW_BITS) + rows


def split_region_ids(
    ids: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the shard numbers and rows of region ids; the inverse of :func:`region_ids`."""
    return ids >> _ROW_BITS, ids & ((1 << _ROW_BITS) - 1)
