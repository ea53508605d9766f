"""Matchers by name: kept in an index, listed, chosen, removed, verified, and asked for."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import ColorEncoder, SquareDetector, draw_squares
from hypothesis import given
from hypothesis import strategies as st
from test_verify_files import faults, new_matcher, opened, set_setting

import retrieval_grounding as rg
from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.matching import calibrate, install
from retrieval_grounding.matching.anchored import AnchoredMatcher
from retrieval_grounding.matching.blend import BlendMatcher, score_spread
from retrieval_grounding.matching.install import install_files
from retrieval_grounding.matching.interpolation import networks_on_the_way
from retrieval_grounding.matching.label_matcher import LabelMatcher, label_scale
from retrieval_grounding.matching.matcher import CosineMatcher
from retrieval_grounding.matching.names import check_name, matcher_files, name_of_file
from retrieval_grounding.matching.recipe import Recipe
from retrieval_grounding.matching.sources import parse_source
from retrieval_grounding.matching.stored import StoredMatcher, load_stored
from retrieval_grounding.matching.trained import TrainedMatcher

QUIET = rg.BuildOptions(progress=False)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """An index with two matchers, of which `second` is in use."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "photos").mkdir()
    draw_squares(folder / "photos" / "a.png", {"red": (5, 5, 25, 25), "blue": (40, 20, 70, 50)})
    draw_squares(folder / "photos" / "b.png", {"green": (30, 10, 60, 40)})
    models = {"detector": SquareDetector(), "clip": ColorEncoder()}
    rg.build(folder / "photos", folder / "index", options=QUIET, **models)
    for name in ("first", "second"):
        matcher = new_matcher()
        matcher.trained_on = f"what {name} knows"
        weights, curve, plot = matcher_files(name)
        files = {curve: b"epoch\n", plot: b"\x89PNG", weights: matcher.as_bytes()}
        install_files(folder / "index", files, use=name)
    return folder / "index"


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "index"))


def in_use(index: rg.Index) -> str:
    [name] = [entry.name for entry in index.matchers() if entry.in_use]
    return name


def test_several_matchers_are_kept_and_listed(folder):
    index = opened(folder)
    [bundled] = [entry.kind for entry in index.matchers() if entry.name == "bundled"]
    assert bundled.startswith("residual")  # with what goes well with it
    assert [(entry.name, entry.kind) for entry in index.matchers()] == [
        ("first", "residual"),
        ("second", "residual"),
        ("bundled", bundled),
        ("cosine", "cosine"),
        ("cosine+label", "cosine+label"),
    ]
    assert in_use(index) == "second"
    assert index.matcher.trained_on == "what second knows"
    assert (index.verify().faults, index.verify().notes) == ([], [])


def test_an_open_index_follows_the_choice(folder):
    reader = opened(folder)
    assert reader.matcher.trained_on == "what second knows"
    opened(folder).use_matcher("first")
    assert reader.matcher.trained_on == "what first knows"
    opened(folder).use_matcher("cosine+label")
    assert isinstance(reader.matcher, LabelMatcher)
    opened(folder).remove_matcher("first")
    assert in_use(reader) == "cosine+label"
    opened(folder).use_matcher("second")
    opened(folder).remove_matcher("second")
    assert in_use(reader) == "cosine"
    assert isinstance(reader.matcher, CosineMatcher)
    assert list((folder / "matchers").iterdir()) == []
    assert opened(folder).verify().notes == []


def test_a_query_can_name_its_matcher(folder):
    index = opened(folder)
    [cosine] = index.query("red", top=1, matcher="cosine")
    [by_object] = index.query("red", top=1, matcher=CosineMatcher())
    assert cosine == by_object
    assert index.query("red", top=1, matcher="cosine+label")[0].score > cosine.score
    with pytest.raises(rg.ModelError, match="no matcher 'third'; it has first, second, bundled"):
        index.query("red", matcher="third")
    assert index.query("red", top=1, matcher="bundled")[0].image == cosine.image


def test_a_matcher_that_queries_name_is_loaded_once_and_again_when_it_changes(folder):
    index = opened(folder)
    for name in ("first", "bundled", "cosine", "cosine+label"):
        assert index._opened.named_matcher(name) is index._opened.named_matcher(name)
    before = index._opened.named_matcher("first")
    changed = new_matcher()
    changed.trained_on = "something newer"
    install_files(folder, {matcher_files("first")[0]: changed.as_bytes()})
    assert index._opened.named_matcher("first").trained_on == "something newer"
    assert before.trained_on == "what first knows"
    opened(folder).remove_matcher("first")
    with pytest.raises(rg.ModelError, match="no matcher 'first'"):
        index.query("red", matcher="first")
    with pytest.raises(rg.ModelError, match="no matcher"):
        index.query("red", matcher="a\0b")


def test_cosine_and_label_is_measured_again_when_the_images_change(folder):
    index = opened(folder)
    before = index._opened.named_matcher("cosine+label")
    [path] = [image.path for image in index.images() if image.path.endswith("b.png")]
    opened(folder).remove([path])
    after = index._opened.named_matcher("cosine+label")
    assert after == opened(folder)._opened.named_matcher("cosine+label")
    assert after is not before


@pytest.mark.parametrize("name", ["third", "../second", "matchers/second", ""])
def test_an_unknown_name_is_not_chosen_and_not_removed(folder, name):
    for change in (opened(folder).use_matcher, opened(folder).remove_matcher):
        with pytest.raises(rg.GroundingError, match="has no matcher"):
            change(name)
    with pytest.raises(rg.GroundingError, match="has no matcher"):
        opened(folder).remove_matcher("cosine")
    assert in_use(opened(folder)) == "second"


def test_the_only_matcher_of_an_earlier_release_is_used_and_kept(folder):
    shutil.rmtree(folder / "matchers")
    set_setting(folder, "matcher_in_use", None)
    set_setting(folder, "matcher", None)
    install_files(folder, {"matcher.safetensors": new_matcher().as_bytes()})
    index = opened(folder)
    assert in_use(index) == "matcher" and isinstance(index.matcher, TrainedMatcher)
    assert index.verify().faults == []
    weights = matcher_files("newer")[0]
    install_files(folder, {weights: new_matcher().as_bytes()}, use="newer")
    assert in_use(index) == "newer"
    index.use_matcher("matcher")
    assert in_use(index) == "matcher"
    assert index.verify().faults == []


@pytest.mark.parametrize("file", matcher_files("second"))
def test_damage_to_any_file_of_any_matcher_is_found_and_moved_aside(folder, file):
    (folder / file).write_bytes(b"damaged")
    assert faults(folder) == [(file, "damaged")]
    report = rg.Index.open(folder).verify(repair=True, options=QUIET)
    assert report.faults == []
    assert (folder / f"{file}.damaged").read_bytes() == b"damaged"
    assert (folder / matcher_files("first")[0]).exists()
    assert in_use(opened(folder)) == ("cosine" if file.endswith("tensors") else "second")
    assert f"{file}.damaged: moved aside by a repair" in report.notes


def test_a_damaged_matcher_in_use_is_replaced_with_a_warning(folder, caplog):
    (folder / matcher_files("second")[0]).write_bytes(b"damaged")
    with caplog.at_level("WARNING", "retrieval_grounding"):
        assert isinstance(opened(folder).matcher, CosineMatcher)
    assert "matchers/second.safetensors cannot be used" in caplog.text
    [entry] = [entry for entry in opened(folder).matchers() if entry.name == "second"]
    assert entry.in_use and entry.problem


def test_a_matcher_in_use_that_is_gone_is_a_fault(folder):
    (folder / matcher_files("second")[0]).unlink()
    assert faults(folder) == [("matchers/second.safetensors", "missing")]
    rg.Index.open(folder).verify(repair=True, options=QUIET)
    assert faults(folder) == []
    assert in_use(opened(folder)) == "cosine"


@pytest.mark.parametrize("value", [7, "../../etc/passwd", "a/b", ["first"], "x" * 99])
def test_an_impossible_choice_is_found_and_removed(folder, value):
    set_setting(folder, "matcher_in_use", value)
    assert faults(folder) == [("catalog.sqlite", "matcher-in-use")]
    report = rg.Index.open(folder).verify(repair=True, options=QUIET)
    assert report.faults == []
    assert in_use(opened(folder)) == "cosine"


def test_links_in_the_place_of_matchers_are_refused(folder, tmp_path):
    shutil.move(folder / "matchers", tmp_path / "elsewhere")
    (folder / "matchers").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(rg.StoreError, match="is a link"):
        opened(folder).use_matcher("first")
    assert ("matchers", "damaged") in faults(folder)


def test_a_crash_while_installing_leaves_what_was_in_use(folder, monkeypatch):
    original = install.atomic_write_bytes

    def crash(path, data):
        if path.suffix == ".safetensors":
            raise KeyboardInterrupt
        original(path, data)

    monkeypatch.setattr(install, "atomic_write_bytes", crash)
    weights, curve, _ = matcher_files("third")
    with pytest.raises(KeyboardInterrupt):
        install_files(folder, {curve: b"epoch\n", weights: b"x"}, use="third")
    assert in_use(opened(folder)) == "second"
    assert faults(folder) == []


@given(st.text(max_size=80))
def test_names_stay_inside_the_folder_of_matchers(name):
    try:
        check_name(name)
    except rg.GroundingError:
        return
    file = matcher_files(name)[0]
    path = Path("index") / file
    assert path.parent == Path("index/matchers")
    assert name_of_file(file) == name


def test_weights_of_files_are_read_unless_a_file_has_that_name(tmp_path):
    assert parse_source("a=b.jsonl=0.5") == ("a=b.jsonl", 0.5)
    assert parse_source("a=b.jsonl") == ("a=b.jsonl", 1.0)
    odd = tmp_path / "refs=2"
    odd.touch()
    assert parse_source(str(odd)) == (str(odd), 1.0)
    for wrong in ("0", "-1", "nan", "inf", "101"):
        with pytest.raises(rg.GroundingError, match="a weight is above 0"):
            parse_source(f"refs.jsonl={wrong}")


def test_a_combined_matcher_scores_the_same_after_it_is_stored(folder, tmp_path):
    network = new_matcher()
    index = opened(folder)
    recipe = Recipe(0.25, 0.5, (2.0, 0.1), "cosine+label", (0.1, 3.0))
    stored = StoredMatcher(network, recipe, rg.Calibration(2.0, -1.0))
    path = tmp_path / "m.safetensors"
    path.write_bytes(stored.as_bytes())
    loaded = load_stored(path, "cpu")
    assert loaded.recipe == recipe
    matcher = loaded.prepared()
    assert isinstance(matcher, AnchoredMatcher) and isinstance(matcher.inner, BlendMatcher)
    assert matcher.calibration == rg.Calibration(2.0, -1.0)
    expected = index.query("red", matcher=stored.prepared())
    assert index.query("red", matcher=matcher) == pytest.approx(expected)
    # Images keep the scores of the anchor.
    anchor = index.query("red", matcher=LabelMatcher(0.5))
    assert [hit.score for hit in expected] == pytest.approx([hit.score for hit in anchor])


@pytest.mark.parametrize(
    "damage",
    [{"weight": 2}, {"weight": "1"}, {"spreads": [0, 1]}, {"spreads": [1]}, {"anchor": "os"},
     {"label_scale": -1}, {"label_scale": 1e999}, {"more": 1}],
)  # fmt: skip
def test_an_impossible_recipe_is_refused(damage):
    with pytest.raises((TypeError, ValueError)):
        Recipe.from_dict(Recipe().as_dict() | damage)


def spread_table(offset: float, stretch: float) -> RegionTable:
    """Labels whose embeddings are more alike, the higher the offset."""
    random = np.random.default_rng(0)
    shared = np.full(16, offset)
    labels = shared + stretch * random.normal(size=(4, 16))
    labels /= np.linalg.norm(labels, axis=1, keepdims=True)
    labels[0] = 0
    codes = np.tile([0, 1, 2, 3], 10)
    regions = random.normal(size=(40, 16))
    return RegionTable(
        embeddings=regions / np.linalg.norm(regions, axis=1, keepdims=True),
        boxes=np.tile(np.float32([0, 0, 9, 9]), (40, 1)),
        scores=np.ones(40, np.float32),
        labels=codes,
        colors=np.zeros((40, 11), np.uint8),
        offsets=np.arange(0, 41, 4),
        label_names=["whole image", "dog", "cat", "car"],
        label_embeddings=labels.astype(np.float32),
    )


class OneTable:
    def __init__(self, table: RegionTable) -> None:
        self.table = table

    def gather(self, keys):
        return self.table


def test_labels_weigh_as_much_in_every_space_of_embeddings():
    """In CLIP's, texts are all alike; the scale makes up for it."""
    for offset in (0.0, 1.0, 3.0):
        table = spread_table(offset, 1.0)
        store, keys = OneTable(table), [(0, image) for image in range(10)]
        scale = label_scale(store, keys)
        phrases = Phrases(["dog", "cat", "car"], table.label_embeddings[1:])
        labels = (phrases.embeddings @ table.label_embeddings.T)[:, table.labels]
        known = table.labels > 0
        cosines = CosineMatcher().score(phrases, table)
        ratio = scale * labels[:, known].std(1).mean() / cosines[:, known].std(1).mean()
        assert ratio == pytest.approx(1, rel=0.25), offset
    single = spread_table(0, 1)
    single.labels[:] = 1
    assert label_scale(OneTable(single), [(0, 0)]) == 0
    assert score_spread(
        LabelMatcher(0.0), Phrases(["dog"], np.zeros((1, 16), np.float32)), [(0, 0)],
        OneTable(single.of_one_image(slice(0, 4))),
    ) == 1  # fmt: skip


def test_the_catalog_is_readable_by_others(folder):
    """What `index-format.md` says of the settings."""
    connection = sqlite3.connect(folder / "catalog.sqlite")
    settings = dict(connection.execute("SELECT key, value FROM settings"))
    connection.close()
    assert json.loads(settings["matcher_in_use"]) == "second"
    recorded = json.loads(settings["matcher"])
    assert set(recorded) == {*matcher_files("first"), *matcher_files("second")}
    assert all(len(checksums) == 1 for checksums in recorded.values())


def test_networks_on_the_way_are_between_start_and_end():
    start, end = new_matcher(), new_matcher()
    for value in end.model.state_dict().values():
        value.add_(1)
    found = networks_on_the_way(end, start, generated=False)
    assert list(found) == [1.0, 0.5]
    for name, value in start.model.state_dict().items():
        half = found[0.5].model.state_dict()[name]
        assert torch.allclose(half, value + 0.5, atol=2e-3), name
        assert torch.allclose(found[1.0].model.state_dict()[name], value + 1, atol=2e-3), name
    assert list(networks_on_the_way(end, start, generated=True)) == [0.5]
    assert list(networks_on_the_way(end, None, generated=True)) == [1.0]


MIXED = (
    Recipe(),
    Recipe(0.25, 0.5, (2.0, 0.1)),
    Recipe(0.25, 0.5, (2.0, 0.1), "cosine+label", (0.1, 3.0)),
)


@pytest.mark.parametrize("recipe", MIXED, ids=["network", "blend", "anchored"])
def test_fitted_probabilities_belong_to_one_matcher(folder, monkeypatch, recipe):
    """They come back with it, whatever it consists of, and say what they were fitted to."""
    fitted = rg.Calibration(3.0, -1.0, size=-0.5, box_slope=1.0, box_intercept=0.5)
    monkeypatch.setattr(calibrate, "calibrate_matcher", lambda *_: fitted)
    weights = StoredMatcher(new_matcher(), recipe, rg.Calibration(2.0, -1.0)).as_bytes()
    install_files(folder, {matcher_files("mixed")[0]: weights}, use="mixed")
    index = opened(folder)

    def probabilities():
        hits = index.query("red", top=2)
        return np.array([(hit.image_probability, hit.probability) for hit in hits], float).T

    def expected(calibration):
        scores = np.array([hit.score for hit in index.query("red", top=2)], np.float32)
        return np.array(calibration(scores, images=2))

    own = probabilities()
    if not recipe.is_plain:
        np.testing.assert_allclose(own, expected(rg.Calibration(2.0, -1.0)), rtol=1e-5)
    index.calibrate()
    np.testing.assert_allclose(probabilities(), expected(fitted), rtol=1e-5)
    said = index.query("red")[0].explain().calibration
    assert said == "calibrated on made-up phrases about the images of this index"
    index.use_matcher("first")
    assert not np.isclose(probabilities(), expected(fitted)).any()
    index.use_matcher("mixed")
    again = opened(folder).query("red", top=2)
    assert [hit.probability for hit in again] == pytest.approx(expected(fitted)[1].tolist())
    index.reset_calibration()
    np.testing.assert_array_equal(probabilities(), own)


def test_probabilities_may_be_fitted_to_a_matcher_without_weights(folder, monkeypatch):
    fitted = rg.Calibration(3.0, -1.0)
    monkeypatch.setattr(calibrate, "calibrate_matcher", lambda *_: fitted)
    index = opened(folder)
    index.use_matcher("cosine+label")
    assert index.query("red")[0].probability is None
    index.calibrate()
    assert index.query("red")[0].probability is not None
    assert index.query("red", matcher="cosine")[0].probability is None
