"""Pseudo-queries: what is claimed about an image, and the phrases for it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_grounding.core.colors import COLORS
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.core.regions import WHOLE_IMAGE, pairwise_iou
from retrieval_grounding.matching.pseudo.frequent import frequent_objects
from retrieval_grounding.matching.pseudo.generate import describe_image, pseudo_queries
from retrieval_grounding.matching.pseudo.human import placed_phrases
from retrieval_grounding.matching.pseudo.mirror import mirror_phrase
from retrieval_grounding.matching.pseudo.objects import find_objects

SIDE = 100
LABELS = (
    WHOLE_IMAGE,
    "person",
    "dog",
    "car",
    "bicycle",
    "dining table",
    "cup",
    "horse",
    "umbrella",
)


def detection(label, box, score=0.9, color="gray"):
    return label, box, score, color


def table(*images):
    """Make a table of images, each a list of (label, box in percent[, score[, color]])."""
    rows = []
    offsets = [0]
    for image in images:
        rows.append((WHOLE_IMAGE, (0, 0, SIDE, SIDE), 1.0, "green"))
        rows += [detection(*row) for row in image]
        offsets.append(len(rows))
    colors = np.zeros((len(rows), len(COLORS)), np.uint8)
    for number, row in enumerate(rows):
        colors[number, COLORS.index(row[3])] = 255
    return RegionTable(
        embeddings=np.zeros((len(rows), 2), np.float16),
        boxes=np.array([row[1] for row in rows], np.float32),
        scores=np.array([row[2] for row in rows], np.float32),
        labels=np.array([LABELS.index(row[0]) for row in rows]),
        colors=colors,
        offsets=np.array(offsets),
        label_names=LABELS,
        label_embeddings=np.zeros((len(LABELS), 2), np.float32),
    )


def claims_about(*image):
    """Return all claims ever made about an image: {(kind, direction, rank): {row}}."""
    found = {}
    regions = table(image)
    for seed in range(40):
        for claim, _ in describe_image(regions, 0, seed, per_image=200):
            kind = f"{claim.pool.color} {claim.kind}".strip()
            key = (kind, claim.direction, claim.rank)
            found.setdefault(key, set()).add(claim.target.row)
    return found


DOGS = [("dog", (5, 40, 25, 60)), ("dog", (40, 41, 60, 62)), ("dog", (75, 40, 95, 61))]


def test_a_lone_object_is_named_and_placed():
    found = claims_about(("dog", (5, 40, 25, 60)))
    assert found["label", "", 0] == {1}
    assert found["place", "left", 0] == {1}
    assert ("side", "left", 0) not in found


def test_a_row_is_counted_from_both_ends():
    found = claims_about(*DOGS)
    assert found["side", "left", 0] == {1}
    assert found["side", "right", 0] == {3}
    assert found["middle", "", 2] == {2}
    for rank in (1, 2, 3):
        assert found["ordinal", "left", rank] == {rank}
        assert found["ordinal", "right", rank] == {4 - rank}
    assert not any(kind in ("label", "size", "depth") for kind, _, _ in found)


def test_sizes_and_distances_need_a_clear_difference():
    found = claims_about(("dog", (5, 40, 65, 95)), ("dog", (70, 30, 80, 40)))
    assert found["size", "largest", 0] == {1}
    assert found["size", "smallest", 0] == {2}
    assert found["depth", "closest", 0] == {1}
    assert found["depth", "farthest", 0] == {2}
    assert not any(kind in ("size", "depth") for kind, _, _ in claims_about(*DOGS))


def test_people_may_be_tall():
    found = claims_about(("person", (10, 10, 30, 90)), ("person", (60, 40, 80, 90)))
    assert found["size", "tallest", 0] == {1}
    assert found["size", "shortest", 0] == {2}


def test_corners_hold_one():
    found = claims_about(("cup", (5, 5, 15, 15)), ("cup", (80, 80, 95, 95)))
    assert found["corner", "top left", 0] == {1}
    assert found["corner", "bottom right", 0] == {2}


def test_colors_tell_apart():
    found = claims_about(
        ("car", (5, 40, 25, 60), 0.9, "red"), ("car", (40, 40, 60, 60), 0.9, "blue")
    )
    assert found["red label", "", 0] == {1}
    assert found["blue label", "", 0] == {2}


@pytest.mark.parametrize(("other", "clear"), [("blue", True), ("orange", False), ("red", False)])
def test_similar_colors_do_not(other, clear):
    found = claims_about(
        ("car", (5, 40, 25, 60), 0.9, "red"), ("car", (40, 40, 60, 60), 0.9, other)
    )
    assert (("red label", "", 0) in found) == clear


def test_skin_colors_do_not_describe_people():
    found = claims_about(("person", (5, 40, 25, 90), 0.9, "brown"))
    assert not any("brown" in kind for kind, _, _ in found)


@pytest.mark.parametrize(
    ("relation", "first", "second"),
    [
        ("left of", ("dog", (20, 40, 35, 70)), ("car", (40, 30, 80, 70))),
        ("right of", ("dog", (65, 40, 80, 70)), ("car", (20, 30, 60, 70))),
        ("next to", ("dog", (28, 40, 39, 70)), ("car", (40, 40, 70, 70))),
        ("above", ("cup", (40, 20, 50, 30)), ("car", (30, 35, 60, 80))),
        ("below", ("cup", (40, 82, 50, 92)), ("car", (30, 35, 60, 80))),
        ("on", ("cup", (40, 50, 48, 62)), ("dining table", (10, 55, 90, 95))),
        ("riding", ("person", (40, 10, 60, 65)), ("horse", (30, 40, 75, 85))),
        ("ridden by", ("horse", (30, 40, 75, 85)), ("person", (40, 10, 60, 65))),
        ("holding", ("person", (40, 30, 60, 90)), ("umbrella", (35, 22, 65, 40))),
        ("with", ("person", (40, 30, 60, 90)), ("umbrella", (35, 22, 65, 40))),
        ("carried by", ("umbrella", (35, 22, 65, 40)), ("person", (40, 30, 60, 90))),
    ],
)
def test_a_relation_holds_for_one_object_and_for_no_other(relation, first, second):
    elsewhere = {
        "right of": (2, 5, 12, 15), "left of": (88, 85, 98, 95), "above": (2, 85, 12, 95),
        "below": (2, 5, 12, 15),
    }.get(relation, (1, 1, 9, 9))  # fmt: skip
    found = claims_about(first, second, (first[0], elsewhere))
    assert found["relation", relation, 0] == {1}
    step = 0.4 * (
        first[1][2] - first[1][0]
    )  # too far to be the same object, near enough to be ambiguous
    shifted = (first[1][0] + step, first[1][1], first[1][2] + step, first[1][3])
    assert ("relation", relation, 0) not in claims_about(first, second, (first[0], shifted, 0.2))


def test_boxes_on_one_thing_are_one_thing():
    twice = [*DOGS[:2], ("dog", (6, 40, 26, 61), 0.5), ("dog", (75, 40, 95, 61))]
    assert claims_about(*twice)["ordinal", "left", 2] == {2}
    renamed = [("dog", (5, 40, 25, 60)), ("horse", (6, 40, 26, 61), 0.8)]
    assert claims_about(*renamed) == {}


def test_a_part_of_another_box_is_not_described():
    found = claims_about(("person", (10, 10, 60, 90)), ("person", (20, 10, 40, 50), 0.5))
    assert set().union(*found.values()) <= {1}
    assert not any(kind == "label" for kind, _, _ in found)


@pytest.mark.parametrize(
    "image",
    [
        [],
        [("dog", (0, 0, 100, 99))],  # the whole image
        [("dog", (10, 10, 14, 14))],  # tiny
        [("dog", (10, 10, 40, 40), 0.2)],  # doubtful
        [("dog", (10, 30, 40, 60)), ("dog", (22, 30, 52, 60), 0.2)],  # one or two?
        [("dog", (40, 40, 50, 50)), ("dog", (45, 45, 55, 55))],  # side by side within the margin
    ],
)
def test_unclear_objects_are_not_described(image):
    assert claims_about(*image) == {}


def test_a_doubtful_detection_prevents_counting_and_naming():
    found = claims_about(*DOGS, ("dog", (75, 70, 95, 90), 0.2))
    assert not any(kind == "ordinal" for kind, _, _ in found)
    alone = claims_about(DOGS[0], ("dog", (75, 40, 95, 61), 0.2))
    assert not any(kind == "label" for kind, _, _ in alone)


def test_queries_are_columns_that_depend_on_the_image_and_the_seed_alone():
    street = [*DOGS, ("car", (30, 5, 60, 30), 0.9, "red"), ("person", (5, 5, 20, 38), 0.9, "blue")]
    both, one = table(DOGS, [], street), table(street)
    queries = pseudo_queries(both, seed=3, per_image=6)
    assert queries.images.tolist() == [0] * 6 + [2] * 6
    assert len(queries) == len(queries.phrases) == len(queries.kinds) == len(queries.rows)
    assert (both.offsets[queries.images] < queries.rows).all()
    assert (queries.rows < both.offsets[queries.images + 1]).all()
    assert len(set(queries.phrases[6:])) == 6
    again = pseudo_queries(one, seed=3, per_image=6)
    assert again.phrases == queries.phrases[6:]
    np.testing.assert_array_equal(again.rows + both.offsets[2], queries.rows[6:])
    assert pseudo_queries(one, seed=4, per_image=6).phrases != again.phrases


@st.composite
def crowded(draw):
    image = []
    for _ in range(draw(st.integers(0, 9))):
        x, y = draw(st.integers(0, 90)), draw(st.integers(0, 90))
        width, height = draw(st.integers(3, 60)), draw(st.integers(3, 60))
        box = (x, y, min(SIDE, x + width), min(SIDE, y + height))
        score = draw(st.sampled_from([0.05, 0.2, 0.5, 0.9]))
        color = draw(st.sampled_from(["red", "blue", "orange", "black"]))
        image.append((draw(st.sampled_from(LABELS[1:5])), box, score, color))
    return image


@settings(max_examples=200, deadline=None)
@given(crowded(), st.integers(0, 1000))
def test_a_phrase_interpreted_independently_selects_its_target(image, seed):
    regions = table(image)
    for claim, phrase in describe_image(regions, 0, seed, per_image=100):
        row = claim.target.row
        assert phrase == phrase.strip().lower()
        assert "  " not in phrase and "{" not in phrase and "(" not in phrase
        assert regions.label(row) in claim.pool.labels
        assert regions.scores[row] >= 0.25
        candidates = distinct(regions, claim.pool.labels, claim.pool.color)
        assert row in candidates
        boxes = {number: regions.boxes[number].tolist() for number in candidates}
        if claim.kind == "label":
            assert candidates == [row]
        elif claim.kind == "corner":
            vertical, side = claim.direction.split()
            there = [
                number
                for number, box in boxes.items()
                if (box[0] + box[2] < SIDE) == (side == "left")
                and (box[1] + box[3] < SIDE) == (vertical == "top")
            ]
            assert there == [row]
        elif claim.kind in ("side", "size", "depth"):
            assert min(boxes, key=lambda number: WORDS[claim.direction](boxes[number])) == row
        elif claim.kind in ("ordinal", "middle"):
            order = sorted(boxes, key=lambda n: WORDS[claim.direction or "left"](boxes[n]))
            assert order[claim.rank - 1] == row
            assert claim.kind == "ordinal" or len(order) == 2 * claim.rank - 1
        elif claim.kind == "relation":
            (other,) = claim.reference.sure
            assert distinct(regions, claim.reference.labels, "") == [other.row]
            related = [
                n for n in boxes if fits(claim.direction, boxes[n], regions.boxes[other.row])
            ]
            assert related == [row]


def distinct(regions, labels, color):
    """Return the rows of detections that look like different objects with one of `labels`.

    Doubtful boxes count if they are separate and not much smaller than the certain ones.
    """
    names = {}  # labels of each object, by the row of its best box
    for number in sorted(range(1, len(regions)), key=lambda n: -regions.scores[n]):
        box = regions.boxes[number]
        same = [n for n in names if pairwise_iou([regions.boxes[n]], [box])[0, 0] > 0.6]
        if regions.scores[number] > 0.15:
            names.setdefault((same or [number])[0], set()).add(regions.label(number))
    things = [n for n in names if names[n] & labels]
    sure = [n for n in things if regions.scores[n] > 0.4]
    boxes = regions.boxes
    most = max((area(boxes[n]) for n in sure), default=0)
    kept = sure + [
        n
        for n in things
        if n not in sure
        and area(boxes[n]) > 0.35 * most
        and not any(overlap(boxes[n], boxes[other]) for other in things if other != n)
    ]
    return [n for n in sorted(kept) if not color or regions.colors[n, COLORS.index(color)]]


def fits(relation, box, other):
    if relation in ("left of", "right of"):
        return (box[0] + box[2] < other[0] + other[2]) == (relation == "left of")
    if relation in ("above", "below"):
        return (box[1] + box[3] < other[1] + other[3]) == (relation == "above")
    if relation == "next to":
        grown = [other[0] - 6, other[1], other[2] + 6, other[3]]
        return overlap(box, grown) > 0
    return overlap(box, other) > 0


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


WORDS = {
    "left": lambda box: box[0] + box[2], "right": lambda box: -box[0] - box[2],
    "top": lambda box: box[1] + box[3], "bottom": lambda box: -box[1] - box[3],
    "largest": lambda box: -area(box), "smallest": area,
    "tallest": lambda box: box[1] - box[3], "shortest": lambda box: box[3] - box[1],
    "closest": lambda box: -area(box), "farthest": area,
}  # fmt: skip
"""A value that is smallest for the target."""


@given(
    st.lists(st.sampled_from("left right LEFT Right leftmost right-hand bright the next".split()))
)
def test_mirroring_twice_restores_the_phrase(words):
    phrase = " ".join(words)
    mirrored = mirror_phrase(phrase)
    assert mirrored is None or mirror_phrase(mirrored) == phrase


@given(st.text())
def test_mirroring_twice_restores_any_text(text):
    mirrored = mirror_phrase(text)
    assert mirrored is None or mirror_phrase(mirrored) == text


@pytest.mark.parametrize(
    ("phrase", "mirrored"),
    [
        ("second dog from the left", "second dog from the right"),
        ("rightmost bright car", "leftmost bright car"),
        ("lefthand one left of the leftovers", "righthand one right of the leftovers"),
        ("left side, right-hand corner", "right side, left-hand corner"),
        ("the tall one", "the tall one"),
    ],
)
def test_mirroring_swaps_the_words_for_sides_only(phrase, mirrored):
    assert mirror_phrase(phrase) == mirrored


def test_mirrored_claims_are_the_claims_of_the_mirrored_image():
    flipped = [(label, (SIDE - x2, y1, SIDE - x1, y2)) for label, (x1, y1, x2, y2) in DOGS]
    swapped = {
        (kind, mirror_phrase(direction), rank): rows
        for (kind, direction, rank), rows in claims_about(*DOGS).items()
    }
    assert swapped == claims_about(*flipped)


def test_phrases_for_what_is_in_most_images_come_first():
    left, right = (5, 5, 30, 60), (60, 5, 90, 60)
    many = table(
        [("dog", left), ("dog", right)],  # an image counts once
        [("umbrella", left), ("cup", right)],
        [("umbrella", left), ("horse", right, 0.2)],  # too doubtful
        [],
    )
    assert frequent_objects(many, 9) == ["an umbrella", "a cup", "a dog"]
    assert frequent_objects(many, 1) == ["an umbrella"]
    assert frequent_objects(table([]), 9) == []


# Nouns and phrases of people ---------------------------------------------------------------------


AXES = {"person": 0, "man": 1, "woman": 2, "boy": 3, "girl": 4, "kid": 5}


def phrases_about(embedding, nouns):
    """Return all words ever used for a person with this embedding."""
    regions = table([("person", (10, 10, 40, 90)), ("dog", (60, 60, 80, 80))])
    embeddings = np.tile(np.array(embedding, np.float32), (len(regions), 1))
    regions = replace(regions, embeddings=embeddings)
    words = set()
    for seed in range(60):
        for _, phrase in describe_image(regions, 0, seed, 20, nouns):
            words.update(phrase.split())
    return words & {"person", "human", "man", "guy", "woman", "lady", "boy", "girl", "kid"}


def test_a_person_is_a_woman_only_if_the_encoder_says_so():
    nouns = dict(zip(AXES, np.eye(6, dtype=np.float32), strict=True))
    clear, unclear = np.array([0.5, 0.1, 0.8, 0, 0, 0]), np.array([0.5, 0.6, 0.6, 0, 0, 0])
    assert phrases_about(clear, nouns) == {"person", "human", "woman", "lady"}
    assert phrases_about(unclear, nouns) == {"person", "human"}
    assert phrases_about(clear, None) == {"person", "human"}


def placed(descriptions, boxes, detections=(), seeds=40):
    found = {}
    for seed in range(seeds):
        for one in placed_phrases(
            descriptions, np.array(boxes, np.float32), detections, Random(seed), 30
        ):
            found.setdefault(one.phrase, set()).add(one.row)
    return found


LEFT, RIGHT = (0.1, 0.2, 0.3, 0.9), (0.65, 0.2, 0.85, 0.9)


def test_described_things_are_placed_among_their_kind():
    found = placed(["a man in a red shirt", "a tall man"], [LEFT, RIGHT])
    assert found["left man"] == {0}
    assert found["man in a red shirt on left"] == {0}
    assert found["man on the right"] == {1}
    assert all(len(rows) == 1 for rows in found.values())
    assert not any("woman" in phrase for phrase in found)


def test_a_detection_that_may_be_meant_prevents_a_phrase():
    regions = table([("person", (2, 20, 9, 90))])
    other = find_objects(regions, 0)
    found = placed(["a man", "a man"], [LEFT, RIGHT], other)
    assert "left man" not in found
    assert found["right man"] == {1}


def test_a_woman_is_no_rival_of_a_man():
    found = placed(["a man", "a woman", "a man"], [LEFT, (0.02, 0.2, 0.08, 0.9), RIGHT])
    assert found["left man"] == {0}
    assert found.get("left person", {1}) == {1}


def test_a_group_whose_members_are_unknown_prevents_phrases():
    found = placed(["a man", "a man", "three men"], [LEFT, RIGHT, (0.3, 0.1, 0.7, 0.9)])
    assert "left man" not in found


def test_things_are_related_to_described_things():
    boxes = [(0.2, 0.4, 0.35, 0.7), (0.4, 0.3, 0.8, 0.7), (0.9, 0.8, 0.99, 0.95)]
    found = placed(["a dog", "a red car", "a dog"], boxes)
    assert found["dog left of car"] == {0}
