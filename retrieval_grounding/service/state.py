"""What the service knows while it runs: the open indexes, and what answers their queries."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from ..index import Index
from .batching import Batcher
from .decoding import Decoding
from .errors import NotFoundError
from .metrics import Metrics
from .pictures import Pictures
from .served import ServedIndex
from .settings import ServiceSettings
from .uploads import Uploads
from .watching import FolderWatch

__all__ = ["Service", "ServiceState", "names_of", "service_of"]


class ServiceState:
    """Everything that routes need; one for each application.

    Parameters
    ----------
    indexes : sequence of Index
        The first is meant where a request names none.
    settings : ServiceSettings
        How the service is run.
    metrics : Metrics
        What is counted.

    Attributes
    ----------
    indexes : dict of str to ServedIndex
        By name.
    uploads : Uploads
        Images that clients sent as examples.
    pictures : Pictures
        What is shown of images.
    decoding : Decoding
        Decodes what clients send.
    watch : FolderWatch or None
        What adds the photographs of a folder.
    writing, grounding : asyncio.Semaphore
        One change, and one image to ground phrases in, at a time.
    """

    def __init__(
        self,
        indexes: Sequence[Index],
        settings: ServiceSettings,
        metrics: Metrics,
    ) -> None:
        self.metrics = metrics
        self.writing, self.grounding = asyncio.Semaphore(1), asyncio.Semaphore(1)
        self.settings = settings
        self.decoding = Decoding(settings.limits.pixels)
        self.uploads = Uploads(settings.limits.upload_bytes, self.decoding)
        self.pictures = Pictures(self.decoding)
        self.indexes: dict[str, ServedIndex] = {}
        for name, index in names_of(indexes).items():
            self.indexes[name] = ServedIndex(name, index, Batcher(index, metrics.batch.observe))
        self.watch: FolderWatch | None = None
        if settings.watch is not None:
            self.watch = FolderWatch(self.served().index, settings.watch)
            self.watch.start()

    def served(self, name: str | None = None) -> ServedIndex:
        """Return an index by name, or the first.

        Raises
        ------
        NotFoundError
            If there is none of this name.
        """
        if name is None:
            return next(iter(self.indexes.values()))
        try:
            return self.indexes[name]
        except KeyError:
            known = ", ".join(self.indexes)
            raise NotFoundError(f"there is no index {name!r:.80} here; there is {known}") from None

    async def close(self) -> None:
        """End what runs in the background."""
        if self.watch is not None:
            await asyncio.to_thread(self.watch.end)
        for served in self.indexes.values():
            await served.batcher.close()
        self.decoding.close()


def service_of(request: Request) -> ServiceState:
    """Return the state of the application that a request came to."""
    state: ServiceState = request.app.state.service
    return state


Service = Annotated[ServiceState, Depends(service_of)]
"""The type of a route's parameter that gets the state."""


def names_of(indexes: Sequence[Index]) -> dict[str, Index]:
    """Return indexes by the names that they have in URLs."""
    named: dict[str, Index] = {}
    for index in indexes:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", index.directory.name).strip("-.") or "index"
        number, free = 1, name
        while free in named:
            number += 1
            free = f"{name}-{number}"
        named[free] = index
    return named
