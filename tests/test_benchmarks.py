"""How engines are compared: the definition of recall, and the choice of settings."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = str(Path(__file__).parents[1] / "scripts")


@pytest.fixture
def recall_module(support):
    return support("bench_support.recall")


@pytest.fixture
def support(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    yield importlib.import_module
    for name in [name for name in sys.modules if name.split(".")[0] == "bench_support"]:
        del sys.modules[name]


def test_images_are_counted_once_and_missing_rows_are_passed_over(recall_module):
    images = np.array([7, 7, 8, 9])
    assert recall_module.first_images(np.array([1, -1, 0, 3, 2]), images, 2) == [7, 9]


def test_exact_images_are_those_of_the_nearest_regions_in_order(recall_module):
    vectors = np.array([[1, 0], [0.9, 0], [0, 1], [0.5, 0.5]], np.float32)
    images = np.array([0, 0, 1, 2])
    phrases = np.array([[1, 0], [0, 1]], np.float32)
    assert recall_module.exact_images(vectors, images, phrases, 2).tolist() == [[0, 2], [1, 2]]


def test_exact_images_look_further_where_one_image_has_most_regions(recall_module):
    vectors = np.linspace(1, 0.1, 40, dtype=np.float32)[:, None]
    images = np.array([0] * 38 + [1, 2])
    found = recall_module.exact_images(vectors, images, np.ones((1, 1), np.float32), 2)
    assert found.tolist() == [[0, 1]]
    few = recall_module.exact_images(vectors, images, np.ones((1, 1), np.float32), 4)
    assert few.tolist() == [[0, 1, 2, -1]]


def test_recall_is_the_mean_share_of_exact_images_found(recall_module):
    images = np.arange(6)
    truth = np.array([[0, 1, 2], [3, 4, -1]])
    found = [np.array([2, 5, 0, 1]), np.array([3, 4])]
    assert recall_module.recall(found, images, truth, 3) == pytest.approx((2 / 3 + 1) / 2)
    assert recall_module.recall(found, images, truth, 1) == pytest.approx(0.5)


def test_the_quickest_setting_with_enough_recall_is_taken_and_none_larger_is_tried(support):
    protocol = support("bench_support.peers.protocol")
    images = np.arange(4)
    truth = np.array([[0, 1], [0, 1]])
    tried = []

    def ask(setting):
        tried.append(setting)

        def search(_):
            time.sleep(0 if setting else 0.002)  # the usual setting is slow, but finds all
            return np.array([0, 1] if not setting or setting["effort"] > 1 else [3, 2])

        return search

    settings = [{}, *({"effort": effort} for effort in (1, 2, 3))]
    assert protocol.choose(settings, ask, np.arange(2), images, truth, 0.98) == {"effort": 2}
    assert {"effort": 3} not in tried
    assert protocol.choose(settings[:1], ask, np.arange(2), images, truth, 0.98) == {}
