"""One photograph, large: all its regions, with their scores for what was asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse

from ...core.explanation import Explanation
from ...core.hits import Hit
from ...core.query.value import Query
from ...storage.rows import ImageRow
from ..api.shapes import picture_urls
from ..errors import NotFoundError
from ..served import ServedIndex
from ..state import Service
from ..templating import page
from .address import Address
from .asking import Answer, ask
from .cards import shown_name
from .collection import Collection, Known
from .problems import catching
from .regions import Region, ScoredPhoto, score_photo
from .shell import Link, make_shell
from .teaching import Teaching, Thumbs

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_RELATIONS = {"copy": "the same file", "near": "nearly the same", "burst": "of the same burst"}
_MAX_ALIKE = 24


@router.get("/photo/{content_hash}", response_class=HTMLResponse)
@catching
async def photo(
    request: Request, content_hash: str, service: Service, known: Known
) -> HTMLResponse:
    """Show a photograph."""
    address = Address.read(request.query_params)
    served = service.served(address.index)
    collection = known.of(served)
    images = await run_in_threadpool(collection.image, content_hash)
    if not images:
        raise NotFoundError("this collection has no such photograph, or no longer")
    second = request.query_params.get("second", "").strip()
    answer = await ask(service, served, address) if address.text else None
    selected = request.query_params.get("region", "")

    def look() -> _Photo:
        scored, own = _scored(served, images[0], answer, address.taught)
        against = None
        phrase = second or (answer.query.also[0] if answer and answer.query.also else "")
        if phrase:
            against = score_photo(served, (images[0].shard, images[0].row), Query(phrase), ())
        number = int(selected) if selected.isdigit() else None
        teaching = Teaching.of(served, address, answer.query if answer else None, "photo")
        return _Photo(
            served.name, address, images, collection, answer, own, scored, against, phrase, number,
            teaching,
        )  # fmt: skip

    shown = await run_in_threadpool(look)
    values = await run_in_threadpool(shown.values)
    shell = make_shell(service, served, address)
    title = f"{shown.heading} · {shell.site}"
    return page("photo.html", title=title, shell=shell, **values)


def _scored(
    served: ServedIndex, image: ImageRow, answer: Answer | None, taught: bool
) -> tuple[ScoredPhoto, Hit | None]:
    hits = answer.found if answer else []
    own = next((hit for hit in hits if hit.content_hash == image.content_hash), None)
    others = [hit for hit in hits if hit is not own]
    query = answer.query if answer else None
    return score_photo(served, (image.shard, image.row), query, others, taught), own


@dataclass(frozen=True)
class _Photo:
    """What the template of a photograph shows."""

    index: str
    address: Address
    images: list[ImageRow]
    collection: Collection
    answer: Answer | None
    hit: Hit | None
    scored: ScoredPhoto
    against: ScoredPhoto | None
    second: str
    selected_number: int | None
    teaching: Teaching | None

    @property
    def image(self) -> ImageRow:
        return self.images[0]

    @property
    def heading(self) -> str:
        return self.address.words or shown_name(self.image.path)

    @property
    def best(self) -> Region | None:
        """The best region for what was asked."""
        return self.scored.regions[0] if self.answer else None

    @property
    def selected(self) -> Region | None:
        wanted = self.selected_number
        chosen = [region for region in self.scored.regions if region.number == wanted]
        return chosen[0] if chosen else self.best

    def values(self) -> dict[str, Any]:
        selected = self.selected
        return {
            "heading": self.heading,
            "image": self.image,
            "source": picture_urls(self.index, self.image.content_hash, None)["image"],
            "file": shown_name(self.image.path),
            "regions": [self.row(region) for region in self.scored.regions],
            "drawn": sorted(
                (self.row(region) for region in self.scored.regions if not region.is_whole),
                key=lambda row: -row["region"].area,
            ),
            "whole": self.is_marked(self.scored.regions, 0),
            "asked": self.answer is not None,
            "calibrated": self.answer is not None and self.answer.calibrated,
            "selected": selected,
            "headline": self.headline(),
            "actions": self.actions(selected) if selected else [],
            "explained": _explained(self.scored.explain(selected.number)) if selected else None,
            "second": self.second,
            "against": self.against.regions[0] if self.against else None,
            "facts": self.facts(),
            "alike": self.alike(),
            "steps": self.steps(),
            "here": self.url(),
            "draw": self.draw_url(),
            "fields": self.address.pairs(),
            "note": self.teaching.note(self.image.content_hash) if self.teaching else None,
            "teach": self.thumbs(selected),
        }

    def thumbs(self, region: Region | None) -> Thumbs | None:
        if self.teaching is None or region is None:
            return None
        return self.teaching.thumbs(self.image.content_hash, region.box, region.label)

    def is_marked(self, regions: list[Region], number: int) -> bool:
        return self.selected is not None and self.selected.number == number and bool(regions)

    def row(self, region: Region) -> dict[str, Any]:
        best, selected = self.best, self.selected
        return {
            "region": region,
            "url": self.url(region=str(region.number)),
            "best": region == (selected or best),
            "shown": "" if region.share is None else _percent(region.share, self.calibrated),
            "share": min(1.0, max(0.0, region.share or 0.0)),
            "second": self.against is not None and region.number == self.against.regions[0].number,
        }

    @property
    def calibrated(self) -> bool:
        return self.answer is not None and self.answer.calibrated

    def headline(self) -> str:
        if self.hit is not None and self.hit.presence is not None:
            return _percent(self.hit.presence, True)
        best = self.best
        return "" if best is None or best.share is None else _percent(best.share, self.calibrated)

    def url(self, **more: str) -> str:
        kept = {"second": self.second} if self.second and self._second_is_own else {}
        return self.address.url(f"/photo/{self.image.content_hash}", kept | more)

    @property
    def _second_is_own(self) -> bool:
        also = self.answer.query.also if self.answer else ()
        return self.second not in also[:1]

    def actions(self, region: Region) -> list[Link]:
        like = f"like:{self.image.content_hash}:{region.number}"
        empty = replace(self.address, words="", clauses=(), page=1)
        found = [Link("Find this elsewhere", empty.with_clauses(like).url("/"))]
        if self.address.words:
            both = self.address.with_clauses(like).url("/")
            found.append(Link(f"… and “{self.address.words}”", both))
        return found

    def draw_url(self) -> str:
        """Return the URL to which a script adds the corners of a drawn box."""
        empty = replace(self.address, words="", clauses=(), page=1)
        return empty.with_clauses(f"like:{self.image.content_hash}:BOX").url("/")

    def facts(self) -> list[tuple[str, str]]:
        image = self.image
        dates = self.collection.dates([image.path])
        photo = self.collection.catalog.photos([image.content_hash]).get(image.content_hash)
        said = self.collection.catalog.metadata_of([image.path]).get(image.path)
        facts = [("File", path.path) for path in self.images]
        facts.append(("Size", f"{image.width:,} × {image.height:,} pixels"))
        if date := dates.get(image.path):
            facts.append(("Taken" if photo and photo.taken else "File of", date.replace("T", " ")))
        if photo and photo.camera:
            facts.append(("Camera", photo.camera))
        if said is not None:
            facts += [("Id", said.id)] if said.id is not None else []
            facts += [(name, str(value)) for name, value in said.values.items()]
        return facts

    def alike(self) -> list[dict[str, str]]:
        """Return the images that were folded into this one."""
        found = []
        for similar in self.hit.similar[:_MAX_ALIKE] if self.hit else ():
            content_hash = self.collection.hash_of(similar.image)
            if content_hash is None or content_hash == self.image.content_hash:
                continue
            found.append(
                {
                    "url": self.address.url(f"/photo/{content_hash}"),
                    "source": picture_urls(self.index, content_hash, None)["thumbnail"],
                    "text": f"{shown_name(similar.image)}, {_RELATIONS[similar.relation]}",
                }
            )
        return found

    def steps(self) -> dict[str, str]:
        """Return the URLs of the hits before and after this one, and of all."""
        hits = self.answer.hits if self.answer else []
        at = next((n for n, hit in enumerate(hits) if hit is self.hit), None)
        back = self.address.url("/") + f"#i-{self.image.content_hash}"
        before = hits[at - 1] if at else None
        after = hits[at + 1] if at is not None and at + 1 < len(hits) else None
        return {
            "back": back,
            "previous": self.address.url(f"/photo/{before.content_hash}") if before else "",
            "next": self.address.url(f"/photo/{after.content_hash}") if after else "",
            "text": f"{at + 1} of {len(hits)}" if at is not None else "",
        }


def _percent(share: float, calibrated: bool) -> str:
    if not calibrated:
        return f"{share:.2f}"
    return "<1%" if 0 <= share < 0.01 else f"{share:.0%}"


def _explained(explanation: Explanation | None) -> dict[str, Any] | None:
    """Return the parts of a score, as shares of the largest."""
    if explanation is None or not explanation.parts:
        return None
    largest = max(abs(part.value) for part in explanation.parts) or 1.0
    parts = [
        {
            "name": part.name,
            "value": f"{part.value:+.2f}".replace("-", "−"),
            "share": abs(part.value) / largest,
            "against": part.value < 0,
        }
        for part in sorted(explanation.parts, key=lambda part: -abs(part.value))
    ]
    return {"parts": parts, "score": f"{explanation.score:.2f}", "why": explanation.calibration}
