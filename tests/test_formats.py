"""Every released format version opens forever; newer ones are refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zipfile
from pathlib import Path

import pytest
from fakes import ColorEncoder

import retrieval_grounding as rg
from retrieval_grounding.storage import catalog as catalog_module
from retrieval_grounding.storage import migrations, open_catalog, shard_file
from retrieval_grounding.storage.migrations import FORMAT_VERSION

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = range(1, FORMAT_VERSION + 1)


@pytest.fixture
def unpacked(tmp_path, request) -> Path:
    with zipfile.ZipFile(FIXTURES / f"index-v{request.param}.zip") as archive:
        archive.extractall(tmp_path / "index")
    return tmp_path / "index"


def check(index: rg.Index) -> None:
    assert [image.path for image in index.images()] == [
        "/photos/a.png", "/photos/b.png", "/photos/copy.png",
    ]  # fmt: skip
    [green, blue, yellow] = index.query(["green", "blue", "yellow"], top=2)
    assert [hit.image for hit in green] == ["/photos/b.png", "/photos/copy.png"]
    assert (green[0].box, blue[0].box) == ((30, 10, 60, 40), (2, 2, 20, 20))
    assert (yellow[0].image, yellow[0].box) == ("/photos/a.png", (5, 5, 25, 25))
    assert [(file.path, file.reason) for file in index.skipped()] == [
        ("/photos/empty.png", "empty")
    ]
    assert index.verify().faults == []
    counts = {key: index.info()[key] for key in ("images", "regions", "unused_regions", "shards")}
    assert counts == {"images": 3, "regions": 5, "unused_regions": 2, "shards": 2}


@pytest.mark.parametrize("unpacked", VERSIONS, indirect=True)
def test_every_version_opens(unpacked):
    check(rg.Index.open(unpacked, encoder=ColorEncoder()))


@pytest.mark.parametrize("unpacked", VERSIONS[1:], indirect=True)
def test_metadata_is_read_since_version_2(unpacked):
    index = rg.Index.open(unpacked, encoder=ColorEncoder())
    text = 'yellow where:"price < 3 and sold = true" since:2025-06 until:2025-06'
    [hit] = index.query(rg.Query.parse(text))
    assert (hit.image, hit.id) == ("/photos/a.png", "first")
    assert hit.metadata == {"price": 2.5, "bought": "2024-05-01T00:00:00", "sold": True}
    assert len(index._catalog.described_contents()) == 3


@pytest.mark.parametrize("unpacked", [1], indirect=True)
def test_version_1_answers_filters_and_takes_metadata_without_embedding(unpacked, tmp_path, models):
    """Its photographs are described once a build reads them, and none is embedded again."""
    from fakes import draw_squares

    photos = tmp_path / "photos"
    photos.mkdir()
    picture = draw_squares(photos / "a.png", {"yellow": (5, 5, 25, 25)}, size=(90, 70))
    index = rg.Index.open(unpacked, encoder=models["clip"])
    hits = index.query(rg.Query.parse("yellow since:2025-06 label:yellow"))
    assert [hit.image for hit in hits] == ["/photos/a.png"]
    (tmp_path / "about.jsonl").write_text('{"stem": "a", "price": 2}\n{"stem": "b", "price": 9}\n')
    options = rg.BuildOptions(progress=False, check_content=True)
    again = rg.build(photos, unpacked, metadata=tmp_path / "about.jsonl", options=options, **models)
    assert (again.build_report.embedded, again.build_report.described) == (0, 2)
    hits = again.query(rg.Query.parse('yellow where:"price < 3"'))
    assert [hit.image for hit in hits] == [str(picture)]
    assert len(again._catalog.described_contents()) == 1
    assert index.query(rg.Query.parse('yellow where:"price < 3"')) == hits  # it follows the writer
    with sqlite3.connect(unpacked / "catalog.sqlite") as connection:
        [(version,)] = connection.execute("SELECT value FROM settings WHERE key = 'format_version'")
    assert int(version) == FORMAT_VERSION


@pytest.mark.parametrize("unpacked", VERSIONS, indirect=True)
def test_every_version_can_be_written(unpacked):
    index = rg.Index.open(unpacked, encoder=ColorEncoder())
    assert index.remove("/photos/b.png") == 1
    index.compact(0.0)
    assert [hit.image for hit in index.query("green", top=1)] == ["/photos/copy.png"]
    assert index.verify().faults == []


@pytest.mark.parametrize("unpacked", [FORMAT_VERSION], indirect=True)
def test_a_newer_version_is_refused_with_its_number(unpacked):
    with sqlite3.connect(unpacked / "catalog.sqlite") as connection:
        connection.execute("UPDATE settings SET value = '99' WHERE key = 'format_version'")
    with pytest.raises(rg.StoreError, match=r"format version 99.*upgrade"):
        rg.Index.open(unpacked)


@pytest.mark.parametrize("unpacked", [FORMAT_VERSION], indirect=True)
def test_a_migration_runs_in_place_for_writers_and_in_memory_for_readers(unpacked, monkeypatch):
    """The next version is invented; its catalog has one more setting."""

    def next_version(connection: sqlite3.Connection) -> None:
        value = json.dumps("added by the migration")
        connection.execute("INSERT INTO settings VALUES ('new', ?)", (value,))

    for module in (migrations, open_catalog, shard_file):
        monkeypatch.setattr(module, "FORMAT_VERSION", FORMAT_VERSION + 1)
    monkeypatch.setitem(migrations.MIGRATIONS, FORMAT_VERSION, next_version)
    before = (unpacked / "catalog.sqlite").read_bytes()
    reader = rg.Index.open(unpacked, encoder=ColorEncoder())
    assert reader._catalog.setting("new") == "added by the migration"
    check(reader)
    assert (unpacked / "catalog.sqlite").read_bytes() == before
    reader.remove("/photos/copy.png")
    with sqlite3.connect(unpacked / "catalog.sqlite") as connection:
        stored = dict(connection.execute("SELECT key, value FROM settings"))
    assert stored["format_version"] == str(FORMAT_VERSION + 1)
    assert json.loads(stored["new"]) == "added by the migration"


@pytest.mark.parametrize("unpacked", [FORMAT_VERSION], indirect=True)
def test_a_failed_migration_changes_nothing(unpacked, monkeypatch):
    def failing(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM images")
        raise sqlite3.OperationalError("disk I/O error")

    for module in (migrations, open_catalog):
        monkeypatch.setattr(module, "FORMAT_VERSION", FORMAT_VERSION + 1)
    monkeypatch.setitem(migrations.MIGRATIONS, FORMAT_VERSION, failing)
    with pytest.raises(rg.StoreError, match="cannot be migrated"):
        catalog_module.Catalog(unpacked, writable=True)
    monkeypatch.undo()
    check(rg.Index.open(unpacked, encoder=ColorEncoder()))


def test_a_copied_index_folder_stays_usable(photos, tmp_path, models):
    index = rg.build(photos, tmp_path / "index", **models)
    shutil.copytree(tmp_path / "index", tmp_path / "elsewhere")
    moved = rg.Index.open(tmp_path / "elsewhere", encoder=models["clip"])
    assert moved.query("red") == index.query("red")
