"""The command line, with errors, exit codes and clean stdout; real models in test_nano."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from retrieval_grounding import PRESETS
from retrieval_grounding.cli import app

COMMANDS = (
    "build", "query", "ground", "train", "evaluate", "info", "models", "demo", "remove",
    "compact", "verify",
)  # fmt: skip


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "retrieval_grounding", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command):
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--json" in result.output


def test_help_does_not_import_the_heavy_libraries():
    code = (
        "import sys, retrieval_grounding.cli; "
        "heavy = {'torch', 'numpy', 'h5py', 'faiss', 'ultralytics', 'open_clip', 'PIL'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_lists_the_presets():
    result = CliRunner().invoke(app, ["models", "--json"])
    assert [preset["name"] for preset in json.loads(result.output)] == list(PRESETS)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["query", "nowhere", "a dog"], 1, "there is no index in nowhere"),
        (["info", "nowhere"], 1, "there is no index in nowhere"),
        (["evaluate", "nowhere", "--refs", "x"], 1, "there is no index in nowhere"),
        (["build", "nowhere"], 1, "'nowhere' does not exist"),
        (["ground", "nowhere.jpg", "a dog"], 1, "missing: nowhere.jpg"),
        (["ground", "nowhere.jpg", "  "], 1, "the phrase is empty"),
        (["build"], 2, "Missing argument"),
        (["query", "x", "y", "--top", "0"], 2, "--top"),
        (["fly"], 2, "No such command"),
    ],
)
def test_errors_are_one_sentence_and_an_exit_code(tmp_path, arguments, code, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments, COLUMNS="200")
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_dry_run_and_looking_after_an_index(photos, tmp_path, models):
    import retrieval_grounding as rg

    index = str(tmp_path / "index")
    runner = CliRunner()
    told = runner.invoke(app, ["build", str(photos), "--index", index, "--dry-run", "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) | {"found": 4, "added": 4, "dry_run": True} == json.loads(
        told.stdout
    )
    assert not (tmp_path / "index").exists()
    rg.build(photos, index, **models)
    (photos / "d.png").unlink()
    told = runner.invoke(app, ["build", str(photos), "--index", index, "--dry-run"])
    assert "1 missing (--prune forgets them)" in told.output
    removed = runner.invoke(app, ["remove", index, str(photos / "a.png"), "--json"])
    assert json.loads(removed.stdout)["removed"] == 1
    assert runner.invoke(app, ["remove", index]).exit_code == 2
    compacted = runner.invoke(app, ["compact", index, "--json", "--max-unused", "0"])
    assert json.loads(compacted.stdout)["regions_dropped"] == 2
    verified = runner.invoke(app, ["verify", index])
    assert verified.exit_code == 0
    assert "all is well" in verified.output
