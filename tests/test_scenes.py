"""The drawn scenes are what the training tests assume."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scenes

from retrieval_grounding.core.colors import COLORS, region_colors
from retrieval_grounding.core.regions import WHOLE_IMAGE, pairwise_iou


@pytest.fixture(scope="module")
def drawn():
    return scenes.make_scenes(60, seed=7)


def matching_shapes(phrase, shapes):
    """Return all shapes that a phrase may describe, reading it word by word."""
    if " from the " in phrase:
        _, shape, _, _, side = phrase.split()
        row = sorted((s for s in shapes if s.shape == shape), key=lambda s: s.x)
        return [row[1] if side == "left" else row[-2]]
    for words, ahead in {
        " to the left of ": lambda a, b: a.x < b.x, " to the right of ": lambda a, b: a.x > b.x,
        " above ": lambda a, b: a.y < b.y, " below ": lambda a, b: a.y > b.y,
    }.items():  # fmt: skip
        if words in phrase:
            first, second = phrase.split(words)
            (other,) = matching_shapes(second, shapes)
            return [s for s in matching_shapes(first, shapes) if ahead(s, other)]
    left = list(shapes)
    for word in reversed(phrase.split()):
        if word in scenes.SHAPES:
            left = [s for s in left if s.shape == word]
        elif word in scenes.COLORS:
            left = [s for s in left if s.color == word]
        elif word in ("small", "large"):
            left = [s for s in left if s.large == (word == "large")]
        elif word not in ("the", "one"):
            key, sign = {
                "leftmost": ("x", 1), "rightmost": ("x", -1), "topmost": ("y", 1),
                "bottommost": ("y", -1), "smallest": ("area", 1), "largest": ("area", -1),
            }[word]  # fmt: skip
            values = [sign * (area(s) if key == "area" else getattr(s, key)) for s in left]
            left = [s for s, value in zip(left, values, strict=True) if value == min(values)]
    return left


def area(shape):
    return (shape.box[2] - shape.box[0]) * (shape.box[3] - shape.box[1])


def test_every_phrase_describes_one_shape(drawn):
    kinds = set()
    for scene in drawn:
        for expression in scene.expressions:
            kinds.add(expression.kind)
            found = matching_shapes(expression.phrase, scene.shapes)
            assert [shape.box for shape in found] == [expression.box]
    assert kinds == {
        "color", "shape", "color shape", "size", "position", "ordinal", "relation"
    }  # fmt: skip


def test_the_detector_finds_every_shape_once_and_wrong_boxes_besides(drawn):
    detector = scenes.SceneDetector(drawn)
    wrong = 0
    for scene, found in zip(drawn, detector.detect([s.image for s in drawn]), strict=True):
        assert found.labels[0] == WHOLE_IMAGE
        assert (found.boxes <= scenes.SIDE).all()
        iou = pairwise_iou(found.boxes, [shape.box for shape in scene.shapes])
        assert (iou.max(axis=0) > 0.75).all()
        assert ((iou >= 0.5).sum(axis=0) == 1).all()
        wrong += int((iou[1:].max(axis=1) < 0.5).sum())
    assert wrong > 2 * len(drawn)


def test_colors_as_drawn_are_colors_as_measured(drawn):
    for scene in drawn:
        boxes = np.array([shape.box for shape in scene.shapes], np.float32)
        measured = region_colors(scene.image, boxes)
        assert [COLORS[row.argmax()] for row in measured] == [s.color for s in scene.shapes]


def test_scenes_depend_on_the_seed_alone(drawn):
    again = scenes.make_scenes(3, seed=7)
    assert [s.image.tobytes() for s in again] == [s.image.tobytes() for s in drawn[:3]]
    assert [s.expressions for s in again] == [s.expressions for s in drawn[:3]]
    (other,) = scenes.make_scenes(1, seed=8)
    assert other.image.tobytes() != again[0].image.tobytes()


def test_written_scenes_are_read_back_by_the_detector(drawn, tmp_path):
    path = tmp_path / "refs.jsonl"
    scenes.write_jsonl(scenes.write_scenes(drawn[:3], tmp_path, "train"), path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == sum(len(scene.expressions) for scene in drawn[:3])
    detector = scenes.SceneDetector(drawn)
    for line in lines:
        with scenes.Image.open(tmp_path / line["image"]) as image:
            (found,) = detector.detect([image.convert("RGB")])
        x, y, width, height = line["bbox_xywh"]
        assert pairwise_iou(found.boxes, [[x, y, x + width, y + height]]).max() > 0.75
