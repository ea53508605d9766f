"""A query does not spread over threads that would then spin against everything else."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import retrieval_grounding as rg
from retrieval_grounding.core.threads import single_thread
from retrieval_grounding.models.cpu_pool import CpuPool


class WatchingMatcher:
    """Cosine that notes how many threads PyTorch has where it is called."""

    name = "watching"

    def __init__(self):
        self.threads = []
        self._cosine = rg.CosineMatcher()

    def score_pairs(self, phrases, regions, phrase_rows):
        self.threads.append(torch.get_num_threads())
        return self._cosine.score_pairs(phrases, regions, phrase_rows)

    def probabilities(self, scores):
        return self._cosine.probabilities(scores)


def test_queries_use_one_thread_of_pytorch_and_faiss_each(photos, models, tmp_path):
    import faiss

    index = rg.build(
        photos, tmp_path / "index", options=rg.BuildOptions(progress=False, workers=1), **models
    )
    matcher, usual = WatchingMatcher(), (torch.get_num_threads(), faiss.omp_get_max_threads())
    torch.set_num_threads(3)
    faiss.omp_set_num_threads(3)
    try:
        alone = index.query("red", matcher=matcher)
        many = index.query(["red"] * 30, matcher=matcher)
        assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == (3, 3)
    finally:
        torch.set_num_threads(usual[0])
        faiss.omp_set_num_threads(usual[1])
    assert set(matcher.threads) == {1}
    assert all(hits == alone for hits in many)


def test_the_pools_own_threads_do_not_wait_for_the_pool():
    pool = CpuPool(2)
    found = pool.map(lambda start: sum(pool.map(lambda n: n + start, range(9))), range(40))
    assert found == [36 + 9 * start for start in range(40)]


@pytest.mark.parametrize(("chosen", "spins"), [({}, "2000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)])
def test_idle_threads_of_openmp_soon_sleep(chosen, spins):
    program = (
        "import os, time, retrieval_grounding, torch; torch.set_num_threads(2);"
        "x = torch.ones(600, 600); (x @ x).sum(); began = time.process_time(); time.sleep(0.05);"
        "print(os.environ.get('GOMP_SPINCOUNT'), time.process_time() - began < 0.04)"
    )
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    env = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=env | chosen,
        capture_output=True,
        text=True,
        check=True,
    )
    shown, slept = done.stdout.split()
    assert shown == str(spins)
    assert slept == "True" or chosen


def test_the_number_of_threads_comes_back_after_an_error():
    usual = torch.get_num_threads()
    try:
        with single_thread():
            assert torch.get_num_threads() == 1
            raise ValueError
    except ValueError:
        pass
    assert torch.get_num_threads() == usual


def test_a_phrase_embeds_alike_alone_and_among_many():
    encoder = rg.load_encoder()
    phrases = [f"a thing number {number}" for number in range(20)]
    many = encoder.encode_phrases(phrases)
    encoder._phrases.clear()
    alone = np.concatenate([encoder.encode_phrases([phrase]) for phrase in phrases])
    np.testing.assert_allclose(alone, many, atol=1e-5)
