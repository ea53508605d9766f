"""Bad files and bad phrases: indexed correctly, or refused with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from bad_images import NOISE, make_corpus
from fakes import ColorEncoder, SquareDetector, draw_squares

import retrieval_grounding as rg
from retrieval_grounding.core.phrases import clean_phrase

QUIET = rg.BuildOptions(progress=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    return folder, make_corpus(folder)


@pytest.fixture(scope="module")
def index(corpus, tmp_path_factory) -> rg.Index:
    target = tmp_path_factory.mktemp("index")
    return rg.build(
        corpus[0], target, detector=SquareDetector(), clip=ColorEncoder(), options=QUIET
    )


def test_every_file_of_the_corpus_is_indexed_or_skipped_by_its_reason(corpus, index):
    folder, expected = corpus
    outcome = {os.path.relpath(image.path, folder): "indexed" for image in index.images()}
    outcome |= {os.path.relpath(file.path, folder): file.reason for file in index.skipped()}
    assert outcome.keys() == expected.keys()
    wrong = {
        name: (found, sorted(expected[name]))
        for name, found in outcome.items()
        if found not in expected[name]
    }
    assert not wrong
    assert index.verify().faults == []
    assert all(file.detail for file in index.skipped())


def test_truncated_files_do_not_pass_for_intact_ones(corpus, index):
    """They may be indexed only if their format stores all pixels before the cut."""
    cut = [image for image in index.images() if "cut " in image.path]
    assert {Path(image.path).suffix for image in cut} <= {".tif", ".gif", ".jp2", ".avif"}


def test_building_the_corpus_again_reports_the_same(corpus, index):
    again = rg.build(
        corpus[0], index.directory, detector=SquareDetector(), clip=ColorEncoder(), options=QUIET
    ).build_report
    first = index.build_report
    assert (again.added, again.embedded) == (0, 0)
    assert again.unchanged == first.found - len(first.skipped)
    assert again.skipped_reasons == first.skipped_reasons


def test_equal_pixels_come_out_of_every_sound_format(corpus):
    for path in corpus[0].glob("sound.*"):
        if path.suffix in (".heic", ".heif"):
            continue  # another picture: Pillow writes none
        decoded = np.asarray(rg.load_image(path)).astype(int)
        limit = 3 if path.suffix in (".png", ".bmp", ".tif", ".jp2") else 60
        assert np.abs(decoded - NOISE).mean() < limit, path.name


def test_a_page_with_hits_of_the_corpus_escapes_their_names(index, tmp_path):
    rg.render_html(index.query("red", top=10_000), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1  # the page's own; the names are text
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("phrase", ["", "   ", "\t\n", "\x00\x1f", "\u3000"])
def test_phrases_without_words_are_refused(phrase):
    with pytest.raises(rg.PhraseError):
        clean_phrase(phrase)


@pytest.mark.parametrize("phrase", [None, 7, b"red", ["red"], object(), float("nan")])
def test_phrases_of_other_types_are_refused(phrase, photos, tmp_path, models):
    index = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    with pytest.raises(rg.PhraseError):
        index.query([phrase])


@pytest.mark.parametrize(
    "phrase",
    ["red " * 10_000, "красный red", "红色 red", "أحمر red", "🐈 red", "red\x00\x07", "\ud800 red"],
    ids=["10,000 words", "Cyrillic", "Chinese", "Arabic", "emoji", "control", "lone surrogate"],
)
def test_odd_phrases_are_answered(phrase, photos, tmp_path, models):
    index = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    hits = index.query(phrase, top=2)
    assert {Path(hit.image).name for hit in hits} == {"a.png", "c.png"}
    rg.render_html(hits, tmp_path / "page.html")


def test_a_name_of_control_characters_stays_on_one_line(photos, tmp_path, models):
    draw_squares(photos / "x.png", {"red": (0, 0, 9, 9)}).rename(photos / "a\nb\x1b[31m.png")
    index = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    assert len(index) == 5
