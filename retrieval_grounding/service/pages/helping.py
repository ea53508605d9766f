"""The page with the query language and the keys."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from ..state import Service
from ..templating import page
from .address import Address
from .shell import make_shell

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/help", response_class=HTMLResponse)
async def helping(request: Request, service: Service) -> HTMLResponse:
    """Show how to ask."""
    address = Address.read(request.query_params)
    shell = make_shell(service, service.served(address.index), address, here="help")
    return page("help.html", title=f"How to ask · {shell.site}", shell=shell)
