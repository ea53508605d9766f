"""What building, compacting and verifying take and report."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from .types import RowKey

__all__ = ["BuildOptions", "BuildReport", "CompactReport", "Fault", "SkippedFile", "VerifyReport"]


@dataclass(frozen=True)
class CompactReport:
    """What compacting did.

    Parameters
    ----------
    shards_before, shards_after : int
        Shards of the index.
    regions_dropped : int
        Regions of changed and removed images that are gone for good.
    bytes_freed : int
        Of the disk.
    """

    shards_before: int
    shards_after: int
    regions_dropped: int
    bytes_freed: int


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with an index.

    Parameters
    ----------
    where : str
        The file, relative to the index.
    kind : str
        A fixed, short name such as ``"damaged"``.
    detail : str
        What exactly was found.
    repair : str
        What ``verify --repair`` does about it.
    shard : int or None
        The shard in question.
    places : set of RowKey
        Rows whose images have to be embedded again.
    """

    where: str
    kind: str
    detail: str
    repair: str
    shard: int | None = None
    places: frozenset[RowKey] = frozenset()


@dataclass
class VerifyReport:
    """What verifying found.

    Parameters
    ----------
    images, shards : int
        Checked.
    faults : list of Fault
        Empty if all is well; after a repair, what could not be repaired.
    repaired : list of Fault
        What a repair has put right.
    embedded : int
        Images that a repair embedded again.
    lost : list of str
        Images that a repair removed, since their regions were damaged and their files are gone or
        unusable.
    """

    images: int
    shards: int
    faults: list[Fault] = field(default_factory=list)
    repaired: list[Fault] = field(default_factory=list)
    embedded: int = 0
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class BuildOptions:
    """How to build; none of it changes what is stored of an image.

    Parameters
    ----------
    batch_images : int
        Images that are detected and encoded together; fewer if they are large, or if they do not
        fit into the memory of the device.
    shard_images : int
        Images in a shard. A crash loses at most the shard in flight.
    workers : int
        Processes that decode ahead of the models, each with a thread that reads for it.
    progress : bool or None
        Show a bar; None shows it on a terminal.
    prune : bool
        Forget images whose files have been deleted from the folders; without it they are only
        reported.
    """

    batch_images: int = 16
    shard_images: int = 512
    workers: int = field(default_factory=lambda: min(8, os.cpu_count() or 1))
    progress: bool | None = None
    prune: bool = False


@dataclass
class BuildReport:
    """What a build did. Every file that was found is counted in exactly one of the numbers.

    Parameters
    ----------
    found : int
        Files that the sources name.
    unchanged, added, updated, moved, duplicates : int
        Of these, already in the index as they are; new; changed; known under another path that is
        gone; new, with the content of another image, whose regions they share.
    skipped : list of SkippedFile
        Files that could not be indexed, and why.
    missing : list of str
        Images of the index whose files have been deleted.
    pruned : bool
        Whether the missing ones were removed from the index.
    embedded, regions : int
        Images that went through the models, and their regions, the whole images included.
    seconds : float
        Duration, loading of models excluded.
    """

    found: int = 0
    unchanged: int = 0
    added: int = 0
    updated: int = 0
    moved: int = 0
    duplicates: int = 0
    skipped: list[SkippedFile] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    pruned: bool = False
    embedded: int = 0
    regions: int = 0
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Images embedded per second."""
        return self.embedded / self.seconds if self.seconds else 0.0

    @property
    def skipped_reasons(self) -> dict[str, int]:
        """Number of skipped files by reason, the most frequent first."""
        return dict(Counter(file.reason for file in self.skipped).most_common())


@dataclass(frozen=True)
class SkippedFile:
    """A file that is not in the index, and why."""

    path: str
    reason: str
    detail: str
    size: int = -1
    mtime_ns: int = -1
