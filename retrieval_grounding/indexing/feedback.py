"""What people think of the hits of an index: adding it, undoing it, listing it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from ..core.errors import FeedbackError, PhraseError
from ..core.feedback import FeedbackEntry, Verdict
from ..core.hits import Hit
from ..core.phrases import clean_phrase
from ..core.regions import pairwise_iou
from ..storage.catalog import Catalog
from ..storage.feedback_file import FeedbackFile, FeedbackLog, Line, retraction

__all__ = ["Feedback"]

_SAME_BOX = 0.9


class Feedback:
    """Thumbs for the hits of an index: ``index.feedback``.

    They are kept in the index, and count for everybody who queries it: see
    ``Index.query(feedback=...)`` and ``Index.train("feedback")``. Adding needs no lock of the
    index, so it works while a build runs; threads and processes may add at the same time.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    file : FeedbackFile
        Where thumbs are kept.

    Examples
    --------
    >>> import tempfile
    >>> import retrieval_grounding as rg
    >>> from PIL import Image
    >>> nothing_yet = rg.BuildOptions(allow_empty=True)
    >>> index = rg.build([], tempfile.mkdtemp(), options=nothing_yet)
    >>> index.add(Image.new("RGB", (320, 240), "gray")).added
    1
    >>> thumb = index.feedback.add(index.query("a wall")[0], "up")
    >>> len(index.feedback), thumb.phrase
    (1, 'a wall')
    >>> index.feedback.undo(thumb.id).verdict, len(index.feedback)
    ('up', 0)
    """

    def __init__(self, catalog: Catalog, file: FeedbackFile) -> None:
        self._catalog = catalog
        self._file = file

    def add(self, hit: Hit, verdict: Verdict, box: Sequence[float] | None = None) -> FeedbackEntry:
        """Store a thumb for a hit of this index.

        Parameters
        ----------
        hit : Hit
            What a query has found.
        verdict : str
            ``"up"``: the box is what the phrase means. ``"down"``: it is not.
        box : sequence of 4 float, optional
            A better box than that of the hit, in pixels of the upright image.

        Returns
        -------
        FeedbackEntry
            What was stored; its `id` undoes it.

        Raises
        ------
        FeedbackError
            If the image is not in the index, or a value cannot be used.
        StoreError
            If the folder of the index cannot be written.
        """
        if hit.content_hash is None:
            raise FeedbackError("the hit does not come from an index, so its thumb has no place")
        chosen = hit.box if box is None else box
        return self.add_region(hit.phrase, hit.content_hash, chosen, verdict)

    def add_region(
        self, phrase: str, content_hash: str, box: Sequence[float], verdict: Verdict
    ) -> FeedbackEntry:
        """Store a thumb for any box in an image of this index; see :meth:`add`.

        An earlier thumb for the same phrase and box (with an IoU of at least 0.9) is replaced.
        """
        try:
            cleaned = clean_phrase(phrase)
        except PhraseError as error:
            raise FeedbackError(str(error)) from error
        image, size = self._image(content_hash)
        entry = FeedbackEntry(
            secrets.token_hex(8),
            _now(),
            verdict,
            cleaned,
            image,
            content_hash,
            tuple(box),  # type: ignore[arg-type]  # checked by the class
            size,
        )

        def lines(log: FeedbackLog) -> list[Line]:
            replaced = [own.id for own in log.entries.values() if _is_same(own, entry)]
            return [*map(_retraction, replaced), entry.as_dict()]

        self._file.append(lines)
        return entry

    def undo(self, entry_id: str) -> FeedbackEntry:
        """Let a thumb no longer count, and return it.

        Raises
        ------
        FeedbackError
            If there is none with this id, or it was undone before.
        """
        undone: list[FeedbackEntry] = []

        def lines(log: FeedbackLog) -> list[Line]:
            entry = log.entries.get(entry_id)
            if entry is None:
                raise FeedbackError(f"no feedback has the id {entry_id!r:.80}; it may be undone")
            undone.append(entry)
            return [_retraction(entry_id)]

        self._file.append(lines)
        return undone[0]

    def entries(self, phrase: str | None = None) -> list[FeedbackEntry]:
        """Return the thumbs that count, oldest first; those of one phrase if it is given."""
        found = list(self._file.read().entries.values())
        if phrase is None:
            return found
        wanted = clean_phrase(phrase).casefold()
        return [entry for entry in found if entry.phrase.casefold() == wanted]

    def __len__(self) -> int:
        """Return the number of thumbs that count."""
        return len(self._file.read().entries)

    def __bool__(self) -> bool:
        return True  # the object is there, even without thumbs

    def __repr__(self) -> str:
        return f"<Feedback of {str(self._file.path.parent)!r}: {len(self)} thumbs>"

    def _image(self, content_hash: Any) -> tuple[str, tuple[int, int]]:
        """Return the path and the size of an image of the index."""
        found = self._catalog.content_rows(content_hash) if isinstance(content_hash, str) else []
        for known, key in found:
            images = self._catalog.images_at([key]).get(key)
            if known == content_hash and images:
                return images[0].path, (images[0].width, images[0].height)
        raise FeedbackError(f"no image of the index has the content hash {content_hash!r:.80}")


def _retraction(entry_id: str) -> Line:
    return retraction(entry_id, secrets.token_hex(8), _now())


def _is_same(one: FeedbackEntry, other: FeedbackEntry) -> bool:
    if (one.phrase.casefold(), one.content_hash) != (other.phrase.casefold(), other.content_hash):
        return False
    boxes = [np.array([entry.box], np.float32) for entry in (one, other)]
    return float(pairwise_iou(*boxes)[0, 0]) >= _SAME_BOX


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
