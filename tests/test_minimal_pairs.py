"""Minimal pairs about drawn scenes, and how matchers answer them."""

from __future__ import annotations

import numpy as np
import pytest
import scenes

from retrieval_grounding.core.colors import COLORS
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.core.regions import WHOLE_IMAGE
from retrieval_grounding.evaluation.minimal_pairs import minimal_pair_accuracy
from retrieval_grounding.matching.pseudo.minimal_pairs import minimal_pairs
from retrieval_grounding.matching.pseudo.objects import DetectedObject
from retrieval_grounding.models.encoder import Fingerprint

KINDS = {"side", "size", "ordinal", "relation", "order", "color", "noun", "count"}


def things(scene):
    """The shapes of a scene as objects; row i + 1 of the scene's table is shape i."""
    side = scenes.SIDE
    return [
        DetectedObject(
            row=row, label=shape.shape, labels=frozenset([shape.shape]), sure=True, doubtful=False,
            left=shape.box[0] / side, top=shape.box[1] / side, right=shape.box[2] / side,
            bottom=shape.box[3] / side, shares=[float(name == shape.color) for name in COLORS],
        )
        for row, shape in enumerate(scene.shapes, start=1)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def drawn():
    return scenes.make_scenes(80, seed=3)


@pytest.fixture(scope="module")
def pairs(drawn):
    return [(n, pair) for n, scene in enumerate(drawn) for pair in minimal_pairs(things(scene))]


@pytest.fixture(scope="module")
def table(drawn):
    boxes, offsets = [], [0]
    for scene in drawn:
        boxes += [(0, 0, scenes.SIDE, scenes.SIDE), *(shape.box for shape in scene.shapes)]
        offsets.append(len(boxes))
    count = len(boxes)
    return RegionTable(
        embeddings=np.eye(1, 4, dtype=np.float16).repeat(count, 0),
        boxes=np.array(boxes, np.float32),
        scores=np.full(count, 0.9, np.float32),
        labels=np.zeros(count, np.int64),
        colors=np.zeros((count, len(COLORS)), np.uint8),
        offsets=np.array(offsets),
        label_names=[WHOLE_IMAGE],
        label_embeddings=np.zeros((1, 4), np.float32),
    )


class OneWay:
    """Embeds every phrase alike."""

    fingerprint = Fingerprint("one way", "weights", "none")
    dimension = 4

    def encode_phrases(self, phrases):
        return np.eye(1, 4, dtype=np.float32).repeat(len(phrases), 0)


class Solver:
    """Looks up what each phrase means."""

    name = "solver"

    def __init__(self, pairs, table):
        self.boxes = {}
        for image, pair in pairs:
            whole = table.boxes[table.image(image)].tobytes()
            for number, phrase in enumerate(pair.phrases):
                self.boxes[whole, phrase] = pair.boxes[number]

    def score_pairs(self, phrases, regions, phrase_rows):
        box = self.boxes[regions.boxes.tobytes(), phrases.texts[phrase_rows[0]]]
        return -np.abs(regions.boxes / scenes.SIDE - np.array(box)).sum(1)


def test_scenes_give_every_kind_of_pair(pairs):
    kinds = {pair.kind for _, pair in pairs}
    assert kinds >= KINDS
    for _, pair in pairs:
        assert pair.boxes[0] != pair.boxes[1]
        assert pair.phrases[0] != pair.phrases[1]


def test_a_pair_differs_in_one_word_or_in_the_order(pairs):
    for _, pair in pairs:
        first, second = (phrase.split() for phrase in pair.phrases)
        if pair.kind == "order":
            assert sorted(first) == sorted(second)
        elif pair.kind == "noun" and len(first) != len(second):
            pytest.fail(f"{pair.phrases} differ in length")
        elif len(first) == len(second):
            assert sum(a != b for a, b in zip(first, second, strict=True)) == 1, pair.phrases
        else:  # "to the left of" against "above"
            assert pair.kind == "relation"


def test_phrases_mean_what_they_say(drawn, pairs):
    """Read again, word by word, and independently of how they were made."""
    for image, pair in pairs:
        shapes = drawn[image].shapes
        for phrase, box in zip(pair.phrases, pair.boxes, strict=True):
            if pair.kind in ("count", "depth"):
                continue
            meant = [tuple(np.divide(s.box, scenes.SIDE)) for s in reading(phrase, shapes)]
            np.testing.assert_allclose(meant, [box], atol=1e-6, err_msg=phrase)


def reading(phrase, shapes):
    words = phrase.split()
    noun = next(word for word in words if word in scenes.SHAPES)
    color = words[words.index(noun) - 1]
    pool = [s for s in shapes if s.shape == noun and (color not in COLORS or s.color == color)]
    for text, ahead in {
        " to the left of ": lambda a, b: a.x < b.x, " to the right of ": lambda a, b: a.x > b.x,
        " above ": lambda a, b: a.y < b.y, " below ": lambda a, b: a.y > b.y,
    }.items():  # fmt: skip
        if text in phrase:
            others = [s for s in shapes if s.shape == words[-1]]
            return [s for s in pool if any(ahead(s, other) for other in others)]
    keys = {
        "left": lambda s: s.x, "right": lambda s: -s.x, "top": lambda s: s.y,
        "bottom": lambda s: -s.y, "smallest": area, "largest": lambda s: -area(s),
    }  # fmt: skip
    if " from the " in phrase:
        rank = ["first", "second", "third"].index(words[1])
        return [sorted(pool, key=keys[words[-1]])[rank]]
    if words[1] in keys:
        return [min(pool, key=keys[words[1]])]
    return pool


def area(shape):
    return (shape.box[2] - shape.box[0]) * (shape.box[3] - shape.box[1])


def test_a_matcher_that_understands_gets_both_right(pairs, table):
    single = [(image, pair) for image, pair in pairs if pair.kind != "count"]
    found = minimal_pair_accuracy(Solver(single, table), OneWay(), table, single)
    assert list(found)[-1] == "all"
    assert found["all"].pairs == len(single) == sum(found[k].pairs for k in found if k != "all")
    assert all(figures.both == 1 and figures.one == 0 for figures in found.values())


def test_a_matcher_that_answers_both_alike_gets_none_right(pairs, table):
    sides = [(image, pair) for image, pair in pairs if pair.kind in ("side", "size")]
    figures = minimal_pair_accuracy(FirstRegion(), OneWay(), table, sides)["all"]
    assert figures.both == 0
    assert 0 < figures.one < 1


class FirstRegion:
    name = "first"

    def score_pairs(self, phrases, regions, phrase_rows):
        return np.eye(1, len(regions), 1)[0]


def test_no_pairs_have_no_accuracy(table):
    assert minimal_pair_accuracy(FirstRegion(), OneWay(), table, []) == {}
