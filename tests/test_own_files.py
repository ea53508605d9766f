"""Nothing of the user's own is lost: what writers delete, and what `--prune` forgets.

Trust, points 6 and 8.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import h5py
import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares

import retrieval_grounding as rg
from retrieval_grounding.core.paths import absolute_path
from retrieval_grounding.models.encoder import Fingerprint
from retrieval_grounding.storage.catalog import Catalog

QUIET = rg.BuildOptions(progress=False)
PRUNE = rg.BuildOptions(progress=False, prune=True)
EMPTIED = rg.BuildOptions(progress=False, prune=True, allow_empty=True)

links = pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")


@pytest.fixture
def build(photos, tmp_path, models):
    def run(sources=photos, options=QUIET, directory=tmp_path / "index") -> rg.Index:
        return rg.build(sources, directory, options=options, **models)

    return run


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names(index: rg.Index) -> list[str]:
    return [Path(image.path).name for image in index.images()]


# Writers delete only what is theirs (point 6)


@pytest.mark.parametrize("name", ["shards/train.h5", "notes.md", ".data.partial", "shards/a/x"])
def test_a_folder_with_other_files_is_refused_and_stays_as_it_is(build, tmp_path, name):
    project = tmp_path / "project"
    (project / name).parent.mkdir(parents=True)
    (project / name).write_bytes(b"mine")
    before = snapshot(project)
    with pytest.raises(rg.StoreError, match="is not an index and has other files") as refused:
        build(directory=project)
    assert "\n" not in str(refused.value)
    with pytest.raises(rg.StoreError, match="other files"):
        rg.preview_build(tmp_path / "photos", project, options=QUIET)
    assert snapshot(project) == before


def test_a_folder_in_which_a_first_build_was_killed_is_used(build, tmp_path):
    started = tmp_path / "index"
    (started / "shards").mkdir(parents=True)
    for name in (".writer.lock", ".writer.json", ".rg-catalog.sqlite.4711.partial"):
        (started / name).write_bytes(b"")
    (started / "shards" / ".rg-000001.h5.4711.partial").write_bytes(b"half")
    assert len(build()) == 4
    assert not list(started.rglob("*.partial"))


def test_foreign_files_in_an_index_are_never_deleted(build, tmp_path):
    build()
    folder = tmp_path / "index"
    foreign = [folder / "shards" / "train.h5", folder / "download.partial", folder / ".x.partial"]
    foreign += [folder / "shards" / ".000002.partial", folder / "shards" / "7.h5"]
    for path in foreign:
        path.write_bytes(b"mine")
    draw_squares(tmp_path / "photos" / "new.png", {"red": (0, 0, 9, 9)})
    index = build()
    index.remove(tmp_path / "photos" / "new.png")
    index.compact(0.0)
    assert all(path.read_bytes() == b"mine" for path in foreign)


def test_a_shard_that_was_never_committed_is_swept(build, tmp_path):
    build()
    shards = tmp_path / "index" / "shards"
    orphan = shutil.copy(shards / "000001.h5", shards / "000002.h5")
    build()
    assert not Path(orphan).exists()


def test_a_foreign_file_with_the_name_of_the_next_shard_is_not_overwritten(build, tmp_path):
    build()
    foreign = tmp_path / "index" / "shards" / "000002.h5"
    with h5py.File(foreign, "w") as file:
        file["measurements"] = [1, 2, 3]
    before = foreign.read_bytes()
    draw_squares(tmp_path / "photos" / "new.png", {"red": (0, 0, 9, 9)})
    with pytest.raises(rg.StoreError, match="not part of this index"):
        build()
    assert foreign.read_bytes() == before


@links
@pytest.mark.parametrize("name", ["shards", "catalog.sqlite"])
def test_writers_follow_no_link_out_of_the_index(build, tmp_path, name):
    index = build()
    outside = tmp_path / "outside"
    (tmp_path / "index" / name).rename(outside)
    (tmp_path / "index" / name).symlink_to(outside)
    orphan = outside / "000009.h5"
    if name == "shards":
        shutil.copy(outside / "000001.h5", orphan)
    for write in (build, lambda: index.compact(0.0), lambda: index.remove(glob="*")):
        with pytest.raises(rg.StoreError, match="is a link"):
            write()
    assert name != "shards" or orphan.exists()


@links
def test_the_whole_folder_of_an_index_may_be_behind_a_link(build, tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "index").symlink_to(tmp_path / "large disk")
    assert len(build()) == len(build()) == 4


# Pruning (point 8)


@pytest.mark.parametrize("error", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_only_what_the_system_says_does_not_exist_is_pruned(build, photos, monkeypatch, error):
    build()
    lstat, stat, scandir = os.lstat, os.stat, os.scandir
    (photos / "b.png").unlink()

    def failing(original):
        def call(path, *rest, **more):
            if str(path).endswith("a.png"):
                raise OSError(error, os.strerror(error), path)
            return original(path, *rest, **more)

        return call

    monkeypatch.setattr(os, "lstat", failing(lstat))
    monkeypatch.setattr(os, "stat", failing(stat))
    monkeypatch.setattr(os, "scandir", lambda path: Hiding(scandir(path), "a.png"))
    index = build(options=PRUNE)
    assert names(index) == ["a.png", "c.png", "d.png"]
    assert [Path(path).name for path in index.build_report.missing] == ["b.png"]
    assert [Path(path).name for path in index.build_report.unreachable] == ["a.png"]


class Hiding:
    """A scan of a folder without one name."""

    def __init__(self, entries, name):
        self._entries = [entry for entry in entries if entry.name != name]

    def __enter__(self):
        return iter(self._entries)

    def __exit__(self, *_):
        return None


def test_an_empty_mount_point_is_not_an_emptied_folder(build, tmp_path, photos):
    drive = tmp_path / "drive"
    drive.mkdir()
    draw_squares(drive / "z.png", {"yellow": (0, 0, 30, 30)})
    build([photos, drive])
    (drive / "z.png").rename(tmp_path / "z.png")
    index = build([photos, drive], PRUNE)
    assert (len(index), index.build_report.missing) == (5, [])
    assert index.build_report.unreachable == [str(drive / "z.png")]
    index = build([photos, drive], EMPTIED)
    assert (len(index), index.build_report.unreachable) == (4, [])


def test_a_collection_that_was_emptied_can_be_pruned_if_asked(build, photos):
    build()
    for path in photos.iterdir():
        path.unlink()
    with pytest.raises(rg.SourceError):
        build(options=PRUNE)
    assert len(build(options=EMPTIED)) == 0


def test_a_drive_that_was_mounted_inside_the_collection_is_missed(build, photos, monkeypatch):
    (photos / "drive").mkdir()
    picture = draw_squares(photos / "drive" / "z.png", {"yellow": (0, 0, 30, 30)})
    ismount = os.path.ismount
    monkeypatch.setattr(os.path, "ismount", lambda p: str(p).endswith("drive") or ismount(p))
    build()
    monkeypatch.undo()
    picture.unlink()
    index = build(options=PRUNE)
    assert (len(index), len(index.build_report.unreachable)) == (5, 1)
    index = build(options=EMPTIED)
    assert (len(index), len(index.build_report.missing)) == (4, 1)
    assert build(options=PRUNE).build_report.unreachable == []


def test_a_missing_folder_of_a_collection_is_one_sentence(build, photos, tmp_path):
    build()
    photos.rename(tmp_path / "unplugged")
    with pytest.raises(rg.SourceError, match="does not exist"):
        build(options=PRUNE)
    assert len(rg.Index.open(tmp_path / "index")) == 4


# A lost catalog


def test_a_lost_catalog_is_rebuilt_from_the_shards(build, tmp_path):
    small = rg.BuildOptions(progress=False, batch_images=1, shard_images=2)
    before = build(options=small).query("green")
    (tmp_path / "index" / "catalog.sqlite").unlink()
    index = build(options=small)
    assert (index.build_report.embedded, index.build_report.added) == (0, 4)
    assert index.query("green") == before
    assert index.verify().faults == []
    assert build().build_report.unchanged == 4


def test_a_rebuild_that_was_killed_is_finished(build, photos, tmp_path, monkeypatch):
    small = rg.BuildOptions(progress=False, batch_images=1, shard_images=2)
    build(options=small)
    (tmp_path / "index" / "catalog.sqlite").unlink()
    commit, commits = Catalog.commit, []

    def fail(catalog, **changes):
        commits.append(changes)
        if len(commits) == 2:
            raise KeyboardInterrupt
        commit(catalog, **changes)

    monkeypatch.setattr(Catalog, "commit", fail)
    with pytest.raises(KeyboardInterrupt):
        build()
    monkeypatch.undo()
    with pytest.raises(rg.StoreError, match="build again"):
        rg.Index.open(tmp_path / "index").compact()
    assert build().build_report.embedded == 0


def test_a_lost_catalog_beside_shards_that_cannot_say_is_refused(build, photos, tmp_path):
    build()
    (tmp_path / "index" / "catalog.sqlite").unlink()
    shard = tmp_path / "index" / "shards" / "000001.h5"
    with h5py.File(shard, "a") as file:
        del file["content_hashes"]
    before = shard.read_bytes()
    with pytest.raises(rg.StoreError, match="from a backup"):
        build()
    assert shard.read_bytes() == before


def test_a_lost_catalog_is_not_rebuilt_for_other_models(photos, build, tmp_path):
    class Other(ColorEncoder):
        fingerprint = Fingerprint("colours", "weights-2", "none")

    build()
    (tmp_path / "index" / "catalog.sqlite").unlink()
    with pytest.raises(rg.StoreError, match="build with these models"):
        rg.build(photos, tmp_path / "index", detector=SquareDetector(), clip=Other(), options=QUIET)
    assert len(build()) == 4


# Paths as a shell means them


@links
def test_dots_behind_a_link_mean_the_folder_that_it_points_to(build, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "inner").mkdir(parents=True)
    shutil.move(tmp_path / "photos", elsewhere / "photos")
    (tmp_path / "photos").mkdir()
    draw_squares(tmp_path / "photos" / "wrong.png", {"blue": (0, 0, 9, 9)})
    (tmp_path / "link").symlink_to(elsewhere / "inner")
    monkeypatch.chdir(tmp_path)
    assert names(build("link/../photos")) == ["a.png", "b.png", "c.png", "d.png"]
    index = rg.Index.open(tmp_path / "index")
    assert index.remove("link/../photos/a.png") == 1
    assert absolute_path("link/./b//c") == str(tmp_path / "link" / "b" / "c")


@links
def test_a_folder_reached_by_two_names_is_indexed_once(build, photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    both = build([photos, tmp_path / "link"])
    assert (both.build_report.found, len(both)) == (4, 4)
    assert [file.reason for file in both.build_report.left_out] == ["same-folder"]
    later = build(tmp_path / "link").build_report
    assert (later.unchanged, later.duplicates) == (4, 0)
    assert build(tmp_path / "link" / "a.png").build_report.unchanged == 1
    assert {Path(image.path).parent for image in both.images()} == {photos}
