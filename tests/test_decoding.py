"""A decoding process that fails costs one image, and no process is left behind.

Also: decoding needs neither stdin, stdout nor stderr of the builder, and Ctrl-C works while a
decoder is stopped or stuck (trust, point 15).
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import faulty_decoder
import numpy as np
import psutil
import pytest
from bad_images import sound_images
from fakes import ColorEncoder, draw_squares

import retrieval_grounding as rg
from retrieval_grounding.data import decoder as decoder_module
from retrieval_grounding.data.decoder import Decoder
from retrieval_grounding.data.images import decode_image
from retrieval_grounding.data.prefetch import read_ahead

QUIET = rg.BuildOptions(progress=False, workers=2)
posix = pytest.mark.skipif(os.name == "nt", reason="signals and sessions are POSIX")


@pytest.fixture
def faults(monkeypatch):
    """Let the last bytes of a file decide how its decoder fails; return an undo function."""
    monkeypatch.setattr(decoder_module, "_PROGRAM", faulty_decoder.PROGRAM)
    return monkeypatch.undo


@pytest.fixture
def decoder():
    decoder = Decoder()
    yield decoder
    decoder.close()


@pytest.fixture
def children():
    """Return a function that lists the processes that the test has started."""
    earlier = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in earlier]


def doom(path: Path, fate: str) -> None:
    with path.open("ab") as file:
        file.write(fate.rjust(8).encode())


def test_pixels_are_the_same_as_in_this_process(decoder):
    for name, data in sound_images().items():
        np.testing.assert_array_equal(decoder.decode(data), decode_image(data), err_msg=name)
    assert decoder.decode(png(1, 1)).size == (1, 1)
    assert decoder.decode(png(30_000, 1)).size == (30_000, 1)
    assert decoder.decode(png(5000, 5000)).size == (5000, 5000)


def png(width: int, height: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"text", png(9, 9)[:50], png(9, 9)[:-30]])
def test_reasons_are_the_same_as_in_this_process(decoder, data):
    with pytest.raises(rg.ImageError) as here:
        decode_image(data)
    for _ in range(2):
        with pytest.raises(rg.ImageError) as there:
            decoder.decode(data)
        assert (there.value.reason, there.value.detail) == (here.value.reason, here.value.detail)


@posix
@pytest.mark.parametrize(
    ("fate", "reason", "detail"),
    [
        ("crash", "decoder-died", "SIGSEGV"),
        ("killed", "decoder-died", "SIGKILL"),
        ("exit", "decoder-died", "status 3"),
        ("starve", "out-of-memory", "memory"),
    ],
)
def test_a_decoder_that_dies_fails_one_image(
    photos, tmp_path, models, faults, fate, reason, detail
):
    doom(photos / "b.png", fate)
    index = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    [skipped] = index.skipped()
    assert (Path(skipped.path).name, skipped.reason) == ("b.png", reason)
    assert detail in skipped.detail
    assert [Path(image.path).name for image in index.images()] == ["a.png", "c.png", "d.png"]
    faults()  # nothing was wrong with the file
    again = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    assert (again.build_report.added, again.skipped()) == (1, [])


@posix
def test_an_image_keeps_its_regions_when_its_decoder_dies(photos, tmp_path, models, faults):
    rg.build(photos, tmp_path / "index", options=QUIET, **models)
    doom(photos / "a.png", "killed")
    index = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    assert index.build_report.skipped_reasons == {"decoder-died": 1}
    assert len(index.query("red", top=9)) == 4


@pytest.mark.parametrize("fate", ["hang", "busy"])
def test_a_decoder_that_hangs_is_replaced(photos, faults, fate, caplog):
    doom(photos / "b.png", fate)
    decoder = Decoder(timeout=0.3)
    with pytest.raises(rg.ImageError) as stuck:
        decoder.decode((photos / "b.png").read_bytes())
    assert stuck.value.reason == "decoder-stuck"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith("decoder-stuck: decoding it took more than 0.3 s; a new")
    assert decoder.decode((photos / "a.png").read_bytes()).size == (80, 60)
    decoder.close()


def test_output_of_libraries_does_not_mix_with_pixels(photos, faults, decoder):
    sound = decode_image((photos / "b.png").read_bytes())
    doom(photos / "b.png", "babble")
    np.testing.assert_array_equal(decoder.decode((photos / "b.png").read_bytes()), sound)


@posix
def test_order_is_kept_when_decoders_die(tmp_path, faults):
    paths = []
    for number in range(24):
        paths.append(str(draw_squares(tmp_path / f"{number:02}.png", {"red": (0, 0, number, 9)})))
        if number % 6 == 5:
            doom(Path(paths[-1]), ("crash", "exit")[number % 4 // 2])
    found = list(read_ahead(paths, (), 3))
    assert [item.path for item in found] == paths
    assert [getattr(item, "reason", None) for item in found] == ([None] * 5 + ["decoder-died"]) * 4


@posix
def test_a_decoder_that_is_killed_between_two_images_fails_none(decoder, children):
    decoder.decode(png(3, 3))
    [process] = children()
    process.kill()
    psutil.wait_procs([process], 10)
    assert decoder.decode(png(4, 4)).size == (4, 4)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize("end", ["all", "some", "error"])
def test_neither_processes_nor_files_are_left_open(tmp_path, faults, end, children):
    paths = []
    for number in range(20):
        paths.append(str(draw_squares(tmp_path / f"{number:02}.png", {})))
    doom(Path(paths[3]), "crash")
    doom(Path(paths[12]), "hang")
    before = open_files()
    reading = read_ahead(paths[:10] if end == "all" else paths, (), 2)
    first = next(reading)
    assert isinstance(first.path, str)
    assert 1 <= len(children()) <= 2
    if end == "all":
        assert len(list(reading)) == 9
    elif end == "some":
        for _ in range(9):  # the one that hangs is being decoded
            next(reading)
        reading.close()
    else:
        with pytest.raises(ZeroDivisionError):
            reading.throw(ZeroDivisionError)
    assert children() == []
    assert open_files() == before


def test_skipped_files_are_logged_with_their_reason(photos, caplog):
    (photos / "b.png").write_bytes(b"")
    caplog.set_level("DEBUG", "retrieval_grounding.data")
    paths = [str(photos / "a.png"), str(photos / "b.png")]
    assert len(list(read_ahead(paths, (), 1))) == 2
    assert caplog.messages == [f"skipped {paths[1]}: empty (the file has no bytes)"]


def test_files_that_are_known_or_only_hashed_start_no_process(photos, monkeypatch):
    monkeypatch.setattr(decoder_module, "get_executable", lambda: "/no/such/program")
    paths = [str(path) for path in sorted(photos.iterdir())]
    hashed = list(read_ahead(paths, (), 2, decode=False))
    known = {item.content_hash for item in hashed}
    assert list(read_ahead(paths, known, 2)) == hashed


@pytest.mark.parametrize("fault", ["no program", "broken installation"])
def test_a_decoder_that_cannot_be_started_is_one_sentence(
    photos, tmp_path, models, monkeypatch, fault
):
    if fault == "no program":
        monkeypatch.setattr(decoder_module, "get_executable", lambda: "/no/such/program")
    else:
        monkeypatch.setattr(decoder_module, "_PROGRAM", "raise SystemExit(7)")
    with pytest.raises(rg.GroundingError, match=r"cannot start a process|status 7") as failure:
        rg.build(photos, tmp_path / "index", options=QUIET, **models)
    assert "\n" not in str(failure.value)
    monkeypatch.undo()
    assert len(rg.build(photos, tmp_path / "index", options=QUIET, **models)) == 4


def test_the_process_is_light():
    """It is started for every build, several times."""
    program = (
        "import sys; sys.path[:] = sys.argv[1:]; import retrieval_grounding.data.decoder_process; "
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    command = [sys.executable, "-S", "-c", program, *sys.path, str(Path(rg.__file__).parents[1])]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "'PIL'" in loaded
    for heavy in ("numpy", "torch", "h5py", "faiss", "sqlite3", "subprocess"):
        assert f"'{heavy}'" not in loaded


SCRIPT = """
import signal
import sys
import time
from fakes import ColorEncoder, SquareDetector
import faulty_decoder
import retrieval_grounding as rg
from retrieval_grounding.data import decoder
signal.signal(signal.SIGINT, signal.default_int_handler)
decoder._PROGRAM = faulty_decoder.PROGRAM
print("once", flush=True)
class Slow(SquareDetector):
    def detect(self, images):
        print("detecting", flush=True)
        time.sleep(float(sys.argv[3]))
        return super().detect(images)
options = rg.BuildOptions(progress=False, workers=2, batch_images=1)
index = rg.build(sys.argv[1], sys.argv[2], detector=Slow(), clip=ColorEncoder(), options=options)
print(index.build_report.added, index.build_report.skipped_reasons)
"""

DECODING = """
import sys
import time
import faulty_decoder
from retrieval_grounding.data import decoder as decoder_module
decoder_module._PROGRAM = faulty_decoder.PROGRAM
decoder = decoder_module.Decoder(timeout=1.0)
decoder._start()
print("detecting", flush=True)
if sys.argv[1] == "hanging":
    decoder.decode(b"    hang")
time.sleep(100)
"""


def start(script: str, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """Run a script without a guard against being imported, in a new session."""
    (folder / "script.py").write_text(script, encoding="utf-8")
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(rg.__file__).parents[1])])
    return subprocess.Popen(
        [sys.executable, str(folder / "script.py"), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip


def children_at_work(builder: subprocess.Popen[str]) -> list[psutil.Process]:
    while "detecting" not in builder.stdout.readline():
        pass
    return psutil.Process(builder.pid).children()


@posix
@pytest.mark.parametrize("work", ["waiting", "hanging"])
def test_decoders_end_with_a_builder_that_is_killed(tmp_path, work):
    builder = start(DECODING, tmp_path, work)
    children = children_at_work(builder)
    assert len(children) == 1
    builder.kill()
    assert not psutil.wait_procs(children, 10)[1]
    builder.communicate()


STUCK = """
import signal
import sys
import time
from fakes import ColorEncoder, SquareDetector
import faulty_decoder
import retrieval_grounding as rg
from retrieval_grounding.data import decoder
signal.signal(signal.SIGINT, signal.default_int_handler)
decoder._PROGRAM = faulty_decoder.PROGRAM
class Telling(SquareDetector):
    def detect(self, images):
        print("detecting", flush=True)
        return super().detect(images)
options = rg.BuildOptions(progress=False, workers=2, batch_images=1)
models = {"detector": Telling(), "clip": ColorEncoder()}
try:
    rg.build(sys.argv[1], sys.argv[2], options=options, **models)
except rg.BuildInterrupted as stopped:
    print("stopped", stopped.report.added, stopped.report.skipped_reasons)
except KeyboardInterrupt:
    print("stopped at once")
"""


@posix
@pytest.mark.parametrize(("fate", "presses"), [("busy", 1), ("stopped", 1), ("stopped", 2)])
def test_ctrl_c_ends_a_build_whose_decoder_is_stuck_or_stopped(photos, tmp_path, fate, presses):
    """Nothing is said of the image in progress, and what was embedded before is safe."""
    for number in range(20):
        draw_squares(photos / f"x{number:02}.png", {"blue": (0, 0, 9, 9 + number)})
        doom(photos / f"x{number:02}.png", "hang" if fate == "stopped" else fate)
    builder = start(STUCK, tmp_path, photos, tmp_path / "index")
    children = children_at_work(builder)
    time.sleep(1.0)  # now all decoders are at the files that block
    if fate == "stopped":
        for child in children:
            child.suspend()
    for _ in range(presses):
        os.kill(builder.pid, signal.SIGINT)
    output, errors = builder.communicate(timeout=30)  # less than a decoder may take
    assert "stopped" in output, errors
    assert not psutil.wait_procs(children, 10)[1]
    if presses == 1:
        index = rg.Index.open(tmp_path / "index", encoder=ColorEncoder())
        assert index.skipped() == []
        assert len(index) >= 1
        assert index.verify().faults == []


@posix
def test_a_decoder_that_was_stopped_is_replaced(photos, children):
    """Its own clock stands still; that of the builder does not."""
    decoder = Decoder(timeout=0.5)
    data = (photos / "a.png").read_bytes()
    decoder.decode(data)
    [process] = children()
    process.suspend()
    with pytest.raises(rg.ImageError) as stuck:
        decoder.decode(data)
    assert stuck.value.reason == "decoder-stuck"
    assert decoder.decode(data).size == (80, 60)
    decoder.close()
    assert children() == []


@posix
def test_a_decoder_that_is_stopped_while_it_starts_is_replaced(photos, monkeypatch):
    monkeypatch.setattr(decoder_module, "_START_SECONDS", 1.0)
    monkeypatch.setattr(
        decoder_module, "_PROGRAM", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    )
    decoder = Decoder(timeout=4.0)
    with pytest.raises(rg.GroundingError, match="SIGKILL while starting"):
        decoder.decode((photos / "a.png").read_bytes())
    decoder.close()


def test_waiting_for_memory_does_not_count_as_being_stuck(photos):
    decoder = Decoder(timeout=0.4)
    data = (photos / "a.png").read_bytes()
    image, notes, _ = decoder.decode_with_notes(data, lambda need, kept: time.sleep(1.0))
    assert (image.size, notes) == ((80, 60), ())
    decoder.close()


def test_a_file_that_may_not_be_decoded_leaves_the_decoder_usable(photos, decoder, children):
    def refuse(need: int, kept: int) -> None:
        raise rg.ImageError("too-large", "no")

    data = (photos / "a.png").read_bytes()
    decoder.decode(data)
    [process] = children()
    for _ in range(3):
        with pytest.raises(rg.ImageError, match="too-large"):
            decoder.decode_with_notes(data, refuse)
        assert decoder.decode(data).size == (80, 60)
    assert children() == [process]


CLOSED = """
import os
import sys
from retrieval_grounding.data.prefetch import read_ahead
for number in map(int, sys.argv[2]):
    os.close(number)
files = [os.path.join(sys.argv[1], name) for name in sorted(os.listdir(sys.argv[1]))]
found = [getattr(item, "reason", "decoded") for item in read_ahead(files, (), 2)]
with open(sys.argv[1] + ".txt", "w") as file:
    print(*found, file=file)
"""


@posix
@pytest.mark.parametrize("closed", ["2", "1", "0", "12", "02", "012"])
def test_without_standard_streams_every_image_is_decoded(photos, tmp_path, closed):
    start(CLOSED, tmp_path, photos, closed).communicate(timeout=60)
    assert Path(f"{photos}.txt").read_text() == "decoded decoded decoded decoded\n"


def test_a_decoder_that_cannot_start_says_why(photos, monkeypatch):
    monkeypatch.setattr(decoder_module, "_PROGRAM", "import no_such_library")
    decoder = Decoder()
    with pytest.raises(rg.GroundingError, match="No module named 'no_such_library'") as failure:
        decoder.decode((photos / "a.png").read_bytes())
    assert "\n" not in str(failure.value)
    decoder.close()


@posix
@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_the_builder_only(photos, tmp_path):
    """Also, a script without a guard against being imported runs once."""
    builder = start(SCRIPT, tmp_path, photos, tmp_path / "index", 0.5)
    children = children_at_work(builder)
    assert not any(os.getpgid(child.pid) == builder.pid for child in children)
    os.killpg(builder.pid, signal.SIGINT)
    output, errors = builder.communicate(timeout=60)
    assert "BuildInterrupted" in errors
    assert "once" not in output
    assert not psutil.wait_procs(children, 10)[1]
    index = rg.Index.open(tmp_path / "index", encoder=ColorEncoder())
    assert (len(index), index.skipped(), index.verify().faults) == (1, [], [])
