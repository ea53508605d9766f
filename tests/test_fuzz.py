"""A short run of the fuzzers; ``python tests/fuzz.py`` makes a long one."""

from __future__ import annotations

import os

import pytest
from fuzz import fuzz_images, fuzz_stores

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def test_mutated_images_give_named_errors_only():
    fuzz_images(500, seed=1_000_000)


@pytest.mark.slow
def test_mutated_indexes_give_named_errors_only(tmp_path):
    fuzz_stores(tmp_path, 40, seed=1_000_000)
