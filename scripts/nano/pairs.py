"""Which text goes with which crop, and which pairs of a batch say nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from retrieval_grounding.core.colors import COLORS

from .features import WHOLE, Crops
from .texts import (
    COCO_NAMES,
    SUPERCLASSES,
    TEMPLATES,
    Caption,
    class_words,
    phrase_class,
)

HELD_OUT = 1000

_WHOLE_SHARE = 0.2
_PHRASE_SHARE = 0.65
_COLOR_SHARE = 0.45
_PERSON = 0

# Words that mean the same as a class's name, wherever it is used.
_ALIASES: dict[str, tuple[str, ...]] = {
    "person": ("human", "someone"),
    "bicycle": ("bike",),
    "car": ("automobile",),
    "motorcycle": ("motorbike",),
    "airplane": ("plane", "aircraft"),
    "traffic light": ("stoplight",),
    "sports ball": ("ball",),
    "baseball glove": ("mitt",),
    "tennis racket": ("racket", "racquet"),
    "frisbee": ("disc",),
    "cup": ("mug",),
    "handbag": ("purse", "bag"),
    "suitcase": ("luggage",),
    "tie": ("necktie",),
    "donut": ("doughnut",),
    "couch": ("sofa",),
    "potted plant": ("plant", "houseplant"),
    "dining table": ("table",),
    "tv": ("television", "monitor", "screen"),
    "laptop": ("computer", "notebook computer"),
    "mouse": ("computer mouse",),
    "remote": ("remote control",),
    "cell phone": ("phone", "mobile phone"),
    "oven": ("stove",),
    "refrigerator": ("fridge",),
    "teddy bear": ("stuffed animal", "soft toy"),
    "hair drier": ("hair dryer",),
    "boat": ("ship",),
}
_PERSON_COLORS = ("{} in {}", "{} wearing {}", "{} dressed in {}")
_EMPTY_WORDS = frozenset(
    "a an the of photo this is one in on at and with to his her their its wearing dressed "
    "some".split()
)


@dataclass(frozen=True)
class Batch:
    """Crops with one text each.

    Parameters
    ----------
    crops : int array of shape (n,)
        Rows in the cache.
    texts : list of str
        Text of each crop.
    labels : int array of shape (n,)
        COCO class of each crop, or WHOLE.
    unclear : bool array of shape (n, n)
        Crop i may well match text j although it was not drawn for it; not to be learned from.
    """

    crops: np.ndarray
    texts: list[str]
    labels: np.ndarray
    unclear: np.ndarray


def held_out_photos(captions: list[Caption], seed: int) -> frozenset[str]:
    """Choose the Flickr8k photographs that are kept from training."""
    names = sorted({caption.photo for caption in captions if caption.photo.startswith("f")})
    chosen = np.random.default_rng(seed).permutation(len(names))[:HELD_OUT]
    return frozenset(names[number] for number in chosen)


class PairSampler:
    """Draws batches: whole photographs with captions, regions with phrases, names and colors.

    Parameters
    ----------
    crops : Crops
        Cached crops.
    captions : list of Caption
        Captions to train with.
    held_out : set of str
        Photographs that are never drawn.
    seed : int
        For every draw.

    Attributes
    ----------
    wholes : int array
        Rows of the whole photographs that are drawn.
    photos : int array
        Number of each crop's photograph.
    """

    def __init__(
        self, crops: Crops, captions: list[Caption], held_out: frozenset[str], seed: int
    ) -> None:
        self._crops = crops
        self.photos = crops.photos
        self._generator = np.random.default_rng(seed)
        self._captions: dict[str, list[Caption]] = defaultdict(list)
        for caption in captions:
            self._captions[caption.photo].append(caption)
        self._present = np.zeros((len(crops.names), len(COCO_NAMES)), bool)
        regions = crops.labels != WHOLE
        self._present[crops.photos[regions], crops.labels[regions]] = True
        allowed = np.array([name not in held_out for name in crops.names])[crops.photos]
        captioned = np.array([name in self._captions for name in crops.names])[crops.photos]
        self.wholes = np.flatnonzero(allowed & captioned & ~regions)
        self._regions = np.flatnonzero(allowed & regions)
        counts = np.bincount(crops.labels[self._regions], minlength=len(COCO_NAMES))
        weights = 1 / np.sqrt(counts[crops.labels[self._regions]])
        self._weights = weights / weights.sum()
        self._phrases = self._phrases_of_regions()

    def draw_captions(self, count: int) -> Batch:
        """Return a batch of `count` whole photographs, each once, with one of its captions."""
        random = self._generator
        rows = random.choice(self.wholes, count, replace=False)
        texts = []
        for row in rows:
            captions = self._captions[self._crops.names[self._crops.photos[row]]]
            texts.append(captions[random.integers(len(captions))].text)
        return Batch(rows, texts, self._crops.labels[rows], np.zeros((count, count), bool))

    def draw(self, count: int) -> Batch:
        """Return a batch of `count` crops with phrases, every photograph's whole at most once."""
        random = self._generator
        wholes = random.choice(self.wholes, int(count * _WHOLE_SHARE), replace=False)
        regions = random.choice(self._regions, count - len(wholes), replace=False, p=self._weights)
        rows = np.concatenate([wholes, regions])
        drawn = [self._text(row) for row in rows]
        texts = [text for text, _, _ in drawn]
        return Batch(
            rows,
            texts,
            self._crops.labels[rows],
            self._unclear(rows, drawn),
        )

    def _phrases_of_regions(self) -> dict[int, list[str]]:
        """Noun phrases for regions that are the only one of their class in the photograph."""
        words = class_words()
        found: dict[int, list[str]] = {}
        for row in self._regions:
            if not self._crops.alone[row]:
                continue
            label = int(self._crops.labels[row])
            present = self._present[self._crops.photos[row]]
            phrases = [
                phrase
                for caption in self._captions.get(self._crops.names[self._crops.photos[row]], [])
                for phrase in caption.noun_phrases
                if label in (meant := phrase_class(phrase, words))
                and sum(present[number] for number in meant) == 1
                and not is_plural(phrase)
            ]
            if phrases:
                found[int(row)] = phrases
        return found

    def _text(self, row: int) -> tuple[str, frozenset[int], int]:
        """Return a text for a crop, the classes it names as such, and the color it names."""
        random = self._generator
        label = int(self._crops.labels[row])
        if label == WHOLE:
            captions = self._captions[self._crops.names[self._crops.photos[row]]]
            caption = captions[random.integers(len(captions))]
            if not caption.noun_phrases:
                return caption.text, frozenset(), -1
            phrases = caption.noun_phrases
            return phrases[random.integers(len(phrases))], frozenset(), -1
        known = self._phrases.get(int(row))
        if known and random.random() < _PHRASE_SHARE:
            return known[random.integers(len(known))], frozenset(), -1
        return self._name(label, int(self._crops.colors[row]))

    def _name(self, label: int, color: int) -> tuple[str, frozenset[int], int]:
        random = self._generator
        name, classes = COCO_NAMES[label], frozenset({label})
        aliases = _ALIASES.get(name, ())
        if aliases and random.random() < 0.35:
            name = aliases[random.integers(len(aliases))]
        elif random.random() < 0.08:
            for group, (first, end) in SUPERCLASSES.items():
                if first <= label < end:
                    name, classes = group, frozenset(range(first, end))
        template = TEMPLATES[random.integers(len(TEMPLATES))]
        if color < 0 or random.random() > _COLOR_SHARE:
            return _articles(template.format(name)), classes, -1
        if label == _PERSON:
            form = _PERSON_COLORS[random.integers(len(_PERSON_COLORS))]
            name = form.format(name, COLORS[color])
        else:
            name = f"{COLORS[color]} {name}"
        return _articles(template.format(name)), classes, color

    def _unclear(
        self,
        rows: np.ndarray,
        drawn: list[tuple[str, frozenset[int], int]],
    ) -> np.ndarray:
        crops, count = self._crops, len(rows)
        labels, photos, colors = crops.labels[rows], crops.photos[rows], crops.colors[rows]
        shown = self._present[photos]
        regions = labels != WHOLE
        shown[regions] = False
        shown[np.flatnonzero(regions), labels[regions]] = True

        named = np.zeros((count, len(COCO_NAMES)), bool)
        for number, (_, classes, _) in enumerate(drawn):
            named[number, list(classes)] = True
        applies = (shown.astype(np.float32) @ named.T.astype(np.float32)) > 0
        said = np.array([color for _, _, color in drawn])
        differs = (said[None] >= 0) & (colors[:, None] >= 0) & (colors[:, None] != said[None])

        content = [set(text.split()) - _EMPTY_WORDS for text, _, _ in drawn]
        places = {word: place for place, word in enumerate(set().union(*content))}
        bags = np.zeros((count, len(places)), np.float32)
        for number, kept in enumerate(content):
            bags[number, [places[word] for word in kept]] = 1
        within = bags @ bags.T >= bags.sum(1)[None]

        same_photo = photos[:, None] == photos[None]
        apart = regions[:, None] & regions[None] & (labels[:, None] != labels[None])
        unclear = (applies & ~differs) | within | (same_photo & ~apart)
        np.fill_diagonal(unclear, False)
        return unclear


def is_plural(phrase: str) -> bool:
    """Tell whether a noun phrase means several things."""
    return bool(
        re.match(r"(two|three|four|five|six|several|many|some|group|people|men|women)\b", phrase)
    )


def _articles(text: str) -> str:
    """Write ``an`` before a vowel.

    Examples
    --------
    >>> _articles("a photo of a orange")
    'a photo of an orange'
    """
    return re.sub(r"\ba (?=[aeiou])", "an ", text)
