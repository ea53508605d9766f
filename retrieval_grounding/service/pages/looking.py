"""A picture as a query: it is kept for a while, and its name is in the URL."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import UploadFile

from ...core.errors import ImageError
from ..state import Service
from ..templating import page
from .address import Address
from .shell import make_shell

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/look", response_class=HTMLResponse)
async def choose(request: Request, service: Service) -> HTMLResponse:
    """Let somebody choose a picture, without a script."""
    return _page(request, service, Address.read(request.query_params), "")


@router.post("/look")
async def look(request: Request, service: Service) -> Response:
    """Keep a picture, and show what looks like it."""
    async with request.form(max_files=1, max_fields=50) as form:
        address = Address.read(form)
        chosen = form.get("picture")
        data = await chosen.read() if isinstance(chosen, UploadFile) else b""
    if not data:
        return _page(request, service, address, "Choose a picture first.")
    try:
        upload = await service.uploads.add(data)
    except ImageError as error:
        return _page(request, service, address, f"{error}.", 422)
    url = address.with_clauses(f"like:{upload.name}").url("/")
    return RedirectResponse(url, 303)


def _page(
    request: Request, service: Service, address: Address, message: str, status: int = 200
) -> HTMLResponse:
    shell = make_shell(service, service.served(address.index), address)
    title = f"Find what looks like a picture · {shell.site}"
    return page("look.html", status, title=title, shell=shell, message=message)
