"""After any changes to a collection, an index equals one that was built from scratch."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from fakes import COLORS, ColorEncoder, SquareDetector, draw_squares, vectors_file
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from kill_writers import content, hits

import retrieval_grounding as rg

NAMES = st.sampled_from([f"{folder}{letter}.png" for folder in ("", "sub/") for letter in "abcde"])
PICTURES = st.tuples(st.sampled_from(sorted(COLORS)), st.integers(1, 3))


class Collection(RuleBasedStateMachine):
    """The model: which picture each file shows, and which one the index last saw there."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.photos, self.index = self.folder / "photos", self.folder / "index"
        (self.photos / "sub").mkdir(parents=True)
        self.files: dict[str, tuple[str, int]] = {}
        self.indexed: dict[str, tuple[str, int]] = {}
        self.removed: set[str] = set()
        self.reader: rg.Index | None = None
        self._draw("a.png", ("red", 1))
        self.build(prune=True, shard_images=2)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def _draw(self, name: str, picture: tuple[str, int]) -> None:
        color, size = picture
        draw_squares(self.photos / name, {color: (0, 0, 9 * size, 7 * size)})
        self.files[name] = picture

    @rule(name=NAMES, picture=PICTURES)
    def add_or_change(self, name, picture):
        self._draw(name, picture)

    @rule(name=NAMES, other=NAMES)
    def move(self, name, other):
        if name in self.files and name != other:
            (self.photos / name).rename(self.photos / other)
            self.files[other] = self.files.pop(name)

    @rule(name=NAMES, other=NAMES)
    def copy(self, name, other):
        if name in self.files and name != other:
            shutil.copy(self.photos / name, self.photos / other)
            self.files[other] = self.files[name]

    @rule(name=NAMES)
    def delete(self, name):
        if name in self.files and len(self.files) > 1:
            (self.photos / name).unlink()
            del self.files[name]

    @rule(prune=st.booleans(), shard_images=st.integers(1, 4), restore=st.booleans())
    def build(self, prune, shard_images, restore=False):
        options = rg.BuildOptions(
            prune=prune, batch_images=1, shard_images=shard_images, workers=1, progress=False,
            restore=restore,
        )  # fmt: skip
        preview = rg.preview_build(self.photos, self.index, options=options)
        report = rg.build(
            self.photos, self.index, detector=SquareDetector(), clip=ColorEncoder(),
            options=options,
        ).build_report  # fmt: skip
        for number in ("unchanged", "added", "updated", "moved", "duplicates", "missing"):
            assert getattr(preview, number) == getattr(report, number), number
        self.removed -= self.files.keys() if restore else set()
        left_out = self._names(file.path for file in report.left_out)
        assert sorted(left_out) == sorted(self.removed & self.files.keys())
        gone = self.indexed.keys() - self.files.keys()
        kept = {} if prune else {n: self.indexed[n] for n in self._names(report.missing)}
        assert set(self._names(report.missing)) <= gone
        assert report.moved == len(gone) - len(report.missing)
        seen = {name: self.files[name] for name in self.files.keys() - self.removed}
        self.indexed = seen | kept

    def _names(self, paths):
        return [str(Path(path).relative_to(self.photos)) for path in paths]

    @rule(name=NAMES)
    def remove(self, name):
        if name in self.indexed:
            assert rg.Index.open(self.index).remove(self.photos / name) == 1
            del self.indexed[name]
            self.removed.add(name)

    @rule(shard_images=st.integers(1, 6))
    def compact(self, shard_images):
        rg.Index.open(self.index).compact(0.0, shard_images)

    @rule()
    def lose_the_vector_index(self):
        vectors_file(self.index).unlink(missing_ok=True)

    @rule()
    def reopen(self):
        self.reader = rg.Index.open(self.index, encoder=ColorEncoder())

    @invariant()
    def the_index_is_sound_and_holds_what_it_saw(self):
        if not hasattr(self, "indexed") or not self.index.exists():
            return
        opened = rg.Index.open(self.index, encoder=ColorEncoder())
        assert opened.verify().faults == []
        shown = {}
        for path, stored in content(self.index).items():
            boxes, _, labels = stored[1]
            shown[self._names([path])[0]] = (labels[1], round(boxes[1][2] / 9))
        assert shown == self.indexed

    @precondition(lambda self: self.reader is not None and self.indexed)
    @rule(color=st.sampled_from(sorted(COLORS)))
    def an_open_reader_answers_from_the_present_state(self, color):
        found = self.reader.query(color, top=99)
        assert set(self._names([hit.image for hit in found])) == self.indexed.keys()

    @rule()
    def incremental_equals_full(self):
        self.build(prune=True, shard_images=3, restore=True)
        with tempfile.TemporaryDirectory() as other:
            rg.build(
                self.photos, other, detector=SquareDetector(), clip=ColorEncoder(),
                options=rg.BuildOptions(progress=False),
            )  # fmt: skip
            assert content(self.index) == content(Path(other))
            assert hits(self.index) == hits(Path(other))


Collection.TestCase.settings = settings(max_examples=6, stateful_step_count=20, deadline=None)
TestCollection = Collection.TestCase
