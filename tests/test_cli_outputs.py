"""What ``query`` and ``ground`` print and write: paths, tables on a terminal, files, pages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fakes import ColorEncoder, draw_squares
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.cli.links import supports_links

posix = pytest.mark.skipif(os.name == "nt", reason="terminals and such names are POSIX")


@pytest.fixture
def index(photos, tmp_path, models, monkeypatch) -> Path:
    """An index that the command opens with an instant model."""
    draw_squares(photos / "red & wide.png", {"red": (0, 0, 79, 50)})
    rg.build(photos, tmp_path / "index", options=rg.BuildOptions(progress=False), **models)
    encoder = ColorEncoder()
    monkeypatch.setattr(
        rg.Index, "open", lambda directory, **_: rg.Index(directory, encoder=encoder)
    )
    return tmp_path / "index"


def query(index: Path, *arguments: str):
    return CliRunner().invoke(app, ["query", str(index), *arguments])


def test_paths_are_printed_once_and_nothing_else_is(index, photos):
    done = query(index, "red", "a red one", "--top", "2", "--paths")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == len(set(lines)) == 2
    assert all(Path(line).parent == photos for line in lines)
    ended = query(index, "red", "a red one", "--top", "2", "-0")
    assert ended.stdout_bytes == done.stdout_bytes.replace(b"\n", b"\0")


@posix
def test_xargs_gets_every_path_whatever_its_name(photos, tmp_path, models, monkeypatch):
    names = [
        "a b.png",
        "c'd\".png",
        "new\nline.png",
        "\u00fc\u2028.png",
    ]
    for name in names:
        draw_squares(tmp_path / "x.png", {"red": (0, 0, 70, len(name))}).rename(photos / name)
    rg.build(photos, tmp_path / "index", options=rg.BuildOptions(progress=False), **models)
    monkeypatch.setattr(
        rg.Index, "open", lambda directory, **_: rg.Index(directory, encoder=ColorEncoder())
    )
    done = query(tmp_path / "index", "red", "--print0", "--top", 100)
    printed = done.stdout_bytes.split(b"\0")
    assert {os.fsencode(photos / name) for name in names} < set(printed)
    assert printed[-1] == b""
    refused = query(tmp_path / "index", "red", "--paths")
    assert refused.exit_code == 1
    assert "--print0" in str(refused.exception)


def test_json_and_paths_exclude_each_other(index):
    for option in ("--paths", "-0"):
        done = query(index, "red", "--json", option)
        assert done.exit_code == 2
        assert "use one of them" in done.output.replace("\n", " ")


def test_hits_are_written_for_other_tools(index, tmp_path):
    done = query(
        index, "red", "blue", "--top", "2", "--export", str(tmp_path / "hits.json"),
        "--crops", str(tmp_path / "crops.zip"), "--yolo", str(tmp_path / "yolo"), "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    hits = [hit for answer in json.loads(done.stdout) for hit in answer["hits"]]
    coco = json.loads((tmp_path / "hits.json").read_text())
    assert len(coco["annotations"]) == len(hits) == 4
    with zipfile.ZipFile(tmp_path / "crops.zip") as archive:
        assert len(archive.namelist()) == 4
    assert (tmp_path / "yolo" / "data.yaml").is_file()
    assert "Wrote 4 hits to" in done.stderr


def test_photographs_that_cannot_be_cut_out_are_named(index, photos, tmp_path):
    (photos / "a.png").unlink()
    done = query(index, "red", "--crops", str(tmp_path / "crops"))
    assert done.exit_code == 0
    assert f"left out: {photos / 'a.png'}: missing" in done.stderr
    again = query(index, "red", "--crops", str(tmp_path / "crops"))
    assert again.exit_code == 1
    assert "has files in it; name a new one" in str(again.exception)


def test_a_format_that_hits_do_not_have_is_refused_before_the_work(tmp_path):
    done = query(tmp_path / "nowhere", "red", "--export", "hits.xlsx")
    assert done.exit_code == 2
    assert "use a name that ends in .csv, .parquet, .json" in " ".join(done.output.split())


SHOW = """
import sys
from pathlib import Path
from retrieval_grounding.cli.hits import show_hits
from retrieval_grounding.core.hits import Hit

hits = [Hit("red", name, (1, 2, 30, 40), 1.0, 0.5, "a label", 1) for name in sys.argv[2:]]
page = sys.argv[1]
show_hits([("red", hits)], Path(page) if page.endswith(".html") else None, False, page != "")
"""


def show(page: str, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SHOW, page, *names], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
    )  # fmt: skip


@posix
@pytest.mark.parametrize("named", [True, False])
def test_the_page_opens_in_a_browser(tmp_path, named):
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/opened"\n')
    browser.chmod(0o755)
    page = str(tmp_path / "the page.html") if named else "open"
    show(page, "/nowhere/a.png", BROWSER=f"{browser} %s", TMPDIR=str(tmp_path))
    opened = (tmp_path / "opened").read_text()
    [written] = tmp_path.rglob("*.html")
    assert opened == written.as_uri()
    assert written.name == ("the page.html" if named else "hits.html")
    assert written.read_text().startswith("<!doctype html>")


@posix
def test_without_a_browser_the_page_is_named(tmp_path):
    page = str(tmp_path / "page.html")
    done = show(page, "/nowhere/a.png", PATH=str(tmp_path), BROWSER="", DISPLAY="")
    assert f"No browser could be started; open {page} yourself" in done.stderr


def on_terminal(width: int, *names: str, **environment: str) -> str:
    """Return what a terminal of a width gets."""
    import fcntl
    import pty
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "PYTHONUTF8": "1"}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, "", *names],
        stdin=follower, stdout=follower, stderr=follower, env=kept | variables | environment,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux's end of a terminal
            part = b""
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait() == 0, shown
    return shown.decode().replace("\r\n", "\n")


LONG = f"/home/somebody/pictures/{'a long folder/' * 6}photo日本.jpg"


@posix
@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_path_is_never_broken_on_a_terminal(width):
    shown = on_terminal(width, "/short.jpg", LONG)
    assert f"{LONG} (missing)\n" in shown
    assert "/short.jpg (missing)\n" in shown
    header = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()[1]
    assert header.endswith("image") == (width == 200)
    assert shown.count("1 2 30 40") == 2


@posix
def test_columns_line_up_where_there_is_room():
    shown = on_terminal(200, "/short.jpg", LONG)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()[1:]
    header, *rows = plain
    assert {row.index("/") for row in rows} == {header.rindex("image")}


@posix
def test_a_path_is_a_link_where_the_terminal_shows_links():
    name = "/home/somebody/a photo & <b>.jpg"
    link = f"\x1b]8;;{Path(name).as_uri()}\x1b\\{name} (missing)\x1b]8;;\x1b\\"
    assert link in on_terminal(120, name, TERM="xterm-kitty")
    assert link in on_terminal(120, name, FORCE_HYPERLINK="1")
    assert "\x1b]8" not in on_terminal(120, name)
    evil = on_terminal(120, "/x\x1b]8;;evil\x1b\\.jpg", FORCE_HYPERLINK="1")
    assert evil.count("\x1b]8;;") == 2
    assert "\x1b]8;;evil" not in evil


@pytest.mark.parametrize(
    ("environment", "supported"),
    [
        ({"TERM": "xterm-256color", "VTE_VERSION": "6800"}, True),
        ({"TERM": "xterm-256color", "VTE_VERSION": "4200"}, False),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode"}, True),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, False),
        ({"TERM": "screen-256color", "VTE_VERSION": "6800"}, False),
        ({"WT_SESSION": "1"}, True),
        ({}, False),
    ],
)
def test_terminals_that_are_known_to_show_links(environment, supported):
    assert supports_links(environment) == supported


COMPLETE = """
from retrieval_grounding.cli.app import app
app(prog_name="retrieval-grounding")
"""


def completed(words: str) -> list[str]:
    """Return what bash gets for a line of which the last word is being typed."""
    typed = ["retrieval-grounding", *words.split(" ")]
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE],
        capture_output=True, text=True, check=False,
        env=os.environ | {
            "_RETRIEVAL_GROUNDING_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(typed),
            "COMP_CWORD": str(len(typed) - 1), "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )  # fmt: skip
    return done.stdout.split()


def test_a_shell_completes_commands_options_and_presets():
    assert completed("que") == ["query"]
    assert set(completed("query somewhere --print")) == {"--print0"}
    assert completed("build photos --preset na") == ["nano"]


def test_completion_can_be_shown_and_installed(monkeypatch):
    # Which shell runs the tests does not matter.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    shown = CliRunner().invoke(app, ["--show-completion", "zsh"])
    assert shown.exit_code == 0
    assert "_RETRIEVAL_GROUNDING_COMPLETE" in shown.output or "compdef" in shown.output
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output
