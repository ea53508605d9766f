"""Two phrases side by side."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from ...core.text import counted
from ..served import ServedIndex
from ..state import Service
from ..templating import page
from .address import Address
from .asking import Answer, ask
from .cards import certainty, hit_card
from .problems import catching
from .shell import make_shell

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_EACH = 12


@router.get("/compare", response_class=HTMLResponse)
@catching
async def compare(request: Request, service: Service) -> HTMLResponse:
    """Show what two phrases find, and what both find."""
    address = Address.read(request.query_params)
    second = request.query_params.get("second", "").strip()
    served = service.served(address.index)
    shell = make_shell(service, served, address, here="compare")
    kept = replace(address, words="").pairs()
    sides, summary = [], ""
    if address.words and second:
        other = replace(address, words=second)
        one, two = [await ask(service, served, each) for each in (address, other)]
        sides = [
            _side(served, address, second, one, two),
            _side(served, other, address.words, two, one),
        ]
        shared = _hashes(one) & _hashes(two)
        summary = f"{counted(len(shared), 'photograph')} for both"
    title = f"{address.words} and {second}" if sides else "Compare"
    return page(
        "compare.html",
        title=f"{title} · {shell.site}",
        shell=shell,
        second=second,
        kept=kept,
        sides=sides,
        summary=summary,
    )


def _hashes(answer: Answer) -> set[str | None]:
    return {hit.content_hash for hit in answer.hits}


def _side(
    served: ServedIndex, address: Address, second: str, answer: Answer, other: Answer
) -> dict[str, object]:
    by_hash = {hit.content_hash: hit for hit in other.found}
    cards = []
    shown = answer.hits[:_EACH] or answer.found[:3]
    for hit in shown:
        url = address.url(f"/photo/{hit.content_hash}", {"second": second})
        card = hit_card(hit, served.name, url, address.words)
        against = by_hash.get(hit.content_hash)
        if against is not None:
            card = replace(card, under=f"{second} {certainty(against)}")
        cards.append(card)
    count = len(answer.hits)
    summary = counted(count, "photograph") if count else "Nothing here matches; the closest are:"
    return {"heading": address.words, "summary": summary, "cards": cards}
