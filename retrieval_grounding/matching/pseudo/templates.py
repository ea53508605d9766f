"""Words for claims: nouns for class names, wordings for each kind, and mirrored phrases.

A wording is a pattern: ``(a|b|)`` is one of its alternatives, ``{n}`` the noun phrase, ``{d}`` the
direction, ``{r}`` the noun phrase of the other object. What people say more often stands twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from random import Random

from .predicates import Claim, Pool

__all__ = ["label_sets", "mirror_phrase", "word_claim"]


def _lists(table: dict[str, str]) -> dict[frozenset[str], tuple[str, ...]]:
    return {frozenset(key.split(",")): tuple(words.split(",")) for key, words in table.items()}


_NOUNS = _lists({
    # The detector does not tell women from men, so these words must not come to mean anything.
    "person": "person,person,person,person,person,guy,guy,man,man,man,woman,woman,lady,girl,boy,"
    "kid,dude,human",
    "airplane": "airplane,plane,plane", "dog": "dog,dog,dog,dog,puppy",
    "cat": "cat,cat,cat,cat,kitten", "horse": "horse,horse,horse,pony",
    "sheep": "sheep,sheep,lamb", "cow": "cow,cow,cow,bull", "tv": "tv,tv,monitor,television",
    "couch": "couch,couch,sofa", "cell phone": "phone,phone,cell phone,cellphone",
    "laptop": "laptop,laptop,computer", "dining table": "table",
    "potted plant": "plant,plant,potted plant", "refrigerator": "fridge,refrigerator",
    "donut": "donut,donut,doughnut", "suitcase": "suitcase", "handbag": "handbag,purse",
    "motorcycle": "motorcycle,motorcycle,motorbike", "sports ball": "ball", "cup": "cup,cup,mug",
    "remote": "remote,remote control", "tie": "tie,tie,necktie",
    "teddy bear": "teddy bear,teddy bear,teddy,stuffed bear", "hair drier": "hair dryer",
    "tennis racket": "tennis racket,racket,racquet", "baseball bat": "bat,baseball bat",
    "baseball glove": "glove,baseball glove", "stop sign": "stop sign,sign",
    "traffic light": "traffic light,traffic light,light", "fire hydrant": "hydrant,fire hydrant",
    # Nouns for several classes, which are ambiguous where there is another of any of them.
    "bicycle,motorcycle": "bike", "wine glass,cup": "glass", "tv,laptop": "screen",
    "car,bus,truck,motorcycle": "vehicle", "backpack,handbag,suitcase": "bag",
    "skateboard,surfboard,snowboard": "board", "couch,chair": "seat", "bear,teddy bear": "bear",
    "bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe": "animal",
    "pizza,donut,cake,sandwich,hot dog": "food",
})  # fmt: skip
_SHARED_NOUNS = tuple(labels for labels in _NOUNS if len(labels) > 1)
_SHARED_NOUN_RATE = 0.3

_THING_COLORS = ("{c} {w}",)
_CLOTHES = (
    "{w} in {c}", "{w} in {c}", "{w} in (a |){c} (shirt|shirt|jacket|top|coat)",
    "{w} wearing (a |){c} (shirt|shirt|jacket|top)", "{w} wearing {c}", "{w} with {c} (shirt|top)",
    "{c} shirt {w}", "{c} (shirt|shirt|jacket|coat)", "{c} shirt",
)  # fmt: skip

_WORDINGS: dict[str, tuple[str, ...]] = {
    "label": ("(the |a |){n}", "{n}"),
    "side": ("(the |){d} {n}", "{d} {n}", "(the |){d}( |-|)most {n}", "{n} furthest (to the |){d}"),
    "side half": (
        "(the |){n} on (the |){d}", "{n} on (the |){d}", "{n} {d}", "(the |){n} to the {d}",
        "(the |){n} on (the |){d} side( of (the |)(image|picture|photo)|)", "{d} side {n}",
        "(the |){n} at the {d}", "(the |){n} that is on the {d}",
    ),
    "side far": ("(the |){n} (on (the |)|on |)far {d}", "(the |)far {d} {n}", "{n} on {d} edge"),
    "side of two": ("(the |a |){n} to the {d} of (the other|another) {w}", "{n} {d} of other {w}"),
    "side bare": (
        "{d}", "{d} (one|side)", "(the |)one on (the |){d}", "on (the |){d}", "{d}most( one|)",
        "the {d} one",
    ),
    "vertical": ("(the |){v} {n}", "{v} {n}"),
    "vertical half": (
        "(the |){n} (at|on) (the |){d}", "{n} {d}", "(the |){n} (at|on) the {d} of the picture",
    ),
    "vertical bare": ("{d}", "{d} one", "(the |)one (at|on) (the |){d}", "the {v} one"),
    "corner": (
        "(the |){v} {s} {n}", "{n} {v} {s}", "(the |){n} (in|at) (the |){v} {s}( corner|)",
        "{v} {s} corner {n}", "{n} (in|at) {v} {s}", "(the |){n} on the {v} {s}( side|)",
    ),
    "corner bare": ("{v} {s}", "{v} {s} corner", "{v} {s} one", "the one in the {v} {s}"),
    "middle": (
        "(the |)(middle|middle|center) {n}", "{n} in (the |)(middle|middle|center)",
        "the {n} in the middle", "(the |){n} in between",
    ),
    "middle bare": ("middle( one|)", "(the |)center one", "(the |)one in (the |)middle", "center"),
    "ordinal": (
        "(the |){o} {n} from (the |){d}", "{n} {o} from (the |){d}",
        "{o} from {d} {n}", "(the |){o} {n} counting from {d}",
    ),
    "ordinal bare": ("{o} (one |)from (the |){d}", "(the |){o} one from (the |){d}"),
    "largest": ("(the |)(biggest|largest) {n}", "(the |)(big|large) {n}"),
    "largest of two": ("(the |)(bigger|larger) {n}",),
    "smallest": ("(the |)smallest {n}", "(the |)(small|little|tiny) {n}"),
    "smallest of two": ("(the |)smaller {n}",),
    "tallest": ("(the |)tallest {n}", "(the |)tall {n}"),
    "tallest of two": ("(the |)taller {n}",),
    "shortest": ("(the |)shortest {n}", "(the |)short {n}"),
    "shortest of two": ("(the |)shorter {n}",),
    "closest": (
        "(the |)(closest|closest|nearest) {n}", "(the |){n} closest( to (us|camera|the camera)|)",
        "front {n}", "(the |){n} in (the |)front", "(the |){n} in (the |)foreground",
        "{n} (nearest|closest to) the camera",
    ),
    "closest bare": ("closest( one|)", "(the |)front one", "front", "(the |)one in front"),
    "farthest": (
        "(the |)back {n}", "(the |){n} in (the |)(back|background)", "{n} (at|in) the back",
        "(the |)(farthest|furthest) {n}", "(the |){n} (farthest|furthest) (away|from us|back)",
    ),
    "farthest bare": ("(the |)back one", "in (the |)back", "farthest one", "one in (the |)back"),
    "relation": (
        "(the |){n} {l} (the |){r}", "{n} {l} {r}", "a {n} {l} (a|the) {r}", "the {n} {l} the {r}",
    ),
}  # fmt: skip

_RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of", "on the left of", "left of", "on the left side of"),
    "right of": ("to the right of", "on the right of", "right of", "on the right side of"),
    "above": ("above", "above", "over"),
    "below": ("below", "under", "beneath", "underneath"),
    "next to": ("next to", "next to", "beside", "near", "by", "close to", "closest to"),
    "on": ("on", "on", "on top of", "lying on"),
    "riding": ("riding", "riding", "on", "riding on", "on top of", "who is riding"),
    "standing on": ("on", "riding", "standing on", "with"),
    "ridden by": ("under", "ridden by", "below", "with", "being ridden by"),
    "holding": ("holding", "holding", "with", "carrying", "who is holding"),
    "with": ("with", "with", "that has"),
    "carried by": ("held by", "of", "carried by"),
}
_PARKED = frozenset("car,truck,bus,bicycle,motorcycle".split(","))
_PARKED_RATE = 0.3
_BESIDE = ("left of", "right of", "next to")

_ORDINALS = {1: ("first", "1st"), 2: ("second", "2nd"), 3: ("third", "3rd")}
_VERTICAL_WORDS = {"top": ("top", "top", "upper"), "bottom": ("bottom", "bottom", "lower")}
_SIZE_WORDS = {
    "largest": ("big", "large"), "smallest": ("small", "little"),
    "tallest": ("tall",), "shortest": ("short",),
}  # fmt: skip
_BARE_RATE = 0.25
_FAR_EDGE = 0.3


def label_sets(labels: Iterable[str], rng: Random) -> list[frozenset[str]]:
    """Return the sets of class names, met by any of `labels`, that some noun covers.

    Of the nouns for several classes ("animal") only some are drawn: they are rarely used.
    """
    present = sorted(set(labels))
    sets = [frozenset([label]) for label in present]
    for shared in _SHARED_NOUNS:
        if not shared.isdisjoint(present) and rng.random() < _SHARED_NOUN_RATE:
            sets.append(shared)
    return sets


def word_claim(claim: Claim, rng: Random, size: str = "") -> str:
    """Return a phrase for a claim, drawn from all that say the same.

    Parameters
    ----------
    claim : Claim
        What is said.
    rng : random.Random
        Draws the words.
    size : str
        A size by which the object stands out of the pool as well (``"largest"``), to be mentioned.
    """
    pool = claim.pool
    patterns = _patterns(claim)
    bare = pool.everything and (pool.color or claim.kind != "label") and rng.random() < _BARE_RATE
    word = "one" if bare else rng.choice(_nouns(pool.labels))
    if bare and not pool.color and not size:
        patterns += _WORDINGS.get(f"{_family(claim)} bare", ())
    noun = _noun_phrase(pool, word, rng)
    if size:
        noun = f"{rng.choice(_SIZE_WORDS[size])} {noun}"
    first, _, second = claim.direction.partition(" ")
    link = rng.choice(_RELATION_WORDS.get(claim.direction, ("",)))
    if claim.direction in _BESIDE and pool.labels <= _PARKED and rng.random() < _PARKED_RATE:
        link = f"parked {link}"
    phrase = rng.choice(_variants(rng.choice(patterns))).format(
        n=noun,
        w=word,
        d=claim.direction,
        v=rng.choice(_VERTICAL_WORDS.get(first, ("",))),
        s=second,
        o=rng.choice(_ORDINALS.get(claim.rank, ("",))),
        l=link,
        r=rng.choice(_nouns(claim.reference.labels)) if claim.reference else "",
    )
    return _fix_articles(phrase)


def _family(claim: Claim) -> str:
    if claim.kind in ("size", "depth"):
        return claim.direction
    if claim.kind in ("side", "place"):
        return "side" if claim.direction in ("left", "right") else "vertical"
    return claim.kind


def _patterns(claim: Claim) -> tuple[str, ...]:
    """Return the wordings that are true of the claim."""
    family = _family(claim)
    patterns = () if claim.kind == "place" else _WORDINGS[family]
    if claim.kind in ("side", "place"):
        target = claim.target
        distance = {
            "left": target.x, "right": 1 - target.x, "top": target.y, "bottom": 1 - target.y,
        }[claim.direction]  # fmt: skip
        if distance < 0.5:  # the left one of two may still stand on the right
            patterns += _WORDINGS[f"{family} half"]
        if distance < _FAR_EDGE and len(claim.pool.sure) > 2:
            patterns += _WORDINGS.get(f"{family} far", ())
    if len(claim.pool.maybe) == 2:
        patterns += _WORDINGS.get(f"{family} of two", ())
    return patterns


def _nouns(labels: frozenset[str]) -> tuple[str, ...]:
    return _NOUNS.get(labels) or tuple(labels)  # other detectors' classes speak for themselves


def _noun_phrase(pool: Pool, word: str, rng: Random) -> str:
    if not pool.color:
        return word
    patterns = _CLOTHES if "person" in pool.labels else _THING_COLORS
    color = rng.choice(("gray", "grey")) if pool.color == "gray" else pool.color
    return rng.choice(_variants(rng.choice(patterns))).format(w=word, c=color)


@cache
def _variants(pattern: str) -> tuple[str, ...]:
    """Return all that a pattern stands for; of nested alternatives the inner ones come first.

    >>> _variants("(the |){n}(s|)")
    ('the {n}s', 'the {n}', '{n}s', '{n}')
    """
    inner = re.search(r"\(([^()]*)\)", pattern)
    if not inner:
        return (pattern,)
    return tuple(
        variant
        for choice in inner[1].split("|")
        for variant in _variants(pattern[: inner.start()] + choice + pattern[inner.end() :])
    )


def _fix_articles(phrase: str) -> str:
    """Write "an orange" for "a orange", and leave out what a plural or "one" cannot have."""
    phrase = re.sub(r"\ban? (?=(?:skis|scissors|one)\b)", "", phrase)
    return re.sub(r"\ba (?=[aeiou])", "an ", phrase)


_SWAP = {"left": "right", "right": "left", "Left": "Right", "Right": "Left",
         "LEFT": "RIGHT", "RIGHT": "LEFT"}  # fmt: skip
_SIDE_WORD = re.compile(
    r"\b(left|right|Left|Right|LEFT|RIGHT)(?=\b|(?i:most|hand|side|ward|wards)\b)"
)


def mirror_phrase(phrase: str) -> str:
    """Swap left and right, as for a mirrored image; doing it twice gives the phrase back.

    Examples
    --------
    >>> mirror_phrase("second guy from left in a bright shirt, Right of the leftmost car")
    'second guy from right in a bright shirt, Left of the rightmost car'
    """
    return _SIDE_WORD.sub(lambda match: _SWAP[match[1]], phrase)
