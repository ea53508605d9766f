"""Reading members of ZIP and tar archives in place; nothing is unpacked to disk."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from ..core.errors import GroundingError, ImageError
from ..core.fork import ForkSafeLock

__all__ = ["Archive", "Member", "open_archive"]


_CACHED = 8
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_ENCRYPTED = 0x1
_LOCAL_HEADER = 30
_BLOCK = tarfile.BLOCKSIZE


class Member(NamedTuple):
    """Where a member's bytes are in the archive.

    Parameters
    ----------
    size, packed : int
        Bytes of the member, and what they take in the archive.
    offset : int
        Of the bytes in a tar archive, or of the header before them in a ZIP archive.
    crc : int or None
        CRC-32 of the member, in a ZIP archive.
    deflated : bool
        Whether they are compressed.
    """

    size: int
    packed: int
    offset: int
    crc: int | None = None
    deflated: bool = False


@dataclass
class Archive:
    """The list of members of an archive.

    Parameters
    ----------
    path : str
        Of the archive.
    size, mtime_ns : int
        Of the archive.
    members : dict of str to Member
        Regular files, by their names with ``/`` and without ``./``.
    unusable : dict of str to tuple
        Reason and detail for each other member, by name; what would lead out is written ``%2E%2E``.
    repeated : list of str
        Names that occur again later; the last one counts, as when unpacking.
    damage : tuple or None
        Reason and detail if the list is not complete.
    """

    path: str
    size: int
    mtime_ns: int
    members: dict[str, Member] = field(default_factory=dict)
    unusable: dict[str, tuple[str, str]] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    damage: tuple[str, str] | None = None

    def add(self, name: str, member: Member) -> None:
        """Add a member, unless its name leads out of the archive."""
        clean = _clean_name(name)
        if clean is None:
            self.refuse(name, "unsafe-name", "the name of the member leads out of the archive")
            return
        if clean in self.members or self.unusable.pop(clean, None) is not None:
            self.repeated.append(clean)
        self.members[clean] = member

    def refuse(self, name: str, reason: str, detail: str) -> None:
        """Record why a member cannot be used."""
        clean = _clean_name(name) or "/".join(
            "%2E%2E" if part == ".." else part for part in name.strip("/").split("/")
        )
        if self.members.pop(clean, None) is not None or clean in self.unusable:
            self.repeated.append(clean)
        self.unusable[clean] = (reason, detail)

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of a member.

        Parameters
        ----------
        name : str
            A key of `members`.
        limit : int
            Members with more bytes, packed or not, are refused before they are read.

        Raises
        ------
        ImageError
            With reason ``missing``, ``too-large``, ``truncated``, ``corrupt`` or ``unreadable``.
        """
        member = self.members.get(name)
        if member is None:
            if self.damage is not None:
                raise ImageError("unreadable", f"{self.path} is damaged: {self.damage[1]}")
            raise ImageError(*self.unusable.get(name, ("missing", f"{self.path} has no {name!r}")))
        if max(member.size, member.packed) > limit:
            size = max(member.size, member.packed)
            raise ImageError("too-large", f"the member has {size:,} bytes, more than {limit:,}")
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123
                return _read_member(file, member)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        except MemoryError as error:
            raise ImageError("out-of-memory", f"{name} does not fit into memory") from error


def _read_member(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    if member.crc is not None:  # the sizes in the header may be missing or differ: the list counts
        header = file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\3\4":
            raise ImageError("corrupt", "there is no member where the archive's list says")
        extra = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        file.seek(extra, os.SEEK_CUR)
    data = file.read(member.packed)
    if len(data) < member.packed:
        raise ImageError("truncated", "the archive ends inside the member")
    if member.deflated:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
        except zlib.error as error:
            raise ImageError("corrupt", f"the member cannot be unpacked: {error}") from error
    if len(data) != member.size:
        raise ImageError("corrupt", "the member does not have the size that the archive says")
    if member.crc is not None and zlib.crc32(data) != member.crc:
        raise ImageError("corrupt", "the member does not have the checksum that the archive says")
    return data


_cache: OrderedDict[str, Archive] = OrderedDict()
_lock = ForkSafeLock()


def open_archive(path: str) -> Archive:
    """Return the list of an archive; the lists of the last few archives are kept.

    Raises
    ------
    ImageError
        With reason ``missing``, ``unreadable``, ``truncated`` or ``not-an-archive``.
    """
    try:
        status = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not-a-file", f"{path} is not a regular file")
        state = (status.st_size, status.st_mtime_ns)
        with _lock:
            known = _cache.get(path)
            if known is not None and (known.size, known.mtime_ns) == state:
                _cache.move_to_end(path)
                return known
        archive = Archive(path, *state)
        if path.lower().endswith(".tar"):
            _list_tar(archive)
        else:
            _list_zip(archive)
    except OSError as error:
        raise _unreadable(path, error) from error
    except MemoryError as error:
        raise ImageError("out-of-memory", f"the list of {path} does not fit into memory") from error
    with _lock:
        _cache[path] = archive
        while len(_cache) > _CACHED:
            _cache.popitem(last=False)
    return archive


def _list_zip(archive: Archive) -> None:
    try:
        with zipfile.ZipFile(archive.path) as file:
            infos = file.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, LookupError) as error:
        with open(archive.path, "rb") as raw:  # noqa: PTH123
            begins_well = raw.read(4) == b"PK\3\4"
        if begins_well:
            detail = "its list of members, which is at the end, is missing; copy it again"
            raise ImageError("truncated", f"{archive.path}: {detail}") from error
        raise ImageError("not-an-archive", f"{archive.path} is not a ZIP archive") from error
    for info in infos:
        if info.is_dir():
            continue
        problem = _zip_problem(info)
        if problem is not None:
            archive.refuse(info.filename, *problem)
            continue
        deflated = info.compress_type == _DEFLATED
        archive.add(
            info.filename,
            Member(info.file_size, info.compress_size, info.header_offset, info.CRC, deflated),
        )


def _zip_problem(info: zipfile.ZipInfo) -> tuple[str, str] | None:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "archive-link", "links in archives are not followed"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted", "the member is encrypted; unpack it"
    if info.compress_type not in (_STORED, _DEFLATED):
        return "compression-not-supported", "it is not compressed with deflate; unpack it"
    return None


def _list_tar(archive: Archive) -> None:
    """Read the headers of a tar archive, and find out whether there are all of them.

    The tarfile module takes a damaged header for the end.
    """
    end = 0
    try:
        with tarfile.open(archive.path, "r:") as file:
            for info in _headers(file):
                if not info.isdir():
                    _add_tar_member(archive, info)
            end = file.offset
    except (tarfile.TarError, EOFError, ValueError, LookupError) as error:
        if not (archive.members or archive.unusable):
            raise ImageError("not-an-archive", f"{archive.path}: {error}") from error
        detail = f"its list of members breaks off: {error}"
        reason = "truncated" if "unexpected end" in str(error) else "corrupt"
        archive.damage = archive.damage or (reason, detail)
        return
    with open(archive.path, "rb") as raw:  # noqa: PTH123
        raw.seek(end)
        block = raw.read(_BLOCK)
    if len(block) < _BLOCK:
        archive.damage = ("truncated", "the archive ends without its end mark; copy it again")
    elif block.strip(b"\0"):
        archive.damage = ("corrupt", "the header of a member is damaged, and hides what follows")


def _headers(file: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (info := file.next()) is not None:
        yield info
        vars(file)["members"] = []  # they would all stay in memory


def _add_tar_member(archive: Archive, info: tarfile.TarInfo) -> None:
    if info.issym() or info.islnk():
        archive.refuse(info.name, "archive-link", "links in archives are not followed")
    elif not info.isreg() or info.issparse():
        archive.refuse(info.name, "not-a-file", "the member is not a regular file")
    elif info.offset_data + info.size > archive.size:
        archive.refuse(info.name, "truncated", "the archive ends inside the member")
        archive.damage = ("truncated", "the archive ends inside a member; copy it again")
    else:
        archive.add(info.name, Member(info.size, info.size, info.offset_data))


def _clean_name(name: str) -> str | None:
    """Return a member's name without ``./`` and ``//``, or None if it leads out of the archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or not parts or "\0" in name:
        return None
    if os.sep == "\\" and ("\\" in name or ":" in name):
        return None
    return "/".join(parts)


def _unreadable(path: str, error: OSError) -> ImageError | GroundingError:
    if error.errno in (errno.EMFILE, errno.ENFILE):  # not the fault of this file
        return GroundingError(
            f"{path} cannot be read, because too many files are open; raise the limit with "
            "'ulimit -n' or close other programs"
        )
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ImageError("missing", f"{path} does not exist")
    return ImageError("unreadable", f"{path} cannot be read: {error.strerror or error}")
