"""Pseudo-queries: phrases for regions, made from what an index holds and nothing else.

Detections → objects (:mod:`.objects`) → what holds for exactly one of them (:mod:`.claims`) → words
(:mod:`.wording`). No annotation and no image is needed.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from ...core.region_table import RegionTable
from .objects import find_objects
from .predicates import Claim, find_claims
from .templates import label_sets, word_claim

__all__ = ["PseudoQueries", "describe_image", "pseudo_queries"]


_KIND_WEIGHTS = {
    "label": 1.0, "place": 0.6, "side": 2.5, "corner": 0.7, "middle": 0.8, "ordinal": 1.2,
    "size": 0.8, "depth": 0.9, "relation": 1.4,
    "color": 1.4, "color side": 0.6, "color corner": 0.2, "color place": 0.3,
    "color middle": 0.1, "color ordinal": 0.2, "color size": 0.2, "color depth": 0.3,
    "color relation": 0.5,
}  # fmt: skip
"""How often each kind is drawn where an image allows it."""

_SIZE_MENTIONED = 0.2


@dataclass(frozen=True)
class PseudoQueries:
    """Phrases and the regions that they mean.

    Parameters
    ----------
    images : int64 array of shape (q,)
        Numbers of images in the table.
    rows : int64 array of shape (q,)
        Rows of the table.
    phrases : sequence of q str
        Lower case, without punctuation.
    kinds : sequence of q str
        What a phrase tells by: ``label``, ``color``, ``place``, ``side``, ``corner``,
        ``middle``, ``ordinal``, ``size``, ``depth``, ``relation``, or ``color`` before one of
        these.
    """

    images: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    phrases: Sequence[str]
    kinds: Sequence[str]

    def __len__(self) -> int:
        return len(self.phrases)


def pseudo_queries(regions: RegionTable, seed: int, per_image: int = 8) -> PseudoQueries:
    """Make phrases that mean exactly one region of their image.

    An image's phrases depend on its regions and the seed alone, not on the rest of the table.

    Parameters
    ----------
    regions : RegionTable
        Labels, scores, boxes and colors are used; embeddings are not.
    seed : int
        Other seeds draw other phrases.
    per_image : int
        At most so many phrases for an image; images without a clear object have none.
    """
    images, rows, phrases, kinds = [], [], [], []
    for image in range(len(regions.offsets) - 1):
        for claim, phrase in describe_image(regions, image, seed, per_image):
            images.append(image)
            rows.append(claim.target.row)
            phrases.append(phrase)
            kinds.append(_kind(claim))
    return PseudoQueries(np.array(images, np.int64), np.array(rows, np.int64), phrases, kinds)


def describe_image(
    regions: RegionTable, image: int, seed: int, per_image: int = 8
) -> list[tuple[Claim, str]]:
    """Return what is said of one image, and in which words; see :func:`pseudo_queries`."""
    rows = regions.image(image)
    rng = Random(zlib.crc32(regions.boxes[rows].tobytes(), seed & 0xFFFFFFFF))
    objects = find_objects(regions, image)
    sets = label_sets((thing.label for thing in objects if thing.sure), rng)
    claims = list(find_claims(objects, sets))
    sizes = {
        (claim.target.row, id(claim.pool)): claim.direction
        for claim in claims
        if claim.kind == "size"
    }
    described: dict[str, Claim] = {}
    for claim in _mixed(claims, rng):
        if len(described) >= per_image:
            break
        size = ""
        if claim.kind not in ("size", "depth") and rng.random() < _SIZE_MENTIONED:
            size = sizes.get((claim.target.row, id(claim.pool)), "")
        described.setdefault(word_claim(claim, rng, size), claim)
    return [(claim, phrase) for phrase, claim in described.items()]


def _mixed(claims: Sequence[Claim], rng: Random) -> Iterator[Claim]:
    """Yield all claims in random order, kinds drawn by their weights."""
    by_kind: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_kind[_kind(claim)].append(claim)
    for group in by_kind.values():
        rng.shuffle(group)
    while by_kind:
        names = list(by_kind)
        (kind,) = rng.choices(names, [_KIND_WEIGHTS[name] for name in names])
        yield by_kind[kind].pop()
        if not by_kind[kind]:
            del by_kind[kind]


def _kind(claim: Claim) -> str:
    if not claim.pool.color:
        return claim.kind
    return "color" if claim.kind == "label" else f"color {claim.kind}"
