"""Probabilities fitted to one collection are stored in its catalog, for its matcher only."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from fakes import draw_squares
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.matching import calibrate, collection
from retrieval_grounding.matching.calibration import Calibration
from retrieval_grounding.storage.catalog import Catalog

QUIET = rg.BuildOptions(progress=False)
FITTED = Calibration(30.0, -20.0, size=-1.0, box_slope=1.0, box_intercept=0.5)


@pytest.fixture
def index(tmp_path, models):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, color in enumerate(("red", "blue", "green") * 2):
        draw_squares(folder / f"{number}.png", {color: (number, 0, number + 19, 30)})
    index = rg.build(folder, tmp_path / "index", options=QUIET, **models)
    return index


@pytest.fixture
def fitted(index, monkeypatch):  # `index` first: its build must not find a calibration
    """So few images cannot be calibrated; what is fitted is the concern of other tests."""
    monkeypatch.setattr(calibrate, "calibrate_matcher", lambda *_: FITTED)


@pytest.mark.usefixtures("fitted")
def test_a_fitted_collection_has_probabilities_until_they_are_reset(index, models):
    [hit] = index.query("red", top=1)
    assert (hit.probability, hit.image_probability, hit.matches) == (None, None, True)
    assert index.calibrate() == FITTED
    again = rg.Index.open(index.directory, encoder=models["clip"])
    for opened in (index, again):  # an open index follows
        hits = opened.query("red", top=6)
        expected = FITTED(np.array([hit.score for hit in hits], np.float32), images=6)
        assert [hit.image_probability for hit in hits] == pytest.approx(expected.image.tolist())
        assert [hit.probability for hit in hits] == pytest.approx(expected.box.tolist())
        kept = opened.query("red", top=6, min_probability=None)
        assert kept == [hit for hit in hits if hit.matches]
        assert 0 < len(kept) < 6
    index.reset_calibration()
    assert again.query("red", top=1)[0].probability is None


@pytest.mark.usefixtures("fitted")
def test_probabilities_of_different_weights_are_not_used(index, tmp_path):
    class File(rg.CosineMatcher):
        pass

    index.calibrate()
    catalog = Catalog(index.directory)
    cosine = rg.CosineMatcher()
    assert collection.with_own_calibration(catalog, cosine) == replace(cosine, calibration=FITTED)
    other = File()
    weights = tmp_path / "weights"
    weights.write_bytes(b"1")
    object.__setattr__(other, "file", weights)
    assert collection.with_own_calibration(catalog, other) is other


def test_too_few_images_are_an_error_that_says_so(index):
    done = CliRunner().invoke(app, ["calibrate", str(index.directory)])
    assert done.exit_code != 0
    with pytest.raises(rg.GroundingError, match="cannot be fitted to 6 images; add images"):
        index.calibrate()


@pytest.mark.parametrize("value", [7, {"cosine": 3}, {"cosine": {"slope": -1, "intercept": 0}}])
def test_damaged_calibrations_are_found_and_removed(index, value):
    catalog = Catalog(index.directory, writable=True)
    catalog.set_setting("calibrations", value)
    catalog.close()
    report = index.verify()
    assert [(fault.where, fault.kind) for fault in report.faults] == [
        ("catalog.sqlite", "calibration")
    ]
    assert index.verify(repair=True, options=QUIET).faults == []
    assert index.query("red", top=1)[0].label == "red"


@pytest.mark.usefixtures("fitted")
def test_reset_on_the_command_line(index):
    index.calibrate()
    done = CliRunner().invoke(app, ["calibrate", str(index.directory), "--reset", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["calibration"] is None
    assert index.query("red", top=1)[0].probability is None
