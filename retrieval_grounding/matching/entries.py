"""Which matchers an index can use, and which it does: from the headers of their files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import GroundingError, StoreError
from ..models.encoder import Fingerprint
from ..storage.catalog import Catalog
from .bundled import bundled_by_default, bundled_header
from .install import chosen_matcher, recorded_checksums
from .matcher_header import MatcherHeader, read_header
from .names import BUNDLED, COSINE, COSINE_LABEL, EARLIER, FOLDER, matcher_files, own_names

__all__ = ["MatcherEntry", "matcher_entries", "matcher_in_use", "refuse_link", "usable_entry"]


@dataclass(frozen=True)
class MatcherEntry:
    """A matcher that an index can use.

    Parameters
    ----------
    name : str
        What ``query --matcher`` takes.
    kind : str
        ``"cosine"``, ``"cosine+label"``, or the kind of network, ``"residual"`` or ``"concat"``,
        with what it is combined with.
    in_use : bool
        Whether queries use it unless they name another one.
    trained_on : str
        The training data, in words for people.
    problem : str
        Why it cannot be used; empty if it can.
    """

    name: str
    kind: str
    in_use: bool
    trained_on: str = ""
    problem: str = ""


def matcher_in_use(catalog: Catalog, encoder: Fingerprint) -> str:
    """Return the name of the matcher that an index uses unless a query names another one.

    Without a choice it is ``matcher.safetensors`` if the index has that file, else the bundled one,
    or cosine if the encoder is an object of the user's own.
    """
    chosen = chosen_matcher(catalog)
    if chosen is not None:
        return chosen
    if os.path.lexists(catalog.directory / matcher_files(EARLIER)[0]):
        return EARLIER
    return _default(catalog, encoder)


def matcher_entries(catalog: Catalog, encoder: Fingerprint) -> list[MatcherEntry]:
    """Return the matchers that an index can use: its own first, by name.

    Weights are not looked at, except that a file has its recorded checksum.
    """
    in_use = matcher_in_use(catalog, encoder)
    entries = []
    own = own_names(catalog.directory)
    gone = {in_use} - {*own, BUNDLED, COSINE, COSINE_LABEL}  # in use, and not a regular file
    for name in sorted({*own, *gone}):
        try:
            header = _read_own(catalog, name, encoder)
        except GroundingError as error:
            entries.append(MatcherEntry(name, "", name == in_use, problem=str(error)))
        else:
            entries.append(_entry(name, header, name == in_use))
    entries.append(_entry(BUNDLED, bundled_header(encoder), in_use == BUNDLED))
    built_in = [MatcherEntry(name, name, in_use == name) for name in (COSINE, COSINE_LABEL)]
    return [*entries, *built_in]


def usable_entry(
    catalog: Catalog, encoder: Fingerprint, entries: Sequence[MatcherEntry]
) -> MatcherEntry:
    """Return the matcher in use or, if that cannot be used, what queries use instead."""
    chosen = next(entry for entry in entries if entry.in_use)
    default = _default(catalog, encoder)
    return next(entry for entry in entries if entry.name == default) if chosen.problem else chosen


def _default(catalog: Catalog, encoder: Fingerprint) -> str:
    return BUNDLED if bundled_by_default(catalog, encoder) else COSINE


def refuse_link(catalog: Catalog) -> None:
    """Refuse an index whose folder of matchers is a link to somewhere else."""
    folder = catalog.directory / FOLDER
    if folder.is_symlink():
        raise StoreError(f"{folder} is a link, but the matchers of an index are inside its folder")


def _entry(name: str, header: MatcherHeader, in_use: bool) -> MatcherEntry:
    kind = str(header.config.kind)
    described = kind if header.recipe is None else header.recipe.describe(kind)
    return MatcherEntry(name, described, in_use, header.trained_on)


def _read_own(catalog: Catalog, name: str, encoder: Fingerprint) -> MatcherHeader:
    refuse_link(catalog)
    file = matcher_files(name)[0]
    checksums = recorded_checksums(catalog).get(file, ())
    header, _ = read_header(catalog.directory / file, checksums)
    header.check(encoder)
    return header
