"""Full disks, missing permissions, full memory and Ctrl-C: one sentence, and an intact index."""

from __future__ import annotations

import ast
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares

import retrieval_grounding as rg

QUIET = rg.BuildOptions(progress=False)
TESTS = Path(__file__).parent


@pytest.fixture
def index(photos, tmp_path, models) -> rg.Index:
    return rg.build(photos, tmp_path / "index", options=QUIET, **models)


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler on Linux"
)
def test_every_failing_write_leaves_the_index_intact(tmp_path):
    shim = tmp_path / "fault_shim.so"
    source = TESTS / "fault_shim.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, TESTS / "fault_writers.py", "--stride", "101"],
        env=os.environ | {"LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = ast.literal_eval(re.search(r"\{.*\}", done.stdout)[0])
    assert counts["reported"] > 5
    assert counts["killed"] > 2


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_index_can_be_read_and_says_that_it_cannot_be_written(
    index, photos, tmp_path, models
):
    expected = index.query("red")
    folder = tmp_path / "index"
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        reader = rg.Index.open(folder, encoder=models["clip"])
        assert reader.query("red") == expected
        assert reader.verify().faults == []
        with pytest.raises(rg.StoreError, match="permissions"):
            rg.build(photos, folder, options=QUIET, **models)
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)


class FullDevice(SquareDetector):
    """Has memory for three images at once, and never for one of 90 × 70 pixels."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect(self, images):
        import torch

        self.batches.append(len(images))
        if len(images) > 3 or any(image.size == (90, 70) for image in images):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().detect(images)


def test_a_full_gpu_halves_the_batch_and_continues(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        draw_squares(photos / f"{number:02}.png", {"red": (0, 0, number + 5, 20)})
    draw_squares(photos / "large.png", {"red": (0, 0, 5, 5)}, size=(90, 70))
    detector = FullDevice()
    index = rg.build(
        photos, tmp_path / "index", detector=detector, clip=ColorEncoder(), options=QUIET
    )
    assert index.build_report.skipped_reasons == {"out-of-memory": 1}
    assert len(index) == 12
    assert detector.batches[:3] == [13, 6, 3]
    assert index.verify().faults == []


def test_other_errors_of_models_are_not_mistaken_for_full_memory(photos, tmp_path):
    class Broken(SquareDetector):
        def detect(self, images):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        rg.build(photos, tmp_path / "index", detector=Broken(), clip=ColorEncoder(), options=QUIET)


class Interrupting(SquareDetector):
    """Presses Ctrl-C when the second batch comes."""

    def __init__(self) -> None:
        self.batches = 0

    def detect(self, images):
        self.batches += 1
        if self.batches == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return super().detect(images)


@pytest.fixture
def usual_ctrl_c():
    """Python's own handler of Ctrl-C, which background jobs of a shell inherit as ignored."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, inherited)


def test_ctrl_c_ends_after_the_batch_and_commits_it(photos, tmp_path, models, capsys, usual_ctrl_c):
    options = rg.BuildOptions(batch_images=1, shard_images=100, progress=False)
    usual = usual_ctrl_c
    with pytest.raises(rg.BuildInterrupted) as stopped:
        rg.build(
            photos, tmp_path / "index", detector=Interrupting(), clip=models["clip"],
            options=options,
        )  # fmt: skip
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert "Ctrl-C again" in capsys.readouterr().err
    added = stopped.value.report.added
    assert 1 <= added < 4
    assert signal.getsignal(signal.SIGINT) is usual
    index = rg.Index.open(tmp_path / "index", encoder=models["clip"])
    assert len(index) == added
    assert index.verify().faults == []
    again = rg.build(photos, tmp_path / "index", options=options, **models)
    assert (again.build_report.added, again.build_report.unchanged) == (4 - added, added)


def test_a_build_in_a_thread_needs_no_signals(photos, tmp_path, models):
    built = []
    thread = threading.Thread(
        target=lambda: built.append(rg.build(photos, tmp_path / "index", options=QUIET, **models))
    )
    thread.start()
    thread.join()
    assert len(built[0]) == 4


@pytest.mark.skipif(os.name == "nt", reason="limits of open files are POSIX")
def test_too_many_open_files_is_one_sentence(index, photos, tmp_path, models):
    import resource

    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free: no file gets one
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))
    try:
        with pytest.raises(rg.GroundingError) as failure:
            rg.build(photos, tmp_path / "index", options=QUIET, **models)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert "\n" not in str(failure.value)
    assert rg.Index.open(tmp_path / "index").verify().faults == []


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_while_reading_are_not_the_images_fault(
    index, photos, tmp_path, models, monkeypatch, error
):
    draw_squares(photos / "new.png", {"red": (0, 0, 9, 9)})

    def fail(path):
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(rg.GroundingError, match="too many files are open") as failure:
        rg.build(photos, tmp_path / "index", options=QUIET, **models)
    assert "\n" not in str(failure.value)
    monkeypatch.undo()
    opened = rg.Index.open(tmp_path / "index")
    assert (len(opened), opened.skipped(), opened.verify().faults) == (4, [], [])


def test_a_collection_that_vanished_keeps_its_index(index, photos, tmp_path, models):
    photos.rename(tmp_path / "unplugged")
    with pytest.raises(rg.SourceError):
        rg.build(photos, tmp_path / "index", options=QUIET, **models)
    photos.mkdir()  # the empty mount point
    with pytest.raises(rg.SourceError):
        rg.build(photos, tmp_path / "index", options=rg.BuildOptions(prune=True), **models)
    assert len(rg.Index.open(tmp_path / "index")) == 4
