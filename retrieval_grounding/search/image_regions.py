"""All regions of one image of an index, and what each scores for a phrase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..core.errors import StoreError
from ..core.hits import Hit
from ..core.phrases import clean_phrase
from ..matching import checks
from ..matching.calibration import Probabilities
from ..matching.embed import embed_phrases
from ..matching.matcher import Matcher
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from .hits import Hits
from .rank import make_hit
from .retriever import Retriever
from .unknown import discount_unknown

__all__ = ["image_regions"]


def image_regions(
    content_hash: str,
    phrase: str | None,
    catalog: Catalog,
    retriever: Retriever,
    load_encoder: Callable[[], Encoder],
    matcher: Matcher,
) -> Hits:
    """Return a hit for every region of an image, by number: the first is the whole image.

    With a phrase, scores are the matcher's and probabilities those of a collection of this one
    image. Without, the score is the detector's confidence, and there is no probability.

    Parameters
    ----------
    content_hash : str
        Of an image of the index.
    phrase : str or None
        What to score the regions for.
    catalog, retriever, load_encoder, matcher
        Of the index.

    Raises
    ------
    StoreError
        If the index has no such image.
    PhraseError
        If the phrase is empty.
    """
    store = retriever.store
    with catalog.reading():
        found = catalog.content_rows(content_hash)
        if not found or found[0][0] != content_hash:
            raise StoreError(f"no image of the index has the content hash {content_hash!r:.50}")
        key = found[0][1]
        [image, *_] = catalog.images_at([key])[key]
        store.refresh()
    table = store.gather([key])
    first = store.region_id(key, 0)
    probabilities: Probabilities | None = None
    text, scores = "", table.scores
    if phrase is not None:
        text = clean_phrase(phrase)
        encoder = load_encoder()
        phrases = embed_phrases(encoder, [text])
        scores = checks.score(matcher, phrases, table)[0]
        alone = checks.probabilities(matcher, scores[:, None], 1)
        if alone is not None:
            probabilities = Probabilities(*(column[:, 0] for column in alone))
    hits: list[Hit] = [
        make_hit(
            text, image.path, table, row, np.asarray(scores), probabilities,
            region_id=first + row, content_hash=content_hash,
        )
        for row in range(len(table))
    ]  # fmt: skip
    if phrase is not None:
        [hits] = discount_unknown(load_encoder(), [text], [hits])
    return Hits(replace(hit, image_size=(image.width, image.height)) for hit in hits)
