"""Fine-tuning a CLIP model: what is trained and kept, and what a kill costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_models import TOWERS, draw_scenes, write_clip
from fakes import SquareDetector

import retrieval_grounding as rg
from retrieval_grounding.finetuning.clip import region_cache, run, trainer
from retrieval_grounding.finetuning.clip.batches import RegionSampler
from retrieval_grounding.finetuning.clip.captions import read_captions
from retrieval_grounding.finetuning.clip.examples import DescribedImage, split_images
from retrieval_grounding.finetuning.clip.layers import Trained
from retrieval_grounding.finetuning.clip.losses import phrase_losses
from retrieval_grounding.finetuning.clip.meaning import Shown, may_fit
from retrieval_grounding.finetuning.clip.measure import GIVEN_BOX
from retrieval_grounding.finetuning.clip.options import ClipTuningOptions
from retrieval_grounding.finetuning.clip.report import ClipTuning
from retrieval_grounding.finetuning.clip.run import finetune_clip
from retrieval_grounding.finetuning.clip.shares import interpolate
from retrieval_grounding.finetuning.clip.towers import ClipTowers
from retrieval_grounding.finetuning.guard import choose
from retrieval_grounding.finetuning.run_folder import open_run
from retrieval_grounding.models.clip_weights import load_open_clip

QUIET = rg.BuildOptions(progress=False, workers=1)
SHORT = ClipTuningOptions(steps=30, batch_images=8, max_regions=6, lr=3e-3, progress=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clip")
    return {kind: write_clip(folder / kind, kind) for kind in TOWERS}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, models) -> tuple[Path, Path]:
    """An index of drawn scenes, and phrases about them."""
    folder = tmp_path_factory.mktemp("scenes")
    refs = draw_scenes(folder / "scenes", 40)
    index = rg.build(
        folder / "scenes", folder / "index", detector=SquareDetector(), clip=str(models["vit"]),
        options=QUIET,
    )  # fmt: skip
    return index.directory, refs


def load(folder: Path, layers: int | None = None) -> ClipTowers:
    return ClipTowers(*load_open_clip(str(folder)), layers, "cpu")


@pytest.mark.parametrize("kind", TOWERS)
def test_the_upper_layers_alone_give_what_the_whole_tower_gives(models, kind):
    towers = load(models[kind])
    pixels = np.random.default_rng(0).integers(0, 256, (3, towers.size, towers.size, 3), np.uint8)
    inputs, whole = towers.run_whole(pixels)
    assert inputs.dtype == np.float16
    towers.upper.cut_off()
    again = towers.embed_inputs(inputs)
    np.testing.assert_allclose(again, whole.astype(np.float32), atol=4e-3)


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("full", [False, True])
def test_only_the_chosen_layers_learn_and_adapters_are_merged(models, kind, full):
    towers = load(models[kind], layers=1)
    before = towers.state()
    trained = Trained(towers, ClipTuningOptions(full=full, rank=2, lr=1e-2))
    pixels = np.random.default_rng(0).integers(0, 256, (4, towers.size, towers.size, 3), np.uint8)
    inputs, _ = towers.run_whole(pixels)
    towers.upper.cut_off()
    for _ in range(2):  # adapters begin with zeros, so their first half learns from the second step
        loss = (towers.show(inputs) @ towers.say(["a", "b c"]).T).square().sum()
        trained.optimizer.zero_grad()
        loss.backward()
        trained.optimizer.step()
    learned = towers.embed_inputs(inputs), towers.embed_phrases(["a red bus"])
    trained.merge()
    np.testing.assert_allclose(towers.embed_inputs(inputs), learned[0], atol=1e-4)
    np.testing.assert_allclose(towers.embed_phrases(["a red bus"]), learned[1], atol=1e-4)
    after = towers.state()
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    first = {
        "vit": "visual.transformer.resblocks.0.", "resnet": "visual.layer1.",
        "timm": "visual.trunk.stages.0.",
    }[kind]  # fmt: skip
    assert not any(name.startswith((first, "token_embedding")) for name in changed)
    assert any(name.startswith("visual.") for name in changed)
    assert any(name.startswith("transformer.resblocks.") for name in changed)
    assert not any("running" in name for name in changed)


@pytest.fixture(scope="module")
def tuned(scenes, tmp_path_factory) -> tuple[Path, ClipTuning]:
    """A model that was fine-tuned on the scenes, and what was reported."""
    folder = tmp_path_factory.mktemp("tuned") / "new"
    return folder, finetune_clip(*scenes, folder, options=SHORT)


def test_fine_tuning_finds_more_and_writes_a_model_that_everybody_loads(scenes, models, tuned):
    import open_clip

    folder, report = tuned
    before = rg.load_encoder(str(models["vit"])).fingerprint
    assert not report.kept_original, report.reason
    gain = report.gains[GIVEN_BOX]
    assert gain.after.value > gain.before.value + 0.1
    encoder = rg.load_encoder(str(folder))
    assert encoder.fingerprint.weights == report.weights != before.weights
    assert encoder.fingerprint.preprocessing == before.preprocessing
    model = open_clip.create_model(f"local-dir:{folder}")
    assert model.visual.image_size in (32, (32, 32))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "given-box accuracy" in card
    assert report.weights in card
    assert not list(folder.parent.glob("*.unfinished"))
    with pytest.raises(rg.StoreError, match="exists"):
        finetune_clip(*scenes, folder, options=SHORT)


def test_an_index_is_renewed_with_the_fine_tuned_model(scenes, models, tuned, tmp_path):
    index = shutil.copytree(scenes[0], tmp_path / "index")
    opened = rg.Index.open(index, encoder=str(models["vit"]))
    assert opened.reembed(str(tuned[0]), options=QUIET).images == 40
    hits = opened.query("the red square", top=5, matcher="cosine")
    assert sum(hit.label == "red" for hit in hits) >= 4


def test_a_destructive_rate_is_refused(scenes, tuned, tmp_path):
    options = ClipTuningOptions(
        steps=6, batch_images=8, max_regions=6, full=True, layers=4, lr=50.0, progress=False
    )
    report = finetune_clip(*scenes, tmp_path / "new", clip=str(tuned[0]), options=options)
    assert report.kept_original
    assert report.reason
    assert not (tmp_path / "new").exists()


class KilledError(Exception):
    """Stands for a kill."""


TWO_BATCHES = ClipTuningOptions(
    steps=4, batch_images=4, accumulate=2, max_regions=6, lr=3e-3, progress=False
)


@pytest.fixture(scope="module")
def undisturbed(scenes, tmp_path_factory) -> ClipTuning:
    return finetune_clip(*scenes, tmp_path_factory.mktemp("one") / "new", options=TWO_BATCHES)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [(region_cache, "_cut", 35), (trainer, "_loss", 6), (run, "choose_share", 1),
     (run, "check_folder", 1)],
)  # fmt: skip
def test_a_killed_run_resumes_to_the_same_weights(
    scenes, undisturbed, tmp_path, monkeypatch, owner, name, call
):
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
    usual, calls = getattr(owner, name), []

    def stopping(*args, **rest):
        calls.append(name)
        if len(calls) == call:
            raise KilledError
        return usual(*args, **rest)

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(owner, name, stopping)
        finetune_clip(*scenes, tmp_path / "new", options=TWO_BATCHES)
    resumed = finetune_clip(*scenes, tmp_path / "new", options=TWO_BATCHES)
    assert resumed.losses == undisturbed.losses
    assert resumed.weights == undisturbed.weights
    assert json.dumps(resumed.shares) == json.dumps(undisturbed.shares)  # NaN equals NaN there
    assert json.dumps(resumed.as_dict(), allow_nan=False)  # what was not measured is None


def test_an_unfinished_run_with_other_data_is_named(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "cache_regions", lambda *_: (_ for _ in ()).throw(KilledError))
    with pytest.raises(KilledError):
        finetune_clip(*scenes, tmp_path / "new", options=SHORT)
    monkeypatch.undo()
    with pytest.raises(rg.GroundingError, match=r"another limit \(None, now 10\)"):
        finetune_clip(*scenes, tmp_path / "new", limit=10, options=SHORT)


def test_a_damaged_checkpoint_says_what_to_delete(tmp_path):
    with open_run(tmp_path / "run", {"a": 1}) as folder:
        folder.save_state("state", {"step": 1})
        assert folder.load_state("state") == {"step": 1}
        (tmp_path / "run" / "state.pt").write_bytes(b"nothing")
        with pytest.raises(rg.GroundingError, match=r"is damaged .*; delete .* to start over"):
            folder.load_state("state")
        with pytest.raises(rg.StoreLockedError), open_run(tmp_path / "run", {"a": 1}):
            pass


def test_images_that_changed_are_left_out(models, tmp_path):
    refs = draw_scenes(tmp_path / "photos", 40)
    index = rg.build(
        tmp_path / "photos", tmp_path / "index", detector=SquareDetector(),
        clip=str(models["vit"]), options=QUIET,
    )  # fmt: skip
    (tmp_path / "photos" / "3.png").unlink()
    shutil.copy(tmp_path / "photos" / "5.png", tmp_path / "photos" / "4.png")
    options = ClipTuningOptions(steps=1, batch_images=4, max_regions=6, progress=False)
    report = finetune_clip(index.directory, refs, tmp_path / "new", options=options)
    reasons = {Path(path).name: reason for path, reason in report.unusable.items()}
    assert reasons == {"3.png": "missing", "4.png": "changed"}


def described(phrases, targets, boxes, labels, captions=()) -> DescribedImage:
    given = sum(not label for label in labels[1:])
    return DescribedImage(
        "a.png", "hash", np.array(boxes, np.float32), tuple(labels),
        np.where(np.array([bool(label) for label in labels]), 0.9, 0).astype(np.float32),
        given, tuple(phrases), np.array(targets, np.float32), tuple(captions),
    )  # fmt: skip


def test_a_batch_knows_parts_near_duplicates_and_what_may_fit_elsewhere():
    boxes = [(0, 0, 100, 100), (10, 10, 50, 90), (12, 10, 50, 90), (10, 10, 50, 30), (8, 8, 90, 92)]
    man = described(["the man"], [boxes[1]], boxes, ["whole image", "", "person", "hat", "bus"])
    other = described(
        ["a dog"], [(0, 0, 30, 30)], [(0, 0, 100, 100), (0, 0, 30, 30), (50, 0, 90, 90)],
        ["whole image", "", "person"],
    )  # fmt: skip
    sampler = RegionSampler([man, other], [0, 1], np.array([0, 5, 8]), 2, 0)
    batch = sampler.draw(0)
    assert [*batch.rows] != [*sampler.draw(2).rows] or batch.phrases == sampler.draw(0).phrases
    row = batch.phrases.index("the man")
    place = {int(cached): at for at, cached in enumerate(batch.rows)}
    targets = [batch.targets[row, place[n]] for n in range(8)]
    assert targets[1] > targets[2] > 0  # the box itself, and a detection that is nearly the same
    assert [*np.flatnonzero(targets)] == [1, 2]
    unclear = [bool(batch.unclear[row, place[n]]) for n in range(8)]
    assert unclear[4]  # overlaps the target, but not by half
    assert not unclear[3]  # a part of the target is a wrong answer
    assert unclear[7]  # another image's person may be a man
    assert not unclear[6]
    own = batch.own[:, None] == batch.images[None]
    logits = torch.zeros(own.shape)
    losses = phrase_losses(logits, *map(torch.from_numpy, (batch.targets, own, batch.unclear)))
    assert losses["within"] < losses["across"]
    assert all(bool(loss.isfinite()) for loss in losses.values())


def test_batches_of_one_pass_have_all_images():
    one = described(["x"], [(0, 0, 9, 9)], [(0, 0, 9, 9), (0, 0, 9, 9)], ["whole image", ""])
    sampler = RegionSampler([one] * 7, range(7), np.arange(8) * 2, 2, 0)
    seen = [row for number in range(3) for row in sampler.draw(number).rows[::2] // 2]
    assert len(set(seen)) == 6


@pytest.mark.parametrize(
    ("phrase", "label", "said", "of_image", "fits"),
    [
        ("a small dog", "dog", "", "", True),
        ("a small dog", "", "two dogs", "", True),
        ("a small dog", "", "", "dog grass", True),
        ("a small dog", "person", "", "dog grass", False),
        ("a small dog", "", "a bench", "dog grass", False),
        ("a small dog", "", "", "", False),
        ("a red shirt", "", "a blue shirt", "", False),
        ("the old teacher", "person", "", "", True),
    ],
)
def test_a_region_that_may_show_what_a_phrase_means_is_no_negative(
    phrase, label, said, of_image, fits
):
    shown = Shown(
        images=np.array([0, 1]),
        labels=["", label],
        phrases=[[phrase], [said] if said else []],
        said=[frozenset(), frozenset(of_image.split())],
    )
    assert may_fit([phrase], np.array([0]), shown)[0].tolist() == [False, fits]


def test_sets_share_no_image_and_splits_of_the_file_are_kept():
    images = [
        DescribedImage(
            f"{n}.png", f"hash{n}", np.zeros((1, 4), np.float32), ("whole image",),
            np.ones(1, np.float32), 0, (), np.zeros((0, 4), np.float32),
            split="val" if n < 10 else "train",
        )
        for n in range(40)
    ]  # fmt: skip
    sets = split_images(images, 0)
    assert [len(part) for part in (sets.training, sets.validation, sets.test)] == [32, 4, 4]
    assert len({image.content_hash for image in sets.all}) == 40
    held = split_images(images, 0, ["val"])
    assert {image.split for image in (*held.validation, *held.test)} == {"val"}
    assert len(held.training) == 30
    with pytest.raises(rg.ExpressionError, match="too few"):
        split_images(images[:4], 0)


def test_half_of_the_new_weights_is_half_way_and_as_precise_as_the_original():
    old = {"a": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
    new = {"a": torch.tensor([2.0, 2.0]) + 1e-5, "n": torch.tensor(3)}
    mixed = interpolate(old, new, 0.5)
    assert mixed["a"].tolist() == [1.5, 2.0]  # rounded to half precision, as the original is
    old["a"] += 1e-6
    assert interpolate(old, new, 0.5)["a"].tolist() != [1.5, 2.0]


def test_a_figure_that_is_lost_counts_as_fallen():
    before = {"goal": 0.5, "names": 0.7, "captions": float("nan")}
    better = {"goal": 0.6, "names": float("nan"), "captions": float("nan")}
    verdict = choose(before, {1.0: better}, "goal", ["names", "captions"])
    assert verdict.chosen == 0.0
    assert verdict.fallen == {1.0: ["names"]}
    assert choose(before, {1.0: better | {"names": 0.695}}, "goal", ["names"]).chosen == 1.0


@pytest.mark.parametrize("name", ["captions.tsv", "captions.jsonl"])
def test_captions_are_read_by_the_name_of_the_image(tmp_path, name):
    path = tmp_path / name
    lines = [["x/a.png", "A dog."], ["a.png", "A cat."], ["b.png", "Nobody."]]
    if name.endswith("jsonl"):
        text = "".join(json.dumps({"image": i, "caption": c}) + "\n" for i, c in lines)
    else:
        text = "".join(f"{i}\t{c}\n" for i, c in lines)
    path.write_text(text, encoding="utf-8")
    assert read_captions(path) == {"a.png": ["A dog.", "A cat."], "b.png": ["Nobody."]}
    path.write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(rg.ExpressionError, match="line 1, is no caption"):
        read_captions(path)
