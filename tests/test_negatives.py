"""Which images may show what a phrase describes, and which false phrases are made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matching_data import TableStore
from torch.nn import functional

from retrieval_grounding.core.colors import COLORS
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.core.regions import WHOLE_IMAGE
from retrieval_grounding.matching.batch import RegionTensors
from retrieval_grounding.matching.contrasts import add_contrasts
from retrieval_grounding.matching.negatives import (
    LabelMeanings,
    Mentions,
    choose_negatives,
    may_show,
)
from retrieval_grounding.matching.phrase_batch import make_phrase_batch
from retrieval_grounding.matching.placed import placed_statements
from retrieval_grounding.matching.statements import Statement, make_examples
from retrieval_grounding.matching.vocabulary import number_words
from retrieval_grounding.models.encoder import Fingerprint

NAMES = [WHOLE_IMAGE, "person", "bus", "dog", "dog group"]
BOX = (0.1, 0.1, 0.4, 0.6)


class WordEncoder:
    """Every word has a direction of its own, but "omnibus" means what "bus" means."""

    fingerprint = Fingerprint("words", "weights-1", "none")
    dimension = 64

    def encode_phrases(self, phrases):
        rows = []
        for phrase in phrases:
            seeds = [sum(map(ord, word.replace("omnibus", "bus"))) for word in phrase.split()]
            rows.append(sum(np.random.default_rng(s).normal(size=self.dimension) for s in seeds))
        rows = np.array(rows)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_table(images):
    """Return a table of images, each a list of (label, color, score)."""
    rows, offsets = [], [0]
    for things in images:
        rows += [(WHOLE_IMAGE, "", 1.0), *things]
        offsets.append(len(rows))
    labels = [NAMES.index(label) for label, _, _ in rows]
    boxes = [(0, 0, 100, 100) if not label else (10, 10, 40, 60) for label in labels]
    label_embeddings = WordEncoder().encode_phrases(NAMES)
    label_embeddings[0] = 0
    colors = [[255 * (name == color) for name in COLORS] for _, color, _ in rows]
    return RegionTable(
        embeddings=np.eye(1, WordEncoder.dimension, dtype=np.float16).repeat(len(rows), 0),
        boxes=np.array(boxes, np.float32),
        scores=np.array([score for _, _, score in rows], np.float32),
        labels=np.array(labels),
        colors=np.array(colors, np.uint8),
        offsets=np.array(offsets),
        label_names=NAMES,
        label_embeddings=label_embeddings,
    )


def shown(images, said, boxes=True):
    """Return, for each phrase, the images that may show it; phrase i is about image i."""
    statements = [
        Statement((0, image), phrase, BOX if boxes else None)
        for image, phrases in enumerate(said)
        for phrase in phrases
    ]
    keys = [(0, image) for image in range(len(images))]
    examples = make_examples(statements, keys, WordEncoder())
    mentions = Mentions(examples)
    phrases = make_phrase_batch(examples.phrases[examples.phrase], number_words([]))
    table = RegionTensors(make_table(images), "cpu").batch(torch.arange(len(images)))
    nouns = mentions.nouns(examples.phrase)
    numbers = np.arange(len(images))
    found = may_show(
        torch.from_numpy(mentions.said(numbers, nouns)),
        torch.from_numpy(mentions.colors(numbers)),
        torch.from_numpy(LabelMeanings(mentions.words).table(NAMES)[nouns]),
        phrases,
        table,
        functional.one_hot(torch.from_numpy(examples.image), len(images)).float(),
        torch.from_numpy(mentions.sentences(examples.phrase) & ~examples.located),
        mentions.baseline,
    )
    return {
        statement.phrase: set(np.flatnonzero(row).tolist())
        for statement, row in zip(statements, found.numpy(), strict=True)
    }


def test_detected_labels_and_their_names_may_show_a_noun():
    images = [
        [("bus", "red", 0.9)],
        [("person", "", 0.9)],
        [("person", "", 0.1)],
        [("dog group", "", 0.5)],
        [("bus", "", 0.6)],
    ]
    said = [["a big bus"], ["the teacher"], ["a tree"], ["the puppy", "grass"], ["one omnibus"]]
    found = shown(images, said)
    assert found["a big bus"] == {0, 4}  # and an omnibus is one
    assert found["one omnibus"] == {0, 4}
    assert found["the teacher"] == {1}  # a faint detection says nothing
    assert found["the puppy"] == {3}
    assert found["a tree"] == {2}


def test_words_said_about_an_image_may_show_a_noun():
    images = [[], [], []]
    said = [["a bench"], ["two men on benches"], ["a man"]]
    found = shown(images, said)
    assert found["a bench"] == {0, 1}
    assert found["a man"] == {1, 2}
    assert found["two men on benches"] == {1, 2}


def test_a_color_that_no_region_of_the_label_has_is_not_shown():
    images = [
        [("bus", "purple", 0.9)],
        [("bus", "red", 0.9)],
        [("bus", "red", 0.9), ("dog", "purple", 0.9)],
        [("bus", "red", 0.9)],
    ]
    said = [["a purple bus"], ["the red bus"], ["the bus"], ["a bus with a purple stripe"]]
    found = shown(images, said)
    assert found["a purple bus"] == {0, 3}  # of the last one, people say that it has the color
    assert found["the red bus"] == {1, 2, 3}
    assert found["the bus"] == {0, 1, 2, 3}


def test_a_sentence_without_a_box_is_about_its_own_image():
    images = [[("person", "", 0.9)]] * 3
    sentence = "a man with a hat is riding a brown horse"
    said = [[sentence], ["a man"], ["a man in red"]]
    assert shown(images, said, boxes=False)[sentence] == {0}
    assert shown(images, said, boxes=True)[sentence] == {0, 1, 2}
    assert shown(images, said, boxes=False)["a man"] == {0, 1, 2}


def test_other_images_are_drawn_once_each_and_never_an_excluded_one():
    excluded = torch.zeros(40, 9, dtype=torch.bool)
    excluded[:, 0] = True
    excluded[1, 1:] = True
    excluded[2, 3:] = True
    priority = torch.from_numpy(np.random.default_rng(0).random((40, 9), np.float32))
    images, drawn = choose_negatives(excluded, 5, priority)
    assert images.shape == drawn.shape == (40, 5)
    assert not drawn[1].any()
    assert set(images[2][drawn[2]].tolist()) == {1, 2}
    for row, chosen in zip(images[3:], drawn[3:], strict=True):
        assert chosen.all() and len(set(row.tolist())) == 5 and 0 not in row.tolist()
    assert len({tuple(row.tolist()) for row in images[3:]}) > 20
    again, _ = choose_negatives(excluded, 5, priority)
    assert torch.equal(images, again)


@pytest.mark.parametrize("generated", [False, True])
def test_false_phrases_use_no_word_that_is_said_of_the_image(generated):
    said = ["a red bus", "the man left of the bus", "a blue car", "a woman"]
    statements = [Statement((0, 0), text, BOX, generated=generated) for text in said]
    contrasts = set()
    for seed in range(60):
        for statement in add_contrasts(statements, seed):
            contrasts.add(statement.contrast)
            assert statement.contrast != statement.phrase
            words = statement.contrast.split()
            new = set(words) - set(statement.phrase.split())
            assert not new & {"blue", "car", "woman"} - {"an"}, statement
    assert ("the man right of the bus" in contrasts) == generated
    assert "the bus left of the man" in contrasts
    assert "a green bus" in contrasts


def test_a_contrast_that_is_given_is_kept():
    statement = Statement((0, 0), "a red bus", BOX, contrast="a rusty bus")
    assert add_contrasts([statement], 0) == [statement]


def test_false_phrases_are_mirrored_with_their_images():
    statements = [
        Statement((0, 0), "dog on the left", BOX, contrast="dog on the right"),
        Statement((0, 0), "a cat", BOX),
        Statement((0, 0), "a red cat", BOX, contrast="the man right behind her"),
    ]
    examples = make_examples(statements, [(0, 0)], WordEncoder())
    texts = [*examples.phrases.texts, ""]  # -1 is no phrase
    columns = (examples.phrase, examples.mirrored, examples.contrast, examples.mirrored_contrast)
    assert [[texts[row] for row in column] for column in columns] == [
        ["dog on the left", "a cat", "a red cat"],
        ["dog on the right", "a cat", "a red cat"],
        ["dog on the right", "", "the man right behind her"],
        ["dog on the left", "", ""],
    ]


def test_described_things_are_placed_among_each_other():
    table = make_table([[]])
    left, right = (0.1, 0.2, 0.3, 0.9), (0.6, 0.2, 0.8, 0.9)
    statements = [
        Statement((0, 0), "a man in red", left, weight=2.0),
        Statement((0, 0), "a tall man", right),
        Statement((0, 0), "the man", right, generated=True),
        Statement((0, 0), "a street", None),
    ]
    placed = placed_statements(TableStore(table), statements, seed=0)
    assert placed and all(s.generated for s in placed)
    assert {(s.box, s.weight) for s in placed} == {(left, 1.0), (right, 0.5)}
    for statement in placed:
        words = statement.phrase.split()
        if "left" in words and "of" not in words and "from" not in words:
            assert statement.box == left
    assert placed == placed_statements(TableStore(replace(table)), statements, seed=0)
