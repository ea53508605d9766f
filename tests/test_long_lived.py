"""Long-lived processes: what an open index promises to a server.

Points 12, 13, 14 and 16 of "Trust": no reader is stale, forked children answer, files are closed,
paths do not depend on the current folder, and writers of one process can wait for each other.
"""

from __future__ import annotations

import contextlib
import gc
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fakes import ColorEncoder, draw_squares, vectors_file

import retrieval_grounding as rg
from retrieval_grounding.core.fork import ForkSafeLock
from retrieval_grounding.matching.matcher import CosineMatcher
from retrieval_grounding.search import retriever
from retrieval_grounding.storage import open_shards
from retrieval_grounding.storage.lock import writer_lock

QUIET = rg.BuildOptions(progress=False, shard_images=1, batch_images=1)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def index(photos, tmp_path, models) -> rg.Index:
    return rg.build(photos, tmp_path / "index", options=QUIET, **models)


def reader(tmp_path: Path) -> rg.Index:
    return rg.Index.open(tmp_path / "index", encoder=ColorEncoder())


def in_child(work: Callable[[], object], seconds: float = 60) -> object:
    """Return the result of `work` in a forked child, which is killed if it hangs."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = work()
        except BaseException as error:
            result = error
        os.write(send, pickle.dumps(result))
        os._exit(0)
    os.close(send)
    end = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    with os.fdopen(receive, "rb") as pipe:
        return pickle.load(pipe)  # noqa: S301


# Point 12: no reader is stale


def test_an_open_index_takes_up_a_new_vector_index(index, tmp_path):
    opened = reader(tmp_path)
    opened.query("red")
    assert opened.info()["vectors"]["search"] == "flat"
    index.reindex("hnsw")
    assert opened.info()["vectors"]["search"] == "hnsw"
    assert opened.query("red")[0].label == "red"
    index.reindex("ivf", recall=0.9)
    before = opened.info()["vectors"]
    index.reindex("ivf", recall=0.95)  # the same file; only how it is searched differs
    after = opened.info()["vectors"]
    assert (before["recall_wanted"], after["recall_wanted"]) == (0.9, 0.95)


def test_a_reader_that_asks_between_a_commit_and_the_refresh_uses_the_new_vectors_later(
    index, photos, tmp_path, models, monkeypatch
):
    opened = reader(tmp_path)
    opened.query("red")
    draw_squares(photos / "e.png", {"yellow": (0, 0, 40, 40)})
    seen = []

    def ask_then_sync(catalog, *more):
        hits = opened.query("yellow")
        seen.append((hits[0].label, opened.info()["vectors"]["unindexed_shards"]))
        return sync(catalog, *more)

    from retrieval_grounding import builder

    sync = builder.sync_vectors
    monkeypatch.setattr(builder, "sync_vectors", ask_then_sync)
    rg.build(photos, tmp_path / "index", options=QUIET, **models)
    assert seen == [("yellow", 1)]  # found at once, by brute force
    assert opened.query("yellow")[0].label == "yellow"
    assert opened.info()["vectors"]["unindexed_shards"] == 0


def test_a_vector_index_that_was_damaged_is_used_once_it_is_sound(index, tmp_path):
    path = vectors_file(tmp_path / "index")
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + b"?")
    opened = reader(tmp_path)
    assert opened.info()["vectors"]["search"] == "brute force"
    path.unlink()
    assert opened.info()["vectors"]["search"] == "brute force"
    path.write_bytes(sound)
    assert opened.info()["vectors"]["search"] == "flat"


def test_an_open_index_takes_up_a_new_matcher(index, tmp_path):
    from retrieval_grounding.models.presets import bundled_path

    opened = reader(tmp_path)
    assert opened.matcher is opened.matcher
    first = opened.matcher.name
    (tmp_path / "index" / "matcher.safetensors").write_bytes(bundled_path("matcher").read_bytes())
    with pytest.raises(rg.ModelError):  # it is not of this encoder, so it was looked at
        _ = opened.matcher
    (tmp_path / "index" / "matcher.safetensors").unlink()
    assert opened.matcher.name == first


def test_searches_that_hold_the_catalog_do_not_block_others_for_ever(index, tmp_path, monkeypatch):
    """The last attempt of a search holds it, if writers have interrupted the others."""
    opened = reader(tmp_path)
    expected = opened.query("red")
    monkeypatch.setattr(retriever, "_ATTEMPTS", 0)
    answers = []

    def ask() -> None:
        for _ in range(150):
            opened.info()  # takes the snapshot, then the catalog
            answers.append(opened.query("red") == expected)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [True] * 600


# Point 13: forked children


def use_every_pool() -> None:
    """Start the OpenMP threads of PyTorch and FAISS, which a fork does not copy."""
    import faiss
    import numpy as np
    import torch

    torch.ones(4, 300_000).exp().sum()
    (torch.ones(700, 700) @ torch.ones(700, 700)).sum()
    vectors = np.ones((3000, 32), np.float32)
    flat = faiss.IndexFlatIP(32)
    flat.add(vectors)
    flat.search(vectors, 5)


@forks
def test_forked_children_answer_after_the_parent_has_queried(index, tmp_path):
    opened = reader(tmp_path)
    expected = opened.query(["red", "blue"])
    use_every_pool()

    def work() -> object:
        use_every_pool()
        return opened.query(["red", "blue"]), opened.query("red", exact=True)

    for _ in range(3):
        assert in_child(work) == (expected, expected[0])
    assert opened.query(["red", "blue"]) == expected


@forks
def test_children_forked_while_threads_query_answer(index, tmp_path):
    opened = reader(tmp_path)
    expected = opened.query("red")
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            opened.query("red")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert in_child(lambda: opened.query("red")) == expected
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@forks
def test_a_child_may_write_and_the_parent_sees_it(index, photos, tmp_path):
    opened = reader(tmp_path)
    opened.query("red")
    assert in_child(lambda: opened.remove(photos / "a.png")) == 1
    assert len(opened) == 3
    assert str(photos / "a.png") not in [hit.image for hit in opened.query("red")]


@forks
def test_locks_that_other_threads_hold_are_free_in_a_child(index, tmp_path):
    lock = ForkSafeLock()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait()

    def take() -> str:
        with lock:
            return "taken"

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert in_child(take, 20) == "taken"
    finally:
        release.set()
        thread.join()
    with lock:
        assert in_child(take, 20) == "taken"


@forks
def test_a_writer_of_the_parent_is_another_process_to_a_child(index, photos, tmp_path):
    with writer_lock(tmp_path / "index"):
        error = in_child(lambda: index.remove(photos / "a.png"))
    assert isinstance(error, rg.StoreLockedError)
    assert f"by process {os.getpid()} on" in str(error)
    assert index.remove(photos / "a.png") == 1


def _query_by(index: rg.Index) -> str:
    return index.query("red")[0].label


_shared_with_children: list[rg.Index] = []


def _query_shared(_: int) -> str:
    return _query_by(_shared_with_children[0])


@forks
@pytest.mark.slow
def test_multiprocessing_with_fork_answers(index, tmp_path):
    opened = reader(tmp_path)
    opened.query("red")
    use_every_pool()
    _shared_with_children.append(opened)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        try:
            assert pool.map_async(_query_shared, range(4)).get(120) == ["red"] * 4
        finally:
            _shared_with_children.clear()


PRELOADED = """
import os, sys
import retrieval_grounding as rg

index = rg.Index.open(sys.argv[1])
expected = [(hit.image, round(hit.score, 4)) for hit in index.query("a dog", top=3)]
for _ in range(2):
    if os.fork() == 0:
        found = index.query(["a dog", "a red bus"], top=3)  # the second one is new to the encoder
        same = [(hit.image, round(hit.score, 4)) for hit in found[0]] == expected
        os._exit(0 if same and found[1] else 1)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@forks
@pytest.mark.slow
def test_workers_forked_from_a_process_with_loaded_models_answer(photos, tmp_path):
    rg.build(photos, tmp_path / "nano", options=QUIET)
    done = subprocess.run(
        [sys.executable, "-c", PRELOADED, tmp_path / "nano"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["0", "0"], "")


# Point 14: closing, files, paths, pickles


def test_a_closed_index_says_so(index, photos, tmp_path):
    with reader(tmp_path) as opened:
        opened.query("red")
    opened.close()
    for use in (
        lambda: opened.query("red"), lambda: len(opened), lambda: list(opened.images()),
        opened.info, opened.compact, lambda: opened.remove(photos / "a.png"), opened.verify,
        opened.skipped, opened.reindex, lambda: opened.matcher,
    ):  # fmt: skip
        with pytest.raises(rg.StoreError, match="is closed; open it again"):
            use()
    assert len(reader(tmp_path)) == 4


def open_files() -> list[str]:
    gc.collect()
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(link.readlink()))
    return links


def mapped_shards(folder: Path) -> list[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if f"{folder}/shards" in line]


@linux
def test_closing_closes_every_file(index, tmp_path):
    index.query("red")
    index.close()
    opened = reader(tmp_path)
    opened.query("red")
    assert any(str(tmp_path) in name for name in open_files())
    assert mapped_shards(tmp_path / "index")
    opened.close()
    assert [name for name in open_files() if str(tmp_path / "index") in name] == []
    assert mapped_shards(tmp_path / "index") == []


@linux
def test_open_query_and_close_cycles_leave_nothing(index, tmp_path):
    """``python tests/soak.py --cycles 1000`` runs more of them."""
    cycle(tmp_path, 20)
    files, memory = len(open_files()), psutil.Process().memory_info().rss
    cycle(tmp_path, 100)
    assert len(open_files()) == files
    assert psutil.Process().memory_info().rss - memory < 8 << 20


def cycle(tmp_path: Path, count: int) -> None:
    for _ in range(count):
        with reader(tmp_path) as opened:
            assert opened.query("red", matcher=CosineMatcher())[0].label == "red"


@linux
def test_deleted_shards_are_unmapped_after_compaction(index, photos, tmp_path):
    opened = reader(tmp_path)
    opened.query("red")
    index.query("red")
    assert len(mapped_shards(tmp_path / "index")) >= 4
    index.compact(0.0, 10)
    opened.query("red")  # a reader follows when it is next used
    gc.collect()
    assert [line for line in mapped_shards(tmp_path / "index") if "(deleted)" in line] == []
    assert opened.query("red") == index.query("red")


def test_indexes_share_open_shards_and_their_limit(index, tmp_path, monkeypatch):
    index.close()
    gc.collect()  # so that no index of a different test counts
    one, other = reader(tmp_path), reader(tmp_path)
    one.query("red")
    before = len(open_shards._CACHE)
    other.query("red")
    assert len(open_shards._CACHE) == before
    one.close()
    expected = other.query("red")
    assert expected[0].label == "red"
    other.close()
    monkeypatch.setattr(open_shards, "_MAX_OPEN", 2)
    one, other = reader(tmp_path), reader(tmp_path)
    assert one.query("red") == other.query("red") == expected
    assert len(open_shards._CACHE) <= 2


@pytest.mark.skipif(os.name == "nt", reason="limits of open files are POSIX")
def test_too_many_open_files_are_no_damage(index, tmp_path):
    import resource

    opened = reader(tmp_path)
    opened.info()  # FAISS and the catalog are open; no shard is
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))
    try:
        with pytest.raises(rg.StoreError) as failure:
            opened.query("red")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert "too many files are open" in str(failure.value)
    assert "repair" not in str(failure.value)
    assert opened.query("red")[0].label == "red"


def test_an_index_opened_by_a_relative_path_stays_the_same_after_chdir(
    photos, tmp_path, models, monkeypatch
):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        built = rg.build(photos, "index", options=QUIET, **models)
    monkeypatch.chdir(tmp_path / "two")
    opened = rg.Index.open("index", encoder=ColorEncoder())
    monkeypatch.chdir(tmp_path / "one")
    assert opened.query("red")[0].image == str(photos / "a.png")
    assert opened.remove(photos / "a.png") == 1
    assert (len(opened), len(built)) == (3, 3)
    assert len(rg.Index.open("index", encoder=ColorEncoder())) == 4
    assert opened.directory == tmp_path / "two" / "index"


def test_hits_of_ground_have_absolute_paths(photos, models, monkeypatch):
    monkeypatch.chdir(photos)
    assert rg.ground("a.png", "red", **models).image == str(photos / "a.png")


def test_an_index_is_pickled_by_its_path(index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(rg.Index.open("index")))  # noqa: S301
    assert (again.directory, len(again)) == (tmp_path / "index", 4)
    with pytest.raises(rg.GroundingError, match="pass its path"):
        pickle.dumps(reader(tmp_path))


# Point 16: writers that wait


def test_a_second_writer_of_this_process_fails_or_waits(index, photos, tmp_path):
    opened = reader(tmp_path)
    held, release = threading.Event(), threading.Event()

    def write() -> None:
        with writer_lock(tmp_path / "index"):
            held.set()
            release.wait()

    thread = threading.Thread(target=write)
    thread.start()
    held.wait()
    try:
        with pytest.raises(rg.StoreLockedError, match=r"by this process.*timeout="):
            opened.remove(photos / "a.png")
        with pytest.raises(rg.StoreLockedError):
            opened.compact(timeout=0.2)
        threading.Timer(0.3, release.set).start()
        assert opened.remove(photos / "a.png", timeout=60) == 1
    finally:
        release.set()
        thread.join()
    with writer_lock(tmp_path / "index"), pytest.raises(rg.StoreLockedError):
        opened.remove(photos / "b.png", timeout=math.inf)  # waiting for itself would never end
    with pytest.raises(rg.GroundingError, match="at least 0"):
        opened.remove(photos / "b.png", timeout=-1)


def test_many_threads_that_wait_all_write(index, photos, tmp_path):
    names = ["a.png", "b.png", "c.png", "d.png"]
    removed = []
    threads = [
        threading.Thread(
            target=lambda name=name: removed.append(
                reader(tmp_path).remove(photos / name, timeout=math.inf)
            )
        )
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (removed, len(index)) == ([1, 1, 1, 1], 0)


HOLD = """
import pathlib, sys
from retrieval_grounding.storage.lock import writer_lock
with writer_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_commands_wait_for_a_different_process(index, photos, tmp_path):
    from typer.testing import CliRunner

    from retrieval_grounding.cli.app import app

    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "index"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout.readline() == "held\n"
        arguments = ["remove", str(tmp_path / "index"), str(photos / "a.png")]
        failed = CliRunner().invoke(app, arguments)
        assert isinstance(failed.exception, rg.StoreLockedError)
        assert f"by process {holder.pid} on" in str(failed.exception)
        threading.Timer(0.5, holder.stdin.close).start()
        done = CliRunner().invoke(app, [*arguments, "--wait", "60"])
        assert (done.exit_code, len(index)) == (0, 3)


def test_a_vector_index_in_use_is_not_replaced(index, tmp_path):
    """Windows cannot replace a file that a reader has mapped, so new ones have new names."""
    opened = reader(tmp_path)
    opened.query("red")
    before = vectors_file(tmp_path / "index")
    index.reindex("hnsw")
    after = vectors_file(tmp_path / "index")
    assert before.name != after.name
    assert [path.name for path in (tmp_path / "index").glob("*.faiss")] == [after.name]
    assert opened.query("red")[0].label == "red"


# Images that are gone


def test_hits_of_deleted_files_are_marked_and_can_be_skipped(index, photos, tmp_path):
    opened = reader(tmp_path)
    (photos / "a.png").unlink()
    hits = opened.query("red", top=2)
    assert [(Path(hit.image).name, hit.missing) for hit in hits] == [
        ("a.png", True), ("c.png", False),
    ]  # fmt: skip
    kept = opened.query("red", top=2, skip_missing=True)
    assert [Path(hit.image).name for hit in kept][:1] == ["c.png"]
    assert (len(kept), any(hit.missing for hit in kept)) == (2, False)
