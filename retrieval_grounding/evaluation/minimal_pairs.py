"""How often a matcher answers both phrases of a minimal pair right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.region_table import RegionTable
from ..core.regions import pairwise_iou
from ..matching.embed import embed_phrases
from ..matching.matcher import Matcher
from ..matching.pseudo.minimal_pairs import MinimalPair
from ..models.encoder import Encoder
from .predictions import SAME_OBJECT

__all__ = ["PairAccuracy", "minimal_pair_accuracy"]


@dataclass(frozen=True)
class PairAccuracy:
    """Pairs of one kind.

    Parameters
    ----------
    pairs : int
        Number of pairs.
    both : float
        Share of which both phrases are answered right.
    one : float
        Share of which exactly one is, as when a matcher answers both phrases alike.
    """

    pairs: int
    both: float
    one: float


def minimal_pair_accuracy(
    matcher: Matcher,
    encoder: Encoder,
    regions: RegionTable,
    pairs: Sequence[tuple[int, MinimalPair]],
) -> dict[str, PairAccuracy]:
    """Let a matcher choose a region for each phrase of minimal pairs.

    Parameters
    ----------
    matcher : Matcher
        Its highest score chooses the region.
    encoder : Encoder
        The one that embedded the regions.
    regions : RegionTable
        The regions of the images.
    pairs : sequence of (int, MinimalPair)
        Pairs with the number of their image in the table.

    Returns
    -------
    dict of str to PairAccuracy
        By the kind of pair, in alphabetical order; ``all`` comes last and is the mean over pairs.
        A choice is right if its IoU with what the phrase means is at least 0.5.
    """
    if not pairs:
        return {}
    texts = list(dict.fromkeys(phrase for _, pair in pairs for phrase in pair.phrases))
    phrases = embed_phrases(encoder, texts)
    row_of = {text: row for row, text in enumerate(texts)}
    right: Counter[tuple[str, int]] = Counter()
    for image, pair in pairs:
        own = regions.of_one_image(regions.image(image))
        whole = np.tile(own.boxes[0, 2:], 2)
        count = 0
        for phrase, box in zip(pair.phrases, pair.boxes, strict=True):
            scores = matcher.score_pairs(phrases, own, np.array([row_of[phrase]], np.int64))
            chosen = own.boxes[int(scores.argmax())] / whole
            count += bool(pairwise_iou(chosen[None], [box])[0, 0] >= SAME_OBJECT)
        right[pair.kind, count] += 1
        right["all", count] += 1
    kinds = [*sorted({pair.kind for _, pair in pairs}), "all"]
    return {kind: _accuracy(*(right[kind, count] for count in range(3))) for kind in kinds}


def _accuracy(none: int, one: int, both: int) -> PairAccuracy:
    pairs = none + one + both
    return PairAccuracy(pairs, both / pairs, one / pairs)
