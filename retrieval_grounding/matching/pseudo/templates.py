"""Words for claims, as data: nouns for class names, and patterns for each kind of claim.

In a pattern ``(a|b|)`` stands for one of its alternatives, ``{n}`` for the noun phrase, ``{w}`` for
the noun alone, ``{d}`` for the direction, ``{v}`` and ``{s}`` for the vertical and horizontal part
of a corner, ``{o}`` for an ordinal, ``{k}`` for a number, ``{c}`` for a color, ``{l}`` for a
relation, and ``{r}`` for the noun of the other object. Nouns of groups are in the plural. What
people say more often is listed more than once.
"""

from __future__ import annotations

__all__ = [
    "COLOR_PATTERNS",
    "COLOR_PATTERNS_PERSON",
    "COUNT_WORDS",
    "MEANINGS",
    "NOUNS",
    "NOUNS_OF_GROUPS",
    "ORDINAL_WORDS",
    "PATTERNS",
    "RELATION_WORDS",
    "SIZE_WORDS",
    "VERTICAL_WORDS",
]


_NOUNS_BY_LABELS = {
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
}  # fmt: skip

NOUNS: dict[frozenset[str], tuple[str, ...]] = {
    frozenset(labels.split(",")): tuple(words.split(","))
    for labels, words in _NOUNS_BY_LABELS.items()
}
"""Nouns by the class names that they cover."""

_NOUNS_BY_MEANING = {
    "man": "man guy dude", "woman": "woman lady", "boy": "boy", "girl": "girl", "child": "kid",
    "puppy": "puppy", "kitten": "kitten", "pony": "pony", "lamb": "lamb", "bull": "bull",
    "mug": "mug",
}  # fmt: skip
MEANINGS = {noun: name for name, nouns in _NOUNS_BY_MEANING.items() for noun in nouns.split()}
"""What nouns say beyond the class name. A detector does not tell women from men, so such a noun
is used only where the encoder does; the others mean any object of their class."""
NOUNS_OF_GROUPS = {frozenset(("person",)): ("people",)}
"""Nouns that are not the plural of one in `NOUNS`: the detector knows nothing of men and women."""

COLOR_PATTERNS = ("{c} {w}",)
COLOR_PATTERNS_PERSON = (
    "{w} in {c}", "{w} in {c}", "{w} in (a |){c} (shirt|shirt|jacket|top|coat)",
    "{w} wearing (a |){c} (shirt|shirt|jacket|top)", "{w} wearing {c}", "{w} with {c} (shirt|top)",
    "{c} shirt {w}", "{c} (shirt|shirt|jacket|coat)", "{c} shirt",
)  # fmt: skip

PATTERNS: dict[str, tuple[str, ...]] = {
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
    "group": (
        "{n}", "(the |){n}", "(the |a |)group of {n}", "all (of |)the {n}", "all {n}",
    ),
    "group counted": (
        "{k} {n}", "{k} {n}", "(the |){k} {n}", "(the |a |)group of {k} {n}", "all {k} {n}",
    ),
    "group of two": ("(the |a |)(pair|couple) of {n}", "both (the |){n}"),
}  # fmt: skip

RELATION_WORDS: dict[str, tuple[str, ...]] = {
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
ORDINAL_WORDS = {1: ("first", "1st"), 2: ("second", "2nd"), 3: ("third", "3rd")}
COUNT_WORDS = {
    2: ("two", "two", "2"), 3: ("three", "three", "3"), 4: ("four", "four", "4"),
    5: ("five", "5"), 6: ("six", "6"),
}  # fmt: skip
VERTICAL_WORDS = {"top": ("top", "top", "upper"), "bottom": ("bottom", "bottom", "lower")}
SIZE_WORDS = {
    "largest": ("big", "large"), "smallest": ("small", "little"),
    "tallest": ("tall",), "shortest": ("short",),
}  # fmt: skip
