"""Every path of any collection is an image of the index or has a reason, exactly once.

Right in the corners, the property that must hold: files of drawn names, formats, folders, links and
permissions are built twice, and the second build changes nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from fakes import COLORS, ColorEncoder, SquareDetector, draw_squares
from hypothesis import given, settings
from hypothesis import strategies as st

import retrieval_grounding as rg
from retrieval_grounding.data.suffixes import IMAGE_SUFFIXES, suffix_of, unsupported
from retrieval_grounding.storage.catalog import Catalog

pytestmark = pytest.mark.skipif(os.name == "nt", reason="drawn names and links are POSIX's")

FOLDERS = st.sampled_from(
    ["", "sub", "sub/deep", ".hidden", "@eaDir", "node_modules", "trip [1]", "Übung", "U\u0308bung",
     "sub/.git", "locked", "x.png", "new\nline", "ignored"]
)  # fmt: skip
NAMES = st.sampled_from(
    ["a.png", "b.JPG", "c.gif", "._a.png", "café.bmp", "cafe\u0301.bmp", "bad\udcff.png", "t.txt",
     "x.heic", "y.CR2", "z.svg", "no suffix", ".png", "d.png.", "e .png", "~.png", "ignored.png"]
)  # fmt: skip
CONTENTS = st.one_of(
    st.sampled_from(sorted(COLORS)),  # an image
    st.sampled_from(["empty", "garbage", "cut", "fifo", "unreadable"]),
)
FILES = st.lists(st.tuples(FOLDERS, NAMES, CONTENTS), max_size=12)
LINKS = st.lists(
    st.tuples(
        FOLDERS,
        st.sampled_from(["link", "link.png", "again.jpg"]),
        st.sampled_from([".", "..", "sub", "a.png", "sub/a.png", "nowhere", "link", "Übung"]),
    ),
    max_size=5,
)  # fmt: skip
OPTIONS = st.fixed_dictionaries(
    {
        "follow_links": st.booleans(),
        "exclude": st.sampled_from([(), ("*.gif",), ("sub/",), ("deep",)]),
        "include": st.sampled_from([(), ("node_modules", "._*"), (".hidden",)]),
    }
)


def write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            return
        if content == "fifo":
            os.mkfifo(path)
        elif content in COLORS or content == "cut":
            color = content if content in COLORS else "red"
            picture = draw_squares(path.parent / "drawing.ppm", {color: (0, 0, 20, 20)})
            data = picture.read_bytes()
            picture.unlink()
            path.write_bytes(data[: len(data) // 2] if content == "cut" else data)
        else:
            path.write_bytes(b"" if content == "empty" else b"garbage")
        if content == "unreadable":
            path.chmod(0)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        pass  # the name of a folder is that of a file


def make(root: Path, files, links) -> None:
    root.mkdir(parents=True)
    for folder, name, content in files:
        write(root / folder / name, content)
    for folder, name, target in links:
        if (root / folder).is_dir() and not os.path.lexists(root / folder / name):
            (root / folder / name).symlink_to(target)
    (root / ".rgignore").write_text("ignored\nignored.png\n")


def outcomes(root: Path, index: rg.Index, follow_links: bool) -> Counter[str]:
    """Count how often each file and folder has an outcome, given those of the folders above it."""
    report = index.build_report
    escape = {os.fsencode(p).decode("utf-8", "backslashreplace"): str(p) for p in walk(root)}
    ends = Counter(image.path for image in index.images())
    ends += Counter(escape.get(file.path, file.path) for file in report.skipped)
    left_out = {escape.get(file.path, file.path) for file in report.left_out}
    ends += Counter(left_out)
    others = 0
    for path in walk(root):
        above = [str(folder) for folder in path.parents]
        if any(folder in left_out for folder in above):
            ends[str(path)] += 1
        elif path.is_dir():
            # A folder that was searched is the sum of what is in it.
            ends[str(path)] += str(path) not in left_out
        elif suffix_of(path.name) not in IMAGE_SUFFIXES and unsupported(path.name) is None:
            others += 1
            ends[str(path)] += 1
    if not follow_links:
        assert report.other_files == others
    return ends


def walk(root: Path) -> list[Path]:
    return [Path(parent) / n for parent, *names in os.walk(root) for part in names for n in part]


def numbers(report: rg.BuildReport) -> tuple[object, ...]:
    return (
        report.found,
        report.unchanged + report.added + report.updated + report.moved + report.duplicates,
        sorted((file.path, file.reason) for file in report.skipped),
        sorted((file.path, file.reason) for file in report.left_out),
        report.other_files,
    )


def rows(directory: Path) -> list[object]:
    catalog = Catalog(directory)
    known, skipped = catalog.known_files(), catalog.skipped()
    found = [sorted((path, file.key) for path, file in known.items())]
    found += [sorted((file.path, file.reason) for file in skipped), catalog.generation]
    catalog.close()
    return found


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(files=FILES, links=LINKS, chosen=OPTIONS)
def test_every_path_is_an_image_or_has_a_reason_exactly_once(files, links, chosen):
    folder = Path(tempfile.mkdtemp())
    scandir = os.scandir

    def refuse(path="."):  # root may read everything
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    def build() -> rg.Index:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "scandir", refuse)
            return rg.build(
                root, folder / "index", detector=SquareDetector(), clip=ColorEncoder(),
                options=rg.BuildOptions(progress=False, workers=1, **chosen),
            )  # fmt: skip

    root = folder / "home" / "photos"  # links to .. do not reach the index
    make(root, files, links)
    draw_squares(root / "always.png", {"red": (0, 0, 30, 30)})
    try:
        index = build()
        report = index.build_report
        done = report.added + report.updated + report.moved + report.duplicates + report.unchanged
        assert report.found == done + len(report.skipped)
        ends = outcomes(root, index, chosen["follow_links"])
        wrong = {path: ends[str(path)] for path in walk(root) if ends[str(path)] != 1}
        assert not wrong
        before, state = numbers(report), rows(folder / "index")
        again = build().build_report
        assert (again.added, again.updated, again.moved, again.duplicates) == (0, 0, 0, 0)
        assert (numbers(again), rows(folder / "index")) == (before, state)
    finally:
        shutil.rmtree(folder)
