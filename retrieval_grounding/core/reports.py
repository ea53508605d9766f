"""What building, compacting and verifying take and report."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from .errors import GroundingError
from .types import RowKey

__all__ = [
    "BuildInterrupted",
    "BuildOptions",
    "BuildReport",
    "CompactReport",
    "Fault",
    "FileNote",
    "SkippedFile",
    "VerifyReport",
]


@dataclass(frozen=True)
class SkippedFile:
    """A file that is not in the index, and why.

    Parameters
    ----------
    path : str
        Absolute path.
    reason : str
        A fixed, short name such as ``"truncated"``, for counting and for scripts.
    detail : str
        What exactly was found, for a person.
    size, mtime_ns : int
        Of the file when it was skipped; -1 if unknown.
    """

    path: str
    reason: str
    detail: str
    size: int = -1
    mtime_ns: int = -1


@dataclass(frozen=True)
class FileNote:
    """Something to know about a file that is in the index.

    Parameters
    ----------
    path : str
        Absolute path.
    reason : str
        ``"truncated"`` or ``"damaged"`` if a decoder filled in a part of the image;
        ``"guessed-range"`` if it does not say which values are black and white.
    detail : str
        What exactly was found, and how much of the image is concerned.
    """

    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class BuildOptions:
    """How to build. No option changes what is stored of an image.

    Parameters
    ----------
    batch_images : int
        Images that are detected and encoded together; fewer if they are large or do not fit into
        the device's memory.
    shard_images : int
        Images per shard. A crash loses at most the shard in progress.
    workers : int
        Processes that decode ahead of the models, each with a thread that reads for it.
    memory : int or None
        Bytes for decoding and for images that wait for the models, in all processes together. None
        is a fourth of the memory that is free. An image that needs more by itself is skipped.
    progress : bool or None
        Whether to show a progress bar; None shows it on a terminal.
    prune : bool
        Remove images whose files have been deleted. Otherwise they are only reported.
    check_content : bool
        Read every file, and find changes that left its size and modification time as they were.
        Otherwise only files with a new size or time are read.
    force : bool
        Embed every file again, even if it has not changed, and replace its regions.
    allow_empty : bool
        Believe that a source without any image has been emptied. Otherwise it may be the mount
        point of a drive that is not connected, and its images are kept even if `prune`.
    restore : bool
        Add images again that :meth:`Index.remove` removed.
    exclude, include : tuple of str
        What to leave out, and what to search although it would be left out; see
        :func:`find_images`.
    follow_links : bool
        Also search folders to which links point.
    thumbnails : bool
        From now on, keep a small picture (640 pixels) of every image that is embedded, so that it
        can be shown when its file is not there or it has none. The index remembers this.
    """

    batch_images: int = 16
    shard_images: int = 512
    workers: int = field(default_factory=lambda: min(8, os.cpu_count() or 1))
    memory: int | None = None
    progress: bool | None = None
    prune: bool = False
    check_content: bool = False
    force: bool = False
    allow_empty: bool = False
    restore: bool = False
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    follow_links: bool = False
    thumbnails: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_images", "shard_images", "workers"):
            if getattr(self, name) < 1:
                raise GroundingError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass
class BuildReport:
    """What a build did. Each file that was found is counted in exactly one of the numbers.

    Parameters
    ----------
    found : int
        Files with an image's name that were found and not left out.
    unchanged, added, updated, moved, duplicates : int
        How many of them are in the index as they were, are new, have changed, were known under a
        path that no longer exists, or are new copies of an image that is already in the index
        (copies share its regions).
    skipped : list of SkippedFile
        Files that could not be indexed, and why.
    notes : list of FileNote
        Files that were indexed in this build although their decoder had to guess or to repair
        something.
    left_out : list of SkippedFile
        Folders that were not searched and files that were not considered, and why: hidden ones,
        folders of machines, unreadable folders, excluded and removed images.
    other_files : int
        Files that were found and do not have an image's name.
    missing : list of str
        Images of the index whose files have been deleted.
    unreachable : list of str
        Images of the index that cannot be looked up now, for example because a drive is not
        connected. They are never removed.
    pruned : bool
        Whether the missing images were removed from the index.
    embedded, regions : int
        Images that went through the models, and their regions, including the whole images.
    seconds : float
        Duration, without loading the models.
    described : int
        Images that got metadata or an id.
    unmatched : list of str
        Keys of rows of metadata that are about no image of the index.
    """

    found: int = 0
    unchanged: int = 0
    added: int = 0
    updated: int = 0
    moved: int = 0
    duplicates: int = 0
    skipped: list[SkippedFile] = field(default_factory=list)
    notes: list[FileNote] = field(default_factory=list)
    left_out: list[SkippedFile] = field(default_factory=list)
    other_files: int = 0
    missing: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    pruned: bool = False
    embedded: int = 0
    regions: int = 0
    seconds: float = 0.0
    described: int = 0
    unmatched: list[str] = field(default_factory=list)

    @property
    def images_per_second(self) -> float:
        """Images embedded per second."""
        return self.embedded / self.seconds if self.seconds else 0.0

    @property
    def skipped_reasons(self) -> dict[str, int]:
        """Number of skipped files by reason, the most frequent first."""
        return dict(Counter(file.reason for file in self.skipped).most_common())

    @property
    def note_reasons(self) -> dict[str, int]:
        """Number of notes by reason, the most frequent first."""
        return dict(Counter(note.reason for note in self.notes).most_common())


class BuildInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a build; everything it had embedded is committed.

    Parameters
    ----------
    report : BuildReport
        What was done until then.
    """

    def __init__(self, report: BuildReport) -> None:
        super().__init__("the build was stopped; everything it had embedded is safe")
        self.report = report


@dataclass(frozen=True)
class CompactReport:
    """What compacting did.

    Parameters
    ----------
    shards_before, shards_after : int
        Number of shards in the index.
    regions_dropped : int
        Regions of changed and removed images that were deleted for good.
    bytes_freed : int
        Disk space gained.
    """

    shards_before: int
    shards_after: int
    regions_dropped: int
    bytes_freed: int


@dataclass(frozen=True)
class Fault:
    """Something wrong with an index.

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
    places : frozenset of RowKey
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
        How many were checked.
    faults : list of Fault
        Empty if the index is sound; after a repair, what could not be repaired.
    repaired : list of Fault
        What was repaired.
    embedded : int
        Images that a repair embedded again.
    lost : list of str
        Images that a repair removed because their regions were damaged and their files are gone or
        unusable.
    notes : list of str
        What else is in the folder, and what could not be checked; nothing of it is a fault.
    """

    images: int
    shards: int
    faults: list[Fault] = field(default_factory=list)
    repaired: list[Fault] = field(default_factory=list)
    embedded: int = 0
    lost: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
