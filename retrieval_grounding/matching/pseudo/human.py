"""Phrases of place, order, size and relation for things that people have described and boxed.

People say "a man in a red shirt" of a box. Together with the other boxes and the detections it can
be said where he is among the men, or the people: "man in red shirt on left", "second person from
the right". A phrase must fit one thing only, so that everything that might also be meant counts as
a rival: other boxes with the same noun, detections of a class that the noun may mean, and groups
whose members are not all known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from ...core.colors import COLORS
from ...core.regions import pairwise_iou
from ..language.kinds import is_clothing
from ..language.lexicon import BODY, PEOPLE
from ..language.parse import parse_phrase
from ..language.parts import PhraseParts
from ..language.words import singular
from .claims import Claim, find_claims
from .generate import claim_kind, draw_order
from .meanings import classes_meant
from .objects import LARGEST_AREA, SMALLEST_AREA, DetectedObject
from .wording import word_claim

__all__ = ["PlacedPhrase", "placed_phrases"]


_SAME_THING = 0.85
_SAME_NOUN = 0.5  # IoU from which two boxes with one noun show one thing
_DETECTED = 0.4  # IoU from which a detection shows a described thing
_FEW_WORDS = 6
_CORE_RATE = 0.5  # "man in red shirt on left" instead of "man on left"
_GENERIC_RATE = 0.25
_VAGUE = frozenset("something someone object thing item other forehand".split())
_MALE = frozenset("man guy gentleman dude male boy father dad son groom policeman".split())
_FEMALE = frozenset("woman lady female girl mother mom daughter bride waitress".split())


@dataclass(frozen=True, slots=True)
class PlacedPhrase:
    """A phrase made for a described thing.

    Parameters
    ----------
    phrase : str
        Lower case.
    row : int
        The description, among those given, whose box the phrase means.
    kind : str
        As in :class:`.generate.PseudoQueries`.
    """

    phrase: str
    row: int
    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class _Thing:
    """Something that people have described, with all descriptions of its box."""

    row: int
    box: npt.NDArray[np.float32]
    descriptions: list[PhraseParts]

    @property
    def nouns(self) -> frozenset[str]:
        return frozenset(map(_noun_of, self.descriptions))


def placed_phrases(
    descriptions: Sequence[str],
    boxes: npt.NDArray[np.float32],
    detections: Sequence[DetectedObject],
    rng: Random,
    per_image: int = 8,
) -> list[PlacedPhrase]:
    """Make phrases of place, order, size and relation that fit one described thing each.

    Parameters
    ----------
    descriptions : sequence of n str
        Noun phrases of people about one image; several may describe one box.
    boxes : float32 array of shape (n, 4)
        Corners ``x1, y1, x2, y2`` as fractions of the image's sides; the box around all of them
        if a phrase means several things.
    detections : sequence of DetectedObject
        What a detector finds in the image; see :func:`.objects.find_objects`.
    rng : random.Random
        Draws claims and words.
    per_image : int
        Maximum number of phrases.

    Examples
    --------
    >>> boxes = np.array([[0.1, 0.2, 0.3, 0.9], [0.6, 0.2, 0.8, 0.9]], np.float32)
    >>> for placed in placed_phrases(["a man in red", "a tall man"], boxes, [], Random(1), 3):
    ...     print(placed.row, placed.kind, placed.phrase)
    1 side right tall man
    0 side left side man
    0 side the man that is on the left
    """
    parts = [parse_phrase(description) for description in descriptions]
    known = [(row, p) for row, p in enumerate(parts) if p.named and not p.negated]
    things = _things([(row, p) for row, p in known if p.count == 1], boxes)
    groups = [(p, boxes[row]) for row, p in known if p.count != 1]
    objects = _objects(things, detections)
    things_by_row = {thing.row: thing for thing in things}
    claims = [
        claim
        for labels in _label_sets(things)
        for claim in find_claims(objects, _with_references(labels, things))
        if claim.kind != "label"
        and claim.target.row in things_by_row
        and labels == claim.pool.labels
        and not _may_be_more(claim, groups)
        and not (claim.reference and claim.reference.sure[0].row not in things_by_row)
    ]

    def noun_of(labels: frozenset[str], thing: DetectedObject) -> str:
        if len(labels & PEOPLE) > 1 and rng.random() < _GENERIC_RATE:
            return "person"
        return rng.choice(sorted(things_by_row[thing.row].nouns & labels))

    def describe(thing: DetectedObject, noun: str) -> str:
        cores = [p.core for p in things_by_row[thing.row].descriptions if _can_extend(p, noun)]
        return rng.choice(cores) if cores and rng.random() < _CORE_RATE else noun

    found: dict[str, PlacedPhrase] = {}
    for claim in draw_order(claims, rng):
        if len(found) >= per_image:
            break
        phrase = word_claim(claim, rng, noun_of, describe=describe)
        found.setdefault(phrase, PlacedPhrase(phrase, claim.target.row, claim_kind(claim)))
    return list(found.values())


def _noun_of(parts: PhraseParts) -> str:
    return " ".join(singular(word) for word in parts.noun.split())


def _things(
    known: Iterable[tuple[int, PhraseParts]], boxes: npt.NDArray[np.float32]
) -> list[_Thing]:
    """Return one thing for all descriptions of a box."""
    things: list[_Thing] = []
    for row, parts in known:
        for thing in things:
            overlap = float(pairwise_iou(boxes[row : row + 1], thing.box[None])[0, 0])
            if overlap > _SAME_THING or (overlap > _SAME_NOUN and _noun_of(parts) in thing.nouns):
                thing.descriptions.append(parts)
                break
        else:
            things.append(_Thing(row, boxes[row], [parts]))
    return things


def _objects(
    things: Sequence[_Thing], detections: Sequence[DetectedObject]
) -> list[DetectedObject]:
    """Return things and the other detections as objects, labeled with all that they may be called.

    A detection may be called by every noun of the image that may mean its class, and a person
    by every noun for people except those of the other sex.
    """
    nouns = frozenset(noun for thing in things for noun in thing.nouns)
    objects = []
    for thing in things:
        left, top, right, bottom = map(float, thing.box)
        area = (right - left) * (bottom - top)
        objects.append(
            DetectedObject(
                row=thing.row,
                label=_noun_of(thing.descriptions[0]),
                labels=_names(thing.nouns, nouns),
                sure=SMALLEST_AREA <= area <= LARGEST_AREA,
                doubtful=False,
                left=left,
                top=top,
                right=right,
                bottom=bottom,
                shares=[0.0] * len(COLORS),
            )
        )
    described = list(objects)
    for found in detections:
        if not any(_shows(found, thing) for thing in described):
            also = frozenset(noun for noun in nouns if found.labels & classes_meant(noun))
            objects.append(
                DetectedObject(
                    row=-1,
                    label=found.label,
                    labels=found.labels | also,
                    sure=found.sure,
                    doubtful=found.doubtful,
                    left=found.left,
                    top=found.top,
                    right=found.right,
                    bottom=found.bottom,
                    shares=found.shares,
                )
            )
    return objects


def _names(own: frozenset[str], nouns: Collection[str]) -> frozenset[str]:
    """Return all that a thing with the nouns `own` may be called."""
    names = frozenset(name for noun in own for name in classes_meant(noun))
    if own & PEOPLE:
        excluded = (_FEMALE if own & _MALE else frozenset()) | (
            _MALE if own & _FEMALE else frozenset()
        )
        names |= frozenset(noun for noun in nouns if noun in PEOPLE) - (excluded - own)
    return names


def _shows(found: DetectedObject, thing: DetectedObject) -> bool:
    """Return whether a detection is of a described thing."""
    if not found.labels & thing.labels:
        return False
    one = np.array([[found.left, found.top, found.right, found.bottom]], np.float32)
    other = np.array([[thing.left, thing.top, thing.right, thing.bottom]], np.float32)
    return float(pairwise_iou(one, other)[0, 0]) > _DETECTED


def _label_sets(things: Sequence[_Thing]) -> list[frozenset[str]]:
    """Return what each noun covers: its classes, and for people all nouns for people."""
    nouns = {noun for thing in things for noun in thing.nouns if _can_be_placed(noun)}
    people = frozenset(noun for noun in nouns if noun in PEOPLE)
    sets = {frozenset([noun]) if noun in PEOPLE else classes_meant(noun) for noun in nouns}
    if people:
        sets.add(people | {"person"})
    return sorted(sets, key=sorted)


def _can_be_placed(noun: str) -> bool:
    """Return whether boxes of a noun are likely to be complete: hands and shirts seldom are."""
    return not (is_clothing(noun) or noun in BODY or noun in _VAGUE)


def _with_references(labels: frozenset[str], things: Sequence[_Thing]) -> list[frozenset[str]]:
    """Return `labels` and the nouns of things to which members may be related."""
    nouns = {noun for thing in things for noun in thing.nouns if _can_be_placed(noun)}
    return [labels, *(frozenset([n]) for n in sorted(nouns) if not classes_meant(n) & labels)]


def _may_be_more(
    claim: Claim, groups: Sequence[tuple[PhraseParts, npt.NDArray[np.float32]]]
) -> bool:
    """Return whether a group was described whose members are not all known."""
    for parts, (left, top, right, bottom) in groups:
        names = _names(frozenset([_noun_of(parts)]), claim.pool.labels)
        if not names & claim.pool.labels:
            continue
        inside = sum(left <= o.x <= right and top <= o.y <= bottom for o in claim.pool.maybe)
        if inside < max(parts.count, 2):
            return True
    return False


def _can_extend(parts: PhraseParts, noun: str) -> bool:
    """Return whether the core of a description can take the place of its noun."""
    return _noun_of(parts) == noun and len(parts.core.split()) <= _FEW_WORDS
