from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval_grounding.core.colors import COLORS, color_shares, region_colors

PAINTS = {
    "black": [(0, 0, 0), (15, 15, 15), (30, 40, 35)],
    "white": [(255, 255, 255), (240, 240, 235), (205, 210, 215)],
    "gray": [(128, 128, 128), (90, 92, 95), (170, 168, 165)],
    "brown": [(110, 65, 25), (139, 69, 19), (90, 60, 40)],
    "red": [(255, 0, 0), (200, 30, 40), (120, 10, 10)],
    "orange": [(255, 140, 0), (240, 120, 30)],
    "yellow": [(255, 235, 0), (230, 220, 60)],
    "green": [(0, 128, 0), (60, 200, 80), (90, 120, 50)],
    "blue": [(0, 0, 255), (60, 120, 220), (100, 180, 240), (20, 30, 90)],
    "purple": [(128, 0, 200), (150, 80, 200)],
    "pink": [(255, 105, 180), (255, 60, 150)],
}


@pytest.mark.parametrize(
    ("name", "paint"), [(name, paint) for name, paints in PAINTS.items() for paint in paints]
)
def test_a_painted_patch_has_the_color_of_its_paint(name, paint):
    shares = region_colors(Image.new("RGB", (40, 30), paint), boxes((0, 0, 40, 30)))[0]
    assert {COLORS[column]: int(share) for column, share in enumerate(shares) if share} == {
        name: 255
    }


def test_greys_go_from_black_over_gray_to_white_and_nowhere_else():
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(256, 1, 1, 3)
    names = [COLORS[column] for column in color_shares(ramp).argmax(-1)]
    changes = [name for name, before in zip(names, [None, *names], strict=False) if name != before]
    assert changes == ["black", "gray", "white"]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_shares_add_up_to_one(seed, height, width):
    pixels = np.random.default_rng(seed).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    shares = color_shares(pixels)
    assert shares.shape == (3, len(COLORS))
    assert shares.dtype == np.float32
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)


def test_every_share_is_that_of_the_area():
    picture = Image.new("RGB", (80, 80), (255, 0, 0))
    picture.paste((0, 0, 255), (0, 0, 40, 80))
    shares = region_colors(picture, boxes((0, 0, 80, 80)))[0] / 255
    assert shares[COLORS.index("red")] == pytest.approx(0.5, abs=0.05)
    assert shares[COLORS.index("blue")] == pytest.approx(0.5, abs=0.05)


def test_only_the_middle_of_a_box_counts():
    picture = Image.new("RGB", (100, 100), (0, 150, 0))
    picture.paste((255, 0, 0), (25, 20, 75, 80))
    assert names(picture, (0, 0, 100, 100)) == ["red"]
    assert names(picture, (0, 0, 20, 20)) == ["green"]


def test_boxes_are_measured_one_by_one_and_in_order():
    picture = Image.new("RGB", (90, 30), (255, 255, 255))
    picture.paste((0, 0, 0), (30, 0, 60, 30))
    picture.paste((255, 235, 0), (60, 0, 90, 30))
    found = names(picture, (60, 0, 90, 30), (0, 0, 30, 30), (30, 0, 60, 30))
    assert found == ["yellow", "white", "black"]


def test_no_boxes_give_no_rows():
    shares = region_colors(Image.new("RGB", (10, 10)), np.zeros((0, 4), np.float32))
    assert shares.shape == (0, len(COLORS))
    assert shares.dtype == np.uint8


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 1, 1),  # one pixel
        (49, 39, 50, 40),  # the last pixel
        (10.2, 10.2, 10.9, 10.9),  # less than a pixel
        (0, 0, 50, 1),  # a line
        (49.5, 0, 50, 40),  # half a pixel at the edge
        (0, 0, 50, 40),  # everything
        (30, 20, 50, 40),  # touches two edges
    ],
)
def test_tiny_boxes_and_boxes_at_the_edge_are_measured_too(box):
    assert names(Image.new("RGB", (50, 40), (0, 0, 255)), box) == ["blue"]


def boxes(*rows):
    return np.array(rows, np.float32)


def names(picture, *rows):
    """Return the name of the color that covers all that is measured of each box."""
    shares = region_colors(picture, boxes(*rows))
    assert (shares.max(-1) == 255).all()
    return [COLORS[column] for column in shares.argmax(-1)]
