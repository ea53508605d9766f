"""What the service knows while it runs: the open indexes, and what answers their queries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from ..index import Index
from .batching import Batcher
from .errors import NotFoundError
from .settings import ServiceSettings

__all__ = ["ServedIndex", "ServiceState", "service_of"]


@dataclass(frozen=True)
class ServedIndex:
    """An index that is served.

    Parameters
    ----------
    name : str
        As in URLs: letters, digits, ``-``, ``_`` and ``.``.
    index : Index
        Open; it follows writers by itself.
    batcher : Batcher
        Answers its queries.
    """

    name: str
    index: Index
    batcher: Batcher


class ServiceState:
    """Everything that routes need; one for each application.

    Parameters
    ----------
    indexes : sequence of Index
        The first is meant where a request names none.
    settings : ServiceSettings
        How the service is run.
    """

    def __init__(self, indexes: Sequence[Index], settings: ServiceSettings) -> None:
        self.settings = settings
        self.indexes: dict[str, ServedIndex] = {}
        for index in indexes:
            name = _free_name(index.directory.name, self.indexes)
            self.indexes[name] = ServedIndex(name, index, Batcher(index))

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
        for served in self.indexes.values():
            await served.batcher.close()


def service_of(request: Request) -> ServiceState:
    """Return the state of the application that a request came to."""
    state: ServiceState = request.app.state.service
    return state


def _free_name(directory: str, taken: dict[str, ServedIndex]) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", directory).strip("-.") or "index"
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
