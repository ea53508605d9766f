"""Which kind of vector index serves how many regions."""

from __future__ import annotations

from typing import Literal, get_args

import psutil

from ...core.errors import GroundingError

__all__ = ["KINDS", "WANTED", "Kind", "Wanted", "check_wanted", "choose_kind", "list_count"]


Kind = Literal["flat", "ivf", "hnsw"]
Wanted = Literal["auto", "flat", "ivf", "hnsw"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WANTED: tuple[Wanted, ...] = get_args(Wanted)

_FLAT_REGIONS = 100_000
_FLAT_BYTES = 256 << 20
_FLAT_MEMORY = 1 / 16
_PER_LIST = 40
_MOST_LISTS = 1 << 16


def check_wanted(value: str) -> Wanted:
    """Return `value` as a kind that can be asked for.

    Raises
    ------
    GroundingError
        If there is no such kind.
    """
    for known in WANTED:
        if value == known:
            return known
    raise GroundingError(f"{value!r} is no kind of vector index; use one of {', '.join(WANTED)}")


def choose_kind(
    wanted: Wanted,
    regions: int,
    dimension: int,
    present: Kind | None = None,
    memory: int | None = None,
) -> Kind:
    """Return the kind of index for so many regions.

    ``"auto"`` takes the exact one as long as reading all of it for each phrase is quick and a small
    part of the memory, and then inverted lists. It never takes HNSW, which is as fast, but holds
    all vectors in memory and cannot forget any. An index in use stays until it is far past the
    border, so that one which hovers there is not trained again and again.

    Parameters
    ----------
    wanted : str
        ``"auto"`` or a kind.
    regions, dimension : int
        Number and length of the vectors.
    present : str, optional
        The kind in use.
    memory : int, optional
        Bytes of the machine; asked of the system if left out.

    Examples
    --------
    >>> choose_kind("auto", 50_000, 512, memory=16 << 30)
    'flat'
    >>> choose_kind("auto", 1_000_000, 512, memory=16 << 30)
    'ivf'
    >>> choose_kind("auto", 50_000, 512, memory=512 << 20)
    'ivf'
    >>> choose_kind("auto", 90_000, 512, present="ivf", memory=16 << 30)
    'ivf'
    """
    if wanted != "auto":
        return wanted
    total = psutil.virtual_memory().total if memory is None else memory
    limit = min(_FLAT_BYTES, int(total * _FLAT_MEMORY))
    slack = 2 if present == "ivf" else 1
    small = slack * regions <= _FLAT_REGIONS and slack * regions * dimension * 2 <= limit
    return "flat" if small else "ivf"


def list_count(regions: int) -> int:
    """Return the number of inverted lists: a power of two near √n, each with enough to train on.

    Examples
    --------
    >>> [list_count(n) for n in (10, 1_000, 100_000, 1_000_000, 10_000_000)]
    [1, 16, 256, 1024, 4096]
    """
    lists = 1
    while 2 * lists * lists <= regions and lists < _MOST_LISTS:  # the power of two next to √n
        lists *= 2
    while lists > 1 and lists * _PER_LIST > regions:
        lists //= 2
    return lists
