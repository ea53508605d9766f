"""Verifying finds every flipped bit, and repairing embeds only what is damaged."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import h5py
import numpy as np
import pytest
from fakes import COLORS, ColorEncoder, SquareDetector, draw_squares, vectors_file
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.storage.files import file_checksum

QUIET = rg.BuildOptions(progress=False)


class CountingDetector(SquareDetector):
    def __init__(self) -> None:
        self.seen = 0

    def detect(self, images):
        self.seen += len(images)
        return super().detect(images)


@pytest.fixture
def folder(photos, tmp_path, models) -> Path:
    rg.build(photos, tmp_path / "index", options=QUIET, **models)
    return tmp_path / "index"


@pytest.fixture
def shard(folder) -> Path:
    return folder / "shards" / "000001.h5"


def answers(folder: Path) -> list[tuple[object, ...]]:
    opened = rg.Index.open(folder, encoder=ColorEncoder())
    found = opened.query(sorted(COLORS))
    return sorted((h.phrase, h.image, h.box, h.score, h.label) for hits in found for h in hits)


def faults(folder: Path) -> list[tuple[str, str]]:
    return [(fault.where, fault.kind) for fault in rg.Index.open(folder).verify().faults]


def repair(folder: Path) -> tuple[rg.VerifyReport, int]:
    detector = CountingDetector()
    report = rg.Index.open(folder).verify(
        repair=True, detector=detector, clip=ColorEncoder(), options=QUIET
    )
    return report, detector.seen


def flip(path: Path, byte: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def execute(folder: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(folder / "catalog.sqlite")
    with connection:
        connection.execute(statement, values)
    connection.close()


def test_a_sound_index_has_no_faults(folder):
    report = rg.Index.open(folder).verify()
    assert (report.images, report.shards, report.faults) == (4, 1, [])


def test_every_flipped_bit_of_a_shard_is_found(folder, shard):
    sound = shard.read_bytes()
    generator = np.random.default_rng(0)
    places = {*range(0, len(sound), 97), *generator.integers(0, len(sound), 60).tolist()}
    for byte in sorted(places):
        flip(shard, byte, int(generator.integers(8)))
        assert faults(folder) == [("shards/000001.h5", "damaged")], byte
        shard.write_bytes(sound)
    assert faults(folder) == []


def test_a_repair_embeds_only_the_damaged_image(folder, shard):
    expected = answers(folder)
    with h5py.File(shard) as file:
        begin = file["embeddings"].id.get_offset()
    flip(shard, begin + 3)
    report, embedded = repair(folder)
    assert (embedded, report.embedded, report.faults, report.lost) == (1, 1, [], [])
    assert [fault.kind for fault in report.repaired] == ["damaged"]
    assert answers(folder) == expected
    assert not shard.exists()


def test_damage_outside_of_images_costs_no_embedding(folder, shard):
    expected = answers(folder)
    with shard.open("ab") as file:
        file.write(b"more")
    report, embedded = repair(folder)
    assert (embedded, report.faults) == (0, [])
    assert answers(folder) == expected


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "another shard"])
def test_a_lost_shard_is_embedded_again(folder, shard, photos, models, damage):
    draw_squares(photos / "e.png", {"green": (0, 0, 50, 9)})
    rg.build(photos, folder, options=QUIET, **models)
    expected = answers(folder)
    if damage == "gone":
        shard.unlink()
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:1000])
    else:
        shutil.copy(folder / "shards" / "000002.h5", shard)
    vectors_file(folder).unlink()
    with pytest.raises(rg.StoreError, match=r"verify .* --repair"):
        answers(folder)
    report, embedded = repair(folder)
    assert (embedded, report.faults) == (4, [])
    assert answers(folder) == expected


def test_an_image_whose_file_is_gone_too_is_told_as_lost(folder, shard, photos):
    shard.unlink()
    (photos / "a.png").unlink()
    report, embedded = repair(folder)
    assert (embedded, report.lost, report.faults) == (3, [str(photos / "a.png")], [])
    assert len(rg.Index.open(folder)) == 3


@pytest.mark.parametrize("where", [0, 60, -1])
def test_a_damaged_vector_index_is_found_and_made_again(folder, where):
    expected = answers(folder)
    path = vectors_file(folder)
    flip(path, where)
    assert answers(folder) == expected  # a reader does not use it
    assert faults(folder) == [(path.name, "damaged")]
    report, embedded = repair(folder)
    assert (embedded, report.faults) == (0, [])


def test_a_missing_vector_index_is_no_fault(folder):
    vectors_file(folder).unlink()
    assert faults(folder) == []


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("boxes", [0, 0, 900, 60], "boxes"),
        ("boxes", [0, 0, np.nan, 60], "boxes"),
        ("scores", 7, "scores"),
        ("embeddings", [0, 0, 0, 0], "norms"),
    ],
)
def test_impossible_values_are_found_though_the_checksum_agrees(folder, shard, name, value, kind):
    with h5py.File(shard, "r+") as file:
        file[name][0] = value
    execute(folder, "UPDATE shards SET checksum = ?", file_checksum(shard))
    assert faults(folder) == [("shards/000001.h5", kind)]
    report, embedded = repair(folder)
    assert (embedded, report.faults) == (1, [])


def test_a_shard_of_other_models_is_found(folder, shard):
    execute(folder, "UPDATE settings SET value = '\"o\"' WHERE key = 'detector_fingerprint'")
    assert faults(folder) == [("shards/000001.h5", "fingerprint")]


def test_rows_that_differ_from_the_catalog_are_found(folder):
    execute(folder, "UPDATE shard_rows SET regions = regions + 1 WHERE row = 1")
    assert faults(folder) == [("shards/000001.h5", "offsets")]
    report, embedded = repair(folder)
    assert (embedded, report.faults) == (1, [])


def test_a_catalog_that_contradicts_itself_is_named(folder):
    execute(folder, "UPDATE images SET row = 77 WHERE row = 1")
    assert faults(folder) == [("catalog.sqlite", "catalog")]


def test_the_command_names_faults_and_their_repair(folder, shard):
    runner = CliRunner()
    assert runner.invoke(app, ["verify", str(folder)]).exit_code == 0
    flip(shard, 3000)
    result = runner.invoke(app, ["verify", str(folder), "--json"])
    assert result.exit_code == 1
    [fault] = json.loads(result.stdout)["faults"]
    assert (fault["where"], fault["kind"]) == ("shards/000001.h5", "damaged")
    assert "--repair" in runner.invoke(app, ["verify", str(folder)]).output
