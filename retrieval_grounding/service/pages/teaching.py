"""Thumbs and better boxes: kept in the index, undone if they were a mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse, Response

from ...core.errors import FeedbackError
from ...core.feedback import FeedbackEntry, Verdict
from ...core.query.value import Query
from ...core.regions import pairwise_iou
from ...core.text import counted
from ...core.types import Box
from ..served import ServedIndex
from ..state import Service
from .address import Address
from .shell import Link

__all__ = ["Note", "Teaching", "Thumbs", "router"]

router = APIRouter(include_in_schema=False)

_ACTION = "/teach"
# A better box is a box that is right.
_VERDICTS: dict[str, Verdict] = {"up": "up", "down": "down", "box": "up"}
_SAME_BOX = 0.9  # as index.feedback has it


@dataclass(frozen=True)
class Thumbs:
    """The two forms of a region; see ``parts.html``."""

    fields: list[tuple[str, str]]
    given: str
    about: str
    action: str = _ACTION


@dataclass(frozen=True)
class Note:
    """What a page says about thumbs that its answer follows."""

    text: str
    undo: Any = None
    toggle: Link | None = None


class Teaching:
    """The thumbs for a phrase, as the forms and notes of a page.

    Parameters
    ----------
    address : Address
        Of the page.
    phrase : str
        What was asked for.
    entries : sequence of FeedbackEntry
        The thumbs for it.
    here : str
        ``"results"`` or ``"photo"``, where the forms lead back to.
    """

    def __init__(
        self, address: Address, phrase: str, entries: Sequence[FeedbackEntry], here: str
    ) -> None:
        self._address = address
        self._phrase = phrase
        self._entries = entries
        self._here = here

    @classmethod
    def of(
        cls, served: ServedIndex, address: Address, query: Query | None, here: str
    ) -> Teaching | None:
        """Return the thumbs for a query; None if it has no phrase to give thumbs for."""
        phrase = None if query is None else query.promoted().phrase
        if phrase is None:
            return None
        return cls(address, phrase, served.index.feedback.entries(phrase), here)

    def thumbs(self, content_hash: str, box: Box, about: str) -> Thumbs:
        """Return the forms for a box of an image."""
        sides = ",".join(f"{value:.2f}" for value in box)
        own = [("here", self._here), ("image", content_hash), ("box", sides)]
        given = [
            entry.verdict
            for entry in self._entries
            if entry.content_hash == content_hash
            and pairwise_iou([entry.box], [box])[0, 0] >= _SAME_BOX
        ]
        return Thumbs([*self._address.pairs(), *own], given[-1] if given else "", about)

    def note(self, photo: str = "") -> Note | None:
        """Return what the page says; `photo` is the image that is open."""
        if not self._entries:
            return None
        path = f"/photo/{photo}" if photo else "/"
        count = counted(len(self._entries), "thumb")
        if not self._address.taught:
            again = Link("Follow them", self._address.url(path, taught=True))
            return Note(f"{count} for “{self._phrase}”, set aside here.", toggle=again)
        last = self._entries[-1]
        fields = [*self._address.pairs(), ("here", self._here), ("undo", last.id)]
        if photo:
            fields.append(("image", photo))
        without = Link("Show the answer without", self._address.url(path, taught=False))
        text = f"This answer follows {count} for “{self._phrase}”."
        return Note(text, {"action": _ACTION, "fields": fields}, without)


@router.post(_ACTION)
async def teach(request: Request, service: Service) -> Response:
    """Keep a thumb or a better box, or undo one, and show the page again."""
    async with request.form(max_files=0, max_fields=60) as form:
        values = {name: str(form.get(name, "")) for name in ("here", "image", "box", "verdict")}
        undo, address = str(form.get("undo", "")), Address.read(form)
    served = service.served(address.index)

    def keep() -> None:
        if undo:
            served.index.feedback.undo(undo)
            return
        phrase = Query.parse(address.text).promoted().phrase
        if phrase is None:
            raise FeedbackError("a thumb is for a phrase, and this query has none")
        verdict = _VERDICTS.get(values["verdict"])
        if verdict is None:
            raise FeedbackError(f"a verdict is one of {', '.join(_VERDICTS)}")
        served.index.feedback.add_region(phrase, values["image"], _box(values["box"]), verdict)

    await run_in_threadpool(keep)
    is_photo = values["here"] == "photo" and values["image"].isalnum()
    if request.headers.get("x-part") == "taught":
        return JSONResponse({"given": "" if undo else values["verdict"]})
    path = f"/photo/{values['image']}" if is_photo else "/"
    anchor = "" if is_photo or not values["image"].isalnum() else f"#i-{values['image']}"
    return RedirectResponse(address.url(path, taught=True, page=address.page) + anchor, 303)


def _box(text: str) -> Box:
    try:
        x1, y1, x2, y2 = (float(value) for value in text.split(","))
    except ValueError as error:
        raise FeedbackError("a box is x1,y1,x2,y2 in pixels of the upright image") from error
    return x1, y1, x2, y2
