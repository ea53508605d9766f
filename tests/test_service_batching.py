"""Concurrent queries share a pass, and a folder is watched (issue 19)."""

from __future__ import annotations

import asyncio
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes import ColorEncoder, SquareDetector
from serving import build_squares, png

import retrieval_grounding as rg
from retrieval_grounding.service.batching import Asking, Batcher
from retrieval_grounding.service.watching import FolderWatch

COLORS = ("red", "green", "blue", "yellow")


class CountingEncoder(ColorEncoder):
    """Notes how many phrases come together, and cannot encode one of them."""

    def __init__(self) -> None:
        self.passes: list[int] = []

    def encode_phrases(self, phrases):
        self.passes.append(len(phrases))
        if "unspeakable" in phrases:
            raise rg.ModelError("the encoder cannot read this")
        return super().encode_phrases(phrases)


@pytest.fixture
def encoder():
    return CountingEncoder()


@pytest.fixture
def index(photos, tmp_path, encoder):
    models = {"detector": SquareDetector(), "clip": encoder}
    with build_squares(photos, tmp_path / "squares", models) as opened:
        encoder.passes.clear()
        yield opened


def ask_together(index, asked):
    """Ask queries at the same time; return hits or errors, and the sizes of the passes."""

    async def ask():
        sizes: list[int] = []
        batcher = Batcher(index, sizes.append)
        asking = [batcher.ask([query], how) for query, how in asked]
        found = await asyncio.gather(*asking, return_exceptions=True)
        await batcher.close()
        return [one if isinstance(one, Exception) else one[0] for one in found], sizes

    # In a thread of its own: browser tests in this process may have left a loop in this one.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, ask()).result()


def test_phrases_share_a_pass_and_get_the_answers_they_get_alone(index, encoder):
    asked = [
        (rg.Query(f"a {COLORS[number % 4]} thing {number % 8}"), Asking(top=1 + number % 3))
        for number in range(40)
    ]
    found, sizes = ask_together(index, asked)
    assert sum(sizes) == 40
    assert len(sizes) < 10
    assert sum(encoder.passes) < 40  # what several asked for was encoded once
    for (query, how), hits in zip(asked, found, strict=True):
        wanted = index.query(query, top=how.top, min_probability=None)
        assert [hit.as_dict() for hit in hits] == [hit.as_dict() for hit in wanted]
        assert isinstance(hits, rg.Hits)


def test_what_queries_demand_themselves_counts(index):
    queries = [rg.Query("red", top=2), rg.Query.parse("red label:red"), rg.Query("red")]
    found, _ = ask_together(index, [(query, Asking(top=3)) for query in queries])
    assert [len(hits) for hits in found] == [2, len(index.query(queries[1], top=3)), 3]


def test_more_hits_than_candidates_change_no_answer_of_others(index):
    how = Asking(top=1, candidates=1)
    found, _ = ask_together(
        index, [(rg.Query("red"), how), (rg.Query("blue"), Asking(top=4, candidates=1))]
    )
    assert [len(hits) for hits in found] == [1, len(index.query("blue", top=4, candidates=1))]


def test_many_candidates_make_small_passes(index):
    how = Asking(candidates=3000)
    found, sizes = ask_together(index, [(rg.Query(f"red {n}"), how) for n in range(6)])
    assert max(sizes) == 2
    assert all(found)


def test_the_fault_of_one_is_not_that_of_others(index):
    asked = [(rg.Query(text), Asking()) for text in ("red", "unspeakable", "green")]
    asked.append((rg.Query("blue"), Asking(min_probability=0.5)))  # the matcher has none
    found, _ = ask_together(index, asked)
    assert [type(one) for one in found] == [
        rg.Hits,
        rg.ModelError,
        rg.Hits,
        rg.GroundingError,
    ]


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_photographs_are_added_as_they_appear(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    empty = rg.BuildOptions(progress=False, allow_empty=True)
    with rg.build([], tmp_path / "index", options=empty) as index:
        watch = FolderWatch(index, folder, seconds=0.3)
        watch.start()
        (folder / "a.png").write_bytes(png("red", (320, 240)))
        wait_for(lambda: len(index) == 1)
        data = png("blue", (320, 240))
        with (folder / "b.png").open("wb") as file:  # a copy in progress
            for byte in data[:-1]:
                file.write(bytes([byte]))
                file.flush()
                time.sleep(1 / len(data))
            file.write(data[-1:])
        (folder / "broken.jpg").write_bytes(b"no picture")
        wait_for(lambda: len(index) == 2 and len(index.skipped()) == 1)
        assert [file.reason for file in index.skipped()] == ["not-an-image"]
        index.remove(folder / "a.png", timeout=20)  # the watch may be writing
        (folder / "c.png").write_bytes(png("green", (320, 240)))
        wait_for(lambda: str(folder / "c.png") in {image.path for image in index.images()})
        shutil.rmtree(folder)
        wait_for(lambda: "photos" in watch.problem)
        watch.end()
        assert len(index) == 2  # neither the removed one again, nor without the deleted ones
        assert watch.added == 3
