"""Kinds of vector index, and which of them suits how many regions."""

from __future__ import annotations

from typing import Literal, get_args

from ...core.errors import GroundingError

__all__ = ["KINDS", "REQUESTS", "Kind", "RequestedKind", "check_kind", "choose_kind", "list_count"]


Kind = Literal["flat", "ivf", "hnsw"]
RequestedKind = Literal["auto", "flat", "ivf", "hnsw"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REQUESTS: tuple[RequestedKind, ...] = get_args(RequestedKind)

_MAX_FLAT_REGIONS = 100_000
_MAX_FLAT_BYTES = 256 << 20
_MAX_FLAT_SHARE_OF_MEMORY = 1 / 16
_MIN_REGIONS_PER_LIST = 40
_MAX_LISTS = 1 << 16


def check_kind(value: str) -> RequestedKind:
    """Return `value` if it is ``"auto"`` or a kind of vector index.

    Raises
    ------
    GroundingError
        If it is neither.
    """
    for known in REQUESTS:
        if value == known:
            return known
    raise GroundingError(
        f"{value!r} is not a kind of vector index; use one of {', '.join(REQUESTS)}"
    )


def choose_kind(
    requested: RequestedKind,
    regions: int,
    dimension: int,
    current: Kind | None = None,
    memory: int | None = None,
) -> Kind:
    """Return the kind of index to use.

    ``"auto"`` chooses ``"flat"`` as long as reading every vector for each phrase is quick and takes
    a small share of the memory, and ``"ivf"`` beyond that. It never chooses ``"hnsw"``, which is no
    faster, holds all vectors in memory and cannot remove any. An ``"ivf"`` index is kept until half
    that size, so that an index near the limit is not trained again and again.

    Parameters
    ----------
    requested : str
        ``"auto"`` or a kind.
    regions, dimension : int
        Number and length of the vectors.
    current : str, optional
        The kind in use.
    memory : int, optional
        Memory of the machine in bytes; detected if left out.

    Examples
    --------
    >>> choose_kind("auto", 50_000, 512, memory=16 << 30)
    'flat'
    >>> choose_kind("auto", 1_000_000, 512, memory=16 << 30)
    'ivf'
    >>> choose_kind("auto", 50_000, 512, memory=512 << 20)
    'ivf'
    >>> choose_kind("auto", 90_000, 512, current="ivf", memory=16 << 30)
    'ivf'
    """
    if requested != "auto":
        return requested
    total = _memory() if memory is None else memory
    max_bytes = min(_MAX_FLAT_BYTES, int(total * _MAX_FLAT_SHARE_OF_MEMORY))
    counted = 2 * regions if current == "ivf" else regions
    small = counted <= _MAX_FLAT_REGIONS and counted * dimension * 2 <= max_bytes
    return "flat" if small else "ivf"


def _memory() -> int:
    import psutil  # readers of an index need no kind to be chosen

    return int(psutil.virtual_memory().total)


def list_count(regions: int) -> int:
    """Return the number of inverted lists: a power of two near √n, with enough regions per list.

    Examples
    --------
    >>> [list_count(n) for n in (10, 1_000, 100_000, 1_000_000, 10_000_000)]
    [1, 16, 256, 1024, 4096]
    """
    lists = 1
    while 2 * lists * lists <= regions and lists < _MAX_LISTS:
        lists *= 2
    while lists > 1 and lists * _MIN_REGIONS_PER_LIST > regions:
        lists //= 2
    return lists
