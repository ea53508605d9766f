"""The early exit and the image pass: the same best regions, and files that are never trusted."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import ColorEncoder, SquareDetector, draw_squares
from hypothesis import given, settings
from hypothesis import strategies as st
from matching_data import random_phrases, random_table, untrained

import retrieval_grounding as rg
from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.matching.config import MatcherConfig
from retrieval_grounding.matching.early_exit import KEPT_REGIONS, EarlyExit
from retrieval_grounding.matching.fit_early_exit import fit_early_exit
from retrieval_grounding.matching.image_pass import join_images
from retrieval_grounding.matching.install import install_files
from retrieval_grounding.matching.networks import make_model
from retrieval_grounding.matching.pass_file import PassOrigin, open_pass, write_pass
from retrieval_grounding.matching.trained import TrainedMatcher

QUIET = rg.BuildOptions(progress=False)
ROUNDING = 0.02  # of a pass in float16, with the large random weights of these tests


@pytest.fixture(scope="module")
def matcher() -> TrainedMatcher:
    """A matcher with random weights, whose early exit keeps any regions."""
    found = untrained()
    found.model.early = EarlyExit(found.model.width).requires_grad_(False)
    return found


def best_by_all_scores(
    matcher: TrainedMatcher, phrase, table: RegionTable
) -> tuple[np.ndarray, np.ndarray]:
    scores = matcher.score_pairs(phrase, table, np.zeros(len(table.offsets) - 1, np.int64))
    return scores, np.maximum.reduceat(scores, table.offsets[:-1])


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(0, KEPT_REGIONS - 1), min_size=1, max_size=7),
    seed=st.integers(0, 99),
    row=st.integers(0, 3),
)
def test_images_with_few_regions_score_as_by_the_whole_network(matcher, counts, seed, row):
    table, phrase = random_table(counts, seed), random_phrases(4)[row : row + 1]
    rows, scores = matcher.best_of_images(phrase, table, matcher.encode_pass(table))
    every, best = best_by_all_scores(matcher, phrase, table)
    np.testing.assert_allclose(scores, best, atol=ROUNDING)
    np.testing.assert_allclose(every[rows], best, atol=ROUNDING)


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=7),
    seed=st.integers(0, 99),
    row=st.integers(0, 3),
)
def test_the_score_of_the_region_found_is_the_networks(matcher, counts, seed, row):
    table, phrase = random_table(counts, seed), random_phrases(4)[row : row + 1]
    # Copies of boxes share places in every order; they are the same thing to ranks.
    boxes = table.boxes.copy()
    for start, stop in zip(table.offsets[:-1], table.offsets[1:], strict=True):
        boxes[start + 2 : stop : 3] = boxes[start + 1 : stop - 1 : 3][
            : len(boxes[start + 2 : stop : 3])
        ]
    table = replace(table, boxes=boxes)
    rows, scores = matcher.best_of_images(phrase, table, matcher.encode_pass(table))
    every, best = best_by_all_scores(matcher, phrase, table)
    np.testing.assert_allclose(scores, every[rows], atol=ROUNDING)
    assert (scores <= best + ROUNDING).all()
    inside = (rows >= table.offsets[:-1]) & (rows < table.offsets[1:])
    assert inside.all()


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=7),
    left=st.integers(0, KEPT_REGIONS),
    seed=st.integers(0, 99),
)
def test_of_the_regions_that_filters_leave_the_best_is_found(matcher, counts, left, seed):
    table, phrase = random_table(counts, seed), random_phrases(4)[:1]
    random, allowed = np.random.default_rng(seed), np.zeros(len(table), bool)
    for image in range(len(counts)):
        own = np.arange(len(table))[table.image(image)]
        allowed[random.permutation(own)[:left]] = True
    known = matcher.encode_pass(table)
    rows, scores = matcher.best_of_images(phrase, table, known, allowed=allowed)
    every, _ = best_by_all_scores(matcher, phrase, table)
    best = np.maximum.reduceat(np.where(allowed, every, -np.inf), table.offsets[:-1])
    np.testing.assert_allclose(scores, best, atol=ROUNDING)
    found = np.isfinite(best)
    assert allowed[rows[found]].all()
    np.testing.assert_allclose(every[rows[found]], best[found], atol=ROUNDING)


def test_phrases_with_colors_and_unknown_words_score_as_by_the_whole_network(matcher):
    table = random_table([5, 3, 4], 3)
    embeddings = random_phrases(3).embeddings
    texts = ["the red dog left of the black cat", "zzz", "left " * 40]
    phrases = Phrases(texts, embeddings)
    for row in range(3):
        phrase = phrases[row : row + 1]
        _, scores = matcher.best_of_images(phrase, table, matcher.encode_pass(table))
        _, best = best_by_all_scores(matcher, phrase, table)
        np.testing.assert_allclose(scores, best, atol=ROUNDING)


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.lists(st.integers(0, 25), min_size=1, max_size=4), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_phrases_score_alike_together_and_alone(matcher, counts, seed):
    texts = ["the red dog left of the cat", "zzz", "dog", "second cat from the left"]
    phrases = Phrases(texts, random_phrases(4).embeddings)[: len(counts)]
    table = random_table([count for own in counts for count in own], seed)
    ends = np.cumsum([len(own) for own in counts]).tolist()
    rows, scores = matcher.best_of_images(phrases, table, matcher.encode_pass(table), ends)
    start = 0
    for number, end in enumerate(ends):
        own, first = table.images(start, end), table.offsets[start]
        alone = matcher.best_of_images(phrases[number : number + 1], own, matcher.encode_pass(own))
        np.testing.assert_array_equal(rows[start:end], alone[0] + first)
        np.testing.assert_allclose(scores[start:end], alone[1], atol=ROUNDING)
        start = end


def test_parts_that_a_phrase_lacks_count_for_nothing(matcher):
    table, drawn = random_table([5, 3, 4], 8), random_phrases(1)
    for missing in ([], [0], [1], [2], [0, 2], [0, 1, 2]):
        parts = np.repeat(drawn.embeddings[:, None], 3, 1)
        parts[:, missing] = 0
        phrase = Phrases(["dog"], drawn.embeddings, parts)
        _, scores = matcher.best_of_images(phrase, table, matcher.encode_pass(table))
        _, best = best_by_all_scores(matcher, phrase, table)
        np.testing.assert_allclose(scores, best, atol=ROUNDING)


def test_a_pass_of_images_is_that_of_each_image(matcher):
    table = random_table([4, 0, 7, 2], 5)
    whole = matcher.encode_pass(table)
    alone = [matcher.encode_pass(table.images(image, image + 1)) for image in range(4)]
    cut = join_images([(whole, table.image(image)) for image in range(4)])
    joined = join_images([(one, slice(0, len(one.counted))) for one in alone])
    for name in ("places", "counted", "duplicates", "duplicate_ends"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(joined, name))
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name))
    np.testing.assert_array_equal(whole.units, cut.units)
    np.testing.assert_allclose(whole.units, joined.units, rtol=2e-3, atol=2e-3)


def test_training_gives_an_exit_that_keeps_the_winners():
    matcher = untrained(seed=3)
    phrases = random_phrases(4)
    tables = [random_table([14, 10, 18, 12], number) for number in range(30)]
    pairs = [(phrases[number % 4 : number % 4 + 1], table) for number, table in enumerate(tables)]
    fit = fit_early_exit(matcher, pairs)
    assert fit is not None and fit.images == 120
    head = matcher.model.early
    assert (head is not None) == (fit.kept >= 0.99)
    head = head or EarlyExit(matcher.model.width)
    random = EarlyExit(matcher.model.width).requires_grad_(False)

    def found(exit: EarlyExit) -> float:
        matcher.model.early = exit
        shares = []
        for number in range(100, 110):
            table = random_table([14, 10, 18, 12], number)
            phrase = phrases[number % 4 : number % 4 + 1]
            _, scores = matcher.best_of_images(phrase, table, matcher.encode_pass(table))
            shares.append(np.abs(scores - best_by_all_scores(matcher, phrase, table)[1]) < ROUNDING)
        return float(np.mean(shares))

    assert fit.kept > 0.9
    if fit.kept >= 0.99:
        assert found(head) > found(random)


def test_networks_without_embeddings_have_no_exit():
    config = MatcherConfig("residual", 0, 3, width=48)
    matcher = TrainedMatcher(
        make_model(config).eval(), config, ["a", "b", "c"], untrained().encoder
    )
    assert fit_early_exit(matcher, []) is None
    assert not matcher.exits_early


def test_a_matcher_keeps_its_exit_in_its_file(matcher, tmp_path):
    matcher.save(tmp_path / "m.safetensors")
    read = TrainedMatcher.load(tmp_path / "m.safetensors", "cpu")
    assert read.exits_early
    for name, value in matcher.model.early.state_dict().items():
        torch.testing.assert_close(read.model.early.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    untrained().save(tmp_path / "old.safetensors")
    assert not TrainedMatcher.load(tmp_path / "old.safetensors", "cpu").exits_early


def test_half_an_exit_in_a_file_is_damage(matcher, tmp_path):
    from safetensors.torch import load_file, save_file

    matcher.save(tmp_path / "m.safetensors")
    header = (tmp_path / "m.safetensors").read_bytes()
    tensors = load_file(tmp_path / "m.safetensors")
    import json

    size = int.from_bytes(header[:8], "little")
    metadata = json.loads(header[8 : 8 + size])["__metadata__"]
    del tensors["early.second.weight"]
    save_file(tensors, tmp_path / "half.safetensors", metadata)
    with pytest.raises(rg.ModelError, match="different network"):
        TrainedMatcher.load(tmp_path / "half.safetensors", "cpu")


ORIGIN = PassOrigin("0" * 32, "1" * 32)


def test_a_pass_survives_its_file(matcher, tmp_path):
    table = random_table([4, 0, 7], 1)
    known = matcher.encode_pass(table)
    checksum = write_pass(tmp_path / "a.pass", known, ORIGIN)
    read = open_pass(tmp_path / "a.pass", checksum, ORIGIN, table.offsets, 48)
    for name, value in known._asdict().items():
        np.testing.assert_array_equal(getattr(read, name), value)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_file_that_differs_in_one_byte_is_refused(matcher, tmp_path_factory, data):
    from retrieval_grounding.storage.files import file_checksum

    folder = tmp_path_factory.mktemp("bytes")
    table = random_table([2, 1], 1)
    checksum = write_pass(folder / "a.pass", matcher.encode_pass(table), ORIGIN)
    content = bytearray((folder / "a.pass").read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    (folder / "b.pass").write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        open_pass(folder / "b.pass", checksum, ORIGIN, table.offsets, 48)
    # Even if its author has recorded it, it is either refused or harmless to read.
    own = file_checksum(folder / "b.pass")
    try:
        read = open_pass(folder / "b.pass", own, ORIGIN, table.offsets, 48)
    except ValueError:
        return
    rows, _ = matcher.best_of_images(random_phrases(1), table, read)
    assert ((rows >= table.offsets[:-1]) & (rows < table.offsets[1:])).all()


@pytest.mark.parametrize("size", [0, 10, 63, 64, 200])
def test_a_short_file_is_refused(matcher, tmp_path, size):
    from retrieval_grounding.storage.files import file_checksum

    table = random_table([2, 1], 1)
    write_pass(tmp_path / "a.pass", matcher.encode_pass(table), ORIGIN)
    short = tmp_path / "b.pass"
    short.write_bytes((tmp_path / "a.pass").read_bytes()[:size])
    with pytest.raises(ValueError, match=r"short|size|empty"):
        open_pass(short, file_checksum(short), ORIGIN, table.offsets, 48)


# An index of its own matcher.


def color_matcher(seed: int = 0) -> TrainedMatcher:
    torch.manual_seed(seed)
    config = MatcherConfig("residual", ColorEncoder.dimension, 2, width=8)
    model = make_model(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.early = EarlyExit(8)
    return TrainedMatcher(model, config, ["left", "right"], ColorEncoder.fingerprint)


def build(photos: Path, folder: Path) -> rg.Index:
    return rg.build(photos, folder, options=QUIET, detector=SquareDetector(), clip=ColorEncoder())


@pytest.fixture(scope="module")
def indexed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("passes")
    (folder / "photos").mkdir()
    for number in range(4):
        draw_squares(
            folder / "photos" / f"{number}.png",
            {"red": (5 + number, 5, 25, 25), "green": (30, 10, 60, 40)},
        )
    build(folder / "photos", folder / "index").close()
    install_files(folder / "index", {"matcher.safetensors": color_matcher().as_bytes()})
    build(folder / "photos", folder / "index").close()
    return folder


@pytest.fixture
def photos(indexed) -> Path:
    return indexed / "photos"


@pytest.fixture
def place(indexed, tmp_path) -> Path:
    return Path(shutil.copytree(indexed, tmp_path / "copy"))


def passes(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "index" / "passes").glob("*.pass"))


def hits(folder: Path, query="red", **options) -> list[tuple[str, tuple[float, ...]]]:
    with rg.Index.open(folder / "index", encoder=ColorEncoder()) as index:
        assert index.matcher.exits_early
        return [(hit.image, hit.box) for hit in index.query(query, **options)]


def test_a_build_writes_passes_and_verify_knows_them(place):
    assert len(passes(place)) == 1
    with rg.Index.open(place / "index", encoder=ColorEncoder()) as index:
        report = index.verify(options=QUIET)
    assert not report.faults
    assert not [note for note in report.notes if "pass" in note]


def test_queries_use_the_passes_that_are_recorded(place, monkeypatch):
    expected = hits(place, exact=True)
    monkeypatch.setattr(TrainedMatcher, "encode_pass", lambda *_: pytest.fail("it was computed"))
    assert hits(place) == expected


@pytest.mark.parametrize(
    "filters",
    [rg.Filters(labels=("green",)), rg.Filters(labels=("red",)), rg.Filters(max_size=0.1)],
)
def test_filters_of_regions_use_the_early_exit(place, monkeypatch, filters):
    query = rg.Query("red", filters=filters)
    expected = hits(place, query, exact=True)
    assert len(expected) == 4
    monkeypatch.setattr(TrainedMatcher, "score_pairs", lambda *_: pytest.fail("it scored all"))
    assert hits(place, query) == expected


@pytest.mark.parametrize("damage", ["missing", "changed", "short", "link", "empty"])
def test_a_damaged_pass_is_reported_and_repaired_and_never_used(place, damage, caplog):
    expected = hits(place, exact=True)
    path = place / "index" / "passes" / passes(place)[0]
    content = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(content[:100] + bytes([content[100] ^ 255]) + content[101:])
    elif damage == "short":
        path.write_bytes(content[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "link":
        (place / "elsewhere").write_bytes(content)
        path.symlink_to(place / "elsewhere")
    assert hits(place) == expected
    assert "--repair" in caplog.text
    with rg.Index.open(place / "index", encoder=ColorEncoder()) as index:
        assert [fault.kind for fault in index.verify(options=QUIET).faults] == ["passes"]
    if damage == "link":
        path.unlink()  # a writer leaves links alone
    rg.Index.open(place / "index", encoder=ColorEncoder()).verify(
        repair=True, detector=SquareDetector(), options=QUIET
    )
    with rg.Index.open(place / "index", encoder=ColorEncoder()) as index:
        assert not index.verify(options=QUIET).faults
    assert passes(place)


def test_a_pass_that_the_catalog_does_not_record_is_swept(place, photos):
    stranger = place / "index" / "passes" / "000001-0123456789abcdef.pass"
    stranger.write_bytes(b"anything")
    (place / "index" / "passes" / "mine.txt").write_text("mine")
    before = hits(place)
    build(photos, place / "index").close()
    assert not stranger.exists()
    assert (place / "index" / "passes" / "mine.txt").exists()
    assert hits(place) == before


def test_another_matcher_drops_the_passes(place, photos):
    [before] = passes(place)
    install_files(place / "index", {"matcher.safetensors": color_matcher(1).as_bytes()})
    expected = hits(place, exact=True)
    assert hits(place) == expected  # computed
    build(photos, place / "index").close()
    [after] = passes(place)
    assert before != after
    assert hits(place) == expected


def test_passes_of_dropped_shards_go(place, photos):
    with rg.Index.open(place / "index", encoder=ColorEncoder()) as index:
        index.remove(photos / "0.png")
        assert len(passes(place)) == 1
        index.compact(max_unused=0.0)
    assert len(passes(place)) == 1
    assert passes(place)[0].startswith("000002")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind root")
def test_a_read_only_index_answers(place):
    expected = hits(place)
    for path in [place / "index", *(place / "index").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert hits(place) == expected
    finally:
        for path in [place / "index", *(place / "index").rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_full_disk_leaves_passes_out(place, photos, monkeypatch):
    expected = hits(place)
    shutil.rmtree(place / "index" / "passes")
    install_files(place / "index", {"matcher.safetensors": color_matcher(2).as_bytes()})
    usage = shutil.disk_usage(place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    build(photos, place / "index").close()
    assert not (place / "index" / "passes").exists()
    assert len(hits(place)) == len(expected)

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.undo()
    monkeypatch.setattr("retrieval_grounding.matching.pass_file.write_pass", full)
    build(photos, place / "index").close()
    assert len(hits(place)) == len(expected)
