"""Group regions: how they are made, and everything that has to know that they are no objects."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import ColorEncoder, draw_squares
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.cli.demo import demo_photographs
from retrieval_grounding.core.groups import (
    group_label,
    is_group,
    label_phrase,
    member_label,
    plural,
    shown_label,
    with_groups,
)
from retrieval_grounding.core.regions import WHOLE_IMAGE, Regions, pairwise_iou
from retrieval_grounding.matching.batch import RegionTensors
from retrieval_grounding.matching.geometry import position_features, relation_features
from retrieval_grounding.matching.pseudo.generate import describe_image
from retrieval_grounding.models.checks import embed_labels
from retrieval_grounding.storage.shards import ShardReader

LABELS = st.sampled_from([WHOLE_IMAGE, "", " ", "dog", "cat", "dog group", "group"])


@st.composite
def detections(draw):
    """Regions of any label and score, some on top of each other."""
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        x, y = draw(st.integers(0, 90)), draw(st.integers(0, 90))
        box = (x, y, x + draw(st.integers(1, 60)), y + draw(st.integers(1, 60)))
        score = draw(st.sampled_from([0, 0.1, 0.24999, 0.25, 0.5, 0.75, 1]))
        rows.append((box, score, draw(LABELS)))
    boxes, scores, labels = zip(*rows, strict=True) if rows else ([], [], [])
    return Regions(boxes, scores, labels)


@given(detections())
def test_groups_are_unions_of_their_members_after_the_regions(regions):
    grouped = with_groups(regions)
    assert grouped[: len(regions)] == regions
    added = grouped[len(regions) :]
    assert len(set(added.labels)) == len(added)
    for box, score, label in zip(added.boxes, added.scores, added.labels, strict=True):
        rows = [
            row
            for row, name in enumerate(regions.labels)
            if group_label(name) == label and regions.scores[row] >= 0.25
        ]
        members = regions.boxes[rows]
        assert len(rows) >= 2
        assert score == sorted(regions.scores[rows])[-2]
        # Each edge is one of a member's, and no member reaches beyond.
        assert (box[:2] <= members[:, :2]).all() and (box[2:] >= members[:, 2:]).all()
        assert (box == members).any(axis=0).all()
        assert pairwise_iou(box, members).max() < 0.8
    assert with_groups(grouped) == grouped


@given(detections())
def test_every_label_gets_the_group_that_it_should(regions):
    expected = []
    for label in dict.fromkeys(regions.labels):
        rows = [
            row
            for row, name in enumerate(regions.labels)
            if name == label and regions.scores[row] >= 0.25
        ]
        if label not in ("dog", "cat", "group") or len(rows) < 2:
            continue
        boxes = regions.boxes[rows]
        union = [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]
        if pairwise_iou(union, boxes).max() < 0.8 and f"{label} group" not in regions.labels:
            expected.append(f"{label} group")
    assert sorted(with_groups(regions).labels[len(regions) :]) == sorted(expected)


@given(st.text())
def test_labels_of_groups_name_their_members(label):
    assert is_group(group_label(label)) == bool(label.strip())
    if label.strip():
        assert member_label(group_label(label)) == label
    if not is_group(label):
        assert member_label(label) == label_phrase(label) == shown_label(label) == label
    assert isinstance(plural(label), str)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("person", "people"), ("Person", "People"), ("fireman", "firemen"), ("human", "humans"),
        ("bus", "buses"), ("wine glass", "wine glasses"), ("knife", "knives"), ("sheep", "sheep"),
        ("bench", "benches"), ("skis", "skis"), ("scissors", "scissors"), ("toy", "toys"),
        ("teddy", "teddies"), ("computer mouse", "computer mice"), ("giraffe", "giraffes"),
        ("box", "boxes"), ("potted plant", "potted plants"), ("y", "ys"),
    ],
)  # fmt: skip
def test_plurals(noun, expected):
    assert plural(noun) == expected


def test_labels_of_groups_are_embedded_as_english():
    class Recorder(ColorEncoder):
        def encode_phrases(self, phrases):
            self.phrases = list(phrases)
            return super().encode_phrases(phrases)

    encoder = Recorder()
    found = embed_labels(encoder, ["dog", "person group", WHOLE_IMAGE, "zebra group"])
    assert encoder.phrases == ["dog", "group of people", "group of zebras"]
    assert found[2].tolist() == [0, 0, 0, 0]


# The bundled models on photographs


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """The bus with people in front of it, and the two men, scaled down."""
    folder = tmp_path_factory.mktemp("photographs")
    for path in map(Path, demo_photographs()[:2]):
        with Image.open(path) as image:
            image.thumbnail((480, 480))
            image.convert("RGB").save(folder / f"{path.stem}.png")
    return folder


def single_things() -> rg.DetectorSettings:
    return rg.DetectorSettings(groups=False)


def test_the_detector_adds_groups_to_what_it_finds_without(photographs):
    images = [rg.load_image(path) for path in sorted(photographs.iterdir())]
    with_them = rg.load_detector("nano", None, "cpu")
    without = rg.load_detector("nano", single_things(), "cpu")
    found = with_them.detect(images)
    assert found == [with_groups(regions) for regions in without.detect(images)]
    assert [regions.labels[-1] for regions in found] == ["person group"] * 2
    # The fingerprint of indexes from before there were groups does not change.
    assert "groups" not in without.fingerprint
    assert with_them.fingerprint == without.fingerprint.replace(
        " image_size=", " groups=1 image_size="
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_detector_adds_groups_on_a_gpu(photographs):
    images = [rg.load_image(path) for path in sorted(photographs.iterdir())]
    found = rg.load_detector("nano", None, "cuda").detect(images)
    without = rg.load_detector("nano", single_things(), "cuda").detect(images)
    assert found == [with_groups(regions) for regions in without]
    assert [regions.labels[-1] for regions in found] == ["person group"] * 2


@pytest.fixture(scope="module")
def index(photographs, tmp_path_factory) -> rg.Index:
    folder = tmp_path_factory.mktemp("groups") / "index"
    return rg.build(photographs, folder, options=rg.BuildOptions(progress=False))


def test_a_group_is_stored_found_and_shown_by_its_plural(index, photographs, tmp_path):
    [shard] = (Path(index.directory) / "shards").glob("*.h5")
    reader = ShardReader(shard, 1)
    assert "person group" in reader.label_names
    embedded = reader.label_embeddings[reader.label_names.index("person group")]
    [phrase] = rg.load_encoder("nano").encode_phrases(["group of people"])
    np.testing.assert_allclose(embedded, phrase, atol=1e-3)
    assert index.info()["groups"] is True
    assert "groups included" in CliRunner().invoke(app, ["info", str(index.directory)]).stdout

    class GroupMatcher(rg.CosineMatcher):
        """Prefers groups, so that the test does not depend on how the weights rank them."""

        def score_pairs(self, phrases, regions, phrase_rows):
            groups = np.array([is_group(name) for name in regions.label_names])
            return super().score_pairs(phrases, regions, phrase_rows) + groups[regions.labels]

    hits = index.query("two men", top=2, matcher=GroupMatcher())
    assert {hit.label for hit in hits} == {"person group"}
    men = next(hit for hit in hits if Path(hit.image).name == "zidane.png")
    scale = 480 / 1280
    assert pairwise_iou(men.box, np.array([125, 40, 1155, 716]) * scale)[0, 0] >= 0.5
    rg.render_html([men], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "people" in page and "person group" not in page


def test_an_index_from_before_there_were_groups_opens_and_grows_without_them(photographs, tmp_path):
    options = rg.BuildOptions(progress=False)
    first, second = sorted(photographs.iterdir())
    folder = tmp_path / "index"
    rg.build(first, folder, settings=single_things(), options=options).close()
    with contextlib.closing(sqlite3.connect(folder / "catalog.sqlite")) as catalog, catalog:
        query = "SELECT value FROM settings WHERE key = 'detector_settings'"
        recorded = json.loads(catalog.execute(query).fetchone()[0])
        del recorded["groups"]
        update = "UPDATE settings SET value = ? WHERE key = 'detector_settings'"
        catalog.execute(update, [json.dumps(recorded)])
    before = rg.Index.open(folder).info()
    assert before["groups"] is False
    # Settings that a script has always given are those of the index still.
    index = rg.build(second, folder, settings=rg.DetectorSettings(), options=options)
    assert index.build_report.embedded == 1
    assert index.info()["detector_fingerprint"] == before["detector_fingerprint"]
    for shard in (folder / "shards").glob("*.h5"):
        assert not any(map(is_group, ShardReader(shard, 1).label_names))
    assert index.verify().faults == []
    assert index.query("two men", top=1)
    with pytest.raises(rg.ModelError, match="was built with"):
        rg.build(second, folder, settings=rg.DetectorSettings(confidence=0.5), options=options)


def test_an_index_built_without_groups_says_so_and_keeps_to_it(photographs, tmp_path):
    options = rg.BuildOptions(progress=False)
    first, second = sorted(photographs.iterdir())
    folder = tmp_path / "index"
    built = CliRunner().invoke(app, ["build", str(first), "--index", str(folder), "--no-groups"])
    assert built.exit_code == 0, built.output
    with pytest.raises(rg.ModelError, match=r"groups=False.*not with.*groups=True"):
        rg.build(second, folder, settings=rg.DetectorSettings(), options=options)
    index = rg.build(second, folder, options=options)
    assert index.info()["groups"] is False
    index.close()
    (folder / "catalog.sqlite").unlink()
    with pytest.raises(rg.StoreError, match=r"no groups; build with --no-groups"):
        rg.build(photographs, folder, options=options)
    again = rg.build(photographs, folder, settings=single_things(), options=options)
    assert (again.build_report.embedded, len(again)) == (0, 2)


# Rooms that reason about labels, on pictures of squares


class SquaresDetector:
    """Finds squares of any color, and names them alike."""

    fingerprint = "alike 1"

    def detect(self, images):
        return [self._squares(np.asarray(image).astype(int)) for image in images]

    def _squares(self, pixels):
        boxes = []
        for color in ((220, 20, 20), (20, 20, 220), (20, 200, 20)):
            rows, columns = np.nonzero(np.abs(pixels - color).sum(-1) < 60)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        whole = Regions.whole_image(pixels.shape[1], pixels.shape[0])
        found = Regions(boxes, np.full(len(boxes), 0.9), ["person"] * len(boxes))
        return with_groups(Regions.concatenate([whole, found]))


@pytest.fixture
def squares(tmp_path) -> rg.Index:
    folder = tmp_path / "squares"
    folder.mkdir()
    draw_squares(folder / "two.png", {"red": (2, 20, 12, 30), "blue": (60, 20, 70, 40)})
    draw_squares(folder / "one.png", {"red": (5, 5, 25, 25)})
    return rg.build(folder, tmp_path / "i", detector=SquaresDetector(), clip=ColorEncoder())


def test_groups_have_a_slice_and_are_no_largest_box(squares, tmp_path):
    rows = [
        ("both", "two.png", [2, 20, 68, 20]),
        ("the red one", "two.png", [2, 20, 10, 10]),
        ("the blue one", "two.png", [60, 20, 10, 20]),
        ("red", "one.png", [5, 5, 20, 20]),
    ]
    refs = tmp_path / "refs.jsonl"
    refs.write_text(
        "".join(
            json.dumps({"image": image, "expression": phrase, "bbox_xywh": box}) + "\n"
            for phrase, image, box in rows
        )
    )
    report = squares.evaluate(refs)
    assert report.figures["oracle"].mean_iou.value == 1
    sizes = {name: part.expressions for name, part in report.slices.items()}
    assert (sizes["groups"], sizes["people"], sizes.get("things")) == (1, 4, None)
    assert (sizes["others of its class"], sizes["alone of its class"]) == (2, 1)
    # The largest thing of two.png is the blue one, not the group around it.
    largest = report.slices["groups"].mean_iou["largest box"].value
    assert largest == pytest.approx(200 / (68 * 20))


def test_a_group_changes_no_rank_of_its_members():
    table = crowd(("dog", (5, 40, 25, 60)), ("dog", (40, 41, 60, 62)), ("cat", (70, 5, 90, 30)))
    grouped = crowd(
        ("dog", (5, 40, 25, 60)), ("dog", (40, 41, 60, 62)), ("cat", (70, 5, 90, 30)),
        ("dog group", (5, 40, 60, 62)),
    )  # fmt: skip
    found = []
    for regions in (table, grouped):
        batch = RegionTensors(regions, "cpu").batch(torch.tensor([0]))
        found.append(position_features(batch, relation_features(batch)))
    torch.testing.assert_close(found[1][..., :4], found[0])


# Pseudo-queries

NAMES = (WHOLE_IMAGE, "person", "dog", "cat", "person group", "dog group", "cat group")


def crowd(*images):
    """Return a table of images, each a list of (label, box in percent[, score])."""
    if isinstance(images[0][0], str):
        images = (images,)
    rows, offsets = [], [0]
    for image in images:
        rows += [(WHOLE_IMAGE, (0, 0, 100, 100), 1.0), *((*row, 0.9)[:3] for row in image)]
        offsets.append(len(rows))
    return rg.RegionTable(
        embeddings=np.ones((len(rows), 1), np.float16),
        boxes=np.array([row[1] for row in rows], np.float32),
        scores=np.array([row[2] for row in rows], np.float32),
        labels=np.array([NAMES.index(row[0]) for row in rows]),
        colors=np.zeros((len(rows), 11), np.uint8),
        offsets=np.array(offsets),
        label_names=NAMES,
        label_embeddings=np.zeros((len(NAMES), 1), np.float32),
    )


def grouped(*rows):
    """Return the table of one image, with the groups that a detector adds."""
    whole = Regions.whole_image(100, 100)
    labels, boxes, scores = zip(*((*row, 0.9)[:3] for row in rows), strict=True)
    found = with_groups(Regions.concatenate([whole, Regions(boxes, scores, labels)]))
    return crowd(list(zip(found.labels, found.boxes.tolist(), found.scores, strict=True))[1:])


def phrases_for_groups(table):
    """Return every phrase that is ever made for a group: {phrase: row}."""
    return {
        phrase: claim.target.row
        for seed in range(300)
        for claim, phrase in describe_image(table, 0, seed, per_image=200)
        if claim.kind == "group"
    }


DOGS = [("dog", (5, 40, 25, 60)), ("dog", (40, 41, 60, 62)), ("dog", (75, 40, 95, 61))]
PEOPLE = [("person", (5, 5, 20, 50)), ("person", (30, 5, 45, 50))]


def test_groups_are_named_and_counted():
    found = phrases_for_groups(grouped(*DOGS))
    assert set(found.values()) == {4}
    assert {"dogs", "the dogs", "three dogs", "group of dogs", "all dogs"} <= set(found)
    assert not any("two" in phrase or "both" in phrase for phrase in found)
    found = phrases_for_groups(grouped(*PEOPLE))
    assert {"people", "two people", "group of people", "both people"} <= set(found)
    assert not any("men" in phrase.split() or "women" in phrase.split() for phrase in found)


def test_groups_are_not_counted_if_one_more_may_be_there():
    faint = ("dog", (62, 42, 72, 60), 0.2)
    found = phrases_for_groups(grouped(*DOGS, faint))
    assert "dogs" in found
    assert not any(word in phrase for phrase in found for word in ("three", "3", "four", "4"))


@pytest.mark.parametrize(
    "rows",
    [
        [*DOGS, ("dog", (5, 2, 25, 22), 0.2)],  # perhaps one more, far from the others
        [DOGS[0], ("dog", (40, 41, 60, 62), 0.3)],  # one is sure, and the other is not
        [("dog", (0, 0, 40, 100)), ("dog", (55, 0, 100, 100))],  # the whole image
        [DOGS[0], ("cat", (40, 41, 60, 62))],  # one of each
    ],
)
def test_unclear_groups_are_not_described(rows):
    assert phrases_for_groups(grouped(*rows)) == {}


@settings(max_examples=100, deadline=None)
@given(detections(), st.integers(0, 1000))
def test_groups_are_never_taken_for_objects(regions, seed):
    inside = Regions(regions.boxes / 160 * 100, regions.scores, regions.labels)
    named = [row for row, label in enumerate(inside.labels) if label in ("dog", "cat")]
    known = [(inside.labels[r], inside.boxes[r].tolist(), float(inside.scores[r])) for r in named]
    if not known:
        return
    table = grouped(*known)
    for claim, _ in describe_image(table, 0, seed, per_image=100):
        label = table.label(claim.target.row)
        assert is_group(label) == (claim.kind == "group")
        assert not any(map(is_group, claim.pool.labels))
        assert not any(is_group(thing.label) for thing in claim.pool.maybe)
        if claim.kind == "group":
            assert claim.pool.labels == {member_label(label)}
            box = table.boxes[claim.target.row]
            members = table.boxes[[thing.row for thing in claim.pool.sure]]
            union = [*members[:, :2].min(axis=0), *members[:, 2:].max(axis=0)]
            assert pairwise_iou(box, union)[0, 0] >= 0.8 - 1e-4
            assert claim.rank in (0, len(members))
