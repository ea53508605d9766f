"""The command ``serve``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .logs import Verbose
from .options import Device, Json, index_directory
from .output import note, print_json

if TYPE_CHECKING:
    from ..index import Index
    from ..service.settings import ServiceSettings

__all__ = ["serve", "serve_opened"]


def serve(
    indexes: Annotated[
        list[Path],
        typer.Argument(help="Directories of indexes.", metavar="INDEX...", parser=index_directory),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8770,
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="RETRIEVAL_GROUNDING_TOKEN",
            help="What every client must know; at least 16 characters. Others on this machine can "
            "see arguments, so better set the variable.",
        ),
    ] = None,
    writable: Annotated[
        bool, typer.Option("--writable", help="Let clients add and remove images.")
    ] = False,
    watch: Annotated[
        Path | None,
        typer.Option(
            "--watch",
            metavar="PHOTOS",
            help="Add the photographs of this folder to the first index, as they appear; it is "
            "made if there is none.",
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            metavar="URL",
            help="Where a reverse proxy offers the service, such as https://photos.example.org.",
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Serve indexes to browsers and programs, on this machine alone unless told otherwise.

    Example: retrieval-grounding serve indexes/pictures --open
    """
    from ..index import Index
    from ..service.settings import ServiceSettings
    from ..storage.catalog import Catalog

    settings = ServiceSettings(host, port, token, writable, public_url, watch)
    if watch is not None and not Catalog.exists(indexes[0]):
        from ..builder import build
        from ..core.reports import BuildOptions

        build([], indexes[0], device=device, options=BuildOptions(allow_empty=True)).close()
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(Index.open(path, device=device)) for path in indexes]
        for index in opened:
            _ = index.encoder, index.matcher  # loaded before anybody waits
        serve_opened(opened, settings, open_page, as_json)


def serve_opened(
    indexes: Sequence[Index], settings: ServiceSettings, open_page: bool, as_json: bool = False
) -> None:
    """Serve open indexes until Ctrl-C, and say where; show the page if that is wanted."""
    from ..service.run import run

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    here = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else host

    def started(port: int) -> None:
        note(f"Serving at http://{host}:{port}; Ctrl-C ends")
        if as_json:
            print_json({"url": f"http://{here}:{port}"}, indent=None)
        if open_page:
            typer.launch(f"http://{here}:{port}")

    run(indexes, settings, started)
