"""Files and folders as a shell means them: what is searched, what is left out, what is said.

Right in the corners, points 3 to 6, and removing many paths (point 11).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import draw_squares
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.core import progress
from retrieval_grounding.core.progress import progress_bar
from retrieval_grounding.data.sources import search
from retrieval_grounding.indexing.place import default_directory
from retrieval_grounding.storage.catalog import Catalog

QUIET = rg.BuildOptions(progress=False)
links = pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")


@pytest.fixture
def build(photos, tmp_path, models):
    def run(sources=photos, directory=tmp_path / "index", **options) -> rg.Index:
        chosen = rg.BuildOptions(progress=False, **options)
        return rg.build(sources, directory, options=chosen, **models)

    return run


@pytest.fixture
def terminal(tmp_path, models, monkeypatch):
    """Run the command line in `tmp_path` with instant models."""
    monkeypatch.chdir(tmp_path)
    original = rg.build
    monkeypatch.setattr(
        "retrieval_grounding.builder.build",
        lambda sources, directory, **more: original(sources, directory, **more | models),
    )

    def run(*arguments):
        result = CliRunner().invoke(app, arguments)
        if isinstance(result.exception, rg.GroundingError):
            assert "\n" not in str(result.exception)
            return 1, str(result.exception)
        return result.exit_code, result.output

    return run


def draw(path: Path, number: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return draw_squares(path, {"yellow": (0, 0, 5 + number, 9)})


def relative(paths, root: Path) -> list[str]:
    return sorted(str(Path(path).relative_to(root)) for path in paths)


def left_out(index: rg.Index, root: Path) -> dict[str, str]:
    files = index.build_report.left_out
    return {str(Path(file.path).relative_to(root)): file.reason for file in files}


# What is left out (point 3)


def test_an_unreadable_folder_is_reported_and_skipped(build, photos, monkeypatch):
    draw(photos / "lost+found" / "x.png")
    draw(photos / "z" / "y.png", 2)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    index = build()
    assert len(index) == 5
    assert left_out(index, photos) == {"lost+found": "unreadable-folder"}
    with pytest.raises(rg.SourceError, match="Permission denied"):
        build(photos / "lost+found")


def test_folders_of_machines_and_hidden_ones_are_left_out_and_reported(build, photos):
    names = ("@eaDir", "$RECYCLE.BIN", ".thumbnails", "node_modules", "__MACOSX", ".cache")
    for number, name in enumerate(names):
        draw(photos / name / "x.png", number)
    draw(photos / "._a.png")
    index = build()
    assert len(index) == 4
    expected = dict.fromkeys(names, "machine-folder") | {"._a.png": "hidden"}
    expected |= {".thumbnails": "hidden", ".cache": "hidden"}
    assert left_out(index, photos) == expected
    assert build(photos / ".cache").build_report.added == 1  # named by the user
    index = build(include=("node_modules", "._a.png"))
    assert index.build_report.added + index.build_report.duplicates == 2
    assert "node_modules" not in left_out(index, photos)


def test_globs_and_ignore_files_leave_out_what_they_name(build, photos):
    draw(photos / "drafts" / "x.png", 1)
    draw(photos / "drafts" / "keep.png", 2)
    draw(photos / "trip" / "raw" / "y.png", 3)
    (photos / ".rgignore").write_text("\ufeff# mine\r\n/d.png\r\ndrafts/*\r\n!keep.png\r\n")
    (photos / "trip" / ".rgignore").write_text("raw/\n")
    index = build(exclude=("b.*",))
    assert relative((i.path for i in index.images()), photos) == [
        "a.png", "c.png", "drafts/keep.png",
    ]  # fmt: skip
    assert left_out(index, photos) == {
        "b.png": "excluded", "d.png": "ignored", "drafts/x.png": "ignored", "trip/raw": "ignored",
    }  # fmt: skip
    index = build(exclude=("b.*",), include=("/d.png",))
    assert "d.png" not in left_out(index, photos)


def test_globs_also_leave_out_what_lists_and_patterns_name(build, photos):
    (photos / "list.txt").write_text("a.png\nb.png\n")
    assert build(photos / "list.txt", exclude=("b.png",)).build_report.added == 1
    assert build(str(photos / "*.png"), exclude=("b.png",)).build_report.added == 2


def test_a_pattern_that_is_not_valid_is_one_sentence(build):
    with pytest.raises(rg.SourceError, match="--exclude has a pattern that is not valid"):
        build(exclude=("!",))


def test_what_was_removed_stays_removed_until_it_is_asked_back(build, photos):
    index = build()
    index.remove([photos / "a.png", photos / "b.png"])
    os.utime(photos / "a.png", ns=(1, 1))
    again = build()
    assert len(again) == 2
    assert left_out(again, photos) == {"a.png": "removed", "b.png": "removed"}
    assert build().build_report.found == 2
    named = build([photos, photos / "a.png"]).build_report
    assert (named.added, named.embedded) == (1, 0)
    assert (len(build(restore=True)), len(build())) == (4, 4)


# Where an index is (point 4)


def test_the_folder_of_an_index_is_never_searched(build, photos, tmp_path):
    inside = photos / "my index"
    build(directory=inside)
    draw(inside / "matcher-curve.png")
    index = build(directory=inside)
    assert (len(index), left_out(index, photos)["my index"]) == (4, "index-folder")
    other = build(directory=tmp_path / "other")
    assert left_out(other, photos)["my index"] == "index-folder"
    listed = build([photos / "a.png", inside / "matcher-curve.png"], directory=inside)
    assert left_out(listed, photos) == {"my index/matcher-curve.png": "index-folder"}
    with pytest.raises(rg.SourceError, match="index-folder"):
        build(inside, directory=tmp_path / "third")


def test_default_names_are_those_of_the_folders(photos, tmp_path, monkeypatch):
    dated = tmp_path / "2024.01.05"
    shutil.copytree(photos, dated / "inner")
    monkeypatch.chdir(dated / "inner")
    name = {source: default_directory([source]).name for source in ("..", ".", "../inner")}
    assert name == {"..": "2024.01.05", ".": "inner", "../inner": "inner"}
    assert default_directory([str(photos / "*.png")]).name == "photos"
    assert default_directory([str(tmp_path / "2024.01.05")]).name == "2024.01.05"
    assert default_directory(["list.2024.txt"]).name == "list.2024"
    with pytest.raises(rg.StoreError, match="--index"):
        default_directory(["/"])


@pytest.mark.parametrize(
    "arguments",
    [["build", ""], ["build", "photos", "--index", ""], ["build", "photos", "--index", "photos"]],
)
def test_places_that_make_no_sense_are_one_sentence(terminal, tmp_path, photos, arguments):
    before = sorted(tmp_path.rglob("*"))
    code, _ = terminal(*arguments)
    assert code in (1, 2)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_home_folder_that_the_shell_did_not_see_is_found(terminal, tmp_path, photos, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert terminal("build", "photos", "--index=~/x")[0] == 0
    assert (tmp_path / "home" / "x" / "catalog.sqlite").is_file()
    assert not (tmp_path / "~").exists()
    assert terminal("remove", "~/x", "photos/a.png")[0] == 0


def test_two_folders_of_one_name_do_not_share_an_index(terminal, tmp_path, photos):
    shutil.copytree(photos, tmp_path / "b" / "photos")
    assert terminal("build", "photos")[0] == 0
    assert terminal("build", "photos")[0] == 0
    code, message = terminal("build", "b/photos")
    assert (code, "the index of other images" in message) == (1, True)
    assert terminal("build", "b/photos", "--dry-run")[0] == 1
    assert terminal("build", "photos", "b/photos")[0] == 0  # asked for both
    assert terminal("build", "b/photos", "--index", "indexes/photos")[0] == 0


# Links, patterns and lists (point 5)


@links
def test_linked_folders_are_named_and_followed_if_asked(build, tmp_path):
    album, real = tmp_path / "album", tmp_path / "real"
    draw(real / "x.png")
    album.mkdir()
    (album / "link").symlink_to(real)
    with pytest.raises(rg.SourceError, match="--follow-links"):
        build(album)
    (real / "loop").symlink_to(album)
    index = build(album, follow_links=True)
    assert relative((image.path for image in index.images()), album) == ["link/x.png"]
    draw(album / "y.png", 2)
    assert left_out(build(album), album) == {"link": "linked-folder"}


@links
def test_a_folder_and_a_link_to_it_give_each_photograph_once(build, photos):
    draw(photos / "z" / "x.png")
    (photos / "a link").symlink_to(photos / "z")
    index = build(follow_links=True)
    paths = [image.path for image in index.images()]
    assert (len(paths), str(photos / "z" / "x.png") in paths) == (5, True)
    assert left_out(index, photos) == {"a link": "same-folder"}


@links
def test_links_to_files_and_broken_links_have_an_outcome_each(build, photos):
    (photos / "again.png").symlink_to(photos / "a.png")
    (photos / "broken.png").symlink_to("nowhere")
    (photos / "circle.png").symlink_to("circle.png")
    report = build().build_report
    assert (report.added, report.duplicates) == (4, 1)
    assert report.skipped_reasons == {"missing": 1, "unreadable": 1}
    assert build([photos / "broken.png", photos / "a.png"]).build_report.found == 2


def test_patterns_work_below_folders_with_brackets(tmp_path):
    trip = tmp_path / "trip [2024]"
    draw(trip / "a.png")
    draw(trip / "day [1]" / "b.png")
    draw(trip / "c[1].png")
    assert relative(rg.find_images(str(trip / "*.png")), trip) == ["a.png", "c[1].png"]
    assert relative(rg.find_images(str(trip / "**" / "b*")), trip) == ["day [1]/b.png"]
    assert relative(rg.find_images(str(trip / "*" / "*.png")), trip) == ["day [1]/b.png"]
    assert relative(rg.find_images(str(trip / "c[1].png")), trip) == ["c[1].png"]
    found = rg.find_images(str(tmp_path / "t* [2024]" / "*"))  # folders too, as a shell's pattern
    assert relative(found, trip) == ["a.png", "c[1].png", "day [1]/b.png"]


@pytest.mark.parametrize(
    "content",
    [
        b"a.png\0b.png\0",
        b"\xef\xbb\xbfa.png\r\nb.png\r\n",
        "a.png\nb.png\n".encode("utf-16"),
        b"  a.png \n\n\tb.png",
        b"a.png\nphotos/../b.png",
    ],
)
def test_lists_are_read_as_tools_write_them(photos, content):
    (photos / "photos").mkdir()
    (photos / "list.txt").write_bytes(content)
    assert relative(rg.find_images(photos / "list.txt"), photos) == ["a.png", "b.png"]


def test_the_list_of_the_shared_cases_is_read_or_refused_in_a_sentence(shared, tmp_path):
    source = shared("cases/08_print0_list.txt")
    with pytest.raises(rg.SourceError, match="none of the 2 paths") as refused:
        rg.find_images(source)
    assert "/tmp/a.png" in str(refused.value)
    draw(tmp_path / "a.png")
    (tmp_path / "list.txt").write_bytes(source.read_bytes().replace(b"/tmp/", b""))
    assert relative(rg.find_images(tmp_path / "list.txt"), tmp_path) == ["a.png", "b.png"]


def test_unusual_names_in_lists_are_kept(tmp_path):
    names = [" blanks .png", "line\u2028separator.png", "form\x0cfeed.png"]
    for number, name in enumerate(names):
        draw(tmp_path / name, number)
    (tmp_path / "list.txt").write_text("\n".join(names), encoding="utf-8")
    assert relative(rg.find_images(tmp_path / "list.txt"), tmp_path) == sorted(names)


@pytest.mark.parametrize(("stored", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_match_in_both_unicode_forms(build, tmp_path, stored, asked):
    def name(text: str, form: str) -> str:
        return unicodedata.normalize(form, text)

    folder = tmp_path / name("Übung", stored)
    draw(folder / name("café.png", stored))
    draw(folder / name("naïve.png", asked), 2)
    other = tmp_path / name("Übung", asked)
    (tmp_path / "list.txt").write_text(str(other / name("café.png", asked)), encoding="utf-8")
    assert len(build(tmp_path / "list.txt")) == 1
    index = build(other)
    assert (index.build_report.added, index.build_report.unchanged) == (1, 1)
    assert len(build(str(other / name("caf*é.png", asked)))) == 2
    assert len(build(exclude=(name("café.png", asked),), sources=folder)) == 2
    expression = {"expression": "x", "bbox_xywh": [1, 1, 9, 9]}
    records = [expression | {"image": name(text, asked)} for text in ("café.png", "naïve.png")]
    records.append(expression | {"image": str(other / name("café.png", asked))})
    (tmp_path / "refs.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert index.evaluate(tmp_path / "refs.jsonl").expressions == 3
    assert index.remove(other / name("café.png", asked)) == 1
    assert index.remove(glob=f"*{name('ï', stored)}*") == 1


def test_files_with_an_images_name_are_counted_by_reason(build, photos):
    suffixes = {
        "avci": "avci", "jxl": "jxl", "svg": "svg", "pdf": "pdf", "psd": "psd", "AI": "eps",
        "ico": "ico", "hdr": "exr",
    }  # fmt: skip
    for suffix in suffixes:
        (photos / f"x.{suffix}").write_bytes(b"x")
    (photos / "notes.md").write_bytes(b"x")
    report = build().build_report
    found = {Path(file.path).suffix[1:]: file.reason for file in report.skipped}
    assert found == {suffix: f"{kind}-not-supported" for suffix, kind in suffixes.items()}
    assert (report.found, report.added, report.other_files) == (12, 4, 1)
    again = build()
    assert again.build_report.skipped_reasons == report.skipped_reasons
    assert len(again.skipped()) == 8
    (photos / "x.pdf").unlink()
    assert len(build().skipped()) == 7


def test_a_folder_of_unusable_files_is_no_success(terminal, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "x.svg").write_bytes(b"x")
    (bad / "y.PDF").write_bytes(b"x")
    code, message = terminal("build", "bad")
    assert code == 1
    assert "1 svg-not-supported, 1 pdf-not-supported" in message
    (bad / "z.png").write_bytes(b"no image")
    code, message = terminal("build", "bad")
    assert code == 1
    assert "none of the 3 files can be used" in message
    assert terminal("build", "bad")[0] == 1
    draw(bad / "good.png")
    assert terminal("build", "bad")[0] == 0


@pytest.mark.parametrize("name", ["photos.zip", "notes.jpg"])
def test_one_unusable_file_is_no_success(terminal, tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    code, message = terminal("build", name, "--index", "index")
    assert code == 1
    assert "truncated" in message or "not-an-image" in message


# Progress reaches a log (point 6)


def test_progress_reaches_a_log(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS_PER_LINE", 0.05)
    with progress_bar("Indexing", 1000, "images") as advance:
        advance(250)
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert lines[0].startswith("Indexing: 250 of 1,000 images, ")
    with progress_bar("Indexing", 10, "images", shown=False) as advance:
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


# Removing many paths (point 11)


def test_removing_ten_thousand_paths_does_not_compare_all_with_all(tmp_path, monkeypatch):
    from retrieval_grounding.indexing.remove import _Names

    known = [f"/photos/{number // 100}/{number}.png" for number in range(10_000)]
    looked = []
    catalog = SimpleNamespace(known_files=lambda: dict.fromkeys(known), paths_at=lambda path: [])
    names = _Names(catalog)
    original = names._look_up
    monkeypatch.setattr(names, "_look_up", lambda *args: looked.append(1) or original(*args))
    assert [names.find(path) for path in known] == [[path] for path in known]
    assert len(looked) == len(known)
    assert len(names.find("/photos/7")) == 100


def test_search_names_mounts_only_where_there_are_some(photos):
    assert search(photos, QUIET).mounts == set()


def test_a_catalog_finds_images_below_a_folder(build, photos, tmp_path):
    draw(tmp_path / "photos2" / "x.png")
    build([photos / "a.png", tmp_path / "photos2"])
    catalog = Catalog(tmp_path / "index")
    places = (photos, photos / "a.png", photos / "b.png", tmp_path, tmp_path / "photo")
    assert [catalog.has_images_at(str(place)) for place in places] == [
        True,
        True,
        False,
        True,
        False,
    ]
