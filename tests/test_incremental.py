"""What a second build finds: new, changed, moved, equal and deleted files."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares, vectors_file
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding import Regions

QUIET = rg.BuildOptions(progress=False)
PRUNE = rg.BuildOptions(progress=False, prune=True)


class CountingDetector(SquareDetector):
    def __init__(self) -> None:
        self.seen = 0

    def detect(self, images):
        self.seen += len(images)
        return super().detect(images)


@pytest.fixture
def detector() -> CountingDetector:
    return CountingDetector()


@pytest.fixture
def build(photos, tmp_path, detector):
    def run(options: rg.BuildOptions = QUIET, sources: object = photos) -> rg.Index:
        encoder = ColorEncoder()
        return rg.build(
            sources, tmp_path / "index", detector=detector, clip=encoder, options=options
        )

    return run


@pytest.fixture
def counts(build, detector):
    """Build again; return the numbers of the report that are not zero, and images embedded."""

    def run(options: rg.BuildOptions = QUIET) -> dict[str, int]:
        before = detector.seen
        report = build(options).build_report
        numbers = ("unchanged", "added", "updated", "moved", "duplicates")
        found = {name: getattr(report, name) for name in numbers}
        assert report.found == sum(found.values()) + len(report.skipped)
        assert report.embedded == detector.seen - before
        found |= {"missing": len(report.missing), "embedded": report.embedded}
        return {name: number for name, number in found.items() if number}

    return run


def names(index: rg.Index) -> list[str]:
    return [Path(image.path).name for image in index.images()]


def found(index: rg.Index, phrase: str) -> set[str]:
    return {Path(hit.image).name for hit in index.query(phrase) if hit.label == phrase}


def test_a_touched_file_is_not_embedded_again(photos, counts):
    assert counts() == {"added": 4, "embedded": 4}
    os.utime(photos / "a.png", ns=(1, 1))
    assert counts() == {"unchanged": 4}


def test_a_young_file_is_compared_by_content(photos, build, counts):
    file = draw_squares(photos / "y.bmp", {"red": (0, 0, 30, 30)})
    status = file.stat()
    build()
    draw_squares(file, {"yellow": (0, 0, 30, 30)})
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # the clock has not ticked
    assert counts() == {"unchanged": 4, "updated": 1, "embedded": 1}
    assert found(build(), "yellow") == {"y.bmp"}


def test_a_moved_file_keeps_its_regions(photos, build, counts):
    before = build().query("green", top=1)[0]
    (photos / "sub").mkdir()
    (photos / "b.png").rename(photos / "sub" / "renamed.png")
    assert counts() == {"unchanged": 3, "moved": 1}
    index = build()
    after = index.query("green", top=1)[0]
    assert (after.region_id, after.box) == (before.region_id, before.box)
    assert Path(after.image).name == "renamed.png"
    assert "b.png" not in names(index)


def test_a_whole_folder_may_move(photos, tmp_path, build, detector):
    build()
    moved = photos.rename(tmp_path / "elsewhere")
    report = build(sources=moved).build_report
    assert (report.moved, report.embedded, report.missing) == (4, 0, [])
    assert len(build(sources=moved)) == 4


def test_two_files_that_swap_names_swap_regions(photos, build, counts):
    build()
    (photos / "a.png").rename(photos / "x.png")
    (photos / "b.png").rename(photos / "a.png")
    (photos / "x.png").rename(photos / "b.png")
    assert counts() == {"unchanged": 2, "updated": 2}
    assert found(build(), "green") == {"a.png"}


def test_equal_files_share_one_embedding_though_the_first_is_still_under_way(photos, build):
    for number in range(9):  # each in a batch of its own, more than the stages hold
        shutil.copy(photos / "b.png", photos / f"b{number}.png")
    report = build(replace(QUIET, batch_images=1, shard_images=1)).build_report
    assert (report.added, report.duplicates, report.embedded) == (4, 9, 4)


def test_equal_files_share_one_embedding(photos, build, counts):
    for name in ("b2.png", "b3.png"):
        shutil.copy(photos / "b.png", photos / name)
    assert counts() == {"added": 4, "duplicates": 2, "embedded": 4}
    index = build()
    assert found(index, "green") == {"b.png", "b2.png", "b3.png"}
    assert len({hit.region_id for hit in index.query("green") if hit.label == "green"}) == 1
    shutil.copy(photos / "a.png", photos / "a2.png")
    assert counts() == {"unchanged": 6, "duplicates": 1}
    (photos / "b.png").unlink()
    assert counts(PRUNE) == {"unchanged": 6, "missing": 1}
    assert found(build(), "green") == {"b2.png", "b3.png"}


def test_deleted_files_are_told_and_pruned_only_if_asked(photos, build):
    build()
    (photos / "b.png").unlink()
    index = build()
    assert [Path(path).name for path in index.build_report.missing] == ["b.png"]
    assert found(index, "green") == {"b.png"}
    index = build(PRUNE)
    assert names(index) == ["a.png", "c.png", "d.png"]
    assert found(index, "green") == set()
    assert build(PRUNE).build_report.missing == []


def test_a_pruned_file_that_comes_back_is_not_embedded_again(photos, tmp_path, build, counts):
    expected = [(h.image, h.box, h.region_id) for h in build().query("green")]
    (photos / "b.png").rename(tmp_path / "b.png")
    build(PRUNE)
    (tmp_path / "b.png").rename(photos / "b.png")
    assert counts() == {"unchanged": 3, "added": 1}
    assert [(h.image, h.box, h.region_id) for h in build().query("green")] == expected


def test_files_outside_the_sources_are_left_alone(photos, tmp_path, build):
    other = tmp_path / "drive"
    other.mkdir()
    draw_squares(other / "z.png", {"yellow": (0, 0, 30, 30)})
    build(sources=[photos, other])
    other.rename(tmp_path / "unplugged")
    index = build(PRUNE)
    assert (len(index), index.build_report.missing) == (5, [])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_keeps_what_is_known_of_it(photos, build):
    build()
    os.utime(photos / "b.png", ns=(1, 1))
    (photos / "b.png").chmod(0)
    index = build()
    assert index.build_report.skipped_reasons == {"unreadable": 1}
    assert found(index, "green") == {"b.png"}


def test_a_file_that_vanishes_before_it_is_read_keeps_what_is_known(photos, build, monkeypatch):
    build()
    draw_squares(photos / "b.png", {"yellow": (0, 0, 9, 9)})

    from retrieval_grounding.data import prefetch

    read = prefetch.read_address

    def vanish(path, stopping):
        if path.endswith("b.png"):
            Path(path).unlink()
        return read(path, stopping)

    monkeypatch.setattr(prefetch, "read_address", vanish)
    index = build()
    assert index.build_report.skipped_reasons == {"missing": 1}
    assert found(index, "green") == {"b.png"}


def test_a_dry_run_says_the_same_and_writes_nothing(photos, tmp_path, build):
    fresh = rg.preview_build(photos, tmp_path / "index")
    assert (fresh.added, fresh.found) == (4, 4)
    assert not (tmp_path / "index").exists()
    build()
    draw_squares(photos / "a.png", {"yellow": (0, 0, 50, 50)}, size=(90, 70))
    draw_squares(photos / "e.png", {"yellow": (3, 3, 9, 9)})
    shutil.copy(photos / "e.png", photos / "f.png")
    (photos / "b.png").rename(photos / "moved.png")
    (photos / "c.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*")}
    told = rg.preview_build(photos, tmp_path / "index", options=PRUNE)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*")} == before
    done = build(PRUNE).build_report
    for number in ("found", "unchanged", "added", "updated", "moved", "duplicates", "missing"):
        assert getattr(told, number) == getattr(done, number), number
    assert (done.added, done.updated, done.moved, done.duplicates) == (1, 1, 1, 1)


def test_removing_by_path_folder_and_pattern(photos, build):
    (photos / "sub").mkdir()
    for number in range(3):
        draw_squares(photos / "sub" / f"s{number}.png", {"yellow": (0, 0, 9 + number, 9)})
    index = build()
    assert len(index) == 7
    assert index.remove(photos / "a.png") == 1
    assert index.remove([photos / "sub"]) == 3
    assert index.remove(glob="*/b.p?g") == 1
    assert names(index) == ["c.png", "d.png"]
    assert found(index, "yellow") == set()
    with pytest.raises(rg.StoreError, match="has no image"):
        index.remove(photos / "nowhere.png")
    with pytest.raises(rg.StoreError, match="begin with"):
        index.remove(glob="b.png")


def vectors(tmp_path: Path) -> bytes:
    return vectors_file(tmp_path / "index").read_bytes()


def test_the_vector_index_follows_and_equals_a_full_rebuild(photos, tmp_path, build):
    small = rg.BuildOptions(shard_images=2, progress=False, prune=True)
    build(small)
    steps = [
        lambda: draw_squares(photos / "e.png", {"red": (1, 1, 7, 7)}),
        lambda: draw_squares(photos / "a.png", {"blue": (1, 1, 7, 7)}),
        lambda: (photos / "b.png").rename(tmp_path / "b.png"),
        lambda: (tmp_path / "b.png").rename(photos / "b.png"),
        lambda: build(small).compact(0),
    ]
    for step in steps:
        step()
        index = build(small)
        followed, hits = vectors(tmp_path), index.query(["red", "green"])
        vectors_file(tmp_path / "index").unlink()
        index = build(small)
        assert vectors(tmp_path) == followed
        assert index.query(["red", "green"]) == hits


def answer(index: rg.Index) -> list[tuple[object, ...]]:
    return sorted((hit.image, hit.box, hit.score, hit.label) for hit in index.query("green"))


def test_compacting_drops_what_is_unused_and_joins_small_shards(photos, tmp_path, build, detector):
    one = rg.BuildOptions(batch_images=1, shard_images=1, progress=False)
    index = build(one)
    draw_squares(photos / "b.png", {"green": (0, 0, 10, 10), "red": (20, 20, 40, 40)})
    index = build(one)
    assert (index.info()["shards"], index.info()["unused_regions"]) == (5, 2)
    before, seen = answer(index), detector.seen
    report = index.compact()
    assert (report.shards_before, report.shards_after, report.regions_dropped) == (5, 1, 2)
    assert report.bytes_freed > 0
    assert answer(index) == before
    assert detector.seen == seen
    assert len(list((tmp_path / "index" / "shards").iterdir())) == 1
    assert index.compact().shards_after == 1
    index.remove([image.path for image in index.images()])
    assert index.compact().shards_after == 0
    assert index.query("green") == []


def rewrite_quietly(path: Path, data: bytes) -> None:
    """Change a file, but not its size and its modification time, as some editors of EXIF do."""
    status = path.stat()
    assert len(data) == status.st_size
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def turn(data: bytes, orientation: int) -> bytes:
    """Return a JPEG with a different Orientation."""
    tag = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00"
    at = data.index(tag) + len(tag)
    return data[:at] + bytes([orientation]) + data[at + 1 :]


@pytest.fixture
def photograph(photos):
    """A JPEG with an Orientation, long enough in place that its time counts."""
    exif = Image.Exif()
    exif[0x0112] = 1
    with Image.open(photos / "a.png") as image:
        image.save(photos / "e.jpg", exif=exif)
    for path in photos.iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return photos / "e.jpg"


CHECK = rg.BuildOptions(progress=False, check_content=True)
FORCE = rg.BuildOptions(progress=False, force=True)


def test_an_orientation_changed_later_is_found_by_checking_the_content(photograph, build, counts):
    build()
    rewrite_quietly(photograph, turn(photograph.read_bytes(), 6))
    assert counts() == {"unchanged": 5}  # size and time say so
    assert counts(CHECK) == {"unchanged": 4, "updated": 1, "embedded": 1}
    [turned] = [image for image in build().images() if image.path == str(photograph)]
    assert (turned.width, turned.height) == (60, 80)
    assert counts(CHECK) == {"unchanged": 5}


def test_checking_the_content_finds_a_damaged_file_that_was_mended_quietly(photos, build, counts):
    sound = (photos / "a.png").read_bytes()
    (photos / "a.png").write_bytes(bytes(len(sound)))
    os.utime(photos / "a.png", (1_600_000_000, 1_600_000_000))
    assert build().build_report.skipped_reasons == {"not-an-image": 1}
    rewrite_quietly(photos / "a.png", sound)
    assert counts(CHECK) == {"unchanged": 3, "added": 1, "embedded": 1}


def test_checking_unchanged_content_writes_nothing(photograph, build, tmp_path):
    build()
    catalog = tmp_path / "index" / "catalog.sqlite"
    before = catalog.read_bytes()
    assert build(CHECK).build_report.unchanged == 5
    assert catalog.read_bytes() == before


def test_forcing_embeds_again_what_is_named_and_nothing_else(photograph, photos, build, detector):
    build()
    seen = detector.seen
    report = build(FORCE, [photos / "a.png", photograph]).build_report
    assert (report.found, report.updated, report.embedded) == (2, 2, 2)
    assert detector.seen == seen + 2


def test_forcing_replaces_the_regions_of_every_copy(photos, tmp_path, build, detector):
    """Also of copies that are not named, and of those named twice."""
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(photos / "a.png", tmp_path / "elsewhere" / "a.png")
    shutil.copy(photos / "a.png", photos / "z.png")
    index = build(QUIET, [photos, tmp_path / "elsewhere"])
    [before] = {(image.shard, image.row) for image in index.images() if image.path[-5] in "az"}
    detector.detect = lambda images: [Regions.whole_image(*image.size) for image in images]
    index = build(FORCE)
    assert (index.build_report.updated, index.build_report.embedded) == (5, 4)
    [after] = {(image.shard, image.row) for image in index.images() if image.path[-5] in "az"}
    assert after != before
    assert index.info()["regions"] == 4  # whole images only
    assert {hit.label for hit in index.query("red", top=9)} == {"whole image"}
    assert index.verify().faults == []
    # What comes back later finds the new regions.
    (photos / "z.png").unlink()
    build(PRUNE)
    shutil.copy(photos / "a.png", photos / "y.png")
    assert build().build_report.duplicates == 1
    assert index.info()["regions"] == 4


def test_forcing_finds_files_that_moved(photos, build, counts):
    build()
    (photos / "a.png").rename(photos / "moved.png")
    assert counts(FORCE) == {"updated": 3, "moved": 1, "embedded": 4}
    assert counts() == {"unchanged": 4}


def test_a_dry_run_of_checking_and_forcing_says_the_same(photograph, photos, build, tmp_path):
    build()
    rewrite_quietly(photograph, turn(photograph.read_bytes(), 6))
    for options in (CHECK, FORCE):
        preview = rg.preview_build(photos, tmp_path / "index", options=options)
        report = build(options).build_report
        assert (preview.unchanged, preview.updated) == (report.unchanged, report.updated)
