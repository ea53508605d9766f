"""Searching an archive: every member with an image's name is found, or has a reason why not."""

from __future__ import annotations

import os

from ..core.reports import SkippedFile
from .archives import Archive, open_archive
from .rules import Rules
from .suffixes import IMAGE_SUFFIXES, suffix_of, unsupported
from .walk import Findings

__all__ = ["list_members"]


def list_members(path: str, key: str, found: Findings, rules: Rules) -> None:
    """Sort the members of an archive as the files of a folder are sorted.

    Parameters
    ----------
    path : str
        The archive.
    key : str
        The same, with the links of folders resolved.
    found : Findings
        Gets what is found. If the archive is damaged, that is one more file that cannot be used.
    rules : Rules
        What to leave out.

    Raises
    ------
    ImageError
        If it cannot be read, or is no archive.
    """
    archive = open_archive(path)
    listing = _Listing(path, key, found, rules)
    for name in archive.members:
        listing.add(name)
    for name, problem in archive.unusable.items():
        if _has_image_name(name):
            place = listing.place(name)
            found.unusable[listing.key(name)] = SkippedFile(_readable(place), *problem)
        else:
            found.others.add(listing.key(name))
    for name in archive.repeated:
        found.leave_out(listing.place(name), "same-member", "a later member has the same name")
    if archive.damage is not None:
        found.unusable[key] = SkippedFile(path, *_damage(archive))


class _Listing:
    """Sorts members; folders that are left out are reported once."""

    def __init__(self, path: str, key: str, found: Findings, rules: Rules) -> None:
        self._path = os.path.join(path, "")  # noqa: PTH118
        self._key = os.path.join(key, "")  # noqa: PTH118
        self._found = found
        self._rules = rules
        self._folders: dict[str, bool] = {"": True}

    def place(self, name: str) -> str:
        """Return the address of a member."""
        return self._path + name.replace("/", os.sep)

    def key(self, name: str) -> str:
        """Return the key of a member in the findings."""
        return self._key + name.replace("/", os.sep)

    def add(self, name: str) -> None:
        """Sort a member."""
        if not self._searches(name.rpartition("/")[0]):
            return
        place = self.place(name)
        if not _has_image_name(name):
            self._found.others.add(self.key(name))
        elif (reason := self._rules.reason(place, self._path, ())) is not None:
            self._found.leave_out(place, reason)
        else:
            self._found.add(self.key(name), place)

    def _searches(self, folder: str) -> bool:
        known = self._folders.get(folder)
        if known is None:
            known = self._searches(folder.rpartition("/")[0])
            if known:
                place = self.place(folder)
                reason = self._rules.reason(place, self._path, (), folder=True)
                if reason is not None:
                    self._found.leave_out(place, reason)
                known = reason is None
            self._folders[folder] = known
        return known


def _has_image_name(name: str) -> bool:
    return suffix_of(name) in IMAGE_SUFFIXES or unsupported(name) is not None


def _readable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _damage(archive: Archive) -> tuple[str, str]:
    assert archive.damage is not None
    reason, detail = archive.damage
    return reason, f"{detail}; {len(archive.members):,} members before that are used"
