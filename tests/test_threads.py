"""A query does not spread over threads that would then spin against everything else."""

from __future__ import annotations

import numpy as np
import torch

import retrieval_grounding as rg
from retrieval_grounding.core.threads import single_thread


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


def test_only_searches_for_many_phrases_use_pytorchs_threads(photos, models, tmp_path):
    index = rg.build(
        photos, tmp_path / "index", options=rg.BuildOptions(progress=False, workers=1), **models
    )
    matcher, usual = WatchingMatcher(), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        index.query("red", matcher=matcher)
        index.query(["red"] * 30, matcher=matcher)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(usual)
    assert matcher.threads == [1, 3]


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
