"""Pseudo-queries: phrases for regions, made from the contents of an index alone.

Detections become objects (:mod:`.objects`), objects become claims that hold for exactly one of them
(:mod:`.claims`) or for all together (:mod:`.groups`), and claims become words (:mod:`.wording`).
Neither annotations nor image files are needed.
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
from .claims import Claim, find_claims
from .groups import group_claims
from .nouns import NounEmbeddings, choose_noun
from .objects import DetectedObject, find_objects
from .wording import draw_label_sets, nouns_for, word_claim

__all__ = ["PseudoQueries", "claim_kind", "describe_image", "draw_order", "pseudo_queries"]


_KIND_WEIGHTS = {
    "label": 1.0, "place": 0.6, "side": 2.5, "corner": 0.7, "middle": 0.8, "ordinal": 1.2,
    "size": 0.8, "depth": 0.9, "relation": 1.4, "group": 1.0,
    "color": 1.4, "color side": 0.6, "color corner": 0.2, "color place": 0.3,
    "color middle": 0.1, "color ordinal": 0.2, "color size": 0.2, "color depth": 0.3,
    "color relation": 0.5,
}  # fmt: skip
"""How often each kind is drawn from the claims of an image, relative to the others."""

_SIZE_MENTIONED = 0.2


@dataclass(frozen=True)
class PseudoQueries:
    """Phrases and their target regions.

    Parameters
    ----------
    images : int64 array of shape (q,)
        Numbers of images in the table.
    rows : int64 array of shape (q,)
        Rows of the table.
    phrases : sequence of q str
        Lower case, without punctuation.
    kinds : sequence of q str
        What singles out the target: ``label``, ``color``, ``place``, ``side``, ``corner``,
        ``middle``, ``ordinal``, ``size``, ``depth``, ``relation``, one of these after ``color``,
        such as ``color side``, or ``group``.
    """

    images: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    phrases: Sequence[str]
    kinds: Sequence[str]

    def __len__(self) -> int:
        return len(self.phrases)


def pseudo_queries(
    regions: RegionTable,
    seed: int,
    per_image: int = 8,
    noun_embeddings: NounEmbeddings | None = None,
) -> PseudoQueries:
    """Make phrases that describe exactly one region of their image.

    An image's phrases depend on its regions and the seed, not on the rest of the table.

    Parameters
    ----------
    regions : RegionTable
        Labels, scores, boxes and colors are used; embeddings only with `noun_embeddings`.
    seed : int
        Different seeds draw different phrases.
    per_image : int
        Maximum number of phrases for an image; images without a clear object get none.
    noun_embeddings : mapping of str to float32 array of shape (d,), optional
        The nouns of :func:`.nouns.all_nouns`, embedded as the regions were. Without them no noun
        says more than the class name: a person is never a man or a woman.
    """
    images, rows, phrases, kinds = [], [], [], []
    for image in range(len(regions.offsets) - 1):
        for claim, phrase in describe_image(regions, image, seed, per_image, noun_embeddings):
            images.append(image)
            rows.append(claim.target.row)
            phrases.append(phrase)
            kinds.append(claim_kind(claim))
    return PseudoQueries(np.array(images, np.int64), np.array(rows, np.int64), phrases, kinds)


def describe_image(
    regions: RegionTable,
    image: int,
    seed: int,
    per_image: int = 8,
    noun_embeddings: NounEmbeddings | None = None,
) -> list[tuple[Claim, str]]:
    """Return claims about one image with their phrases; see :func:`pseudo_queries`."""
    boxes = regions.boxes[regions.image(image)]
    rng = Random(zlib.crc32(boxes.tobytes(), seed & 0xFFFFFFFF))
    objects = find_objects(regions, image)
    label_sets = draw_label_sets((thing.label for thing in objects if thing.sure), rng)
    claims = [*find_claims(objects, label_sets), *group_claims(regions, image, objects)]
    sizes = {
        (claim.target, claim.pool): claim.direction for claim in claims if claim.kind == "size"
    }

    def noun_of(labels: frozenset[str], thing: DetectedObject) -> str:
        embedding = regions.embeddings[thing.row]
        return choose_noun(nouns_for(labels), embedding, noun_embeddings or {}, rng)

    claim_of_phrase: dict[str, Claim] = {}
    for claim in draw_order(claims, rng):
        if len(claim_of_phrase) >= per_image:
            break
        size = ""
        if claim.kind not in ("size", "depth") and rng.random() < _SIZE_MENTIONED:
            size = sizes.get((claim.target, claim.pool), "")
        phrase = word_claim(claim, rng, noun_of, size)
        if phrase not in claim_of_phrase:
            claim_of_phrase[phrase] = claim
    return [(claim, phrase) for phrase, claim in claim_of_phrase.items()]


def draw_order(claims: Sequence[Claim], rng: Random) -> Iterator[Claim]:
    """Yield all claims in random order, with kinds drawn by their weights."""
    by_kind: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_kind[claim_kind(claim)].append(claim)
    for group in by_kind.values():
        rng.shuffle(group)
    while by_kind:
        kinds = list(by_kind)
        kind = rng.choices(kinds, [_KIND_WEIGHTS[name] for name in kinds])[0]
        yield by_kind[kind].pop()
        if not by_kind[kind]:
            del by_kind[kind]


def claim_kind(claim: Claim) -> str:
    """Return the kind under which :class:`PseudoQueries` reports a claim."""
    if not claim.pool.color:
        return claim.kind
    return "color" if claim.kind == "label" else f"color {claim.kind}"
