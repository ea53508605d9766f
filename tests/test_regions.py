from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_grounding import Regions, pairwise_iou

coordinates = st.floats(0, 5000, width=32)
sides = st.floats(1, 5000, width=32)


@st.composite
def boxes(draw: st.DrawFn) -> list[float]:
    x, y = draw(coordinates), draw(coordinates)
    return [x, y, x + draw(sides), y + draw(sides)]


@given(st.lists(boxes(), min_size=1, max_size=8), st.lists(boxes(), min_size=1, max_size=8))
def test_iou_is_a_symmetric_share(first, second):
    iou = pairwise_iou(first, second)
    assert iou.shape == (len(first), len(second))
    assert ((iou >= 0) & (iou <= 1)).all()
    np.testing.assert_allclose(iou, pairwise_iou(second, first).T)
    np.testing.assert_allclose(np.diag(pairwise_iou(first, first)), 1, rtol=1e-5)


def test_iou_against_hand_computed_values():
    iou = pairwise_iou([[0, 0, 10, 10]], [[5, 0, 15, 10], [0, 0, 5, 5], [10, 0, 20, 10]])
    np.testing.assert_allclose(iou, [[50 / 150, 25 / 100, 0]], rtol=1e-6)


@given(st.lists(boxes(), max_size=8), st.integers(1, 4000), st.integers(1, 4000))
def test_clipped_regions_lie_inside(drawn, width, height):
    regions = Regions(drawn, np.full(len(drawn), 0.5), ["x"] * len(drawn)).clip(width, height)
    assert (regions.boxes <= [width, height, width, height]).all()
    assert (regions.boxes[:, 2:] - regions.boxes[:, :2] >= 1).all()


@given(st.lists(boxes(), min_size=1, max_size=8))
def test_parts_put_together_are_the_whole(drawn):
    labels = [str(number) for number in range(len(drawn))]
    regions = Regions(drawn, np.linspace(0, 1, len(drawn)), labels)
    assert Regions.concatenate([regions[:1], regions[1:]]) == regions
    np.testing.assert_allclose(regions.xywh[:, :2] + regions.xywh[:, 2:], regions.boxes[:, 2:])


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "problem"),
    [
        ([[0, 0, 1, 1]], [0.5], [], "differ in length"),
        ([[0, 0, 0, 1]], [0.5], ["x"], "x2 > x1"),
        ([[5, 0, 1, 1]], [0.5], ["x"], "x2 > x1"),
        ([[-1, 0, 1, 1]], [0.5], ["x"], "at least 0"),
        ([[0, 0, np.nan, 1]], [0.5], ["x"], "finite"),
        ([[0, 0, np.inf, 1]], [0.5], ["x"], "finite"),
        ([[0, 0, 1, 1]], [1.5], ["x"], "between 0 and 1"),
        ([[0, 0, 1, 1]], [np.nan], ["x"], "between 0 and 1"),
    ],
)
def test_impossible_regions_are_refused(boxes, scores, labels, problem):
    with pytest.raises(ValueError, match=problem):
        Regions(boxes, scores, labels)


def test_regions_cannot_be_changed():
    regions = Regions.whole_image(10, 20)
    with pytest.raises(ValueError, match="read-only"):
        regions.boxes[0, 0] = 3
