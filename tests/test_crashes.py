"""Killed writers, the files they leave behind, and readers during a write."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares

import retrieval_grounding as rg

QUIET = rg.BuildOptions(progress=False)

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@forks
@pytest.mark.slow
def test_twenty_killed_writers_lose_and_duplicate_nothing(tmp_path):
    from kill_writers import run

    counts = run(tmp_path, kills=20, images=100, seed=1)
    assert {
        "killed in build",
        "killed in remove",
        "killed in compact",
        "killed in add",
    } <= counts.keys()


@pytest.fixture
def index(photos, tmp_path, models) -> rg.Index:
    return rg.build(photos, tmp_path / "index", options=QUIET, **models)


def test_leftovers_of_a_kill_are_not_faults_and_are_deleted_by_the_next_build(
    index, photos, tmp_path, models
):
    folder = tmp_path / "index"
    leftovers = [
        folder / "shards" / "999999.h5",
        folder / "shards" / ".000002.h5.4711.partial",
        folder / ".rg-vectors.faiss.4711.partial",
    ]
    for path in leftovers:
        path.write_bytes(b"written but never committed")
    assert index.verify().faults == []
    assert len(index.query("red")) == 4
    rg.build(photos, folder, options=QUIET, **models)
    assert not [path for path in leftovers if path.exists()]


@forks
def test_the_journal_of_a_killed_writer_is_rolled_back_by_a_reader(index, photos, tmp_path, models):
    child = os.fork()
    if child == 0:
        import sqlite3

        connection = sqlite3.connect(tmp_path / "index" / "catalog.sqlite")
        connection.execute("PRAGMA cache_size = 1")  # so that pages reach the file uncommitted
        connection.execute("UPDATE images SET path = path || hex(zeroblob(9000))")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "index" / "catalog.sqlite-journal").exists()
    opened = rg.Index.open(tmp_path / "index", encoder=models["clip"])
    assert [Path(image.path) for image in opened.images()] == sorted(photos.iterdir())
    assert opened.verify().faults == []


@pytest.mark.parametrize("change", ["build", "remove", "compact"])
def test_an_open_reader_follows_every_writer(index, photos, tmp_path, models, change):
    reader = rg.Index.open(tmp_path / "index", encoder=models["clip"])
    assert len(reader.query("red")) == 4
    if change == "build":
        draw_squares(photos / "e.png", {"red": (0, 0, 80, 60)})
        rg.build(photos, tmp_path / "index", options=QUIET, **models)
        assert "e.png" in [Path(hit.image).name for hit in reader.query("red", top=3)]
    elif change == "remove":
        index.remove(photos / "a.png")
        assert len(reader.query("red")) == 3
    else:
        draw_squares(photos / "d.png", {"green": (0, 0, 9, 9)})
        rg.build(photos, tmp_path / "index", options=QUIET, **models)
        before = [(hit.image, hit.box, hit.score) for hit in reader.query("red")]
        index.compact(0)
        assert [(hit.image, hit.box, hit.score) for hit in reader.query("red")] == before


@pytest.mark.slow
def test_readers_see_whole_states_while_a_writer_works(tmp_path, models):
    photos, folder = tmp_path / "photos", tmp_path / "index"
    photos.mkdir()
    for number in range(12):
        draw_squares(photos / f"{number:02}.png", {"red": (0, 0, number + 5, 20)})
    options = rg.BuildOptions(batch_images=3, shard_images=3, progress=False, restore=True)
    rg.build(photos, folder, options=options, **models)
    expected = {str(path): (0, 0, n + 5, 20) for n, path in enumerate(sorted(photos.iterdir()))}
    answers, failures = [], []
    done = threading.Event()

    def read() -> None:
        reader = rg.Index.open(folder, encoder=ColorEncoder())
        try:
            while not done.is_set():
                answers.append({hit.image: hit.box for hit in reader.query("red", top=50)})
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    writer = rg.Index.open(folder)
    for turn in range(6):
        draw_squares(photos / "extra.png", {"red": (0, 0, 70, 20 + turn)})
        rg.build(photos, folder, detector=SquareDetector(), clip=ColorEncoder(), options=options)
        writer.compact(0.0, 3 + turn)
        writer.remove(photos / "extra.png")
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(answers) > 20
    for answer in answers:
        extra = answer.pop(str(photos / "extra.png"), None)
        assert answer == expected
        assert extra is None or (extra[:3] == (0, 0, 70) and 20 <= extra[3] < 26)
    assert writer.verify().faults == []


@forks
def test_the_lock_of_a_killed_writer_does_not_block(index, photos, tmp_path):
    ready, signal_ready = os.pipe()
    child = os.fork()
    if child == 0:
        from retrieval_grounding.storage.lock import writer_lock

        with writer_lock(tmp_path / "index"):
            os.write(signal_ready, b"held")
            signal.pause()
    os.read(ready, 4)
    try:
        with pytest.raises(rg.StoreLockedError, match=f"process {child} on"):
            index.remove(photos / "a.png")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert index.remove(photos / "a.png") == 1
