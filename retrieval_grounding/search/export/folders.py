"""New folders and ZIP archives of files that a user asks for."""

from __future__ import annotations

import contextlib
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ...core.errors import GroundingError
from ...core.types import PathLike

__all__ = ["file_name", "new_folder"]

_LONGEST = 60  # characters of a name; file systems allow 255 bytes


@contextlib.contextmanager
def new_folder(path: PathLike) -> Iterator[Callable[[str, bytes], None]]:
    """Yield a function that writes a file into a new folder, given its relative name and content.

    Parameters
    ----------
    path : path
        The folder: one that does not exist, or is empty, so that no file is ever mixed with others
        or replaced. A name that ends in ``.zip`` is an archive instead; it appears when it is
        complete, and replaces one of that name.

    Raises
    ------
    GroundingError
        If the folder has files in it, or something cannot be written.
    """
    target = Path(path)
    try:
        if target.suffix.lower() == ".zip":
            with _new_archive(target) as write:
                yield write
        else:
            yield _prepared(target)
    except OSError as error:
        raise GroundingError(f"cannot write {target}: {error.strerror or error}") from error


def file_name(text: str) -> str:
    """Return a text as a name that every file system takes; different texts may share one.

    Examples
    --------
    >>> file_name("a man: on/in a *red* car?"), file_name("..")
    ('a man on in a red car', 'unnamed')
    """
    words = "".join(c if c.isalnum() or c in "-_" else " " for c in text).split()
    return " ".join(words)[:_LONGEST].strip() or "unnamed"


def _prepared(folder: Path) -> Callable[[str, bytes], None]:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise GroundingError(f"the folder {folder} has files in it; name a new one")

    def write(name: str, data: bytes) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as opened:
            opened.write(data)

    return write


@contextlib.contextmanager
def _new_archive(target: Path) -> Iterator[Callable[[str, bytes], None]]:
    target = Path(os.path.realpath(target))
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with zipfile.ZipFile(temporary, "x") as archive:  # pictures are compressed already
            yield archive.writestr
        temporary.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
