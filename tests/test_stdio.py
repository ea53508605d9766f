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
from fakes import ColorEncoder, SquareDetector
import retrieval_grounding as rg

models = {"detector": SquareDetector(), "clip": ColorEncoder()}
build, open_index = rg.build, rg.Index.open
import retrieval_grounding.builder as builder
builder.build = lambda sources, directory, **more: build(sources, directory, **more | models)
rg.Index.open = lambda directory, device="cpu": rg.Index(directory, encoder=models["clip"])
from retrieval_grounding.cli.app import main
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


def run(place: Path, line: str, redirect: str = "", **environment: str):
    """Run a command line through a shell, with `redirect` behind it."""
    script = f'"$PYTHON" -c "$COMMAND" {line} {redirect}'
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", script],
        cwd=place, capture_output=True, timeout=120, check=False,
        env=os.environ | {"PYTHON": sys.executable, "COMMAND": COMMAND, "PYTHONPATH": path}
        | environment,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
def test_names_that_an_encoding_lacks_are_escaped(place, encoding):
    done = run(place, "query index red", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode(encoding).splitlines()
    assert len(lines) == 4
    for name in NAMES:
        escaped = name.encode(encoding, "backslashreplace").decode(encoding)
        assert any(line.endswith(escaped) for line in lines), escaped
    done = run(place, "query index red --json", PYTHONIOENCODING=encoding)
    [found] = json.loads(done.stdout.decode(encoding))
    assert sorted(Path(hit["image"]).name for hit in found["hits"]) == sorted(NAMES)


def test_phrases_and_errors_in_other_scripts_are_escaped(place):
    done = run(place, "query index '赤い犬' --min-probability 0.5", PYTHONIOENCODING="latin-1")
    assert done.returncode == 1
    assert b"error: " in done.stderr
    done = run(place, "query '存在しない' red", PYTHONIOENCODING="latin-1:strict")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"\\u5b58" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_leaves_ends_a_command_as_it_ends_cat(place):
    for line in ("query index red", "query index red --json", "info index --json"):
        done = run(place, line, "| true")
        assert done.returncode in (0, 128 + signal.SIGPIPE), line
        assert done.stderr == b"", line
    done = run(place, "query index red --top 4", "| head -n 1")
    assert (len(done.stdout.splitlines()), done.stderr) == (1, b"")
    slow = run(place, "query index red", "| (exec <&-; sleep 0; exit 0)")
    assert (slow.returncode, slow.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("line", ["query index red", "query index red --json", "info index"])
def test_a_closed_or_full_stdout_is_an_error(place, line):
    done = run(place, line, ">&-")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: cannot write to stdout: ")
    assert done.stderr.count(b"\n") == 1
    if sys.platform == "linux":
        done = run(place, line, "> /dev/full")
        assert done.returncode == 1
        assert done.stderr == b"error: cannot write to stdout: No space left on device\n"


def test_a_closed_stderr_changes_nothing(place):
    for redirect in ("2>&-", "2>&- <&-", "2> /dev/full", "2> >(exec <&-; true)"):
        done = run(place, "query index red unicorn", redirect)
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 8), redirect
        done = run(place, "query index red --min-probability 0.5", redirect)
        assert (done.returncode, done.stdout) == (1, b""), redirect


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
    done = run(place, "query $'no such \\xff index' red --json")
    assert (done.returncode, done.stdout) == (1, b"")


def test_names_that_are_too_long_are_one_sentence(place):
    for line in (
        f"query {'x' * 300} red", f"build photos --index {'x' * 300}",
        f"query index red --html {'x' * 300}.html", f"build {'x' * 300} --index other",
    ):  # fmt: skip
        done = run(place, line)
        assert done.returncode == 1, line
        assert done.stderr.decode().count("\n") == 1, line
        assert b"Traceback" not in done.stderr


def test_json_is_strict(capsys):
    print_json({"a": [float("nan"), float("inf")], "b": (1.5, -float("inf")), "c": "\udcff"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": [None, None], "b": [1.5, None], "c": "\udcff"}


INTERRUPTED = COMMAND.replace(
    "from retrieval_grounding.cli.app import main",
    """
import time
class Slow(SquareDetector):
    def detect(self, images):
        print("detecting", file=sys.stderr, flush=True)
        time.sleep(1.0)
        return super().detect(images)
models["detector"] = Slow()
from retrieval_grounding.cli.app import main""",
)


@pytest.mark.parametrize("presses", [1, 2, 3])
def test_ctrl_c_ends_with_130_and_no_traceback(place, tmp_path, presses):
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, "build", place / "photos", "--index", tmp_path / "i",
         "--batch-images", "1"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
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
