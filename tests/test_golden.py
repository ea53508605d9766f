"""The wording of the command line, compared with files in golden/, so that every change is seen.

To accept changes: ``REWRITE_GOLDEN=1 pytest tests/test_golden.py``, then read the diff.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
from pathlib import Path

import pytest
import typer
from fakes import ColorEncoder, SquareDetector, draw_squares

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app, main

GOLDEN = Path(__file__).parent / "golden"

# Whatever depends on the machine or the time
MASKS = (
    (r"\d+\.\d s \(\d+\.\d images/s\)", "S s (N images/s)"),
    (r"\d+\.\d MB", "N MB"),
    (r"[\d,]+ bytes? freed", "N bytes freed"),
    (r"\bon (cpu|cuda\S*|\d GPUs?)", "on DEVICE"),
    (r"\[-?\+?[\d.]+, -?\+?[\d.]+\]", "[LOW, HIGH]"),
    (r"[0-9a-f]{32}", "HASH"),
)


def check(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{name} differs; see {Path(__file__).name}"


def test_help_texts():
    """Names, defaults and texts; their layout is typer's and differs between its releases."""
    root = typer.main.get_command(app)
    lines = []
    commands = [("retrieval-grounding", root), *root.commands.items()]
    for name, command in root.commands.items():
        commands += [(f"{name} {sub}", c) for sub, c in getattr(command, "commands", {}).items()]
    for name, command in commands:
        lines += [f"== {name}", "", command.help, ""]
        for parameter in command.params:
            names = ", ".join(parameter.opts) if parameter.opts[0][0] == "-" else parameter.metavar
            default = parameter.default
            shown = "" if default in (None, False, 0) else f" [{default}]"
            lines.append(f"  {names:24}  {parameter.help}{shown}")
        lines.append("")
    check("help.txt", "\n".join(lines))


@pytest.fixture
def terminal(photos, tmp_path, monkeypatch, capsys):
    """A function that runs command lines with instant models, and returns the transcript."""
    models = {"detector": SquareDetector(), "clip": ColorEncoder()}
    build, ground, verify = rg.build, rg.ground, rg.Index.verify
    monkeypatch.setattr(
        "retrieval_grounding.builder.build",
        lambda sources, directory, **more: build(sources, directory, **more | models),
    )
    monkeypatch.setattr(
        "retrieval_grounding.search.ground.ground",
        lambda image, phrases, **more: ground(image, phrases, **more | models),
    )
    monkeypatch.setattr(
        rg.Index,
        "open",
        lambda directory, **_: rg.Index(directory, encoder=models["clip"]),
    )
    monkeypatch.setattr(rg.Index, "verify", lambda index, repair, timeout, **_: verify(
        index, repair=repair, timeout=timeout, **models
    ))  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("retrieval_grounding.core.progress._SECONDS_PER_LINE", 1e6)

    def run(line: str) -> str:
        """Split at spaces; ``_`` stands for a space inside an argument."""
        arguments = [part.replace("_", " ") for part in line.split()]
        monkeypatch.setattr(sys, "argv", ["retrieval-grounding", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        lines = [f"$ retrieval-grounding {line}", *printed.out.splitlines()]
        lines += [f"stderr: {text}" for text in printed.err.splitlines()]
        lines += [f"exit code {end.value.code}"] if end.value.code else []
        text = "\n".join(lines).replace(f"{tmp_path}{os.sep}", "").replace("\t", " | ")
        for pattern, mask in MASKS:
            text = re.sub(pattern, mask, text)
        return f"{text}\n\n"

    return run


def test_building_and_querying(terminal, photos):
    transcript = terminal("build photos --index index --dry-run")
    (photos / "broken.png").write_bytes(b"not an image")
    (photos / "copy.png").write_bytes((photos / "a.png").read_bytes())
    transcript += terminal("build photos --index index")
    transcript += terminal("build photos --index index")
    (photos / "d.png").unlink()
    draw_squares(photos / "b.png", {"yellow": (0, 0, 50, 50)})
    draw_squares(photos / "e.png", {"yellow": (1, 1, 30, 30)})
    (photos / "c.png").rename(photos / "moved.png")
    transcript += terminal("build photos --index index --dry-run --prune")
    transcript += terminal("build photos --index index")
    transcript += terminal("build photos --index index --prune")
    transcript += terminal("info index")
    transcript += terminal("query index red a_blue_square --top 2 --html page.html")
    transcript += terminal("query index a red car --top 1 --min-probability 0.5")
    transcript += terminal("ground photos/a.png red --save out.png --html page.html")
    check("build_and_query.txt", transcript)


def test_maintaining_an_index(terminal, photos, tmp_path):
    terminal("build photos --index index")
    transcript = terminal("remove index photos/a.png")
    transcript += terminal("remove index --glob */nowhere/*")
    transcript += terminal("compact index --max-unused 0")
    transcript += terminal("reindex index --vectors hnsw")
    transcript += terminal("reindex index --vectors flat")
    transcript += terminal("reindex index --vectors annoy")
    transcript += terminal("verify index")
    (photos / "d.png").unlink()
    with sqlite3.connect(tmp_path / "index" / "catalog.sqlite") as catalog:
        catalog.execute("UPDATE shards SET checksum = 'wrong'")
        catalog.execute("UPDATE shard_rows SET checksum = 'wrong'")
    transcript += terminal("verify index")
    transcript += terminal("verify index --repair")
    transcript += terminal("models")
    check("maintain.txt", transcript)


@pytest.mark.slow
def test_evaluating_and_training(terminal, photos, tmp_path):
    records = [{"image": "z.png", "expression": "a dog", "bbox_xywh": [1, 1, 2, 2]}]
    places = []
    for number in range(12):
        name, x = f"{number:02}.png", 3 * number
        draw_squares(photos / name, {"red": (x, 5, x + 20, 25), "blue": (x + 20, 5, x + 40, 45)})
        for color, side, box in (
            ("red", "left", [x, 5, 20, 20]), ("blue", "right", [x + 20, 5, 20, 40])
        ):  # fmt: skip
            records.append({"image": name, "expression": f"the {color} one", "bbox_xywh": box})
            places.append(records[-1] | {"expression": f"the {side} one"})
    write_records(tmp_path / "refs.jsonl", records)
    write_records(tmp_path / "few.jsonl", records[:5])
    write_records(tmp_path / "places.jsonl", places)
    write_records(tmp_path / "theirs.jsonl", records[1:7])
    terminal("build photos --index index")
    transcript = terminal(
        "evaluate index --refs refs.jsonl --reference grounding=theirs.jsonl --html page.html"
    )
    transcript = re.sub(r"\| \d\.\d{3}$", "| N", transcript, flags=re.MULTILINE)
    transcript += terminal("train index --refs few.jsonl")
    # Cosine knows colors and not places, so only the second training gains.
    trained = terminal("train index --refs refs.jsonl --epochs 1 --device cpu")
    trained += terminal("train index --refs places.jsonl --epochs 6 --batch 8 --lr 0.02")
    trained = re.sub(r"[-+]?\d\.\d{3}", "N", trained).replace(" *", "")
    transcript += re.sub(r"kept epoch \d", "kept epoch N", trained)
    transcript += terminal("matcher list index")
    transcript += terminal("matcher use index cosine")
    transcript += terminal("matcher remove index mine")
    transcript += terminal("matcher use index trained")
    transcript += terminal("verify index")
    evaluated = terminal("evaluate index --refs places.jsonl")
    transcript += re.sub(r"[-+]?\d\.\d{3}", "N", evaluated)
    transcript += terminal("info index")
    check("evaluate_and_train.txt", transcript)


def write_records(path: Path, records: list[dict]) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
