"""Figures against hand-counted cases and scikit-learn, and an evaluation from end to end."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fakes import ColorEncoder, draw_squares
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.core.errors import ExpressionError
from retrieval_grounding.evaluation.html_report import write_report
from retrieval_grounding.evaluation.metrics import (
    auroc,
    bootstrap_means,
    expected_calibration_error,
    reliability_curve,
)
from retrieval_grounding.evaluation.results import write_predictions
from retrieval_grounding.matching.matcher import CosineMatcher


def test_bootstrap_resamples_images_not_expressions():
    random = np.random.default_rng(0)
    images = np.repeat(np.arange(100), 10)
    values = np.repeat(random.normal(size=100), 10)  # all that varies, varies between images
    [by_image] = bootstrap_means(values[:, None], images)
    [by_row] = bootstrap_means(values[:, None], np.arange(1000))
    error = values[::10].std() / 10
    assert by_image.value == pytest.approx(values.mean())
    assert by_image.high - by_image.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert by_row.high - by_row.low < 0.5 * (by_image.high - by_image.low)


def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        values = random.exponential(size=(60, 1))
        [found] = bootstrap_means(values, np.arange(60), samples=300)
        covered += found.low <= 1 <= found.high
    assert 170 <= covered <= 199


def test_bootstrap_of_paired_differences_is_narrow_and_leaves_out_what_is_missing():
    random = np.random.default_rng(2)
    base = random.random(300)
    columns = np.stack([base, base + 0.01, np.full(300, 0.01), np.full(300, np.nan)], axis=1)
    columns[7, 0] = np.nan
    first, second, gain, empty = bootstrap_means(columns, np.arange(300) // 3)
    assert first.value == pytest.approx(np.delete(base, 7).mean())
    assert first.low < second.value < first.high
    assert gain.excludes_zero and gain.low == pytest.approx(0.01)
    assert math.isnan(empty.value) and math.isnan(empty.low)
    assert bootstrap_means(columns, np.arange(300) // 3)[0] == first


def test_bootstrap_of_no_expressions_is_empty():
    assert bootstrap_means(np.zeros((4, 0)), np.arange(4)) == []


probabilities = hnp.arrays(np.float64, st.integers(2, 80), elements=st.floats(0, 1))


@given(probabilities, st.integers(1, 20), st.randoms(use_true_random=False))
def test_reliability_agrees_with_scikit_learn(shown, bins, random):
    right = np.array([random.random() < p for p in shown])
    curve = reliability_curve(shown, right, bins)
    assert sum(part.count for part in curve) == len(shown)
    edges = shown * bins
    if np.abs(edges - edges.round()).min() > 1e-6:  # on an edge, the two differ by intent
        frequency, probability = calibration_curve(right, shown, n_bins=bins)
        assert [part.frequency for part in curve] == pytest.approx(frequency)
        assert [part.probability for part in curve] == pytest.approx(probability)
    by_hand = sum(part.count * abs(part.probability - part.frequency) for part in curve)
    error = expected_calibration_error(shown, right, bins)
    assert error == pytest.approx(by_hand / len(shown))
    assert error >= abs(shown.mean() - right.mean()) - 1e-9


def test_calibration_error_by_hand():
    # Bin 0.1: shown 0.1, right 1 of 2; bin 0.9: shown 0.9, right 1 of 1.
    assert expected_calibration_error([0.1, 0.1, 0.9], [True, False, True]) == pytest.approx(
        (2 * 0.4 + 1 * 0.1) / 3
    )
    assert expected_calibration_error([0.0, 1.0], [False, True]) == 0


def test_auroc_is_scikit_learns():
    random = np.random.default_rng(3)
    present, absent = random.normal(1, 1, 50), random.normal(0, 1, 70)
    expected = roc_auc_score([1] * 50 + [0] * 70, [*present, *absent])
    assert auroc(present, absent) == pytest.approx(expected)


PICTURES = {
    "a.png": {"red": (5, 5, 25, 25), "blue": (40, 20, 70, 50)},
    "b.png": {"green": (30, 10, 60, 40)},
    "c.png": {"red": (40, 30, 70, 55), "yellow": (2, 2, 20, 20)},
    "d.png": {},
}

# phrase, image, truth (x, y, w, h)
REFS = [
    ("a red square", "a.png", [5, 5, 20, 20]),  # found exactly
    ("the blue one on the right", "a.png", [40, 20, 30, 15]),  # IoU 0.5 exactly
    ("a green square", "b.png", [30, 10, 30, 30]),
    ("the red square", "c.png", [2, 2, 18, 18]),  # the truth is the yellow one: IoU 0
    ("yellow", "d.png", [0, 0, 80, 60]),  # nothing but the whole image
]


class RandomMatcher:
    """Knows nothing: scores of equal height everywhere."""

    name = "random"

    def probabilities(self, scores):
        return None

    def score(self, phrases, regions):
        return np.zeros((len(phrases), len(regions)), np.float32)


class ProbableMatcher(CosineMatcher):
    def probabilities(self, scores):
        return np.where(scores > 0.9, 0.9, 0.1)


@pytest.fixture
def index(tmp_path, models) -> rg.Index:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, squares in PICTURES.items():
        draw_squares(folder / name, squares)
    return rg.build(folder, tmp_path / "index", **models)


@pytest.fixture
def refs(tmp_path) -> Path:
    return write_refs(tmp_path / "refs.jsonl", REFS)


def write_refs(path: Path, rows, **more) -> Path:
    records = [
        {"image": image, "expression": phrase, "bbox_xywh": box, "split": "val"} | more
        for phrase, image, box in rows
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_figures_of_hand_counted_predictions(index, refs):
    report = index.evaluate(refs)
    assert (report.expressions, report.images, report.covered) == (5, 4, 5)
    cosine, oracle = report.figures["cosine"], report.figures["oracle"]
    assert cosine.mean_iou.value == pytest.approx((1 + 0.5 + 1 + 0 + 1) / 5)
    assert oracle.mean_iou.value == pytest.approx((1 + 0.5 + 1 + 1 + 1) / 5)
    assert cosine.accuracy.value == pytest.approx(4 / 5)
    assert cosine.accuracy_at(0.25) == pytest.approx(4 / 5)
    assert cosine.accuracy_at(0.75) == pytest.approx(3 / 5)
    assert oracle.accuracy.value == 1
    assert cosine.given_box == pytest.approx(4 / 5)
    # The largest box: blue (IoU 0 and 0.5), green, red (0), and without any, the image.
    largest = report.figures["largest box"].mean_iou.value
    assert largest == pytest.approx((0 + 0.5 + 1 + 0 + 1) / 5)
    for figures in report.figures.values():
        assert figures.mean_iou.low <= figures.mean_iou.value <= figures.mean_iou.high


def values(recall) -> dict[int, float]:
    return {k: estimate.value for k, estimate in recall.items()}


def test_gallery_ranks_images_by_their_best_region(index, refs):
    # Both red phrases fit a.png and c.png alike, and ties rank last; in c.png the box is wrong.
    # "yellow" belongs to d.png, where c.png's yellow square and others rank before it.
    figures = index.evaluate(refs).figures["cosine"]
    assert values(figures.box_recall) == pytest.approx({1: 2 / 5, 5: 4 / 5, 10: 4 / 5})
    assert values(figures.image_recall) == pytest.approx({1: 2 / 5, 5: 1, 10: 1})
    assert index.evaluate(refs, gallery=0).figures["cosine"].box_recall is None
    assert index.evaluate(refs, gallery=2).gallery_phrases == 2


def test_a_matcher_that_scores_everything_alike_gains_nothing(index, refs):
    report = index.evaluate(refs, matchers={"cosine": CosineMatcher(), "equal": RandomMatcher()})
    equal = report.figures["equal"]
    assert equal.auroc == pytest.approx(0.5)
    assert equal.box_recall[1].value == 0  # all other images rank before
    assert equal.mean_iou_gain.value == pytest.approx(
        equal.mean_iou.value - report.figures["cosine"].mean_iou.value
    )
    assert report.figures["cosine"].mean_iou_gain is None
    assert report.shown == "equal"


def test_slices_partition_the_expressions(index, refs, tmp_path):
    slices = index.evaluate(refs).slices
    sizes = {name: part.expressions for name, part in slices.items()}
    assert (sizes["spatial words"], sizes["no spatial words"]) == (1, 4)
    assert "others of its class" not in sizes  # every color is drawn once in a picture
    assert sizes["alone of its class"] == 4  # the whole image has no class
    assert sizes["things"] == 4
    assert sizes["small third"] + sizes["middle third"] + sizes["large third"] == 5
    assert "val" not in sizes  # only one
    spatial = slices["spatial words"].mean_iou["cosine"]
    assert (spatial.value, spatial.low, spatial.high) == pytest.approx((0.5, 0.5, 0.5))
    lines = write_refs(tmp_path / "b.jsonl", REFS[:2], split="test", category="person").read_text()
    both = tmp_path / "both.jsonl"
    both.write_text(refs.read_text() + lines)
    sizes = {name: part.expressions for name, part in index.evaluate(both).slices.items()}
    assert (sizes["val"], sizes["test"], sizes["people"]) == (5, 2, 2)
    assert index.evaluate(both, splits=["test"]).expressions == 2


def test_distractors_are_other_objects_of_the_class(tmp_path):
    class TwoRedsDetector:
        fingerprint = "two reds 1"

        def detect(self, images):
            boxes = [[0, 0, 80, 60], [0, 0, 20, 20], [1, 1, 21, 21], [50, 30, 70, 50]]
            kinds = {"near.png": 3, "far.png": 4}
            labels = ["whole image", "red", "red", "red"]
            return [
                rg.Regions(boxes[:n], np.ones(n), labels[:n])
                for n in [kinds["far.png" if i.getpixel((60, 40)) == (220, 20, 20) else "near.png"]
                          for i in images]
            ]  # fmt: skip

    draw_squares(tmp_path / "near.png", {"red": (0, 0, 20, 20)})
    draw_squares(tmp_path / "far.png", {"red": (50, 30, 70, 50)})
    index = rg.build(tmp_path, tmp_path / "i", detector=TwoRedsDetector(), clip=ColorEncoder())
    rows = [("red", "near.png", [0, 0, 20, 20]), ("red", "far.png", [50, 30, 20, 20])]
    slices = index.evaluate(write_refs(tmp_path / "r.jsonl", rows)).slices
    # Two boxes of one object are not distractors of each other.
    assert slices["alone of its class"].expressions == 1
    assert slices["others of its class"].expressions == 1


def test_probabilities_are_checked_where_a_matcher_has_them(index, refs):
    # Four phrases find their color in their image: probability 0.9, and three are right. "yellow"
    # does not: probability 0.1, but the whole image is right. Absent phrases are never right.
    figures = index.evaluate(refs, matchers={"sure": ProbableMatcher()}).figures["sure"]
    low, high = figures.reliability
    assert low.count + high.count == 10  # present and absent
    assert (low.probability, high.probability) == pytest.approx((0.1, 0.9))
    assert low.frequency == pytest.approx(1 / low.count)
    assert high.frequency == pytest.approx(3 / high.count)
    expected = (abs(0.1 * low.count - 1) + abs(0.9 * high.count - 3)) / 10
    assert figures.calibration_error == pytest.approx(expected)
    assert index.evaluate(refs).figures["cosine"].calibration_error is None


def test_no_image_is_read_and_names_may_come_from_elsewhere(index, refs, tmp_path):
    before = index.evaluate(refs).as_dict()
    for path in (tmp_path / "photos").iterdir():
        path.unlink()
    assert index.evaluate(refs).as_dict() == before


def test_predictions_of_others_are_in_the_same_table(index, refs, tmp_path):
    predictions = tmp_path / "theirs.jsonl"
    rows = [
        {"image": "a.png", "expression": "A red  square", "bbox": [5, 5, 20, 10]},  # IoU 0.5
        {"image": "photos/b.png", "expression": "a green square", "bbox_xywh": [30, 10, 30, 30]},
        {"image": "c.png", "expression": "the red square", "bbox": None},
        {"image": "c.png", "expression": "", "bbox": [1, 1, 2, 2]},
        {"image": "unknown.png", "expression": "yellow", "bbox": [1, 1, 2, 2]},
    ]
    predictions.write_text("\n".join(map(json.dumps, rows)))
    report = index.evaluate(refs, references=[predictions])
    theirs = report.figures["theirs"]
    assert theirs.mean_iou.value == pytest.approx((0.5 + 1) / 5)
    assert theirs.accuracy.value == pytest.approx(2 / 5)
    assert theirs.missing == 3
    assert (theirs.box_recall, theirs.auroc) == (None, None)
    expected = theirs.mean_iou.value - report.figures["cosine"].mean_iou.value
    assert theirs.mean_iou_gain.value == pytest.approx(expected)
    assert report.slices["spatial words"].accuracy["theirs"].value == 0


def test_every_simpler_row_is_beside_the_matcher(index, refs):
    names = ["largest box", "cosine+label", "cosine", "oracle"]
    assert list(index.evaluate(refs).figures) == names  # cosine is in use, so it comes last
    assert list(index.evaluate(refs, matchers=["cosine"]).figures) == [
        "largest box", "cosine", "cosine+label", "oracle"
    ]  # fmt: skip
    with pytest.raises(rg.ModelError, match=r"no matcher 'mine'; it has .*cosine\+label"):
        index.evaluate(refs, matchers=["mine"])


def test_recall_in_the_gallery_has_intervals_and_paired_gains(index, refs):
    report = index.evaluate(refs, matchers={"cosine": CosineMatcher(), "equal": RandomMatcher()})
    cosine, equal = report.figures["cosine"], report.figures["equal"]
    assert cosine.image_recall_gain is None and cosine.box_recall_gain is None
    first = cosine.box_recall[1]
    assert first.low <= first.value <= first.high and first.low < first.high
    assert equal.box_recall_gain[1].value == pytest.approx(-2 / 5)
    assert equal.image_recall_gain[5].value == pytest.approx(0)  # there are four images
    [table] = [table for table in report.tables() if table.title.startswith("Gallery: 5 phrases")]
    assert table.rows[1][4].startswith("+0.000 [")


def test_predictions_are_written_for_each_expression_and_read_again(index, refs, tmp_path):
    rows = [("a red square", "a.png", [10, 10, 40, 40]), ("yellow", "c.png", [4, 4, 36, 36])]
    refs = write_refs(tmp_path / "twice.jsonl", rows, width=160, height=120)
    report = index.evaluate(refs)
    path = tmp_path / "own.jsonl"
    write_predictions(report.results, path)
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["image"], first["expression"]) == ("a.png", "a red square")
    assert first["bbox"] == pytest.approx([10, 10, 40, 40])  # in the pixels of the expressions
    assert second["truth"] == [4, 4, 36, 36]
    assert set(second["matchers"]) == {"cosine", "cosine+label"}
    assert second["matchers"]["cosine"]["iou"] == pytest.approx(second["oracle"]) == 1
    again = index.evaluate(refs, references=[path]).figures
    assert again["own"].mean_iou == again["cosine"].mean_iou
    assert again["own"].missing == 0
    assert "results" not in report.as_dict()


def test_a_report_is_a_data_frame_of_expressions_and_matchers(index, refs):
    report = index.evaluate(refs)
    frame = report.to_frame()
    assert len(frame) == 5 * 2
    means = frame.groupby("matcher")["iou"].mean()
    assert means["cosine"] == pytest.approx(report.figures["cosine"].mean_iou.value)
    assert (frame["oracle"] >= frame["iou"]).all()
    assert frame["image"].tolist()[:5] == [image for _, image, _ in REFS]
    x = frame[["x1", "truth_x1"]][(frame.matcher == "cosine") & (frame.phrase == "yellow")]
    assert x.values.tolist() == [[0, 0]]


def test_without_pandas_the_way_out_is_named(index, refs, monkeypatch):
    report = index.evaluate(refs)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(rg.GroundingError, match="pip install pandas"):
        report.to_frame()


def test_several_indexes_are_one_table(index, refs, tmp_path, monkeypatch):
    monkeypatch.setattr(
        rg.Index, "open", lambda directory, **_: rg.Index(directory, encoder=ColorEncoder())
    )
    other = tmp_path / "other"
    shutil.copytree(index.directory, other)
    arguments = ["evaluate", str(index.directory), str(other), "--refs", str(refs)]
    done = CliRunner().invoke(app, [*arguments, "--matcher", "cosine+label"])
    assert done.exit_code == 0, done.output
    rows = [line.split("\t")[:2] for line in done.stdout.splitlines() if "\t" in line]
    assert rows[:5] == [
        ["index", ""],
        *([str(index.directory), name] for name in
          ("largest box", "cosine", "cosine+label", "oracle")),
    ]  # fmt: skip
    assert rows[5] == [str(other), "largest box"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert set(json.loads(done.stdout)) == {str(index.directory), str(other)}
    done = CliRunner().invoke(app, [*arguments, "--predictions", str(tmp_path / "p.jsonl")])
    assert done.exit_code == 2 and "about one index" in done.output


def test_predictions_are_in_the_pixels_of_the_expressions(index, tmp_path):
    rows = [("a red square", "a.png", [10, 10, 40, 40])]  # for a picture of twice the size
    refs = write_refs(tmp_path / "refs.jsonl", rows, width=160, height=120)
    theirs = write_refs(tmp_path / "theirs.jsonl", rows)
    report = index.evaluate(refs, references=[theirs])
    assert report.figures["cosine"].mean_iou.value == pytest.approx(1)
    assert report.figures["theirs"].mean_iou.value == pytest.approx(1)


def test_what_cannot_be_evaluated_is_a_clear_error(index, refs, tmp_path):
    other = write_refs(tmp_path / "other.jsonl", [("a dog", "z.png", [1, 1, 2, 2])])
    with pytest.raises(ExpressionError, match=r"such as z\.png.*build the index over"):
        index.evaluate(other)
    with pytest.raises(ExpressionError, match=r"no line of .* is about an evaluated expression"):
        index.evaluate(refs, references=[other])
    with pytest.raises(ExpressionError, match="no file of predictions"):
        index.evaluate(refs, references=[tmp_path / "gone.jsonl"])
    with pytest.raises(ExpressionError, match="would be called cosine"):
        index.evaluate(refs, references=[tmp_path / "cosine.jsonl"])
    with pytest.raises(ExpressionError, match="at least one matcher"):
        index.evaluate(refs, matchers={})
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(refs.read_text() + other.read_text() + "{\n")
    skipped = index.evaluate(mixed).skipped
    assert skipped == {"not-json": 1, "image-not-in-index": 1}


def test_one_expression_about_one_image_has_the_figures_that_are_defined(index, tmp_path):
    refs = write_refs(tmp_path / "one.jsonl", REFS[:1])
    figures = index.evaluate(refs).figures["cosine"]
    assert figures.auroc is None  # there is no other image to be absent from
    assert figures.box_recall[1].value == 1
    assert (figures.mean_iou.low, figures.mean_iou.high) == (1, 1)


def test_the_report_is_json_without_nan(index, refs):
    plain = index.evaluate(refs).as_dict()
    text = json.dumps(plain, allow_nan=False)
    assert json.loads(text)["figures"]["cosine"]["mean_iou"]["value"] == pytest.approx(0.7)
    assert any("COCO" in note for note in plain["notes"])


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_page_is_self_contained_and_escapes_everything(index, tmp_path):
    evil = "<script>alert('x')</script> & \"red\""
    rows = [(evil, "a.png", [5, 5, 20, 20]), (f"{evil}!", "c.png", [2, 2, 18, 18])]
    rows += [("green", "b.png", [30, 10, 30, 30])]
    refs = write_refs(tmp_path / "<b>&.jsonl", rows)
    report = index.evaluate(refs, matchers={"<i>cosine</i>": ProbableMatcher()})
    (tmp_path / "photos" / "b.png").unlink()
    write_report(report, tmp_path / "page.html")
    source = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(source)
    names = [tag for tag, _ in page.tags]
    assert not {"script", "i", "link", "iframe"} & set(names)
    assert evil in page.text and "COCO" in page.text and "missing" in page.text
    assert names.count("svg") == 2  # accuracy and reliability
    # Best: three images, one of them gone; worst: c.png, where the answer is the wrong square.
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3
    assert all(picture["src"].startswith("data:image/jpeg;base64,") for picture in pictures)
    assert not re.search(r"(src|href)=\"(?!data:)", source)


def test_a_report_is_short_at_a_prompt_and_has_curves_in_a_notebook(index, refs):
    matchers = {"<cosine>": CosineMatcher()}
    report = index.evaluate(refs, matchers=matchers)
    assert len(repr(report)) < 300
    assert "<cosine> " in repr(report)
    shown = Page(report._repr_html_())
    names = [tag for tag, _ in shown.tags]
    assert (names.count("table"), names.count("svg"), names.count("cosine")) == (2, 1, 0)
    assert "<cosine>" in shown.text


def run(index: rg.Index, monkeypatch, *arguments: str):
    monkeypatch.setattr(
        "retrieval_grounding.indexing.model_spec.load_encoder", lambda *_: ColorEncoder()
    )
    original = rg.Index.open

    def opened(directory, **_):
        return original(directory, encoder=ColorEncoder())

    monkeypatch.setattr(rg.Index, "open", opened)
    return CliRunner().invoke(app, ["evaluate", str(index.directory), *arguments])


def test_the_command_prints_tables_with_the_warning(index, refs, tmp_path, monkeypatch):
    theirs = write_refs(tmp_path / "theirs.jsonl", REFS[:2])
    done = run(index, monkeypatch, "--refs", str(refs), "--reference", f"grounding={theirs}")
    assert done.exit_code == 0, done.output
    lines = [line.split("\t") for line in done.output.splitlines()]
    table = {line[0]: line for line in lines if len(line) == 8}
    assert table[""][1:4] == ["n", "mean IoU", "gain over cosine"]
    assert table["cosine"][1:3] == ["5", table["cosine"][2]]
    assert table["cosine"][2].startswith("0.700 [")
    assert table["theirs"][-1] == "3"
    assert "has seen the photographs of RefCOCO" in done.output


def test_the_command_writes_json_and_a_page(index, refs, tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    done = run(index, monkeypatch, "-r", str(refs), "--json", "--html", str(page), "--split", "val")
    assert json.loads(done.stdout)["expressions"] == 5
    assert page.read_text().startswith("<!doctype html>")


def test_wrong_use_of_the_command_is_an_error(index, refs, monkeypatch):
    done = run(index, monkeypatch, "--refs", str(refs), "--reference", "theirs.jsonl")
    assert done.exit_code == 2
    assert "grounding=FILE" in done.output
    assert run(index, monkeypatch).exit_code == 2
