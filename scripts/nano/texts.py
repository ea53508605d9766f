"""Phrases that nano's encoder is trained with: names, colors, noun phrases and captions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COCO_NAMES: tuple[str, ...] = tuple(
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,"
    "baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,"
    "knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,"
    "chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,"
    "cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,"
    "hair drier,toothbrush".split(",")
)

# Words of captions that mean a class; the plural and the class's own name are always added.
SYNONYMS: dict[str, str] = {
    "person": "man woman boy girl child kid baby guy lady player toddler people men women "
    "children kids boys girls worker skier biker surfer rider climber runner dancer swimmer",
    "bicycle": "bike bikes", "car": "vehicle automobile", "motorcycle": "motorbike dirtbike",
    "airplane": "plane jet", "bus": "vehicle", "truck": "pickup vehicle",
    "boat": "ship canoe kayak",
    "dog": "puppy poodle greyhound terrier", "cat": "kitten", "cow": "bull cattle calf",
    "horse": "pony", "sheep": "lamb", "bird": "duck goose seagull pigeon", "bear": "cub",
    "backpack": "bag rucksack", "handbag": "purse bag", "suitcase": "luggage bag",
    "sports ball": "ball soccer basketball football tennis", "cup": "mug glass",
    "frisbee": "disc", "couch": "sofa", "dining table": "table desk", "tv": "television screen",
    "cell phone": "phone", "potted plant": "plant", "refrigerator": "fridge", "donut": "doughnut",
    "baseball bat": "bat", "baseball glove": "glove mitt", "tennis racket": "racket racquet",
    "wine glass": "glass", "teddy bear": "teddy toy", "snowboard": "board",
    "surfboard": "board", "skateboard": "board", "skis": "ski", "tie": "necktie",
    "traffic light": "stoplight", "laptop": "computer", "bench": "seat", "chair": "seat",
}  # fmt: skip

SUPERCLASSES: dict[str, tuple[int, int]] = {
    "vehicle": (1, 9), "animal": (14, 24), "food": (46, 56), "furniture": (56, 61),
    "kitchenware": (39, 46),
}  # fmt: skip
"""Ranges of class numbers, the end excluded."""

TEMPLATES = ("{}", "a {}", "the {}", "a photo of a {}", "one {}", "this is a {}")

_BREAKS = frozenset(
    "is are was were be being been on in at of with and or to from by for over under through near "
    "while as that who which into onto off up down along around behind beside between across next "
    "his her their its there has have having wearing holding standing sitting walking running "
    "jumping playing riding looking watching talking carrying going doing making throwing catching "
    "during after before against toward towards past out very . , ; : ! ? - ( ) \" '".split()
)
_ING_NOUNS = frozenset(
    "building clothing swing railing ring string wing painting ceiling king crossing wedding sling "
    "thing awning evening morning parking swimming stocking legging frosting icing".split()
)
_DETERMINERS = frozenset("a an the two three four five some several many another one".split())
_VAGUE = frozenset("it he she they them him someone something other others each front back".split())


@dataclass(frozen=True)
class Caption:
    """A caption and the noun phrases in it."""

    photo: str
    text: str
    noun_phrases: tuple[str, ...]


def read_captions(path: Path) -> list[Caption]:
    """Read ``name<TAB>caption`` lines."""
    captions = []
    for line in path.read_text(encoding="utf-8").splitlines():
        photo, _, text = line.partition("\t")
        cleaned = " ".join(text.lower().replace(".", " ").split())
        if cleaned:
            captions.append(Caption(photo, cleaned, tuple(noun_phrases(cleaned))))
    return captions


def noun_phrases(caption: str) -> list[str]:
    """Cut a lower-case caption at verbs and prepositions into phrases such as ``a red ball``.

    Phrases of the form ``X in Y`` and ``X with Y`` are kept as well, since that is how people
    refer to people.
    """
    words = re.findall(r"[a-z']+|[.,;:!?]", caption)
    chunks: list[list[str]] = [[]]
    joins: list[str] = []
    for word in words:
        if word in _BREAKS or (word.endswith("ing") and word not in _ING_NOUNS):
            if chunks[-1]:
                chunks.append([])
                joins.append(word)
            elif joins:
                joins[-1] = f"{joins[-1]} {word}"
        else:
            chunks[-1].append(word)
    found = []
    for number, chunk in enumerate(chunks):
        if not _is_nominal(chunk):
            continue
        found.append(" ".join(chunk[-5:]))
        following = chunks[number + 1] if number + 1 < len(chunks) else []
        joined = number < len(joins) and joins[number] in {"in", "with", "wearing", "holding", "on"}
        if joined and 0 < len(following) <= 5:
            found.append(f"{' '.join(chunk[-4:])} {joins[number]} {' '.join(following)}")
    return [phrase for phrase in found if len(phrase) > 2]


def _is_nominal(chunk: Sequence[str]) -> bool:
    content = [word for word in chunk if word not in _DETERMINERS]
    starts_well = bool(chunk) and (chunk[0] in _DETERMINERS or len(content) <= 3)
    return bool(content) and starts_well and content[-1] not in _VAGUE and len(chunk) <= 6


def class_words() -> dict[str, set[int]]:
    """Return which classes each word of a caption may mean."""
    words: dict[str, set[int]] = {}
    for number, name in enumerate(COCO_NAMES):
        for word in (name.split()[-1], f"{name.split()[-1]}s", *SYNONYMS.get(name, "").split()):
            words.setdefault(word, set()).add(number)
    return words


def phrase_class(phrase: str, words: dict[str, set[int]]) -> set[int]:
    """Return the classes that the head of a noun phrase may mean: its first known word or empty.

    The head of ``a man in a red shirt`` stands before the preposition.
    """
    head = re.split(r" (?:in|with|wearing|holding|on) ", phrase)[0]
    for word in reversed(head.split()):
        if word in words:
            return words[word]
    return set()
