"""Thumbs move what later queries find for their phrase, and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import SceneDetector, SceneEncoder, make_scenes, write_scenes
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.matching.feedback_matcher import FeedbackMatcher, Shift
from retrieval_grounding.matching.nearness import meaning_of

SCENES = 60
QUIET = rg.BuildOptions(progress=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An index of drawn scenes, and what is in each."""
    folder = tmp_path_factory.mktemp("listening")
    made = make_scenes(SCENES, seed=5)
    write_scenes(made, folder / "pictures", "scene")
    detector = SceneDetector(made)
    rg.build(
        folder / "pictures", folder / "index", detector=detector, clip=SceneEncoder(), options=QUIET
    )
    return folder / "index", made


@pytest.fixture
def folder(built, tmp_path) -> Path:
    return Path(shutil.copytree(built[0], tmp_path / "index"))


def opened(folder: Path) -> rg.Index:
    return rg.Index.open(folder, encoder=SceneEncoder())


def search(index: rg.Index, phrase: str, **options) -> list[rg.Hit]:
    return index.query(phrase, top=SCENES, **options)


def test_liked_and_disliked_regions_move_at_once_and_back(folder):
    index, other = opened(folder), opened(folder)
    before = search(index, "circle")
    assert search(index, "circle", feedback=False) == before
    down = index.feedback.add(before[0], "down")
    up = other.feedback.add(before[20], "up")
    for reader in (index, other, opened(folder)):
        after = search(reader, "circle")
        places = [(hit.image, hit.box) for hit in after]
        assert places.index((before[20].image, before[20].box)) < 5
        assert (before[0].image, before[0].box) not in places[:30]
        assert search(reader, "circle", feedback=False) == before
    index.feedback.undo(down.id)
    index.feedback.undo(up.id)
    for reader in (index, other):
        assert search(reader, "circle") == before


def test_other_phrases_are_answered_bit_for_bit_the_same(folder):
    index = opened(folder)
    phrases = ["square", "red circle", "star", "two circles", "circles", "circle on the left"]
    before = index.query(phrases, top=SCENES)
    for hit in search(index, "circle")[:4]:
        index.feedback.add(hit, "down")
    assert index.query(phrases, top=SCENES) == before
    together = index.query([*phrases, "circle"], top=SCENES)
    assert together[:-1] == before
    assert [hit.score for hit in together[-1]] == pytest.approx(
        [hit.score for hit in search(index, "circle")], abs=1e-5
    )


def test_a_phrase_with_the_same_meaning_listens_as_well(folder):
    index = opened(folder)
    before = search(index, "a circle")
    index.feedback.add(search(index, "circle")[0], "down")
    assert [hit.box for hit in search(index, "a circle")] != [hit.box for hit in before]


def of_color(built, hit: rg.Hit, color: str) -> bool:
    scene = built[1][int(Path(hit.image).stem[-4:])]
    boxes = [thing.box for thing in scene.shapes if thing.color == color]
    if not boxes:
        return False
    overlaps = rg.pairwise_iou(np.array([hit.box], np.float32), np.array(boxes, np.float32))
    return float(overlaps.max()) >= 0.5


def test_what_looks_like_the_liked_ones_rises_in_images_that_nobody_judged(built, folder):
    """Somebody who asks for circles likes the red ones, and neither the blue nor the green ones."""
    index = opened(folder)
    before = search(index, "circle")
    judged = before[::2][:16]
    for hit in judged:
        index.feedback.add(hit, "up" if of_color(built, hit, "red") else "down")
    assert 0 < sum(entry.verdict == "up" for entry in index.feedback.entries()) < 16
    seen = {hit.image for hit in judged}

    def red_among_first(hits: list[rg.Hit]) -> int:
        unseen = [hit for hit in hits if hit.image not in seen]
        return sum(of_color(built, hit, "red") for hit in unseen[:10])

    assert red_among_first(search(index, "circle")) > red_among_first(before)


def test_clauses_and_filters_listen_too(folder):
    index = opened(folder)
    index.calibrate()
    for query in (
        rg.Query("circle", filters=rg.Filters(min_size=0.0001)),
        rg.Query("circle", unwanted=("purple star",)),
    ):
        before = index.query(query, top=SCENES)
        thumb = index.feedback.add(replace(before[0], phrase="circle"), "down")
        after = index.query(query, top=SCENES)
        assert (after[0].image, after[0].box) != (before[0].image, before[0].box)
        assert index.query(query, top=SCENES, feedback=False) == before
        index.feedback.undo(thumb.id)
        assert index.query(query, top=SCENES) == before


def test_probabilities_and_explanations_know_of_it(folder):
    index = opened(folder)
    index.calibrate()
    before = search(index, "circle")
    index.feedback.add(before[30], "up")
    [hit] = [h for h in search(index, "circle") if h.image == before[30].image]
    assert hit.image_probability > before[30].image_probability
    parts = {part.name: part.value for part in hit.explain().parts}
    assert parts["feedback"] == pytest.approx(hit.score - before[30].score, abs=1e-5)
    assert "images of this index" in hit.explain().calibration
    plain = search(index, "square")[0]
    assert "feedback" not in {part.name for part in plain.explain().parts}


def test_thumbs_about_what_is_gone_say_nothing(folder):
    index = opened(folder)
    hits = search(index, "circle")
    index.feedback.add(hits[0], "down")
    index.feedback.add(hits[1], "up", box=(0, 0, 2, 2))  # no region is there
    index.remove([hits[0].image])
    left = [(hit.image, hit.score) for hit in hits if hit.image != hits[0].image]
    assert [(hit.image, hit.score) for hit in search(index, "circle")] == left


def test_queries_go_on_without_thumbs_that_cannot_be_read(folder, tmp_path, caplog):
    index = opened(folder)
    before = search(index, "circle")
    (folder / "feedback.jsonl").symlink_to(tmp_path / "theirs")
    (tmp_path / "theirs").write_text("{}\n")
    with caplog.at_level("WARNING"):
        assert search(index, "circle") == before
    [record] = caplog.records
    assert "thumbs are not used" in record.message and "link" in record.message
    (folder / "feedback.jsonl").unlink()
    (folder / "feedback.jsonl").mkdir()
    assert search(index, "circle") == before


def test_the_command_line_can_ignore_it(folder, monkeypatch):
    monkeypatch.setattr(
        "retrieval_grounding.indexing.model_spec.load_encoder", lambda *_: SceneEncoder()
    )
    index = opened(folder)
    first = search(index, "circle")[0]
    index.feedback.add(first, "down")

    def run(*options: str) -> str:
        arguments = ["query", str(folder), "circle", "--top", "1", "--min-probability", "0"]
        arguments += ["--json", "--clip", "scenes", *options]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    plain, moved = run("--no-feedback"), run()
    assert json.loads(plain)[0]["hits"][0]["box"] == list(first.box)
    assert json.loads(moved)[0]["hits"][0]["box"] != list(first.box)


@pytest.mark.parametrize(
    ("one", "other", "near", "same"),
    [
        ("a red car", "Red car.", True, True),
        ("a couch", "the sofa", True, False),
        ("the left dog", "the right dog", False, False),
        ("a dog", "dogs", False, False),
        ("man in a red shirt", "man in a blue shirt", False, False),
        ("man in a red shirt", "guy in the red shirt", True, False),
        ("dog", "dog without a leash", False, False),
    ],
)
def test_phrases_that_say_different_things_are_never_near(one, other, near, same):
    first, second = meaning_of(one), meaning_of(other)
    assert (first[:2] == second[:2]) == near
    assert (first == second) == same


@given(
    liked=st.integers(0, 3),
    disliked=st.integers(0, 3),
    seed=st.integers(0, 99),
    spread=st.floats(0, 10),
)
def test_the_change_is_bounded_and_a_matter_of_the_region_alone(liked, disliked, seed, spread):
    rng = np.random.default_rng(seed)
    regions = rng.normal(size=(9, 5)).astype(np.float32)
    regions /= np.linalg.norm(regions, axis=1, keepdims=True)
    shift = Shift.of(regions[:liked], regions[4 : 4 + disliked], regions, spread)
    change = shift.change(regions)
    assert np.isfinite(change).all() and np.abs(change).max() <= shift.largest + 1e-6
    np.testing.assert_allclose(shift.change(regions[2:7]), change[2:7], atol=1e-5)
    if liked or disliked:
        assert (change[:liked] >= 0).all() and (change[4 : 4 + disliked] <= 0).all()
    else:
        assert not change.any()


def test_a_matcher_that_listens_leaves_other_phrases_to_its_base():
    regions = np.eye(3, dtype=np.float32)
    shift = Shift.of(regions[:1], regions[1:2], regions, spread=1.0)
    listening = FeedbackMatcher(rg.CosineMatcher(), {"a dog": shift}, regions)
    phrases = Phrases(["a cat"], regions[:1])
    assert listening.sought(phrases) is phrases
