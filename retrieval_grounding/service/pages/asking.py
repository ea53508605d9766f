"""Asking an index what a page's URL asks for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import partial

from ...core.addresses import is_url
from ...core.errors import ImageError
from ...core.hits import Hit
from ...core.query.value import Query
from ...data.image_source import hash_content
from ...data.reading import read_address
from ..batching import Asking
from ..reading import read_query
from ..served import ServedIndex
from ..state import ServiceState
from .address import Address

__all__ = ["Answer", "ask"]

_MOST = 240  # hits that pages, facets and the histogram are made of


@dataclass(frozen=True)
class Answer:
    """What was found for a URL.

    Parameters
    ----------
    query : Query
        What was asked.
    found : list of Hit
        The best hits, however improbable.
    minimum : float
        The smallest probability of those that count.
    """

    query: Query
    found: list[Hit]
    minimum: float

    @property
    def calibrated(self) -> bool:
        """Whether hits have probabilities."""
        return any(hit.presence is not None for hit in self.found)

    @property
    def hits(self) -> list[Hit]:
        """The hits that are probable enough."""
        return [hit for hit in self.found if hit.presence is None or hit.presence >= self.minimum]

    @property
    def is_all(self) -> bool:
        """Whether there may be no more than these."""
        return len(self.found) < _MOST or len(self.hits) < len(self.found)


async def ask(service: ServiceState, served: ServedIndex, address: Address) -> Answer:
    """Return what is found for a URL, near-duplicates folded unless it says otherwise.

    Raises
    ------
    GroundingError
        If it cannot be answered.
    """
    drawn_on = await _keep_drawn_on(service, served, Query.parse(address.text))
    query = await read_query(service, address.text)
    if query.unique is None and address.folded:
        query = replace(query, unique="near")
    asking = Asking(top=_MOST, min_probability=0.0, feedback=address.taught)
    [hits] = await served.batcher.ask([query], asking)
    found = [hit for hit in hits if hit.content_hash not in drawn_on]
    return Answer(query, found, address.minimum)


async def _keep_drawn_on(service: ServiceState, served: ServedIndex, query: Query) -> set[str]:
    """Let a box that was drawn on an image of the index be an example, like one on an upload.

    Returns the hashes of such images: nobody looks for what they just saw.
    """
    seen = set()
    for example in query.like:
        name = str(example.image)
        if not service.uploads.is_name(name):
            continue
        data = await service.decoding.run(partial(_read, served, name))
        if data is not None:
            await service.uploads.add(data)
            if example.box is not None:
                seen.add(name)
    return seen


def _read(served: ServedIndex, content_hash: str) -> bytes | None:
    """Return the bytes of an image of the index, if its file is what was indexed."""
    for found, key in served.catalog.content_rows(content_hash):
        for image in served.catalog.images_at([key]).get(key, []):
            if is_url(image.path):
                continue
            with contextlib.suppress(ImageError):
                data = read_address(image.path)
                if hash_content(data) == found:
                    return data
    return None
