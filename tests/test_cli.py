"""The command line, with errors, exit codes and clean stdout; real models in test_nano."""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding import PRESETS
from retrieval_grounding.cli.app import app
from retrieval_grounding.cli.hits import print_hits
from retrieval_grounding.cli.output import print_table, shown_path
from retrieval_grounding.indexing.consent import remember_consent

COMMANDS = [command.callback.__name__ for command in app.registered_commands]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "retrieval_grounding", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_json_and_verbose(command):
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--json" in result.output
    assert "--verbose" in result.output


def test_help_does_not_import_the_heavy_libraries():
    code = (
        "import sys, retrieval_grounding.cli.app; "
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
        (["ground", "nowhere.jpg", "a dog"], 1, "nowhere.jpg does not exist"),
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


@pytest.fixture
def index(photos, tmp_path, models, monkeypatch):
    """An index whose encoder the command line can load."""
    import retrieval_grounding as rg

    monkeypatch.setattr(
        "retrieval_grounding.indexing.model_spec.load_encoder", lambda *_: models["clip"]
    )
    built = rg.build(photos, tmp_path / "index", options=rg.BuildOptions(progress=False), **models)
    connection = sqlite3.connect(built.directory / "catalog.sqlite")
    with connection:
        connection.execute("UPDATE settings SET value = '\"colors\"' WHERE key = 'clip'")
    connection.close()
    remember_consent(built.directory, "clip", "colors")
    return built.directory


def test_results_name_every_phrase(index, tmp_path):
    arguments = ["query", str(index), "red", "a green thing", "--min-probability"]
    result = CliRunner().invoke(app, [*arguments, "0", "--top", "1", "--json"])
    results = json.loads(result.stdout)
    assert [entry["phrase"] for entry in results] == ["red", "a green thing"]
    assert [len(entry["hits"]) for entry in results] == [1, 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "retrieval_grounding.search.answer.filter_by_probability",
            lambda hits, _: [hit for hit in hits if hit.phrase == "red"],
        )
        results = json.loads(CliRunner().invoke(app, [*arguments, "1", "--json"]).stdout)
        assert [bool(entry["hits"]) for entry in results] == [True, False]
        page = tmp_path / "page.html"
        result = CliRunner().invoke(app, [*arguments, "1", "--html", str(page)])
    assert "Nothing here matches 'a green thing'." in result.stderr
    assert "Nothing" not in result.stdout
    assert "a green thing" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ([], [], ["warning"]),
        (["-v"], [], ["warning", "info"]),
        ([], ["--verbose"], ["warning", "info"]),
        ([], ["-vv"], ["warning", "info", "debug"]),
        (["-v"], ["-v"], ["warning", "info", "debug"]),
    ],
)
def test_verbose_shows_log_records_on_stderr(index, monkeypatch, caplog, before, after, shown):
    logger = logging.getLogger("retrieval_grounding.search")

    def log_and_keep(hits, _):
        for level in (logging.WARNING, logging.INFO, logging.DEBUG):
            logger.log(level, "about %s\x1b[31m", "hits")
        return hits

    monkeypatch.setattr("retrieval_grounding.search.answer.filter_by_probability", log_and_keep)
    arguments = [*before, "query", str(index), "red", "--json", *after]
    done = CliRunner().invoke(app, arguments)
    lines = [line for line in done.stderr.splitlines() if "about hits" in line]
    assert lines == [f"{level}: about hits\\x1b[31m" for level in shown]
    assert json.loads(done.stdout)[0]["phrase"] == "red"
    # Nothing of it stays for a program that calls the command line.
    logger.warning("afterwards")
    assert caplog.messages == ["afterwards"]


def test_log_lines_stand_above_a_progress_bar():
    code = (
        "import logging\n"
        "from retrieval_grounding.cli import logs\n"
        "from retrieval_grounding.core.progress import progress_bar\n"
        "logger = logging.getLogger('retrieval_grounding')\n"
        "logger.addHandler(logs._HANDLER)\n"
        "with progress_bar('reading', 2, 'images') as advance:\n"
        "    advance(1)\n"
        "    logger.warning('careful')\n"
        "    advance(1)\n"
    )
    environment = os.environ | {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.stderr).replace("\r", "\n").splitlines()
    assert "warning: careful" in [line.strip() for line in lines]
    assert any(line.startswith("reading") and "2/2" in line for line in lines)


def test_a_mistyped_index_lists_similar_names(index, monkeypatch):
    monkeypatch.chdir(index.parent)
    done = run("info", "indx")
    assert done.returncode == 1
    assert "there is no index in indx but there is in index; make one" in done.stderr


def test_info_begins_with_the_size_of_the_index(index):
    result = CliRunner().invoke(app, ["info", str(index)]).stdout
    assert result.splitlines()[:2] == ["images\t4", "regions\t8"]
    assert "vector index\tflat" in result


def test_an_index_says_what_it_is(index):
    import retrieval_grounding as rg

    assert repr(rg.Index.open(index)).endswith("index': 4 images, 8 regions, encoder colors>")
    assert rg.Index.open(index).query([]) == []


def test_building_again_says_that_nothing_is_new(index, photos, models, capsys):
    import retrieval_grounding as rg
    from retrieval_grounding.cli.build_report import print_build

    options = rg.BuildOptions(progress=False)
    again = rg.build(photos, index, options=options, **models)
    assert again.build_report is not None
    print_build(again.build_report, index, images=len(again))
    line = "nothing new, 4 unchanged; 4 images in the index"
    assert capsys.readouterr().out == f"{index}: {line}\n"


def test_a_pipe_gets_one_line_for_each_hit_with_the_whole_path(index):
    result = CliRunner().invoke(app, ["query", str(index), "red", "--min-probability", "0"])
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert {len(row) for row in rows} == {6}
    assert {Path(row[5]).name for row in rows} == {"a.png", "b.png", "c.png", "d.png"}
    assert all(Path(row[5]).is_file() for row in rows)


def test_words_without_quotes_get_a_hint(index):
    assert (
        'quote it: "a red car"'
        in CliRunner().invoke(app, ["query", str(index), "a", "red", "car"]).stderr
    )
    for phrases in (["dog", "bus"], ["a dog", "a bus", "a cat"]):
        assert "hint" not in CliRunner().invoke(app, ["query", str(index), *phrases]).stderr


def test_a_terminal_shows_the_whole_path_in_80_columns(monkeypatch, capsys):
    from rich import console

    terminal = console.Console(force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(console, "Console", lambda: terminal)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    path = f"/home/somebody/pictures/{'a long folder/' * 4}photograph.jpg"
    print_table(("probability", "image"), [("0.54", path)])
    shown = capsys.readouterr().out
    assert "…" not in shown
    folded = "".join(line[11:].strip(" ") for line in shown.splitlines())
    assert folded.replace(" ", "").endswith(path.replace(" ", ""))


@pytest.mark.parametrize(("score", "label"), [(0.4, "dogs"), (0.39, ""), (None, "")])
def test_a_terminal_shows_labels_of_which_the_detector_is_sure(score, label, monkeypatch, capsys):
    rows = []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(
        "retrieval_grounding.cli.hits.print_path_table", lambda _, own, *rest: rows.extend(own)
    )
    hit = rg.Hit("a dog", "a.jpg", (0, 0, 9, 9), 1.0, 0.9, "dog group", None, label_score=score)
    print_hits([("a dog", [hit])])
    assert [row[3] for row in rows] == [label]
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    print_hits([("a dog", [hit])])
    assert "dog group" in capsys.readouterr().out


def test_paths_below_the_current_folder_are_shown_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_path(str(tmp_path / "photos" / "a.jpg")) == str(Path("photos") / "a.jpg")
    assert shown_path("/elsewhere/a.jpg") == "/elsewhere/a.jpg"


def test_the_default_of_the_index_is_in_the_help():
    result = CliRunner().invoke(app, ["build", "--help"], env={"COLUMNS": "200"})
    assert "Directory of the index (default: indexes/" in result.output


def test_a_dry_run_and_maintaining_an_index(photos, tmp_path, models):
    import retrieval_grounding as rg

    index = str(tmp_path / "index")
    runner = CliRunner()
    result = runner.invoke(app, ["build", str(photos), "--index", index, "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) | {"found": 4, "added": 4, "dry_run": True} == json.loads(
        result.stdout
    )
    assert not (tmp_path / "index").exists()
    rg.build(photos, index, **models)
    (photos / "d.png").unlink()
    result = runner.invoke(app, ["build", str(photos), "--index", index, "--dry-run"])
    assert "nothing new, 3 unchanged" in result.stdout
    assert "New files were not decoded" in result.stderr
    assert "1 missing (use --prune to remove them)" in result.output
    removed = runner.invoke(app, ["remove", index, str(photos / "a.png"), "--json"])
    assert json.loads(removed.stdout)["removed"] == 1
    assert runner.invoke(app, ["remove", index]).exit_code == 2
    compacted = runner.invoke(app, ["compact", index, "--json", "--max-unused", "0"])
    assert json.loads(compacted.stdout)["regions_dropped"] == 2
    verified = runner.invoke(app, ["verify", index])
    assert verified.exit_code == 0
    assert "no faults" in verified.output
