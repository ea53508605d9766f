"""Names that the encoder gives to what the bundled detector finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import retrieval_grounding as rg
from retrieval_grounding.core.regions import Regions
from retrieval_grounding.models.naming import Namer, NamingRule, find_namer, read_rule
from retrieval_grounding.models.presets import bundled_path

NAMES = ["cat", "dog", "cow"]
RULE = NamingRule("d", "e", 0.02, 1.0, (1.0, 0.0, 10.0, 1.0), -8.0)


class Corners:
    """Embeds every name as an axis of its own."""

    dimension = 3
    fingerprint = rg.Fingerprint("corners", "e", "none")

    def encode_phrases(self, phrases):
        return np.eye(3, dtype=np.float32)[[NAMES.index(phrase) for phrase in phrases]]


def regions_of(*labels: str, scores: list[float] | None = None) -> Regions:
    boxes = [[0, 0, 9, 9], *([i, 0, i + 2, 2] for i in range(len(labels) - 1))]
    return Regions(boxes, scores or [1.0] + [0.5] * (len(labels) - 1), labels)


def unit(*rows: tuple[float, float, float]) -> np.ndarray:
    array = np.array(rows, np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


@pytest.fixture
def namer() -> Namer:
    return Namer(Corners(), NAMES, RULE)


def test_the_encoder_names_things_and_leaves_the_whole_image(namer):
    found = regions_of("whole image", "cow", "dog")
    named = namer(found, unit((1, 0, 0), (0.9, 0.1, 0.2), (0.1, 1, 0)))
    assert named.labels == ("whole image", "cat", "dog")
    assert np.array_equal(named.boxes, found.boxes)
    assert named.scores[0] == 1


def test_a_close_decision_is_the_detectors(namer):
    named = namer(regions_of("whole image", "dog"), unit((1, 1, 1), (1, 0.99, 0)))
    assert named.labels[1] == "dog"


def test_scores_tell_how_sure_a_name_is(namer):
    embeddings = unit((1, 1, 1), (1, 0, 0), (1, 0.8, 0.7), (1, 0, 0), (1, 0, 0))
    found = regions_of("whole image", *["cat"] * 3, "cow", scores=[1, 0.5, 0.5, 0.2, 0.5])
    scores = namer(found, embeddings).scores
    assert scores[1] > max(scores[2], scores[3], scores[4])
    assert ((scores >= 0) & (scores <= 1)).all()


def test_scores_of_zero_and_one_stay_finite(namer):
    found = regions_of("whole image", "cat", "cat", scores=[1, 0, 1])
    assert np.isfinite(namer(found, unit((1, 1, 1), (1, 0, 0), (1, 0, 0))).scores).all()


def test_a_group_takes_the_name_of_most_of_its_members(namer):
    found = regions_of("whole image", "cow", "cow", "cow", "cow group")
    dog, cat = (0, 1, 0), (1, 0, 0)
    named = namer(found, unit((1, 1, 1), dog, dog, cat, (0, 0, 1)))
    assert named.labels[1:] == ("dog", "dog", "cat", "dog group")
    assert named.scores[4] == np.sort(named.scores[1:4])[1]


def test_an_image_without_detections_stays_as_it_is(namer):
    whole = Regions.whole_image(9, 9)
    assert namer(whole, unit((1, 0, 0))) == whole


def test_only_the_bundled_pair_is_named_by_the_encoder():
    detector, encoder = rg.load_detector("nano"), rg.load_encoder("nano")
    assert isinstance(find_namer(detector, encoder), Namer)
    rule = read_rule(bundled_path("names"))
    assert rule.detector in detector.fingerprint
    assert rule.encoder == encoder.fingerprint.weights

    class Other:
        fingerprint = replace(encoder.fingerprint, weights="0" * 16)

    assert find_namer(detector, Other()) is None
