"""Indexes from strangers end in a named error or a right answer, and touch nothing else.

Shows points 2, 3 and 4 of "Trust" (issue 14), and point 9: a lock that was deleted.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import ColorEncoder, draw_squares
from filelock import FileLock

import retrieval_grounding as rg
from retrieval_grounding.core.strict_json import parse_json
from retrieval_grounding.matching.train_state import TrainingState
from retrieval_grounding.storage import files
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.files import atomic_create, atomic_path, open_regular
from retrieval_grounding.storage.lock import writer_lock
from retrieval_grounding.storage.shard_format import MAX_LABEL_BYTES
from retrieval_grounding.storage.vectors.faiss_index import FaissIndex, import_faiss

hostile = pytest.importorskip("hostile", reason="needs fork and resource limits")
QUIET = rg.BuildOptions(progress=False)
LIMITED = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="needs Linux's limits of memory"
)

FILES = re.compile(
    r"catalog\.sqlite|feedback\.jsonl|matcher\.safetensors|vectors.*\.faiss|shards/00000[12]\.h5"
)
CHOSEN_BY_THE_AUTHOR = {
    # The catalog says which images there are and what they are called; verify tells the difference.
    "a row is far away": {"query", "info"},
    "a row claims all regions": {"info"},
    "a path has control characters": {"query"},
    "a long path": {"query"},
    "matcher is sound": {"query"},
}


@LIMITED
@pytest.mark.slow
@pytest.mark.parametrize("group", hostile.CASES)
def test_every_hostile_index_ends_in_an_error_or_a_right_answer(group):
    script = Path(hostile.__file__)
    # In a process of its own: the threads that other tests start survive no fork.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(script), "--group", group]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["case"] for result in results] == ["sound", *hostile.CASES[group]]
    wrong = [problem for result in results for problem in problems(result, results[0])]
    assert not wrong, "\n".join(wrong)


def problems(result: dict, sound: dict) -> list[str]:
    """Return what is wrong with the ends of a case."""
    name = result["case"]
    if "bug" in result:
        return [f"{name}: {result['bug']}"]
    found = [] if result["untouched"] else [f"{name}: something outside was touched"]
    for use in hostile.USES:
        kind, value = result[use]
        if kind != "answer":
            if "\n" in value or not 20 < len(value) < 500:
                found.append(f"{name}: {use} says {value!r}")
        elif use == "verify":
            if not all(map(FILES.fullmatch, value)):
                found.append(f"{name}: verify blames {value}")
        elif value != sound[use][1] and use not in CHOSEN_BY_THE_AUTHOR.get(name, ()):
            found.append(f"{name}: {use} answers {value}")
    return found


def test_there_are_cases_for_every_file_of_an_index():
    names = [name for group in hostile.CASES.values() for name in group]
    assert len(names) == len(set(names)) >= 60
    for file in ("catalog", "journal", "shard", "vectors", "matcher", "lock", "claim"):
        assert any(name.startswith(f"{file} ") for name in names), file


@pytest.fixture
def index(photos, tmp_path, models) -> Path:
    rg.build(photos, tmp_path / "index", options=QUIET, **models)
    return tmp_path / "index"


# Point 2: SQLite


def test_opening_an_index_deletes_no_file_that_its_journal_names(index, tmp_path):
    victim = tmp_path / "precious.txt"
    victim.write_text("precious")
    data = hostile.journal(b"", hostile.super_journal_tail(victim))
    (index / "catalog.sqlite-journal").write_bytes(data)
    with pytest.raises(rg.StoreError, match="names a super-journal"):
        rg.Index.open(index)
    assert victim.exists()
    # The attack is real: SQLite by itself deletes the file.
    sqlite3.connect(index / "catalog.sqlite").execute("SELECT * FROM settings").close()
    assert not victim.exists()


def test_a_catalog_in_the_mode_of_a_write_ahead_log_is_not_written_to(index, tmp_path):
    hostile.wal_mode(index, tmp_path)
    before = hostile.listing(index)
    with pytest.raises(rg.StoreError, match="write-ahead log"):
        rg.Index.open(index)
    assert hostile.listing(index) == before


def test_reading_writes_nothing(index):
    before = hostile.listing(index)
    opened = rg.Index.open(index, encoder=ColorEncoder())
    opened.query("red")
    opened.info()
    opened.verify()
    assert hostile.listing(index) == before


def test_what_a_catalog_may_be_asked_is_limited(index, monkeypatch):
    catalog = Catalog(index)
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"
    for what in ("max(i)", "i", "printf('%.*c', 100000, 'x')"):
        with pytest.raises(rg.StoreError, match="than a file of its size can need"):
            catalog._database.execute(endless.format(what))
    assert len(list(catalog.images())) == 4  # it goes on
    if hasattr(sqlite3.Connection, "setlimit"):
        with pytest.raises(rg.StoreError, match="too big"):
            catalog._database.execute("SELECT zeroblob(100000000)")
        with pytest.raises(rg.StoreError, match="too many attached"):
            catalog._database.execute("ATTACH ':memory:' AS other")


# Point 3: HDF5


def test_what_a_shard_cannot_hold_is_not_written_either(photos, tmp_path, models):
    class Talkative:
        fingerprint = "talkative"

        def detect(self, images):
            label = "x" * (MAX_LABEL_BYTES + 1)
            found = [rg.Regions.whole_image(*image.size) for image in images]
            return [rg.Regions.concatenate([w, rg.Regions([[0, 0, 9, 9]], [1], [label])])
                    for w in found]  # fmt: skip

    with pytest.raises(rg.ModelError, match=f"longer than {MAX_LABEL_BYTES} bytes"):
        rg.build(photos, tmp_path / "index", detector=Talkative(), clip=models["clip"])


@pytest.mark.parametrize("case", ["boxes are compressed", "boxes are gone", "sizes are 2e9"])
def test_a_repair_mends_a_shard_that_is_not_plain(index, tmp_path, models, case):
    sound = rg.Index.open(index, encoder=models["clip"]).query("red")
    hostile.CASES["shards"][case](index, tmp_path)
    opened = rg.Index.open(index, encoder=models["clip"])
    assert [fault.kind for fault in opened.verify(options=QUIET).faults] == ["damaged"]
    report = opened.verify(repair=True, detector=models["detector"], clip=models["clip"])
    assert (report.embedded, report.faults, report.lost) == (4, [], [])
    mended = rg.Index.open(index, encoder=models["clip"]).query("red")
    assert [(hit.image, hit.box) for hit in mended] == [(hit.image, hit.box) for hit in sound]


# Point 4: special files and impossible values


@pytest.mark.parametrize("kind", hostile.SPECIAL)
@pytest.mark.parametrize("name", ["matcher.training", "any"])
def test_only_regular_files_are_opened(tmp_path, kind, name):
    (tmp_path / "inside").mkdir()
    hostile.replaced_by(name, kind)(tmp_path / "inside", tmp_path)
    path = tmp_path / "inside" / name
    with pytest.raises(rg.StoreError, match="only regular files"):
        open_regular(path)
    if name == "matcher.training":
        with pytest.raises(rg.StoreError, match="only regular files"):
            TrainingState.load(object.__new__(TrainingState), path)


def test_a_temporary_file_replaces_a_link_of_its_name(tmp_path):
    victim, path = tmp_path / "precious.txt", tmp_path / "catalog"
    victim.write_text("precious")
    (tmp_path / f".catalog.{os.getpid()}.partial").symlink_to(victim)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert (victim.read_text(), path.read_text()) == ("precious", "new")
    assert not path.is_symlink()


@pytest.mark.parametrize("links", [True, False])
def test_a_new_shard_never_replaces_a_file(tmp_path, monkeypatch, links):
    if not links:  # as on a file system without hard links

        def link(*_):
            raise OSError(errno.EPERM, "no hard links")

        monkeypatch.setattr(files.os, "link", link)
    path = tmp_path / "000001.h5"
    atomic_create(path, b"first")
    with pytest.raises(rg.StoreError, match="catalog does not list it"):
        atomic_create(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "claim", [b"[]", b"[" * 9999, b"{}", b'{"process": 1, "host": "a\\u001b", "started": "x"}',
              b'{"process": "rm", "host": "a", "started": "b"}', b"\xff" * 9000]
)  # fmt: skip
def test_a_writers_note_is_believed_only_if_it_is_one(tmp_path, claim):
    lock = FileLock(tmp_path / ".writer.lock")  # as another process holds it
    with lock:
        (tmp_path / ".writer.json").write_bytes(claim)
        with pytest.raises(rg.StoreLockedError, match="another process"):
            writer_lock(tmp_path).__enter__()


def test_json_is_strict(tmp_path):
    for text in ("NaN", '{"a": Infinity}', "[" * 100_000):
        with pytest.raises(ValueError, match=r"JSON|nested"):
            parse_json(text)
    catalog = Catalog.create(tmp_path, {"dimension": 4})
    with pytest.raises(ValueError, match="JSON compliant"):
        catalog.set_setting("anything", math.nan)


class WrongMatcher:
    name = "wrong"

    def __init__(self, score: object, probability: object = None) -> None:
        self._score, self._probability = score, probability

    def score(self, phrases, regions):
        return np.full((len(phrases), len(regions)), self._score)

    def score_pairs(self, phrases, regions, phrase_index):
        return np.full(len(regions), self._score)

    def probabilities(self, scores):
        return None if self._probability is None else np.full(scores.shape, self._probability)


@pytest.mark.parametrize(
    "matcher",
    [WrongMatcher(math.nan), WrongMatcher(math.inf), WrongMatcher("x"),
     WrongMatcher(0.5, math.nan), WrongMatcher(0.5, 1.5)],
)  # fmt: skip
def test_a_matcher_that_returns_no_numbers_is_named(index, matcher):
    opened = rg.Index.open(index, encoder=ColorEncoder())
    with pytest.raises(rg.ModelError, match="the matcher 'wrong'"):
        opened.query("red", matcher=matcher)


def test_faiss_refuses_arrays_that_are_larger_than_the_file(index):
    path = hostile.vectors_of(index)
    path.write_bytes(hostile.claim_half_a_terabyte(path.read_bytes()))
    faiss = import_faiss()
    limit = faiss.get_deserialization_vector_byte_limit()
    with pytest.raises(rg.StoreError, match="damaged"), path.open("rb") as file:
        FaissIndex.load("flat", file, 4)
    assert faiss.get_deserialization_vector_byte_limit() == limit


# Point 9: the lock


@pytest.mark.parametrize("change", ["deleted", "replaced", "link"])
def test_a_writer_whose_lock_is_gone_commits_nothing(index, photos, models, tmp_path, change):
    before = {p.name: p.read_bytes() for p in index.rglob("*") if p.is_file()}
    lock = index / ".writer.lock"

    class Saboteur(type(models["detector"])):
        def detect(self, images):
            if change == "deleted":
                lock.unlink(missing_ok=True)
            else:
                shutil.copy(lock, tmp_path / "copy")
                lock.unlink()
                if change == "link":
                    lock.symlink_to(tmp_path / "copy")
                else:
                    shutil.copy(tmp_path / "copy", lock)
            return super().detect(images)

    draw_squares(photos / "new.png", {"blue": (0, 0, 9, 9)})
    with pytest.raises(rg.StoreError, match=r"lock .* was deleted or replaced.*run the command"):
        rg.build(photos, index, detector=Saboteur(), clip=models["clip"], options=QUIET)
    lock.unlink(missing_ok=True)
    after = {p.name: p.read_bytes() for p in index.rglob("*") if p.is_file()}
    before.pop(".writer.lock")
    after.pop(".writer.json", None)  # another writer's, as far as this one knows
    assert after == before
    rg.build(photos, index, options=QUIET, **models)
    assert rg.Index.open(index).verify().faults == []


def test_the_second_writer_wins_where_the_lock_was_deleted(index, photos, models):
    draw_squares(photos / "new.png", {"blue": (0, 0, 9, 9)})
    code = (
        "import sys\nimport retrieval_grounding as rg\n"
        "from fakes import ColorEncoder, SquareDetector\n"
        "rg.build(sys.argv[1], sys.argv[2], detector=SquareDetector(), clip=ColorEncoder())"
    )
    command = [sys.executable, "-c", code, str(photos), str(index)]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

    class Overtaken(type(models["detector"])):
        def detect(self, images):
            (index / ".writer.lock").unlink()
            # A second writer, from start to end.
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": paths})
            return super().detect(images)

    with pytest.raises(rg.StoreError, match="deleted or replaced"):
        rg.build(photos, index, detector=Overtaken(), clip=models["clip"], options=QUIET)
    opened = rg.Index.open(index, encoder=ColorEncoder())
    assert len(opened) == 5
    assert opened.verify().faults == []


def test_a_transaction_is_rolled_back_if_the_lock_is_gone(index):
    with writer_lock(index) as lock:
        catalog = Catalog(index, writable=True, lock=lock)
        generation = catalog.generation
        (index / ".writer.lock").unlink()
        for write in (
            lambda: catalog.commit(removed=[image.path for image in catalog.images()]),
            lambda: catalog.replace_rows([], None, [1]),
            lambda: catalog.set_setting("generation", 99),
        ):
            with pytest.raises(rg.StoreError, match="nothing more was committed"):
                write()
        assert (len(list(catalog.images())), catalog.generation) == (4, generation)
