"""Training through an index: drawn scenes whose pictures are gone, pseudo-queries, errors."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import SceneDetector, SceneEncoder, make_scenes, write_jsonl, write_scenes
from test_minimal_pairs import things

import retrieval_grounding as rg
from retrieval_grounding.cli.train import train
from retrieval_grounding.evaluation.minimal_pairs import minimal_pair_accuracy
from retrieval_grounding.matching.fit_result import Fit
from retrieval_grounding.matching.matcher import CosineMatcher
from retrieval_grounding.matching.options import TrainingOptions
from retrieval_grounding.matching.pseudo.minimal_pairs import minimal_pairs
from retrieval_grounding.matching.trained import TrainedMatcher
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.region_store import RegionStore

TRAIN, TEST = 1500, 120


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> tuple[rg.Index, Path]:
    """An index of drawn scenes whose pictures are gone, and its referring expressions."""
    folder = tmp_path_factory.mktemp("scenes")
    train, test = make_scenes(TRAIN, seed=1), make_scenes(TEST, seed=2)
    lines = write_scenes(train, folder / "pictures", "train")
    lines += write_scenes(test, folder / "pictures", "test")
    refs = write_jsonl(lines, folder / "refs.jsonl")
    detector = SceneDetector([*train, *test])
    options = rg.BuildOptions(progress=False)
    index = rg.build(
        folder / "pictures",
        folder / "index",
        detector=detector,
        clip=SceneEncoder(),
        options=options,
    )
    shutil.rmtree(folder / "pictures")
    return index, refs


@pytest.fixture(scope="module")
def fit(drawn) -> Fit:
    """A matcher trained on the scenes of one split."""
    index, refs = drawn
    options = TrainingOptions(epochs=6, batch_size=48, lr=2.5e-3, negatives=1, progress=False)
    return index.train(refs, splits=["train"], options=options)


@pytest.mark.long
def test_the_matcher_learns_drawn_scenes_without_their_pictures(drawn, fit):
    index, refs = drawn
    matchers = {"cosine": CosineMatcher(), "matcher": fit.matcher}
    report = index.evaluate(refs, splits=["test"], matchers=matchers, gallery=0)
    accuracy = {name: report.figures[name].accuracy.value for name in matchers}
    assert accuracy["matcher"] >= 0.9 > accuracy["cosine"] + 0.25
    assert (fit.installed, fit.name) == (True, "trained")
    curve = index.directory / "matchers" / "trained-curve"
    assert curve.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "mean_reciprocal_rank" in curve.with_suffix(".csv").read_text()
    assert re.fullmatch(r"<Fit residual: .* validation Acc@0\.5 [01]\.\d{3}; installed>", repr(fit))
    assert fit._repr_html_().count('<img src="data:image/png;base64,') == 1

    again = rg.Index.open(index.directory, encoder=SceneEncoder())
    assert isinstance(again.matcher, TrainedMatcher)
    phrase = json.loads(refs.read_text().splitlines()[-1])["expression"]
    every = len(again)
    hits = again.query(phrase, top=every)
    scores = np.array([hit.score for hit in hits], np.float32)
    expected = again.matcher.calibration(scores, every)
    assert [hit.image_probability for hit in hits] == pytest.approx(expected.image.tolist())
    assert [hit.probability for hit in hits] == pytest.approx(expected.box.tolist())
    first, second, third = expected.image[:3].tolist()
    assert first > second > third
    assert again.query(phrase, top=every, min_probability=(second + third) / 2) == hits[:2]
    assert again.query(phrase, top=every, min_probability=(first + 1) / 2) == []


@pytest.mark.long
def test_the_matcher_tells_the_phrases_of_minimal_pairs_apart(drawn, fit):
    """Such as "the circle above a square" and "the square above a circle", in unseen scenes."""
    index, _ = drawn
    with contextlib.closing(Catalog(index.directory)) as catalog:
        images = [i for i in catalog.images() if Path(i.path).name.startswith("test")]
        with contextlib.closing(RegionStore(catalog)) as store:
            table = store.gather([(image.shard, image.row) for image in images])
    scenes = enumerate(make_scenes(TEST, seed=2))
    pairs = [(number, pair) for number, scene in scenes for pair in minimal_pairs(things(scene))]
    # Other kinds use words that the training expressions lack, such as "third" and "bottom".
    of_kind = [pair for pair in pairs if pair[1].kind in ("order", "relation", "size", "color")]
    cosine, learned = (
        minimal_pair_accuracy(matcher, SceneEncoder(), table, of_kind)
        for matcher in (CosineMatcher(), fit.matcher)
    )
    assert learned["order"].pairs > 80 and learned["relation"].pairs > 20
    # Who answers both phrases alike, as cosine does, is never right about both.
    for kind, least in (("order", 0.5), ("relation", 0.45), ("size", 0.7)):
        assert cosine[kind].both < 0.15 and learned[kind].both > least, kind
    assert learned["color"].both > 0.9


def test_pseudo_queries_train_an_index_without_labels(shared, tmp_path):
    """So few photographs give a matcher that is worse than the bundled one, which stays in use."""
    photos = sorted(shared("coco_val128/images").iterdir())[:24]
    index = rg.build(photos, tmp_path / "index", options=rg.BuildOptions(progress=False))
    command = [
        sys.executable, "-m", "retrieval_grounding", "train", str(index.directory),
        "--refs", "pseudo", "--epochs", "2", "--batch", "64", "--rate", "0.001", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert (done.returncode, report["installed"]) == (1, False), done.stderr
    assert "than the matcher in use" in report["reason"]
    assert report["kind"] == "residual"
    assert report["epochs"] == 2
    assert not (tmp_path / "index" / "matchers").exists()
    assert not (tmp_path / "index" / "matcher.training").exists()


def test_the_command_line_has_the_defaults_of_the_library():
    parameters, options = inspect.signature(train).parameters, TrainingOptions()
    for name in ("epochs", "batch_size", "lr", "seed"):
        assert parameters[name].default == getattr(options, name), name


def test_training_starts_from_the_matcher_in_use(shared, tmp_path):
    photos = sorted(shared("coco_val128/images").iterdir())[:24]
    index = rg.build(photos, tmp_path / "index", options=rg.BuildOptions(progress=False))
    bundled = index.matcher
    options = TrainingOptions(epochs=1, lr=0.0, progress=False)
    fit = index.train("pseudo", options=options)
    assert fit.matcher.vocabulary == bundled.vocabulary
    trained = fit.matcher.model.state_dict()
    for name, value in bundled.model.state_dict().items():
        if not name.startswith("early."):  # the early exit is fitted after each training
            torch.testing.assert_close(trained[name], value, rtol=0, atol=0)
    assert not fit.installed  # it gains nothing
    assert index.matcher is bundled


def test_too_few_expressions_are_refused(tmp_path, photos, models):
    index = rg.build(photos, tmp_path / "index", **models)
    refs = write_jsonl(
        [{"image": "a.png", "expression": "red", "bbox_xywh": [5, 5, 20, 20]}], tmp_path / "r.jsonl"
    )
    with pytest.raises(rg.GroundingError, match="at least 10"):
        index.train(refs)


def test_a_matcher_of_a_different_encoder_is_refused_by_name(tmp_path, photos, models):
    index = rg.build(photos, tmp_path / "index", **models)
    source = Path(rg.__file__).parent / "models" / "weights" / "nano-matcher.safetensors"
    shutil.copy(source, tmp_path / "index" / "matcher.safetensors")
    with pytest.raises(rg.ModelError, match=r"nano.*colours"):
        rg.Index.open(tmp_path / "index", encoder=models["clip"]).query("red")
    del index


def test_without_a_calibrated_matcher_there_are_no_probabilities(tmp_path, photos, models):
    index = rg.build(photos, tmp_path / "index", **models)
    [hit] = index.query("red", top=1)
    assert hit.probability is None
    with pytest.raises(rg.GroundingError, match="no probabilities"):
        index.query("red", min_probability=0.5)
    with pytest.raises(rg.GroundingError, match="between 0 and 1"):
        index.query("red", min_probability=np.inf)
