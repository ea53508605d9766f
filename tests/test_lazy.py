"""A lazy value is computed once, by whichever thread comes first."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrieval_grounding.core.lazy import Lazy


def test_threads_share_one_computation():
    calls = []
    together = threading.Barrier(8)

    def slow():
        calls.append(threading.get_ident())
        time.sleep(0.05)
        return object()

    lazy = Lazy(slow)

    def ask(_):
        together.wait()
        return lazy.get()

    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(ask, range(8)))
    assert len(calls) == 1
    assert len(set(map(id, values))) == 1


def test_an_error_is_not_kept():
    answers = iter([ValueError("not yet"), 5])

    def compute():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    lazy = Lazy(compute)
    with pytest.raises(ValueError, match="not yet"):
        lazy.get()
    assert lazy.get() == 5


def test_a_value_can_be_set_and_may_be_none():
    lazy = Lazy(lambda: 1 / 0)
    lazy.set(None)
    assert lazy.get() is None
