"""``query`` without a phrase: a prompt on a terminal, line by line from a pipe."""

from __future__ import annotations

import codecs
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app

SESSION = """
import fcntl, signal, termios
from fakes import ColorEncoder
import retrieval_grounding as rg
from retrieval_grounding.cli.app import main

fcntl.ioctl(0, termios.TIOCSCTTY)  # so that Ctrl-C gets here
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
rg.Index.open = lambda directory, **more: rg.Index(directory, encoder=ColorEncoder())
main()
"""
ARROW_UP, CTRL_C, CTRL_D = b"\x1b[A", b"\x03", b"\x04"


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prompt")
    (folder / "photos").mkdir()
    draw_squares(folder / "photos" / "a.png", {"red": (5, 5, 25, 25)})
    draw_squares(folder / "photos" / "b.png", {"green": (30, 10, 60, 40)})
    options = rg.BuildOptions(progress=False)
    models = {"detector": SquareDetector(), "clip": ColorEncoder()}
    return rg.build(folder / "photos", folder / "index", options=options, **models).directory


@pytest.fixture
def ask(index, monkeypatch):
    """Return a function that runs ``query`` with a text as standard input."""
    monkeypatch.setattr(
        rg.Index, "open", lambda directory, **_: rg.Index(directory, encoder=ColorEncoder())
    )

    def run(text: str | bytes, *options: str):
        return CliRunner().invoke(app, ["query", str(index), "--top", "1", *options], input=text)

    return run


def test_each_line_of_a_pipe_is_a_phrase(ask):
    done = ask("red\n\n   \n  a green thing\t\nred")
    assert done.exit_code == 0, done.output
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(row[0], Path(row[5]).name) for row in rows] == [
        ("red", "a.png"),
        ("a green thing", "b.png"),
        ("red", "a.png"),
    ]
    assert done.stderr == ""


def test_each_phrase_gets_a_line_of_json(ask):
    done = ask("red\nan apple\u2028\ngreen\n", "--json")
    answers = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert [answer["phrase"] for answer in answers] == ["red", "an apple", "green"]
    assert Path(answers[2]["hits"][0]["image"]).name == "b.png"
    alone = json.loads(ask("", "green", "--json").stdout)
    assert answers[2] == alone[0]


@pytest.mark.parametrize("bad", ["\u200b", "\x01\x02", "x" * 50_000], ids=["blank", "ctrl", "long"])
def test_a_bad_line_is_reported_and_the_next_is_answered(ask, bad):
    done = ask(f"red\n{bad}\ngreen\n")
    assert done.exit_code == 1
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["red", "green"]
    assert done.stderr.startswith("error: the phrase is ")
    assert len(done.stderr.splitlines()) == 1
    answers = list(map(json.loads, ask(f"red\n{bad}\ngreen\n", "--json").stdout.splitlines()))
    assert ["error" in answer for answer in answers] == [False, True, False]


def test_options_of_a_query_apply_to_each_line_and_a_bad_clause_ends_nothing(ask):
    done = ask("red\ngreen size:x\ngreen -red\n", "--folder", "photos", "--explain")
    assert done.exit_code == 1
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [Path(row[5]).name for row in rows] == ["a.png"]
    assert "error: " in done.stderr
    assert "cosine" in done.stderr


def test_a_wrong_option_is_reported_before_the_prompt(ask):
    done = ask("red\n", "--min-size", "x")
    assert (done.exit_code, done.stdout) == (2, "")


def test_an_example_needs_no_phrase_and_asks_for_none(ask, index):
    done = ask("green\n", "--like", f"{index.parent}/photos/a.png:5,5,25,25", "--paths")
    assert done.exit_code == 0, done.output
    assert [Path(line).name for line in done.stdout.splitlines()] == ["a.png"]


def test_bytes_that_are_no_text_are_dropped(ask):
    done = ask(b"red \xff\xfe\ngreen\n")
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 2


def test_no_phrase_at_all_is_a_mistake(ask, tmp_path):
    for text in ("", "\n \n"):
        done = ask(text)
        assert done.exit_code == 2
        assert "there is no phrase" in done.stderr
    done = ask("red\n", "--html", str(tmp_path / "page.html"))
    assert done.exit_code == 2
    assert not (tmp_path / "page.html").exists()


class Terminal:
    """A command that believes it runs on a terminal."""

    def __init__(self, *arguments: object, **streams: int) -> None:
        import pty

        self.master, slave = pty.openpty()
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SESSION, *map(str, arguments)],
            **{"stdin": slave, "stdout": slave, "stderr": slave} | streams,
            start_new_session=True,
            env=os.environ | {"TERM": "xterm", "PYTHONPATH": os.pathsep.join(paths)},
        )
        os.close(slave)
        self.shown = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end inside a character

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def read_until(self, text: str) -> str:
        """Return what is shown up to `text`."""
        deadline = time.monotonic() + 300
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.master], [], [], 1)[0]:
                try:
                    self.shown += self.decoder.decode(os.read(self.master, 4096))
                except OSError:  # the other side is closed
                    pytest.fail(f"it ended after {self.shown!r}")
        before, _, self.shown = self.shown.partition(text)
        return before

    def end(self) -> int:
        try:
            return self.process.wait(60)
        finally:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)
            os.close(self.master)


@pytest.mark.skipif(os.name == "nt", reason="pseudoterminals are POSIX")
def test_a_terminal_gets_a_prompt_with_history_that_survives_mistakes(index):
    terminal = Terminal("query", index, "--top", "1")
    assert "Ctrl-D ends" in terminal.read_until("> ")
    terminal.type(b"red\n")
    assert "a.png" in terminal.read_until("> ")
    terminal.type(b"\n")
    terminal.read_until("> ")
    terminal.type("\u200b\n".encode())
    assert "error: the phrase is empty" in terminal.read_until("> ")
    terminal.type(b"half a phr")
    terminal.read_until("half a phr")  # Python loses a Ctrl-C that comes while it reads a key
    time.sleep(0.2)
    terminal.type(CTRL_C)
    terminal.read_until("> ")
    terminal.type(b"a green thing\n")
    assert "b.png" in terminal.read_until("> ")
    pytest.importorskip("readline")
    terminal.type(3 * ARROW_UP + b"\n")
    assert "a.png" in terminal.read_until("> ")
    terminal.type(CTRL_D)
    assert terminal.end() == 0


@pytest.mark.skipif(os.name == "nt", reason="pseudoterminals are POSIX")
def test_results_go_into_a_pipe_without_the_prompt(index):
    terminal = Terminal("query", index, "--top", "1", stdout=subprocess.PIPE)
    terminal.read_until("> ")
    terminal.type(b"red\n")
    terminal.read_until("> ")
    terminal.type(CTRL_D)
    out = terminal.process.stdout.read().decode()
    assert terminal.end() == 0
    assert out.startswith("red\t")
    assert out.endswith("a.png\n")
