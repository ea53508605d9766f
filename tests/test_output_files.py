"""Files that a user names: ``--html`` and ``--save`` write them as a Unix tool does.

Point 7 of "Trust": the mode of what is replaced is kept, links and devices are written through, a
contradicting suffix is refused, and a full disk leaves the old file.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fakes import draw_squares
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.core.errors import GroundingError
from retrieval_grounding.core.hits import Hit
from retrieval_grounding.core.output_file import write_output
from retrieval_grounding.search.draw import save_picture

posix = pytest.mark.skipif(os.name == "nt", reason="modes, links and devices are POSIX")


@pytest.fixture(params=["html", "save"])
def write(request, tmp_path):
    """A function that writes a page or a picture to a path, and the suffix of such a file."""
    image = draw_squares(tmp_path / "image.png", {"red": (5, 5, 25, 25)})
    hit = Hit("red", str(image), (5, 5, 25, 25), 1.0, 0.5, "red", None)
    if request.param == "html":
        return (lambda path: rg.render_html([hit], path)), ".html"
    return (lambda path: save_picture(image, [hit], path)), ".png"


def begins(path: Path) -> bytes:
    return path.read_bytes()[:4]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o777])
def test_the_mode_of_a_replaced_file_is_kept(write, tmp_path, mode):
    action, suffix = write
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"old")
    path.chmod(mode)
    action(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.stat().st_size > 100


@posix
def test_a_new_file_has_the_usual_mode(write, tmp_path):
    action, suffix = write
    usual = os.umask(0o027)
    try:
        action(tmp_path / f"out{suffix}")
    finally:
        os.umask(usual)
    assert stat.S_IMODE((tmp_path / f"out{suffix}").stat().st_mode) == 0o640


@posix
def test_links_are_written_through(write, tmp_path):
    action, suffix = write
    (tmp_path / "elsewhere").mkdir()
    for target in (
        tmp_path / "elsewhere" / f"old{suffix}",
        tmp_path / "elsewhere" / f"new{suffix}",
    ):
        link = tmp_path / f"link to {target.name}"
        link.symlink_to(target)
        if target.name.startswith("old"):
            target.write_bytes(b"old")
        action(link)
        assert link.is_symlink()
        assert target.stat().st_size > 100
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2


@posix
def test_a_pipe_and_a_device_are_written_to_and_stay(write, tmp_path):
    action, _ = write
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    thread.start()
    action(pipe)
    thread.join()
    assert len(read[0]) > 100
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    action(link)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(write, tmp_path):
    action, suffix = write
    link = tmp_path / f"full{suffix}"
    link.symlink_to("/dev/full")
    with pytest.raises(GroundingError, match=r"^cannot write .*: No space left on device$"):
        action(link)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_a_failure_leaves_the_old_file_and_nothing_else(write, tmp_path, monkeypatch):
    action, suffix = write
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / f"out{suffix}"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GroundingError, match="No space left"):
        action(path)
    assert path.read_bytes() == b"old"
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize(
    "place", ["no/such/folder/x", "folder", "x" * 300, "nul\0", "file/x"], ids=repr
)
def test_places_that_cannot_be_written_are_one_sentence(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GroundingError) as failure:
        write_output(tmp_path / place, b"data")
    assert "\n" not in str(failure.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_file_is_not_replaced(tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(GroundingError, match="may not be written"):
        rg.render_html([], path)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["x.png", "x.JPG", "x.json", "x.csv", "x.txt", "x.pdf"])
def test_a_page_is_not_written_to_a_name_that_means_something_else(tmp_path, name):
    with pytest.raises(GroundingError, match=r"use a name that ends in \.html"):
        rg.render_html([], tmp_path / name)
    done = CliRunner().invoke(app, ["query", "no index", "a dog", "--html", str(tmp_path / name)])
    assert done.exit_code == 2  # before any work
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.html", "x.htm", "x", "2024.01.05", "page.v2"])
def test_names_that_mean_nothing_else_are_fine(tmp_path, name):
    rg.render_html([], tmp_path / name)
    assert begins(tmp_path / name) == b"<!do"


TO_STDOUT = """
import retrieval_grounding as rg
print("before", flush=True)
rg.render_html([], "/dev/stdout", phrases=["a dog"])
print("after")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/stdout of other systems differs")
@pytest.mark.parametrize("to_file", [False, True], ids=["pipe", "file"])
def test_stdout_as_a_file_keeps_what_was_printed(tmp_path, to_file):
    path = tmp_path / "printed"
    with path.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", TO_STDOUT],
            stdout=file if to_file else subprocess.PIPE, check=True,
        )  # fmt: skip
    printed = (path.read_bytes() if to_file else done.stdout).decode()
    assert printed.startswith("before\n<!doctype html>")
    assert printed.endswith("</html>\nafter\n")
