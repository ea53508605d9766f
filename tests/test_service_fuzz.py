"""schemathesis against the description of the API; a script sends 10,000 cases."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from retrieval_grounding.service.settings import ServiceSettings

pytest.importorskip("schemathesis")


@pytest.mark.slow
def test_the_service_answers_as_it_is_described(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "scripts"), *sys.path])
    from fuzz_service import Served, fuzz, small_index

    with (
        small_index(tmp_path / "index") as index,
        Served(index, ServiceSettings(writable=True)) as served,
    ):
        statuses, wrong = fuzz(served.url, 200)
    assert wrong == []
    seen = {status for counts in statuses.values() for status in counts}
    assert {200, 422} <= seen
    assert max(seen) < 500
