"""Closed, broken and narrow stdin, stdout and stderr: commands end as Unix tools do.

Point 15 of "Trust" and point 13 of "Right in the corners": what an encoding lacks is escaped,
nothing is lost, and exit codes hold.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import draw_squares

import retrieval_grounding as rg
from retrieval_grounding.cli.output import print_json

pytestmark = pytest.mark.skipif(os.name == "nt", reason="descriptors and signals are POSIX")

COMMAND = """
import sys
from retrieval_grounding.cli.output import prepare_streams
prepare_streams()  # before the imports of the test take the numbers of closed streams
from retrieval_grounding.cli.app import main
if sys.argv[1] != "models":
    import retrieval_grounding as rg
    import retrieval_grounding.builder as builder
    from fakes import ColorEncoder, SquareDetector

    models = {"detector": SquareDetector(), "clip": ColorEncoder()}
    build = rg.build
    builder.build = lambda sources, directory, **more: build(sources, directory, **more | models)
    rg.Index.open = lambda directory, **more: rg.Index(directory, encoder=models["clip"])
main()
"""

NAMES = ["plain red.png", "日本語 red.png", "émoji 😀.png", "x" * 240 + ".png"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with photographs of difficult names, and their index."""
    folder = tmp_path_factory.mktemp("stdio")
    (folder / "photos").mkdir()
    for number, name in enumerate(NAMES):
        draw_squares(folder / "photos" / name, {"red": (number, 0, 30 + number, 20)})
    done = run(folder, "build photos --index index")
    assert done.returncode == 0, done.stderr
    return folder


def search_path() -> str:
    tests = Path(__file__).parent
    return os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])


def run(place: Path, line: str, redirect: str = "", **environment: str):
    """Run a command line through a shell, with `redirect` behind it."""
    script = f'"$PYTHON" -c "$COMMAND" {line} {redirect}'
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", script],
        cwd=place, capture_output=True, timeout=120, check=False,
        env=os.environ | {"PYTHON": sys.executable, "COMMAND": COMMAND, "PYTHONPATH": search_path()}
        | environment,
    )  # fmt: skip


PRINT = """
import sys
from retrieval_grounding.cli.hits import show_hits
from retrieval_grounding.cli.output import prepare_streams
from retrieval_grounding.core.hits import Hit

prepare_streams()
hits = [Hit("red", name, (1, 2, 3, 4), 1.0, 0.5, "red", 1) for name in sys.argv[2:]]
show_hits([("red", hits)], None, sys.argv[1] == "json")
"""


def printed(place: Path, format: str, encoding: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", PRINT, format, *NAMES], cwd=place, capture_output=True, check=True,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": search_path()},
    )  # fmt: skip
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
def test_names_that_an_encoding_lacks_are_escaped(place, encoding):
    lines = printed(place, "text", encoding).decode(encoding).splitlines()
    assert len(lines) == 4
    for name in NAMES:
        escaped = name.encode(encoding, "backslashreplace").decode(encoding)
        assert any(f"\t{escaped}\tmissing" in line for line in lines), escaped
    [found] = json.loads(printed(place, "json", encoding).decode(encoding))
    assert [hit["image"] for hit in found["hits"]] == NAMES


def test_phrases_and_errors_in_other_scripts_are_escaped(place):
    done = run(place, "query index '赤い犬' --min-probability 0.5", PYTHONIOENCODING="latin-1")
    assert done.returncode == 1
    assert b"error: " in done.stderr
    done = run(place, "query '存在しない' red", PYTHONIOENCODING="latin-1:strict")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"\\u5b58" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_leaves_ends_a_command_as_it_ends_cat(place):
    for line in ("models", "models --json", "query index red"):
        left = run(place, line, "| (exec <&-; exit 0)")
        assert (left.returncode, left.stderr) == (128 + signal.SIGPIPE, b""), line
    done = run(place, "models", "| head -n 1")
    assert (len(done.stdout.splitlines()), done.stderr) == (1, b"")


@pytest.mark.parametrize("line", ["models", "models --json"])
def test_a_closed_or_full_stdout_is_an_error(place, line):
    done = run(place, line, ">&-")
    assert done.returncode == 1
    assert done.stderr == b"error: cannot write to stdout: Bad file descriptor\n"
    if sys.platform == "linux":
        done = run(place, line, "> /dev/full")
        assert done.returncode == 1
        assert done.stderr == b"error: cannot write to stdout: No space left on device\n"


def test_a_closed_stderr_changes_nothing(place):
    for redirect in ("2>&- <&-", "2> /dev/full", "2> >(exec <&-; true)"):
        done = run(place, "query index red unicorn x", redirect)  # with a hint on stderr
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 12), redirect
    done = run(place, "query index red --min-probability 0.5", "2>&-")
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_build_with_every_stream_closed_indexes_everything(place, tmp_path):
    done = run(place, f"build photos --index '{tmp_path / 'new'}'", ">/dev/null 2>&- <&-")
    assert done.returncode == 0
    index = rg.Index.open(tmp_path / "new")
    assert (len(index), index.skipped(), index.verify().faults) == (4, [], [])
    done = run(place, f"build photos --index '{tmp_path / 'closed'}'", ">&- 2>&- <&-")
    assert done.returncode == 1  # its report could not be written
    index = rg.Index.open(tmp_path / "closed")
    assert (len(index), index.skipped(), index.verify().faults) == (4, [], [])


def test_names_that_are_not_text_are_escaped(place):
    done = run(place, "query $'no such \\xff index' red")
    assert done.returncode == 1
    assert b"\\udcff" in done.stderr


def test_names_that_are_too_long_are_one_sentence(place):
    for line in (f"query {'x' * 300} red", f"build photos --index {'x' * 300}"):
        done = run(place, line)
        assert done.returncode == 1, line
        assert done.stderr.decode().count("\n") == 1, line
        assert b"Traceback" not in done.stderr


def test_json_is_strict(capsys):
    print_json({"a": [float("nan"), float("inf")], "b": (1.5, -float("inf")), "c": "\udcff"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": [None, None], "b": [1.5, None], "c": "\udcff"}


INTERRUPTED = COMMAND.replace(
    "    build = rg.build",
    """
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit none
    import time
    class Slow(SquareDetector):
        def detect(self, images):
            print("detecting", file=sys.stderr, flush=True)
            time.sleep(1.0)
            return super().detect(images)
    models["detector"] = Slow()
    build = rg.build""",
)


@pytest.mark.slow
@pytest.mark.parametrize("presses", [1, 2, 3])
def test_ctrl_c_ends_with_130_and_no_traceback(place, tmp_path, presses):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, "build", place / "photos", "--index", tmp_path / "i",
         "--batch-images", "1"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": search_path()},
    )  # fmt: skip
    while b"detecting" not in process.stderr.readline():
        assert process.poll() is None
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert time.monotonic() - began < 30  # it did not finish the build instead
    assert rg.Index.open(tmp_path / "i").verify().faults == []
