"""Watching a folder: photographs that appear in it are added to an index."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from ..core.errors import GroundingError, SourceError, StoreLockedError
from ..core.reports import BuildOptions
from ..core.text import counted
from ..data.reading import size_and_time
from ..data.sources import find_images
from ..index import Index
from ..indexing.scan import REMOVED
from ..storage.catalog import Catalog

__all__ = ["FolderWatch"]

logger = logging.getLogger(__name__)

_SECONDS = 2.0
_SHARE_OF_TIME = 10  # a folder that takes long to search is searched less often
_AT_ONCE = 32

_State = tuple[int, int]


class FolderWatch(threading.Thread):
    """Looks into a folder every few seconds, and adds what is new or has changed.

    A file is added once its size and time have stayed the same between two looks, so that none is
    read while it is being copied. What was removed from the index is not added again. Deleted files
    stay in the index; ``build --prune`` forgets them.

    Parameters
    ----------
    index : Index
        What to add to.
    folder : Path
        Where to look.
    seconds : float
        Time between two looks, at least.

    Attributes
    ----------
    folder : Path
        As given.
    added : int
        Photographs that were added since the start.
    problem : str
        Why the last look failed; empty if it did not.
    """

    def __init__(self, index: Index, folder: Path, seconds: float = _SECONDS) -> None:
        super().__init__(name=f"watch {folder}", daemon=True)
        self.folder = folder
        self.added = 0
        self.problem = ""
        self._index = index
        self._seconds = seconds
        self._ending = threading.Event()
        self._seen: dict[str, _State] = {}
        self._pause = 0.0

    def run(self) -> None:
        """Look until :meth:`end` is called."""
        while not self._ending.wait(self._pause):
            try:
                self._look()
                self.problem = ""
            except StoreLockedError:
                logger.info("a different writer is at work; %s waits", self.folder)
            except GroundingError as error:
                if str(error) != self.problem:
                    logger.warning("%s: %s", self.folder, error)
                self.problem = str(error)

    def end(self) -> None:
        """Stop looking, once the photographs at hand have been added."""
        self._ending.set()
        self.join()

    def _look(self) -> None:
        """Add what was there at the last look, has not changed since, and is not in the index."""
        began = time.monotonic()
        self._pause = self._seconds
        states = {path: size_and_time(path) for path in self._search()}
        self._pause = max(self._seconds, _SHARE_OF_TIME * (time.monotonic() - began))
        known = self._known()
        new = [path for path, state in states.items() if known.get(path) not in (state, _ANY)]
        settled = [path for path in new if self._seen.get(path) == states[path]]
        self._seen = {path: states[path] for path in new}
        for start in range(0, len(settled), _AT_ONCE):
            if self._ending.is_set():
                return
            part = settled[start : start + _AT_ONCE]
            report = self._index.add(part, options=BuildOptions(progress=False))
            self.added += report.added + report.updated + report.duplicates
            if report.embedded:
                logger.info("added %s from %s", counted(report.embedded, "image"), self.folder)

    def _search(self) -> list[str]:
        try:
            return find_images(self.folder)
        except SourceError:
            if self.folder.is_dir():  # nothing in it yet
                return []
            raise

    def _known(self) -> dict[str, _State]:
        """Return what the index knows of files, added or not."""
        catalog: Catalog = self._index._catalog
        known = {path: (file.size, file.mtime_ns) for path, file in catalog.known_files().items()}
        for file in catalog.skipped():
            known[file.path] = _ANY if file.reason == REMOVED else (file.size, file.mtime_ns)
        return known


_ANY: _State = (-2, -2)
