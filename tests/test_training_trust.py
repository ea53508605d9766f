"""Trainings resume only themselves, measure on unseen images, and install nothing worse.

Covers the points "a resumed training may be another one", "validation leaks", "train that ends
worse than before installs nothing" and, of the corners of training, mirroring, the user's random
generators, the calibration of cosine, and tuning after compacting.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import ColorEncoder, SquareDetector, draw_squares
from matching_data import (
    LabelEncoder,
    TableStore,
    left_and_right,
    random_table,
    untrained,
)
from PIL import Image
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.core.errors import GroundingError
from retrieval_grounding.matching import calibrate
from retrieval_grounding.matching.checks import score, score_pairs
from retrieval_grounding.matching.comparison import compare
from retrieval_grounding.matching.fit import fit_matcher
from retrieval_grounding.matching.held_out import Outcome
from retrieval_grounding.matching.matcher import CosineMatcher
from retrieval_grounding.matching.options import TrainingOptions
from retrieval_grounding.matching.pseudo.mirror import mirror_phrase
from retrieval_grounding.matching.split import content_groups, split_examples
from retrieval_grounding.matching.statements import Statement, make_examples
from retrieval_grounding.matching.training_images import TrainingImages
from retrieval_grounding.storage.rows import LiveRow

QUIET = TrainingOptions(epochs=1, lr=0.0, progress=False)
LEARN = TrainingOptions(epochs=6, batch_size=8, lr=2e-2, progress=False)
BUILD = rg.BuildOptions(progress=False)


# Resuming


def statements_of(table) -> list[Statement]:
    examples = left_and_right(table)
    texts = [examples.phrases.texts[row] for row in examples.phrase]
    return [
        Statement((0, int(image)), text, tuple(box))
        for image, text, box in zip(examples.image, texts, examples.boxes.tolist(), strict=True)
    ]


def rows_of(table, name: str = "") -> dict[tuple[int, int], LiveRow]:
    count = len(table.offsets) - 1
    return {
        (0, image): LiveRow(0, image, f"{name}{image:032x}", 400, 400, 0, 1, f"checksum {image}")
        for image in range(count)
    }


TABLE = random_table([5] * 40, 2)


@pytest.fixture
def run_stopped(tmp_path, monkeypatch) -> Callable[..., bool]:
    """A function that starts a training with changes and tells whether a first one was resumed."""
    import retrieval_grounding.matching.trainer as module

    original = module._Trainer.train_epoch

    def fit(epochs: int | None, **changes: object) -> None:
        statements = changes.pop("statements", None) or statements_of(TABLE)
        encoder = changes.pop("encoder", None) or LabelEncoder(TABLE)
        options = TrainingOptions(**{"epochs": 3, "progress": False} | changes.pop("options", {}))
        left = iter(range(epochs)) if epochs is not None else None

        def train_epoch(self, *arguments):
            if left is not None and next(left, None) is None:
                raise KeyboardInterrupt
            return original(self, *arguments)

        monkeypatch.setattr(module._Trainer, "train_epoch", train_epoch)
        fit_matcher(
            TableStore(TABLE), encoder, statements, options=options,
            checkpoint=tmp_path / "checkpoint", **{"rows": rows_of(TABLE)} | changes,
        )  # fmt: skip

    def resumes(**changes: object) -> bool:
        with pytest.raises(KeyboardInterrupt):
            fit(1)
        try:
            fit(None, **changes)
        except rg.ModelError as error:
            assert "different training run" in str(error)
            assert "delete it to start over" in str(error)
            return False
        return True

    return resumes


def test_the_same_training_is_resumed(run_stopped):
    assert run_stopped(options={"progress": None})  # a progress bar changes nothing


def other_phrase() -> list[Statement]:
    first, *others = statements_of(TABLE)
    return [replace(first, phrase="the dog to the left"), *others]


def other_box() -> list[Statement]:
    # The sum over all boxes stays the same.
    first, second, *others = statements_of(TABLE)
    assert first.box != second.box
    return [replace(first, box=second.box), replace(second, box=first.box), *others]


class OtherEncoder(LabelEncoder):
    fingerprint = rg.Fingerprint("random", "other weights", "none")


@pytest.mark.parametrize(
    "changes",
    [
        {"statements": other_phrase()},
        {"statements": other_box()},
        {"rows": rows_of(TABLE, "f")},
        {"rows": {k: r._replace(checksum="other") if k == (0, 3) else r
                  for k, r in rows_of(TABLE).items()}},
        {"encoder": OtherEncoder(TABLE)},
        {"start": untrained()},
        {"kind": "concat"},
        *({"options": {name: value}} for name, value in
          {"epochs": 4, "patience": 4, "batch_size": 16, "lr": 1e-3, "embedding_jitter": 0.1,
           "negatives": 3, "seed": 1}.items()),
    ],
    ids=["phrase", "boxes", "contents", "regions", "encoder", "start", "kind", "epochs",
         "patience", "batch_size", "lr", "embedding_jitter", "negatives", "seed"],
)  # fmt: skip
def test_a_training_that_differs_in_anything_is_not_resumed(run_stopped, changes):
    assert not run_stopped(**changes)


@pytest.mark.parametrize("changed", ["vocabulary", "weights", "release"])
def test_the_identity_covers_vocabulary_weights_and_release(changed, monkeypatch):
    from retrieval_grounding.matching import identity

    examples = left_and_right(TABLE)
    model = untrained().model

    def identify(vocabulary=("left",)) -> str:
        return identity.training_identity(model, vocabulary, examples, examples, QUIET, "")

    before = identify()
    assert identify() == before
    if changed == "vocabulary":
        assert identify(["right"]) != before
        return
    if changed == "weights":
        with torch.no_grad():
            next(model.parameters()).add_(1)
    else:
        monkeypatch.setattr(identity, "__version__", "99")
    assert identify() != before


# Splitting


def examples_about(images: int):
    table = random_table([1] * images, 0)
    statements = [
        Statement((0, image), "the left dog", (0.1, 0.1, 0.5, 0.5)) for image in range(images)
    ]
    keys = [(0, image) for image in range(images)]
    return make_examples(statements, keys, LabelEncoder(table)), keys


def images_of(part) -> set[int]:
    return set(part.image.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_copies_of_an_image_are_never_on_both_sides(seed):
    examples, keys = examples_about(40)
    # Images 0 to 9 are copies, with other metadata, of images 10 to 19: the regions are the same.
    rows = {
        (0, i): LiveRow(0, i, f"{i:032x}", 9, 9, 0, 1, f"checksum {i + 10 if i < 10 else i}")
        for i in range(40)
    }
    # Images 20 to 24 have the content of 25 to 29.
    rows |= {(0, i): rows[0, i]._replace(content_hash=f"{i + 5:032x}") for i in range(20, 25)}
    groups = content_groups(keys, rows)
    assert len(np.unique(groups)) == 25
    split = split_examples(examples, groups, np.zeros(40, bool), seed)
    parts = [images_of(part) for part in (split.training, split.validation, split.calibration)]
    assert sum(map(len, parts)) == 40
    contents = [{int(groups[image]) for image in part} for part in parts]
    assert not contents[0] & contents[1] and not contents[0] & contents[2]
    assert not contents[1] & contents[2]


def test_training_images_of_the_start_stay_in_training():
    examples, _ = examples_about(40)
    seen = np.arange(40) < 36
    split = split_examples(examples, np.arange(40), seen, 0)
    assert images_of(split.held_out) == {36, 37, 38, 39}
    assert (len(split.validation), len(split.calibration), split.reused) == (2, 2, 0)
    split = split_examples(examples, np.arange(40), np.ones(40, bool), 0)
    assert (len(split.validation), len(split.calibration), split.reused) == (4, 4, 8)


def test_named_images_are_held_out_and_no_others():
    examples, _ = examples_about(40)
    seen, named = np.zeros(40, bool), np.arange(40) >= 30
    split = split_examples(examples, np.arange(40), seen, 0, named)
    assert images_of(split.training) == set(range(30))
    assert images_of(split.held_out) == set(range(30, 40))
    assert len(images_of(split.validation)) == len(images_of(split.calibration)) == 5


def test_validation_draws_images_with_located_phrases():
    examples, _ = examples_about(40)
    boxes = examples.boxes.copy()
    boxes[3:] = np.nan
    split = split_examples(replace(examples, boxes=boxes), np.arange(40), np.zeros(40, bool), 0)
    assert images_of(split.held_out) <= {0, 1, 2}
    boxes[1:] = np.nan
    with pytest.raises(GroundingError, match="add expressions with boxes"):
        split_examples(replace(examples, boxes=boxes), np.arange(40), np.zeros(40, bool), 0)


def test_training_on_phrases_of_which_few_have_boxes_succeeds():
    statements = [replace(s, box=None if s.key[1] > 4 else s.box) for s in statements_of(TABLE)]
    fit = fit_matcher(TableStore(TABLE), LabelEncoder(TABLE), statements, options=QUIET)
    assert fit.history.best is not None


def test_hashes_are_stored_in_eight_bytes_each():
    record = TrainingImages.of(["ab" * 16, "01" * 16], ["cd" * 16], [])
    assert record.as_dict() == {
        "training": "01" * 8 + "ab" * 8, "validation": "cd" * 8, "calibration": ""
    }  # fmt: skip
    assert TrainingImages.from_dict(record.as_dict()) == record
    assert record.trained_on("ab" * 16) and not record.trained_on("cd" * 16)
    for damaged in ({}, {"training": "xyz", "validation": "", "calibration": ""}, None, 7):
        with pytest.raises((ValueError, KeyError, TypeError)):
            TrainingImages.from_dict(damaged)


# Through an index


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Indexes of 20 pictures with a red square on the left and a blue one on the right.

    `plain` is untrained and `trained` is trained with refs.jsonl, which names the squares by place:
    cosine cannot know it. For colors.jsonl, which names them by color, cosine is perfect.
    """
    folder = tmp_path_factory.mktemp("world")
    (folder / "pictures").mkdir()
    records, colors = [], []
    for number in range(20):
        name, x = f"{number:02}.png", number
        squares = {"red": (x, 5, x + 20, 25), "blue": (x + 20, 5, x + 40, 45)}
        draw_squares(folder / "pictures" / name, squares)
        for color, side, box in (
            ("red", "left", [x, 5, 20, 20]), ("blue", "right", [x + 20, 5, 20, 40])
        ):  # fmt: skip
            records.append({"image": name, "expression": f"the {side} one", "bbox_xywh": box})
            colors.append(records[-1] | {"expression": f"the {color} one"})
    write_records(folder / "refs.jsonl", records)
    write_records(folder / "colors.jsonl", colors)
    models = {"detector": SquareDetector(), "clip": ColorEncoder()}
    rg.build(folder / "pictures", folder / "plain", options=BUILD, **models)
    shutil.copytree(folder / "plain", folder / "trained")
    index = rg.Index.open(folder / "trained", encoder=ColorEncoder())
    fit = index.train(folder / "refs.jsonl", options=LEARN)
    assert fit.installed, fit.reason
    return folder


@pytest.fixture
def index(world, tmp_path) -> rg.Index:
    shutil.copytree(world / "plain", tmp_path / "index")
    return rg.Index.open(tmp_path / "index", encoder=ColorEncoder())


@pytest.fixture
def trained(world, tmp_path) -> rg.Index:
    shutil.copytree(world / "trained", tmp_path / "index")
    return rg.Index.open(tmp_path / "index", encoder=ColorEncoder())


def write_records(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


@pytest.fixture
def refs(world) -> Path:
    return world / "refs.jsonl"


@pytest.fixture
def colors(world) -> Path:
    return world / "colors.jsonl"


def test_a_matcher_records_the_images_of_its_training(trained):
    images = trained.matcher.images
    assert (len(images.training), len(images.validation), len(images.calibration)) == (16, 2, 2)
    every_hash = {image.content_hash[:16] for image in trained.images()}
    assert images.training | images.validation | images.calibration == every_hash


def test_evaluating_on_training_images_is_reported(index, world, refs, tmp_path):
    assert not index.evaluate(refs).trained_images
    index = rg.Index.open(world / "trained", encoder=ColorEncoder())
    report = index.evaluate(refs)
    assert report.as_dict()["trained_images"] == {"matcher": 16, "blend": 16}
    assert report.notes[0].startswith("matcher was trained on 16 of the 20 images evaluated here")
    held_out = index.matcher.images.validation
    names = {Path(i.path).name for i in index.images() if i.content_hash[:16] in held_out}
    unseen = [
        r for line in refs.read_text().splitlines() if (r := json.loads(line))["image"] in names
    ]
    assert not index.evaluate(write_records(tmp_path / "unseen.jsonl", unseen)).trained_images


def test_fine_tuning_holds_out_what_the_first_matcher_has_not_seen(trained, refs):
    first = trained.matcher.images
    fit = trained.train(refs, options=replace(QUIET, seed=5))
    second = fit.matcher.images
    assert not (second.validation | second.calibration) & first.training
    assert second.training == first.training
    assert fit.notes == []
    # The weights are the same, so there is no gain, and nothing is replaced for nothing.
    assert "it is not clearly better than the matcher in use" in fit.reason


def test_a_split_that_is_held_out_decides_and_is_not_learned_from(index, refs, tmp_path):
    records = [json.loads(line) for line in refs.read_text().splitlines()]
    kept = {f"{number:02}.png" for number in range(6)}
    for record in records:
        record["split"] = "val" if record["image"] in kept else "train"
    file = write_records(tmp_path / "split.jsonl", records)
    hashes = {i.content_hash[:16] for i in index.images() if Path(i.path).name in kept}
    # Pseudo-queries are about all images, but not about these.
    fit = index.train([file, "pseudo"], splits=["train"], held_out=["val"], options=LEARN)
    images = fit.matcher.images
    assert images.validation | images.calibration == hashes
    assert len(images.training) == 14 and not images.training & hashes
    assert {c.expressions for c in fit.comparisons} == {12}
    with pytest.raises(GroundingError, match="no expression of the split dev is about an image"):
        index.train(file, held_out=["dev"], options=QUIET)


def test_fine_tuning_without_new_images_says_so(trained, refs, tmp_path):
    known = trained.matcher.images.training
    names = {Path(i.path).name for i in trained.images() if i.content_hash[:16] in known}
    seen = [
        r for line in refs.read_text().splitlines() if (r := json.loads(line))["image"] in names
    ]
    source = write_records(tmp_path / "seen.jsonl", seen)
    fit = trained.train(source, options=QUIET)
    first, second = fit.notes
    assert "4 held-out images had trained the matcher that this one started from" in first
    assert "trained on all held-out images, so the two are not compared" in second


# Nothing worse


def mean_iou(index: rg.Index, refs: Path) -> float:
    opened = rg.Index.open(index.directory, encoder=ColorEncoder())
    report = opened.evaluate(refs, gallery=0)
    return report.figures[report.shown].mean_iou.value


@pytest.mark.parametrize("lr", [1e3, 1e30])
def test_a_training_that_ends_worse_installs_nothing_and_says_why(index, colors, lr):
    before = mean_iou(index, colors)
    fit = index.train(colors, options=TrainingOptions(epochs=3, lr=lr, progress=False))
    assert not fit.installed
    assert fit.reason.startswith("the trained matcher is not installed: ")
    assert not list(index.directory.glob("matcher*"))
    assert isinstance(index.matcher, CosineMatcher)
    assert mean_iou(index, colors) == before == 1.0
    json.dumps(fit.as_dict(), allow_nan=False)


@pytest.fixture
def contrary(monkeypatch) -> None:
    """A loss that teaches every region but the right one."""
    import retrieval_grounding.matching.trainer as module

    def loss(logits, iou, *_):
        logits = logits[: len(iou)]
        return (logits * iou).masked_fill(logits == -torch.inf, 0).sum()

    monkeypatch.setattr(module, "training_loss", loss)


def test_a_worse_training_leaves_the_matcher_in_use(trained, refs, contrary):
    before = (trained.directory / "matchers/trained.safetensors").read_bytes()
    in_use = trained.matcher
    fit = trained.train(refs, options=replace(LEARN, epochs=2))
    assert not fit.installed and "the matcher in use" in {c.name for c in fit.comparisons}
    assert fit.comparisons[0].gain.value < 0
    assert (trained.directory / "matchers/trained.safetensors").read_bytes() == before
    assert trained.matcher is in_use


def test_a_loss_that_is_not_a_number_ends_the_training(index, refs, monkeypatch):
    import retrieval_grounding.matching.trainer as module

    monkeypatch.setattr(module, "training_loss", lambda logits, *_: logits[:, 0].sum() * torch.nan)
    fit = index.train(refs, options=TrainingOptions(epochs=3, progress=False))
    assert (fit.history.diverged, fit.history.epochs, fit.history.best) == (1, [], None)
    assert not fit.installed
    assert fit.reason.endswith("training diverged in epoch 1; use a lower --lr than 0.0015")
    assert not (index.directory / "matcher.training").exists()


def outcome(images, iou, rank=None) -> Outcome:
    ranks = np.full(len(images), np.nan) if rank is None else np.asarray(rank, float)
    return Outcome(images, np.asarray(iou, np.float32), ranks)


def test_a_gain_within_chance_on_few_images_is_none():
    images = np.repeat(np.arange(4), 3)
    gains = np.float32([0.3, 0.3, 0.3, -0.2, -0.2, -0.2, 0.1, 0.1, 0.1, -0.15, -0.15, -0.15])
    half = outcome(images, np.full(12, 0.5))
    noisy = compare("cosine", outcome(images, 0.5 + gains), half)
    assert noisy.problem.startswith("it is not clearly better than cosine on 12 held-out expr")
    same = compare("cosine", outcome(images, 0.5 + gains), outcome(images, 0.5 + gains))
    assert "not clearly better" in same.problem
    better = compare("cosine", outcome(images, np.full(12, 0.7)), half)
    assert better.problem == ""


def test_on_many_images_a_loss_counts_unless_it_is_small_and_may_be_chance():
    images = np.repeat(np.arange(40), 3)
    half = outcome(images, np.full(120, 0.5), np.ones(120))
    assert compare("cosine", half, half).problem == ""  # nothing is lost
    assert "gains nothing" in compare("bundled", half, half, in_use=True).problem
    random = np.random.default_rng(0)
    small = random.normal(0, 0.02, 120)
    small -= small.mean() + 0.001
    assert compare("cosine", outcome(images, 0.5 + small, np.ones(120)), half).problem == ""
    large = random.normal(0, 0.2, 120)
    large -= large.mean() + 0.001  # as much, but it may be far more
    loss = compare("cosine", outcome(images, 0.5 + large, np.ones(120)), half)
    assert loss.problem.startswith("it is worse than cosine on 120 held-out expressions")
    sure = compare("cosine", outcome(images, np.full(120, 0.49), np.ones(120)), half)
    assert "it is worse than cosine" in sure.problem


def test_a_matcher_that_loses_the_order_of_images_is_not_used():
    images = np.repeat(np.arange(40), 3)
    theirs = outcome(images, np.full(120, 0.5), np.ones(120))
    ours = outcome(images, np.full(120, 0.7), np.full(120, 2))
    found = compare("cosine+label", ours, theirs)
    assert found.problem.startswith("it ranks images worse than cosine+label on 120")
    assert (found.image_recall, found.other_image_recall) == (0, 1)
    assert found.rank_gain.value == pytest.approx(-0.5)


def test_no_matcher_returns_a_score_that_is_not_a_number():
    matcher = untrained()
    with torch.no_grad():
        for parameter in matcher.model.parameters():
            parameter.fill_(torch.inf)
    phrases = left_and_right(TABLE).phrases
    with pytest.raises(rg.ModelError, match="not a finite number"):
        score(matcher, phrases, TABLE)
    with pytest.raises(rg.ModelError, match="not a finite number"):
        score_pairs(matcher, phrases, TABLE, np.zeros(40, np.int64))


class NotANumber(CosineMatcher):
    name = "mine"

    def score(self, phrases, regions):
        return np.full((len(phrases), len(regions)), np.nan, np.float32)

    def score_pairs(self, phrases, regions, phrase_index):
        return np.full(len(regions), np.nan, np.float32)


class TooFew(NotANumber):
    def score(self, phrases, regions):
        return np.zeros((len(phrases), 1), np.float32)

    def score_pairs(self, phrases, regions, phrase_index):
        return np.zeros(1, np.float32)


@pytest.mark.parametrize(
    ("matcher", "problem"), [(NotANumber(), "not a finite number"), (TooFew(), "shape")]
)
def test_a_matcher_of_your_own_is_blamed_by_name(index, refs, matcher, problem):
    with pytest.raises(rg.ModelError, match=f"the matcher 'mine' .*{problem}"):
        index.query("red", matcher=matcher)
    with pytest.raises(rg.ModelError, match=f"the matcher 'mine' .*{problem}"):
        index.evaluate(refs, matchers={"mine": matcher})


@pytest.fixture
def command(index, monkeypatch) -> Callable[..., object]:
    monkeypatch.setattr(
        rg.Index, "open",
        lambda directory, **_: rg.Index(directory, encoder=ColorEncoder(), device="cpu"),
    )  # fmt: skip

    def run(*arguments: str):
        return CliRunner().invoke(app, ["train", str(index.directory), *arguments])

    return run


def test_the_command_exits_with_1_and_shows_the_figures(command, colors, contrary):
    arguments = ["--refs", str(colors), "--epochs", "2", "--lr", "0.1", "--batch", "2"]
    done = command(*arguments)
    assert done.exit_code == 1
    assert "held out: 8 expressions about 4 images; new is residual; gains of new" in done.stdout
    rows = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert rows[-4:-1] == ["new", "cosine", "cosine+label"]
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: the trained matcher is not installed: it is ")
    assert "than cosine on 8 held-out expressions about 4 images: mean IoU " in line
    done = command(*arguments, "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["installed"]) == (1, False)
    assert report["reason"] in done.stderr
    assert report["held_out"][0]["name"] == "cosine"


def test_pseudo_queries_are_not_recommended_after_pseudo_queries(tmp_path, photos, models):
    index = rg.build(photos, tmp_path / "few", options=BUILD, **models)
    with pytest.raises(GroundingError) as caught:
        index.train("pseudo")
    assert "--refs pseudo" not in str(caught.value)
    assert "add images" in str(caught.value)


# Corners of training


@pytest.mark.parametrize(
    ("phrase", "mirrored"),
    [
        ("bottomleft cup", "bottomright cup"),
        ("topRight one", "topLeft one"),
        ("lft guy", "rt guy"),
        ("2nd from rt", "2nd from lft"),
        ("man just left of the tree", "man just right of the tree"),
        ("the one on the right in front", "the one on the left in front"),
        ("a bright upright lamp", "a bright upright lamp"),
        ("he has just left", None),
        ("guy right behind her", None),
        ("right next to the car", None),
        ("left over pizza", None),
        ("all right", None),
        ("rght lady", None),
        ("l side", None),
        ("lefty", None),
        ("west door", None),
        ("links im Bild", None),
        ("左边的狗", None),
    ],
)
def test_what_is_not_understood_is_not_mirrored(phrase, mirrored):
    assert mirror_phrase(phrase) == mirrored


def test_an_image_with_a_phrase_that_cannot_be_mirrored_is_never_mirrored(monkeypatch):
    from retrieval_grounding.matching.batch import ImageBatch

    statements = statements_of(TABLE)
    unclear = {key for key in {s.key for s in statements} if key[1] % 2}
    statements = [
        replace(s, phrase=f"{s.phrase} right behind") if s.key in unclear else s for s in statements
    ]
    mirrored = []
    original = ImageBatch.mirrored

    def record(self, chosen):
        mirrored.append(int(chosen.sum()))
        return original(self, chosen)

    monkeypatch.setattr(ImageBatch, "mirrored", record)
    options = TrainingOptions(epochs=3, progress=False)
    fit_matcher(TableStore(TABLE), LabelEncoder(TABLE), statements, options=options)
    clear = len({s.key for s in statements} - unclear)
    assert 0 < max(mirrored) <= clear
    every = [replace(s, phrase=f"{s.phrase} right behind") for s in statements_of(TABLE)]
    mirrored.clear()
    fit_matcher(TableStore(TABLE), LabelEncoder(TABLE), every, options=options)
    assert set(mirrored) == {0}


def test_the_generators_of_the_user_stay_as_they_are(index, refs):
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    index.train(refs, options=TrainingOptions(epochs=1, progress=False))
    rg.Index.open(index.directory, encoder=ColorEncoder()).query("red")
    index.evaluate(refs)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_loading_the_bundled_models_draws_no_numbers_of_the_user(tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 48), "red").save(photo)
    code = f"""if True:
        import torch
        import retrieval_grounding as rg
        torch.manual_seed(3)
        before = torch.get_rng_state()
        rg.ground({str(photo)!r}, "a wall")
        assert torch.equal(torch.get_rng_state(), before)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_cosine_is_calibrated_again_when_the_index_has_doubled(tmp_path, models, monkeypatch):
    from retrieval_grounding.matching.calibration import Calibration

    fitted = []

    def calibrate_cosine(store, encoder, keys):
        fitted.append(len(list(keys)))
        return Calibration(1.0 + len(fitted), 0.0)

    monkeypatch.setattr(calibrate, "calibrate_cosine", calibrate_cosine)
    folder = tmp_path / "growing"
    folder.mkdir()
    for number in range(20):
        draw_squares(folder / f"{number}.png", {"red": (number, 0, number + 9, 9)})
        if number in (3, 4, 7, 8, 19):
            index = rg.build(folder, tmp_path / "index", options=BUILD, **models)
    assert fitted == [4, 8, 20]
    assert index.matcher == CosineMatcher(Calibration(4.0, 0.0))


def test_compacting_tunes_on_phrases(tmp_path, models, caplog):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(30):
        squares = {"red": (number, 0, number + 9, 9), "blue": (30, 30, 50, 31 + number)}
        draw_squares(folder / f"{number:02}.png", squares)
    index = rg.build(folder, tmp_path / "index", options=BUILD, **models)
    index.reindex("ivf", progress=False)
    asked: list[str] = []

    class Recording(ColorEncoder):
        def encode_phrases(self, phrases):
            asked.extend(phrases)
            return super().encode_phrases(phrases)

    index = rg.Index.open(tmp_path / "index", encoder=Recording())
    index.remove([folder / f"{number:02}.png" for number in range(20)])
    asked.clear()
    index.compact(max_unused=0.0)
    assert any(" " in phrase for phrase in asked), asked  # more than a class name
    # Without the encoder, the class names have to do, and this is said.
    index.remove([folder / f"{number:02}.png" for number in range(20, 28)])
    with caplog.at_level(logging.WARNING, "retrieval_grounding"):
        rg.Index.open(tmp_path / "index").compact(max_unused=0.0)
    assert "tuned on class names, not on phrases" in caplog.text


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "flat", "auto"])
def test_an_empty_index_can_be_reindexed(tmp_path, photos, models, kind):
    index = rg.build(photos, tmp_path / "index", options=BUILD, **models)
    index.remove(photos)
    index.compact(max_unused=0.0)
    assert index.reindex(kind, progress=False)["wanted"] == kind
    assert rg.Index.open(tmp_path / "index", encoder=ColorEncoder()).query("red") == []
    more = tmp_path / "more"
    more.mkdir()
    draw_squares(more / "new.png", {"red": (0, 0, 9, 9)})
    rg.build(more, tmp_path / "index", options=BUILD, **models)
    assert rg.Index.open(tmp_path / "index", encoder=ColorEncoder()).query("red", top=1)


def test_arguments_in_the_wrong_order_are_named(index, refs, tmp_path):
    image = tmp_path / "photo.png"
    Image.new("RGB", (9, 9)).save(image)
    folder = str(index.directory)
    for arguments, named in (
        (["query", "a dog", folder], "the index comes first: 'a dog' is not"),
        (["query", "x" * 5000, folder], "the index comes first"),
        (["ground", "a dog", str(image)], "the image comes first: 'a dog' is not"),
        (["train", str(refs), "--refs", folder], "the index comes first"),
        (["evaluate", str(refs), "--refs", folder], "the index comes first"),
        (["remove", str(image), folder], "the index comes first"),
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 2, arguments
        shown = " ".join(done.output.replace("│", " ").split())
        assert named in shown, shown


# Sources, weights and names


def test_several_files_are_mixed_by_weight_and_only_people_decide(index, refs, colors):
    fit = index.train({refs: 1.0, colors: 0.25, "pseudo": 0.1}, name="mixed", options=LEARN)
    assert fit.name == "mixed"
    trained_on = fit.matcher.trained_on
    assert trained_on.count("; ") == 2 and "(weight 0.25)" in trained_on
    assert "pseudo-queries of 20 images (weight 0.1)" in trained_on
    [cosine] = [c for c in fit.comparisons if c.name == "cosine"]
    assert cosine.expressions == 4 * 4  # two files with two expressions about each held-out image
    with pytest.raises(GroundingError, match=r"has a matcher 'MIXED'; choose a different --name"):
        index.train(refs, name="MIXED", options=QUIET)
    with pytest.raises(GroundingError, match="is the name of a matcher that exists"):
        index.train(refs, name="cosine", options=QUIET)
    with pytest.raises(GroundingError, match="a weight is above 0"):
        index.train({refs: 0.0}, options=QUIET)


def test_an_epoch_meets_examples_as_often_as_their_weights_say():
    examples = left_and_right(TABLE)
    weight = np.where(np.arange(len(examples)) % 2, 0.25, 2.0).astype(np.float32)
    weighted = replace(examples, weight=weight)
    random = np.random.default_rng(0)
    counts = np.zeros(len(examples.phrases), int)
    epochs = 200
    for _ in range(epochs):
        drawn = weighted.drawn(random)
        counts += np.bincount(drawn.phrase, minlength=len(counts))
    expected = np.bincount(examples.phrase, weight * epochs, minlength=len(counts))
    np.testing.assert_allclose(counts, expected, rtol=0.1)
    assert examples.drawn(random) is examples


def test_a_matcher_with_a_name_is_kept_even_if_it_is_not_used(index, colors, contrary):
    fit = index.train(colors, kind="concat", name="mlp", options=replace(LEARN, epochs=1))
    assert not fit.installed and fit.reason.startswith("the trained matcher is kept as mlp, but")
    assert isinstance(index.matcher, CosineMatcher)
    entry = index.matchers()[0]
    assert (entry.name, entry.kind, entry.in_use) == ("mlp", "concat", False)
    rows = list(index.evaluate(colors).figures)
    assert "mlp" in rows and "cosine+label" in rows


def test_training_starts_from_the_matcher_in_use_unless_it_must_not(trained, refs):
    before = trained.matcher.model.state_dict()
    # The early exit is no part of what is learned: it follows the network.
    before = {name: value for name, value in before.items() if not name.startswith("early.")}
    same = trained.train(refs, options=QUIET).matcher.model.state_dict()
    assert all(torch.equal(same[name], value) for name, value in before.items())
    new = trained.train(refs, from_scratch=True, options=QUIET).matcher
    assert any(not torch.equal(new.model.state_dict()[name], v) for name, v in before.items())
