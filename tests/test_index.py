from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from fakes import ColorEncoder, draw_squares, vectors_file
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding.models.encoder import Fingerprint
from retrieval_grounding.search.rank import filter_by_probability

QUIET = rg.BuildOptions(progress=False)


def names(hits: list[rg.Hit]) -> list[str]:
    return [Path(hit.image).name for hit in hits]


@pytest.fixture
def index(photos, tmp_path, models) -> rg.Index:
    return rg.build(photos, tmp_path / "index", options=QUIET, **models)


def test_a_phrase_finds_the_region_it_names(index):
    [hit] = index.query("a green thing", top=1)
    assert Path(hit.image).name == "b.png"
    assert hit.box == (30, 10, 60, 40)
    assert hit.label == "green"
    assert hit.score == pytest.approx(1, abs=1e-2)
    assert hit.probability is None


def test_one_hit_an_image_best_first(index):
    hits = index.query("red")
    assert set(names(hits[:2])) == {"a.png", "c.png"}
    assert len(set(names(hits))) == len(hits) == 4
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_an_image_without_detections_can_be_found(index):
    hit = next(hit for hit in index.query("blue") if hit.image.endswith("d.png"))
    assert hit.label == "whole image"
    assert hit.box == (0, 0, 80, 60)


def test_many_phrases_answer_like_each_alone(index):
    phrases = ["red", "a blue square", "green"]
    for together, phrase in zip(index.query(phrases, top=3), phrases, strict=True):
        alone = index.query(phrase, top=3)
        assert [(h.image, h.box) for h in together] == [(h.image, h.box) for h in alone]
        assert [h.score for h in together] == pytest.approx([h.score for h in alone], abs=1e-6)


def test_few_candidates_still_give_the_best(index):
    assert names(index.query("green", top=1, candidates=1)) == ["b.png"]


def test_building_again_adds_only_what_is_new(index, photos, tmp_path, models):
    assert (index.build_report.added, index.build_report.found) == (4, 4)
    draw_squares(photos / "e.png", {"yellow": (1, 1, 30, 30)})
    again = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    assert (again.build_report.added, again.build_report.unchanged) == (1, 4)
    assert names(again.query("yellow", top=1)) == ["e.png"]
    assert len(again) == 5
    unchanged = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    assert (unchanged.build_report.added, unchanged.build_report.unchanged) == (0, 5)


def test_a_changed_image_is_embedded_again(index, photos, tmp_path, models):
    draw_squares(photos / "b.png", {"yellow": (0, 0, 50, 50)}, size=(90, 70))
    again = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    assert (again.build_report.updated, again.build_report.added) == (1, 0)
    assert names(again.query("yellow", top=1)) == ["b.png"]
    hits = again.query("green")
    assert len(hits) == 4
    assert all(hit.label != "green" for hit in hits)


def test_bad_files_are_skipped_and_reported_by_every_build(photos, tmp_path, models):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(photos / "broken.jpg")
    (photos / "broken.jpg").write_bytes((photos / "broken.jpg").read_bytes()[:700])
    (photos / "empty.png").write_bytes(b"")
    for expected_new in (4, 0):
        index = rg.build(photos, tmp_path / "index", options=QUIET, **models)
        report = index.build_report
        assert report.added == expected_new
        assert report.found == report.added + report.unchanged + len(report.skipped)
        assert report.skipped_reasons == {"truncated": 1, "empty": 1}
    draw_squares(photos / "empty.png", {"blue": (0, 0, 9, 9)})
    mended = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    assert mended.build_report.added == 1
    assert [file.reason for file in mended.skipped()] == ["truncated"]


def test_a_folder_of_bad_files_alone_makes_an_empty_index(tmp_path, models):
    (tmp_path / "bad.png").write_bytes(b"no image")
    index = rg.build(tmp_path / "bad.png", tmp_path / "index", options=QUIET, **models)
    assert len(index) == 0
    assert index.query("red") == []


@pytest.mark.parametrize("damage", ["missing", "stale", "garbage"])
def test_a_lost_vector_index_is_rebuilt(index, photos, tmp_path, models, damage):
    expected = index.query("red")
    vectors = vectors_file(tmp_path / "index")
    if damage == "missing":
        vectors.unlink()
    elif damage == "garbage":
        vectors.write_bytes(b"garbage")
    else:
        old = vectors.read_bytes()
        draw_squares(photos / "e.png", {"red": (0, 0, 80, 60)})
        rg.build(photos, tmp_path / "index", options=QUIET, **models)
        vectors.write_bytes(old)
        with sqlite3.connect(tmp_path / "index" / "catalog.sqlite") as connection:
            connection.execute("UPDATE settings SET value='1' WHERE key='vectors_generation'")
    found = rg.Index.open(tmp_path / "index", encoder=models["clip"]).query("red")
    if damage == "stale":
        assert "e.png" in names(found)
    else:
        assert found == expected


def test_small_shards_and_batches_give_the_same_index(index, photos, tmp_path, models):
    options = rg.BuildOptions(batch_images=1, shard_images=1, workers=1, progress=False)
    other = rg.build(photos, tmp_path / "other", options=options, **models)
    assert other.info()["shards"] == 4
    for phrase in ("red", "blue"):
        first, second = index.query(phrase), other.query(phrase)
        assert [(h.image, h.box, h.score) for h in first] == [
            (h.image, h.box, h.score) for h in second
        ]


def test_a_different_encoder_is_refused_by_name(index, tmp_path, photos, models):
    class OtherEncoder(ColorEncoder):
        fingerprint = Fingerprint("other", "weights-2", "none")

    with pytest.raises(rg.ModelError, match=r"colours \(weights-1.*other \(weights-2"):
        rg.Index.open(tmp_path / "index", encoder=OtherEncoder())
    draw_squares(photos / "e.png", {"yellow": (0, 0, 9, 9)})
    with pytest.raises(rg.ModelError, match="was built with the encoder colours"):
        rg.build(
            photos, tmp_path / "index", detector=models["detector"], clip=OtherEncoder(),
            options=QUIET,
        )  # fmt: skip
    assert len(rg.Index.open(tmp_path / "index", encoder=models["clip"])) == 4


def test_an_index_built_with_objects_needs_them_again(index, tmp_path):
    with pytest.raises(rg.ModelError, match="encoder object"):
        rg.Index.open(tmp_path / "index").query("red")


@pytest.mark.parametrize("phrase", ["", "   ", "\x00\n", 7, None])
def test_impossible_phrases_are_refused(index, phrase):
    with pytest.raises(rg.PhraseError):
        index.query([phrase])


def test_no_index_says_how_to_make_one(tmp_path):
    with pytest.raises(rg.StoreError, match="retrieval-grounding build"):
        rg.Index.open(tmp_path)


def test_a_search_restarts_if_the_index_changes_meanwhile(index, monkeypatch, caplog):
    from retrieval_grounding.search import retriever

    expected = index.query("red")
    find, calls = retriever.find_candidates, []

    def find_outdated_once(*arguments):
        calls.append(arguments)
        return None if len(calls) == 1 else find(*arguments)

    monkeypatch.setattr(retriever, "find_candidates", find_outdated_once)
    with caplog.at_level("DEBUG", logger="retrieval_grounding"):
        assert index.query("red") == expected
    assert "search restarted: the index changed during the search" in caplog.messages


def test_an_image_that_is_removed_while_it_is_scored_is_no_hit(index, monkeypatch):
    from retrieval_grounding.search.retriever import Retriever

    before = index.query("red")
    look_up, calls = Retriever._images_at, []

    def remove_first(self, keys, generation):
        if not calls:
            index.remove([before[0].image])
        calls.append(keys)
        return look_up(self, keys, generation)

    monkeypatch.setattr(Retriever, "_images_at", remove_first)
    found = index.query("red")
    assert [hit.image for hit in found] == [hit.image for hit in before[1:]]
    assert len(calls) == 1
    assert index.query("red") == found  # rows that no image uses are known before
    assert len(calls) == 1


def test_only_the_images_of_hits_are_looked_up(index, monkeypatch):
    from retrieval_grounding.storage.catalog import Catalog

    look_up, asked = Catalog.images_at, []

    def count(self, keys, *more):
        asked.append(len(keys))
        return look_up(self, keys, *more)

    monkeypatch.setattr(Catalog, "images_at", count)
    best = index.query("red", top=1)
    assert asked == [1]
    assert index.query("red", top=1, exact=True)[0].image == best[0].image


def test_hits_below_the_minimum_probability_are_dropped(caplog):
    def hit(probability: float | None) -> rg.Hit:
        return rg.Hit("red", "a.png", (0, 0, 1, 1), 0.5, probability, "red", 1)

    hits = [hit(0.75), hit(0.5), hit(0.25)]
    with caplog.at_level("DEBUG", logger="retrieval_grounding"):
        assert filter_by_probability(hits, 0.5) == hits[:2]
    assert caplog.messages == ["dropped 1 of 3 hits for 'red': less probable than 0.5"]
    assert filter_by_probability([hit(None)], 0) == [hit(None)]
    with pytest.raises(rg.GroundingError, match="no probabilities"):
        filter_by_probability([hit(None)], 0.5)
    with pytest.raises(rg.GroundingError, match="between 0 and 1"):
        filter_by_probability(hits, 1.5)


def test_grounding_needs_no_index(photos, models):
    hit = rg.ground(photos / "c.png", "the blue one", **models)
    assert (hit.box, hit.label) == ((2, 2, 20, 20), "blue")
    both = rg.ground(photos / "c.png", ["red", "blue"], **models)
    assert [found.label for found in both] == ["red", "blue"]


def test_a_second_build_at_the_same_time_says_who_holds_the_lock(photos, tmp_path, models):
    from retrieval_grounding.storage.lock import writer_lock

    (tmp_path / "index").mkdir()
    with (
        writer_lock(tmp_path / "index"),
        pytest.raises(rg.StoreLockedError, match=f"process {os.getpid()} on"),
    ):
        rg.build(photos, tmp_path / "index", options=QUIET, **models)
