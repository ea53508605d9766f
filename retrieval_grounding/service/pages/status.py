"""What is served: collections, what runs where, files that were skipped, builds in progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response

from ...core.reports import SkippedFile
from ...storage.lock import current_writer
from ..errors import NotFoundError
from ..served import ServedIndex
from ..state import Service, ServiceState
from ..templating import page
from .address import Address
from .cards import shown_name
from .shell import make_shell
from .skipped import SkippedPictures

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_SHOWN_OF_A_REASON = 12


@router.get("/status", response_class=HTMLResponse)
async def status(request: Request, service: Service) -> HTMLResponse:
    """Show what is served."""
    address = Address.read(request.query_params)
    shell = make_shell(service, service.served(address.index), address, here="status")
    pictures: SkippedPictures = request.app.state.skipped_pictures
    holdings = []
    for served in service.indexes.values():
        facts = await run_in_threadpool(_facts, served)
        reasons = await _reasons(service, pictures, served, facts["skipped_files"])
        holdings.append(facts | {"reasons": reasons})
    busy = any(holding["writer"] for holding in holdings)
    title = f"Status · {shell.site}"
    return page("status.html", title=title, shell=shell, holdings=holdings, busy=busy)


@router.get("/skipped/{name}/{key}")
async def skipped_picture(request: Request, service: Service, name: str, key: str) -> Response:
    """Send the picture of a skipped file that the status page has shown."""
    data = request.app.state.skipped_pictures.known(service.served(name).name, key)
    if data is None:
        raise NotFoundError("there is no picture of this file, or no longer")
    return Response(data, media_type="image/jpeg")


def _facts(served: ServedIndex) -> dict[str, Any]:
    info, skipped = served.index.info(), served.index.skipped()
    writer = current_writer(served.index.directory)
    vectors = info["vectors"]
    return {
        "name": served.name,
        "url": Address(index=served.name).url("/"),
        "figures": [
            ("photographs", f"{info['images']:,}"),
            ("regions", f"{info['regions']:,}"),
            ("skipped", f"{len(skipped):,}"),
            ("on disk", _bytes(info["bytes"])),
        ],
        "facts": [
            ("Folder", info["directory"]),
            ("Detector", info["detector"] or info["detector_fingerprint"]),
            ("Encoder", info["clip"] or info["encoder_fingerprint"]),
            ("Matcher", _matcher(info)),
            ("Runs", info["runs"]),
            ("Vectors", _vectors(vectors)),
        ],
        "advice": vectors.get("reindex_because") or "",
        "writer": writer and _writer(writer.process, writer.host, writer.started),
        "skipped_files": skipped,
    }


def _matcher(info: dict[str, Any]) -> str:
    used, chosen = info["matcher"], info["matcher_in_use"]
    return used if used == chosen else f"{used}, because {chosen} cannot be used"


def _vectors(vectors: dict[str, Any]) -> str:
    kind = "all compared, without approximation" if vectors["kind"] == "flat" else vectors["kind"]
    recall = vectors.get("recall")
    if recall is None:
        return kind
    return (
        f"{kind}; tuned to find {recall:.1%} of the nearest regions, and "
        f"{vectors['recall_wanted']:.1%} is wanted; measured with "
        f"{vectors['measured_with_phrases']:,} phrases"
    )


def _writer(process: int, host: str, started: str) -> dict[str, str]:
    try:
        since = datetime.fromisoformat(started).astimezone().strftime("%H:%M:%S")
    except ValueError:
        since = started
    return {"process": str(process), "host": host, "since": since}


def _bytes(size: int) -> str:
    """Return a size for people.

    >>> _bytes(2_720_000), _bytes(3_100_000_000)
    ('2.7 MB', '3.1 GB')
    """
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


@dataclass(frozen=True)
class _Reason:
    """Files that were skipped for one reason."""

    name: str
    count: int
    files: list[dict[str, str]]

    @property
    def more(self) -> int:
        return self.count - len(self.files)


async def _reasons(
    service: ServiceState, pictures: SkippedPictures, served: ServedIndex, files: list[SkippedFile]
) -> list[_Reason]:
    groups: dict[str, list[SkippedFile]] = {}
    for file in files:
        groups.setdefault(file.reason, []).append(file)
    ordered: Iterable[tuple[str, list[SkippedFile]]] = sorted(
        groups.items(), key=lambda pair: (-len(pair[1]), pair[0])
    )
    reasons = []
    for reason, own in ordered:
        shown = []
        for file in own[:_SHOWN_OF_A_REASON]:
            key = await service.decoding.run(partial(pictures.key, service, served.name, file))
            shown.append(
                {
                    "name": shown_name(file.path),
                    "path": file.path,
                    "detail": file.detail,
                    "source": f"/skipped/{served.name}/{key}" if key else "",
                }
            )
        reasons.append(_Reason(reason, len(own), shown))
    return reasons
