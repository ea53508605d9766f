"""A benchmark with one command: what must be there, resuming after kills, and the report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drawn_models import DrawnDetector, DrawnEncoder, draw_refer
from fakes import draw_squares
from test_entities import ANNOTATION, box, write_entities
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.core.errors import GroundingError, SourceError
from retrieval_grounding.reproduction.datasets import DATASETS, get_dataset
from retrieval_grounding.reproduction.ladder import Step, measure_steps
from retrieval_grounding.reproduction.locate import locate, locate_files
from retrieval_grounding.reproduction.reproduce import ReproductionOptions, reproduce
from retrieval_grounding.reproduction.variants import Models

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    draw_refer(folder, 24, per_image=4)
    return folder


def options(folder: Path, **others) -> ReproductionOptions:
    models = Models("nano", DrawnDetector(folder), DrawnEncoder(), "cpu")
    return ReproductionOptions(models, **others)


@pytest.mark.long
def test_the_trained_matcher_improves_on_cosine_beyond_doubt(tmp_path):
    draw_refer(tmp_path, 120, per_image=10, seed=1)
    (tmp_path / "refcocog" / "refs(google).p").unlink()
    located = locate(get_dataset("refcocog"), tmp_path)
    report = reproduce(located, tmp_path / "run", options(tmp_path, epochs=20))
    _, trained = report["steps"]
    assert trained["matcher"] == "residual-umd"
    assert trained["gain"]["low"] > 0
    assert trained["oracle_iou"]["value"] > trained["mean_iou"]["value"]


def test_the_report_has_every_row_and_every_split(small, tmp_path):
    lines: list[str] = []
    located = locate(get_dataset("refcocog"), small)
    report = reproduce(located, tmp_path / "run", options(small, epochs=1), lines.append)
    found = report["evaluations"]["published"]
    assert list(found) == ["umd-val", "umd-test", "umd-test-course", "google-val"]
    rows = found["umd-test"]["figures"]
    assert list(rows) == [
        "largest box", "cosine", "cosine+label", "bundled", "concat-umd", "residual-umd", "oracle"
    ]  # fmt: skip
    assert rows["oracle"]["mean_iou"]["value"] > rows["residual-umd"]["mean_iou"]["value"]
    assert rows["residual-umd"]["image_recall"]["10"]["low"] is not None
    # The course project's constraints: one sentence about one object of each image.
    course = report["training"]["train-concat-umd"]
    assert course["expressions"] == course["images"] == 19
    assert found["umd-test-course"]["expressions"] == found["umd-test-course"]["images"] == 2
    # Google's splits share images, so its matchers must not be those that umd's images trained.
    assert "residual-umd" not in found["google-val"]["figures"]
    with rg.Index.open(tmp_path / "run" / "index-published", encoder=DrawnEncoder()) as index:
        names = {entry.name for entry in index.matchers()}
        assert names >= {f"{kind}-{s}" for kind in ("concat", "residual") for s in located.sources}

    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for text in ("course project, as published", "Worst cases", "BoxRecall@10", "Machine", "<svg"):
        assert text in page
    assert page.count('src="data:image/') >= 8
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "| course project, as published | 0.52 |" in text
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report

    before = lines[:]
    lines.clear()
    again = reproduce(located, tmp_path / "run", options(small, epochs=1), lines.append)
    assert all(line.endswith("done before") for line in lines)
    assert len(lines) * 2 == len(before)
    assert again == report


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from drawn_models import DrawnDetector, DrawnEncoder
from retrieval_grounding.reproduction import reproduce as module
from retrieval_grounding.reproduction.datasets import get_dataset
from retrieval_grounding.reproduction.ladder import Step, measure_steps
from retrieval_grounding.reproduction.locate import locate
from retrieval_grounding.reproduction.variants import Models

data, whole, cut = map(Path, sys.argv[2:])
renames = Path.replace

def run(out, allowed):
    left = [allowed]
    def rename(self, target):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return renames(self, target)
    Path.replace = rename
    models = Models("nano", DrawnDetector(data), DrawnEncoder(), "cpu")
    options = module.ReproductionOptions(models, epochs=2)
    module.reproduce(locate(get_dataset("refcocog"), data), out, options)

def end_of(out, allowed):
    child = os.fork()
    if not child:
        run(out, allowed)
        os._exit(0)
    return os.waitpid(child, 0)[1]

assert end_of(whole, -1) == 0
kills = 0
for attempt in range(200):
    status = end_of(cut, 2 + 6 * attempt)
    if status == 0:
        print(kills)
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    kills += 1
"""


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process that it has forked")
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_figures(small, tmp_path):
    """Each attempt is killed before it renames six files more than the attempt before."""
    # Both in children of one process, which have the same threads and nothing of other tests.
    runs = [str(tmp_path / "whole"), str(tmp_path / "cut")]
    command = [sys.executable, "-c", KILLED, str(ROOT / "tests"), str(small), *runs]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3
    parts = []
    for name in ("whole", "cut"):
        text = (tmp_path / name / "report.json").read_text()
        report = json.loads(text.replace(str(tmp_path / name), "RUN"))
        report["stages"] = [stage["name"] for stage in report["stages"]]
        report["indexes"]["published"].pop("embedded")  # in the last attempt
        parts.append(report)
    assert parts[0] == parts[1]
    assert len(parts[0]["steps"]) > 1


def test_what_a_stage_was_made_from_decides_whether_it_is_done_again(small, tmp_path):
    lines: list[str] = []
    located = locate(get_dataset("refcocog"), small)
    run = tmp_path / "run"
    reproduce(located, run, options(small, epochs=1), lines.append)
    lines.clear()
    reproduce(located, run, options(small, epochs=2), lines.append)
    assert "build-published: done before" in lines
    assert "train-residual-umd: begins" in lines
    shutil.rmtree(run / "index-published")
    lines.clear()
    reproduce(located, run, options(small, epochs=2), lines.append)
    assert "build-published: continues" in lines


def test_weights_that_are_not_better_are_not_taken_over(small, tmp_path, monkeypatch):
    def finetune(*given, **options):
        gain = {"before": {"value": 0.5}, "after": {"value": 0.4}}
        gain["gain"] = {"value": -0.1, "low": -0.2, "high": 0.0}
        return {"weights": None, "report": {"gains": {"given box": gain}, "reason": "it is worse"}}

    monkeypatch.setattr("retrieval_grounding.reproduction.reproduce.finetune", finetune)
    located = locate(get_dataset("refcocog"), small)
    report = reproduce(located, tmp_path / "run", options(small, epochs=1, finetune=["clip"]))
    assert list(report["evaluations"]) == ["published"]
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "| given box | 0.500 | 0.400 | -0.100 [-0.200, +0.000] | it is worse |" in text


def test_images_that_tuned_the_encoder_do_not_choose_the_matcher(small, tmp_path, monkeypatch):
    def finetune(*given, **options):
        return {"weights": "nano", "report": {"gains": {}, "reason": ""}}

    monkeypatch.setattr("retrieval_grounding.reproduction.reproduce.finetune", finetune)
    located = locate(get_dataset("refcocog"), small)
    models = Models("nano", DrawnDetector(small), None, "cpu")
    chosen = ReproductionOptions(models, epochs=1, finetune=["clip"])
    train, blind = rg.Index.train, {}

    def spy(self, *given, **options):
        blind[options["name"]] = options["any_encoder"]
        return train(self, *given, **options)

    monkeypatch.setattr(rg.Index, "train", spy)
    report = reproduce(located, tmp_path / "run", chosen)
    val = report["data"]["sets"]["umd"]["splits"]["val"]
    fit = report["training"]["train-residual-umd"]
    assert {row["images"] for row in fit["held_out"]} == {val["images"]}
    assert {row["expressions"] for row in fit["held_out"]} == {val["expressions"]}
    # Nor are the embeddings of these images shown to it.
    assert (blind["concat-umd"], blind["residual-umd"]) == (False, True)


def test_only_models_with_a_name_can_be_fine_tuned(small, tmp_path):
    located = locate(get_dataset("refcocog"), small)
    chosen = options(small, finetune=["yolo"])
    with pytest.raises(GroundingError, match="with a name"):
        reproduce(located, tmp_path / "run", chosen)
    with pytest.raises(GroundingError, match="choose of yolo, clip"):
        options(small, finetune=["resnet"])


def test_a_limit_takes_its_share_of_every_split(small, tmp_path):
    located = locate(get_dataset("refcocog"), small)
    report = reproduce(located, tmp_path / "run", options(small, limit=12, epochs=1))
    assert report["data"]["described"] == 24
    assert report["data"]["images"] < 24
    splits = report["data"]["sets"]["umd"]["splits"]
    assert splits["train"]["images"] >= 10
    assert splits["test"]["images"] == 2
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "of 24 images" in text


def test_steps_are_paired_expression_by_expression(tmp_path):
    for name, overlaps in (("a", (0.2, 0.4, 0.6)), ("b", (0.3, 0.5, 0.7))):
        lines = [
            {
                "image": "x.jpg" if number < 2 else "y.jpg",
                "expression": "a man",  # two captions of one image say the same
                "truth": [1, 2, 3, 4],
                "oracle": 0.9,
                "matchers": {"cosine": {"iou": iou}},
            }
            for number, iou in enumerate(overlaps)
        ]
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    steps = measure_steps([Step(name, tmp_path / name, "cosine") for name in "ab"])
    assert [step["expressions"] for step in steps] == [3, 3]
    assert steps[0]["gain"] is None
    gain = steps[1]["gain"]
    assert [gain["value"], gain["low"], gain["high"]] == pytest.approx([0.1, 0.1, 0.1])


def test_files_of_ones_own_without_a_training_split_are_only_evaluated(small, tmp_path):
    expressions = rg.read_expressions(small / "refcocog" / "refs(umd).p", splits=["val"])
    lines = [
        json.dumps({"image": e.image, "expression": e.phrase, "bbox_xyxy": e.box, "split": e.split})
        for e in expressions
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(lines))
    located = locate_files([file], small / "train2014")
    report = reproduce(located, tmp_path / "run", options(small))
    assert report["training"] == {}
    assert list(report["evaluations"]["published"]) == ["own-val"]
    assert report["data"]["images"] == 3


def test_entities_are_found_in_their_own_layout(tmp_path, models):
    images = tmp_path / "flickr30k-images"
    images.mkdir()
    xml = ANNOTATION.format(objects=box(6, 6, 25, 25, "1"))
    caption = "[/EN#1/other a red square] is here"
    entries = {}
    for number in range(12):
        draw_squares(images / f"{number}.jpg", {"red": (5, 5, 25, 25)}, (80, 60 + number))
        sized = xml.replace("<width>333", "<width>80").replace(
            "<height>500", f"<height>{60 + number}"
        )
        entries[str(number)] = (sized, caption)
    names = [str(number) for number in range(12)]
    write_entities(
        tmp_path / "flickr30k_entities",
        entries,
        val="\n".join(names[:6]),
        test="\n".join(names[6:]),
    )
    located = locate(get_dataset("flickr30k-entities"), tmp_path)
    chosen = ReproductionOptions(Models("nano", models["detector"], models["clip"], "cpu"))
    report = reproduce(located, tmp_path / "run", chosen)
    assert list(report["evaluations"]["published"]) == ["entities-val", "entities-test"]
    figures = report["evaluations"]["published"]["entities-test"]["figures"]
    assert figures["oracle"]["mean_iou"]["value"] > 0.75  # JPEG blurs the edges


def test_what_is_missing_is_named_with_its_publisher(tmp_path):
    with pytest.raises(SourceError, match=r"expressions .*photographs .*web\.archive\.org"):
        locate(get_dataset("refcocog"), tmp_path)
    draw_refer(tmp_path, 2)
    shutil.rmtree(tmp_path / "train2014")
    with pytest.raises(SourceError, match=r"photographs are not in .*images\.cocodataset\.org"):
        locate(get_dataset("refcocog"), tmp_path)
    with pytest.raises(GroundingError, match="choose one of refcocog"):
        get_dataset("refcoco3")


def test_a_folder_with_other_files_is_refused(small, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    located = locate(get_dataset("refcocog"), small)
    with pytest.raises(GroundingError, match="has other files"):
        reproduce(located, tmp_path, options(small))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", DATASETS)
def test_the_command_says_what_a_data_set_needs(name, tmp_path):
    result = CliRunner().invoke(app, ["reproduce", name, "--check"])
    assert result.exit_code == 0
    for part in get_dataset(name).parts:
        assert part.address in result.output
        assert part.terms in result.output
    result = CliRunner().invoke(
        app, ["reproduce", name, "--check", "--data", str(tmp_path), "--json"]
    )
    assert result.exit_code == 1
    assert json.loads(result.stdout)["found"] is False


def test_only_images_that_expressions_name_are_built(small, tmp_path, photos):
    for path in photos.iterdir():
        shutil.copy(path, small / "train2014" / f"other-{path.name}")
    refs = small / "refcocog" / "refs(umd).p"
    models = {"detector": DrawnDetector(small), "clip": DrawnEncoder()}
    with rg.build(small / "train2014", tmp_path / "index", refs=refs, **models) as index:
        assert len(index) == 24
        assert not any("other-" in image.path for image in index.images())
    for path in photos.iterdir():
        (small / "train2014" / f"other-{path.name}").unlink()
    with pytest.raises(rg.ExpressionError, match="none of the 4 images"):
        rg.build(photos, tmp_path / "none", refs=refs, **models)


@pytest.mark.long
def test_both_models_are_fine_tuned_before_the_matchers_are_trained(tmp_path):
    draw_refer(tmp_path, 20, per_image=4, held_out=0.25)
    (tmp_path / "refcocog" / "refs(google).p").unlink()
    located = locate(get_dataset("refcocog"), tmp_path)
    chosen = ReproductionOptions(
        Models("nano", None, None, "cpu"), finetune=["yolo", "clip"], epochs=1
    )
    report = reproduce(located, tmp_path / "run", chosen)
    yolo, clip = (report["finetuning"][f"finetune-{kind}"] for kind in ("yolo", "clip"))
    assert len(yolo["report"]["losses"]) == 1
    assert len(clip["report"]["losses"]) == 1  # 10 images are less than a batch
    taken = [kind for kind, done in (("yolo", yolo), ("clip", clip)) if done["weights"]]
    assert list(report["evaluations"]) == ["published", *taken]
    assert len(report["steps"]) == 2 + len(taken)
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "best IoU, 10 boxes" in text
    assert "given-box accuracy" in text
