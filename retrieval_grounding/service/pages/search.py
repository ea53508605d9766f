"""The first page, and the photographs that were found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse

from ...core.hits import Hit
from ...core.text import counted
from ...search.facets import facets
from ..api.shapes import picture_urls
from ..served import ServedIndex
from ..state import Service, ServiceState
from ..templating import page
from .address import Address
from .asking import Answer, ask
from .cards import Card, certainty, hit_card, shown_name
from .collection import Collection, Known
from .histogram import Sure, sure
from .problems import catching
from .shell import Link, Shell, make_shell
from .teaching import Teaching

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_PER_PAGE = 24
_NEAREST = 6


@router.get("/", response_class=HTMLResponse)
@catching
async def search(request: Request, service: Service, known: Known) -> HTMLResponse:
    """Show what a query finds, or what can be asked."""
    address = Address.read(request.query_params)
    served = service.served(address.index)
    collection = known.of(served)
    if not address.text:
        return await _start(service, served, address, collection)
    answer = await ask(service, served, address)
    dates = await run_in_threadpool(collection.dates, [hit.image for hit in answer.hits])
    phrases = [] if answer.hits else (await run_in_threadpool(collection.overview)).phrases
    teaching = await run_in_threadpool(Teaching.of, served, address, answer.query, "results")
    results = _Results(service, served, address, answer, dates, phrases, teaching)
    return page("results.html", **results.values())


async def _start(
    service: ServiceState, served: ServedIndex, address: Address, collection: Collection
) -> HTMLResponse:
    overview = await run_in_threadpool(collection.overview)
    shell = make_shell(service, served, address, bare=True)
    cards = [
        Card(
            url=replace(address, words="").url(f"/photo/{image.content_hash}"),
            source=picture_urls(served.name, image.content_hash, None)["thumbnail"],
            width=image.width,
            height=image.height,
            boxes=(),
            phrase="",
            share=None,
            certainty="",
            meaning="",
            under="",
            path=image.path,
            alike=0,
            anchor=f"i-{image.content_hash}",
        )
        for image in overview.samples
    ]
    return page(
        "start.html",
        title=f"{served.name} · {shell.site}",
        shell=shell,
        examples=[Link(phrase, shell.example_url(phrase)) for phrase in overview.phrases],
        summary=f"{counted(overview.images, 'photograph')} in {served.name}",
        cards=cards,
    )


@dataclass(frozen=True)
class _Results:
    """What the template of results shows."""

    service: ServiceState
    served: ServedIndex
    address: Address
    answer: Answer
    dates: dict[str, str]
    phrases: list[str]
    teaching: Teaching | None

    def values(self) -> dict[str, Any]:
        shell = make_shell(self.service, self.served, self.address)
        return {
            "title": f"{self.heading} · {shell.site}",
            "shell": shell,
            "heading": self.heading,
            "summary": self.summary,
            "sure": self.sure(),
            "note": self.teaching.note() if self.teaching else None,
            "here": self.address.url("/", page=self.address.page),
            "chips": self.chips(),
            "facets": self.facets(),
            "folding": self.folding(),
            "cards": self.cards(self.shown),
            "pages": self.pages(),
            "nothing": self.nothing(shell),
        }

    @property
    def heading(self) -> str:
        return self.address.words or "What looks like this"

    @property
    def first(self) -> int:
        return (self.address.page - 1) * _PER_PAGE

    @property
    def shown(self) -> list[Hit]:
        return self.answer.hits[self.first : self.first + _PER_PAGE]

    @property
    def summary(self) -> str:
        count = len(self.answer.hits)
        if not count:
            return "Nothing here matches."
        more = "" if self.answer.is_all else " or more"
        first = "probable" if self.answer.calibrated else "alike"
        return f"{counted(count, 'photograph')}{more}, the most {first} first"

    def sure(self) -> Sure | None:
        return sure(self.answer, self.address) if self.answer.calibrated else None

    def cards(self, hits: list[Hit]) -> list[Card]:
        return [self.card(hit) for hit in hits]

    def card(self, hit: Hit) -> Card:
        phrase = self.answer.query.phrase or ""
        thumbs = None
        if self.teaching is not None and hit.content_hash is not None:
            thumbs = self.teaching.thumbs(hit.content_hash, hit.box, shown_name(hit.image))
        return hit_card(hit, self.served.name, self.photo_url(hit), phrase, thumbs)

    def photo_url(self, hit: Hit) -> str:
        return self.address.url(f"/photo/{hit.content_hash}")

    def chips(self) -> list[Link]:
        return [
            Link(_chip_text(clause), self.address.without(clause).url("/"))
            for clause in self.address.filters
        ]

    def facets(self) -> list[dict[str, object]]:
        return [
            {
                "name": facet.name,
                "choices": [
                    {
                        "text": choice.text,
                        "count": choice.count,
                        "url": self.address.with_clauses(choice.clauses).url("/"),
                    }
                    for choice in facet.choices
                ],
            }
            for facet in facets(self.answer.hits, self.dates)
        ]

    def folding(self) -> Link | None:
        if not self.address.folded:
            return Link("Fold what looks alike", self.address.url("/", folded=True))
        if any(hit.similar for hit in self.answer.hits):
            return Link("Show all that look alike", self.address.url("/", folded=False))
        return None

    def pages(self) -> dict[str, str]:
        count, last = len(self.answer.hits), self.first + len(self.shown)
        number = self.address.page
        return {
            "previous": self.address.url("/", page=number - 1) if number > 1 else "",
            "next": self.address.url("/", page=number + 1) if last < count else "",
            "text": f"{self.first + 1}–{last} of {count}",
        }

    def nothing(self, shell: Shell) -> dict[str, object] | None:
        if self.shown:
            return None
        return {
            "text": self._nothing_text(),
            "ways": self._ways(shell),
            "advice": self._advice(),
            "examples": [Link(text, shell.example_url(text)) for text in self.phrases],
            "nearest": self.cards(self.answer.found[:_NEAREST]),
        }

    def _nothing_text(self) -> str:
        if not self.answer.found:
            return "No photograph of this collection passes the filters."
        if self.answer.hits:
            return "There are no more photographs."
        return (
            f"No photograph shows it with a probability of {self.address.percent}% or more; "
            f"the closest one has {certainty(self.answer.found[0])}."
        )

    def _ways(self, shell: Shell) -> list[Link]:
        ways = []
        if self.answer.hits:
            ways.append(Link("Back to the first", self.address.url("/", page=1)))
        best = self.answer.found[0].presence if self.answer.found else None
        if best is not None and not self.answer.hits:
            lower = max(0, int(100 * best) // 5 * 5)
            text = f"Ask for {lower}% or more" if lower else "Show them all, however improbable"
            ways.append(Link(text, self.address.url("/", percent=lower)))
        if self.address.filters:
            without = replace(self.address, clauses=self.address.likes, page=1)
            ways.append(Link("Search without filters", without.url("/")))
        return ways or [Link("See what this collection shows", shell.home)]

    def _advice(self) -> str:
        if len(self.address.words.split()) > 3:
            return "Fewer words may help: what it is, and one thing about it."
        return "Other words may help: what it looks like, rather than what it is called."


def _chip_text(clause: str) -> str:
    key, _, value = clause.partition(":")
    value = value.strip('"')
    if key.lstrip("-") == "folder":
        value = shown_name(value)
    negated = "no " if key.startswith("-") else ""
    names = {"since": "from", "until": "to", "where": ""}
    name = names.get(key.lstrip("-"), key.lstrip("-"))
    return f"{negated}{name} {value}".strip()
