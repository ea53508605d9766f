"""The commands of docs/tasks.md do what they are for."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from fakes import COLORS, ColorEncoder, SquareDetector
from PIL import Image
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app

PAGE = Path(__file__).parents[1] / "docs" / "tasks.md"
ROW = re.compile(r"^\| (?!I want|--)(.+?) \| (.+) \|$", re.MULTILINE)
SHOWN_AS = {
    "dog": "red", "shoe": "red", "bicycle": "green", "person": "blue", "street": "blue",
    "car": "yellow", "sunset": "yellow",
}  # fmt: skip
LABELS = {"red": "dog", "green": "bicycle", "blue": "person", "yellow": "car"}
SMALL, BESIDE, LARGE = (5, 5, 25, 25), (40, 5, 60, 25), (0, 0, 70, 50)


class WordDetector(SquareDetector):
    """Calls squares what the words of the tasks stand for."""

    def detect(self, images):
        return [
            rg.Regions(r.boxes, r.scores, [LABELS.get(label, label) for label in r.labels])
            for r in super().detect(images)
        ]


class WordEncoder(ColorEncoder):
    """Takes a thing for its color."""

    def encode_phrases(self, phrases):
        colors = [
            next((color for word, color in SHOWN_AS.items() if word in phrase), phrase)
            for phrase in phrases
        ]
        return super().encode_phrases(colors)


def take(
    path: Path, squares: dict[str, tuple], taken: str, camera: str = "Canon R5", scene: int = 0
):
    """Save a photograph: squares before a gray pattern, which is the same for the same scene."""
    pattern = np.random.default_rng(scene).integers(90, 170, (6, 8), np.uint8)
    image = Image.fromarray(pattern).resize((80, 60)).convert("RGB")
    for color, box in squares.items():
        image.paste(COLORS[color], box)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = taken
    exif[0x010F], exif[0x0110] = camera.split()
    path.parent.mkdir(exist_ok=True)
    image.save(path, exif=exif)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photographs, and what the tasks name besides."""
    root = tmp_path_factory.mktemp("tasks")
    photos = root / "photos"
    take(photos / "rex 1.png", {"red": SMALL}, "2026:06:01 12:00:00", scene=1)
    take(photos / "rex 2.png", {"red": (6, 5, 26, 25)}, "2026:06:01 12:00:04", scene=1)
    take(photos / "rex swims.png", {"red": SMALL}, "2026:07:01 12:00:00", scene=2)
    take(photos / "rex and me.png", {"red": SMALL, "blue": BESIDE}, "2026:06:02 12:00:00", scene=3)
    take(photos / "rex last year.png", {"red": SMALL}, "2025:06:01 12:00:00", scene=4)
    take(photos / "ride.png", {"red": SMALL, "green": BESIDE}, "2026:04:01 12:00:00", scene=5)
    take(photos / "bike.png", {"green": LARGE}, "2026:04:02 12:00:00", scene=6)
    take(photos / "near car.png", {"yellow": LARGE}, "2026:04:03 12:00:00", scene=7)
    take(photos / "far car.png", {"yellow": (5, 5, 15, 15)}, "2026:04:04 12:00:00", scene=8)
    take(photos / "me.png", {"blue": LARGE}, "2024:03:01 12:00:00", "Leica M10", scene=9)
    take(photos / "me again.png", {"blue": LARGE}, "2024:03:01 12:00:00", scene=10)
    take(root / "mug.png", {"yellow": SMALL}, "2026:01:01 12:00:00", scene=11)
    for number, name in enumerate(("a", "b", "c")):
        take(root / "shop" / f"{name}.png", {"red": SMALL}, "2026:01:01 12:00:00", scene=number)
    (root / "shop.csv").write_text("stem,price,brand\na,10,x\nb,30,x\nc,5,y\n", encoding="utf-8")
    with tarfile.open(root / "shard.tar", "w") as archive:
        archive.add(photos / "rex 1.png", "1.png")
        archive.add(photos / "bike.png", "2.png")
    (root / "bicycles").mkdir()
    return root


@pytest.fixture
def run(place, monkeypatch) -> Callable[[str], Result]:
    """Run a command of the page, with models that know the squares."""
    models = {"detector": WordDetector(), "clip": WordEncoder()}
    matcher = rg.CosineMatcher(rg.Calibration(20.0, -12.0))
    build, query = rg.build, rg.Index.query
    monkeypatch.chdir(place)
    monkeypatch.setattr(
        "retrieval_grounding.builder.build",
        lambda sources, directory, **more: build(sources, directory, **more | models),
    )
    monkeypatch.setattr(
        rg.Index, "open", lambda folder, **_: rg.Index(folder, encoder=models["clip"])
    )
    monkeypatch.setattr(
        rg.Index, "query", lambda *given, **more: query(*given, **more | {"matcher": matcher})
    )

    def run(command: str) -> Result:
        first, _, then = command.partition(" | ")
        name, *arguments = shlex.split(first)
        assert name == "retrieval-grounding"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        if then:
            subprocess.run(shlex.split(then), input=done.stdout_bytes, check=True)
        return done

    if not (place / "pictures").exists():
        run("retrieval-grounding build photos --index pictures")
    return run


def found(printed: str) -> list[str]:
    """Return the names of the photographs that a pipe got."""
    return [Path(line.split("\t")[5]).name for line in printed.splitlines()]


def dogs(place: Path, _: Result) -> None:
    with zipfile.ZipFile(place / "dogs.zip") as archive:
        names = sorted(name.rsplit("/")[-1][4:] for name in archive.namelist())
    assert names == ["rex 1.jpg", "rex swims.jpg"]


def bicycles(place: Path, _: Result) -> None:
    assert {path.name for path in (place / "bicycles").iterdir()} == {"bike.png", "ride.png"}


def both(place: Path, done: Result) -> None:
    assert found(done.stdout) == ["ride.png"]
    page = (place / "both.html").read_text(encoding="utf-8")
    assert page.count("data:image/") == 1
    assert "a bicycle" in page


def cars(_: Path, done: Result) -> None:
    assert found(done.stdout) == ["near car.png"]


def mug(_: Path, done: Result) -> None:
    assert set(found(done.stdout)[:2]) == {"near car.png", "far car.png"}


def leica(_: Path, done: Result) -> None:
    assert found(done.stdout) == ["me.png"]


def sunsets(place: Path, done: Result) -> None:
    assert sorted(found(done.stdout)) == ["far car.png", "near car.png"]
    assert len(list((place / "poster").rglob("*.jpg"))) == 2


def shoes(place: Path, done: Result) -> None:
    assert found(done.stdout) == ["a.png"]
    lines = (place / "shoes.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert "10" in lines[1]


def yolo(place: Path, done: Result) -> None:
    assert done.stdout.strip().endswith(str(Path("shard.tar") / "1.png"))
    [labels] = (place / "dogs" / "labels").rglob("*.txt")
    assert labels.read_text(encoding="utf-8").startswith("0 ")


def why(_: Path, done: Result) -> None:
    assert "cosine" in done.stderr


CHECKS = {
    "photos of my dog": dogs, "a copy of every": bicycles, "a dog and a bicycle": both,
    "cars that fill": cars, "the mug": mug, "what I took": leica, "three different": sunsets,
    "shoes under 20": shoes, "dogs in an archive": yolo, "to know why": why,
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="cp -t is GNU's")
@pytest.mark.parametrize("start", CHECKS)
def test_a_task_is_done_by_its_command(start, place, run):
    rows = dict(ROW.findall(PAGE.read_text(encoding="utf-8")))
    assert len(rows) == len(CHECKS)
    [commands] = [commands for wish, commands in rows.items() if wish.startswith(start)]
    for command in commands.split("<br>"):
        assert command.startswith("`") and command.endswith("`")
        done = run(command[1:-1].replace("\\|", "|"))
    CHECKS[start](place, done)
