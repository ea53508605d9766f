"""Decoding is bounded in memory, across all workers (trust, point 5)."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import itertools
import os
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from bad_images import png_claiming, sound_images
from fakes import SquareDetector, draw_squares
from PIL import Image
from raw_files import dng
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli import build as build_command
from retrieval_grounding.cli.app import app
from retrieval_grounding.data import budget as budget_module
from retrieval_grounding.data import prefetch
from retrieval_grounding.data.budget import MemoryBudget, OverBudgetError, free_memory
from retrieval_grounding.data.decoder import Decoder
from retrieval_grounding.data.expressions import read_expressions
from retrieval_grounding.data.images import decode_with_notes
from retrieval_grounding.data.prefetch import read_ahead, read_batches

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, needs its limits")
MB = 1_000_000


def flat_png(path: Path, width: int, height: int) -> Path:
    """Write a PNG of one color: small, but with many pixels."""
    Image.new("RGB", (width, height), "red").save(path, compress_level=1)
    return path


# Estimates


def encoded(kind: str, side: int = 1600, **options: object) -> bytes:
    if kind == "HEIF":
        return sound_images()["heic"]
    if kind == "DNG":
        return dng(encoded("JPEG", side), (side, side))
    small = np.random.default_rng(0).integers(0, 255, (side // 8, side // 8, 4), np.uint8)
    image = Image.fromarray(small).resize((side, side))
    mode = options.pop("mode", "RGB")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"exif": exif} if options.pop("turned", 0) else {}), **options)
    return buffer.getvalue()


PEAK = """
import re, sys
sys.path[:] = sys.argv[2:]
from retrieval_grounding.data.images import decode_with_notes, load_plugins
load_plugins()
import numpy, pi_heif.as_plugin, rawpy
def read(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
data = open(sys.argv[1], "rb").read()
needs = []
open("/proc/self/clear_refs", "w").write("5")
before = read("VmRSS")
decode_with_notes(data, lambda need, pixels: needs.append(need))
print(needs[0], read("VmHWM") - before)
"""

FORMATS = {
    "JPEG": ("JPEG", {}),
    "turned JPEG": ("JPEG", {"turned": True}),
    "progressive JPEG": ("JPEG", {"progressive": True}),
    "progressive JPEG of full color": ("JPEG", {"progressive": True, "subsampling": 0}),
    "progressive CMYK": ("JPEG", {"progressive": True, "mode": "CMYK"}),
    "gray JPEG": ("JPEG", {"mode": "L"}),
    "PNG": ("PNG", {"compress_level": 1}),
    "turned PNG": ("PNG", {"compress_level": 1, "turned": True}),
    "PNG with alpha": ("PNG", {"compress_level": 1, "mode": "RGBA"}),
    "PNG of 16 bits": ("PNG", {"compress_level": 1, "mode": "I;16"}),
    "GIF": ("GIF", {}),
    "WebP": ("WEBP", {"method": 0}),
    "lossless WebP": ("WEBP", {"method": 0, "lossless": True, "mode": "RGBA"}),
    "TIFF": ("TIFF", {}),
    "float TIFF": ("TIFF", {"mode": "F"}),
    "TIFF in one strip": ("TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: 1600}}),
    "JPEG 2000": ("JPEG2000", {"mode": "RGBA"}),
    "AVIF": ("AVIF", {"speed": 10, "mode": "RGBA"}),
    "HEIF": ("HEIF", {}),
    "camera raw": ("DNG", {}),
}


@linux
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_decoding_takes_no_more_memory_than_was_asked_for(tmp_path, name):
    kind, options = FORMATS[name]
    (tmp_path / "image").write_bytes(encoded(kind, **options))
    package = str(Path(rg.__file__).parents[1])
    command = [sys.executable, "-c", PEAK, str(tmp_path / "image"), *sys.path, package]
    need, peak = map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert peak < need + 8 * MB
    assert need < 4 * max(peak, 10 * MB)  # not so careful that small budgets become useless


def test_the_size_is_known_before_pixels_are_decoded():
    def refuse(need: int, pixels: int) -> None:
        raise OverBudgetError("too-large", f"{need} {pixels}")

    started = time.process_time()
    for data in (png_claiming(13_000, 13_000), encoded("JPEG", 400)):
        with pytest.raises(OverBudgetError):
            decode_with_notes(data, refuse)
    assert time.process_time() - started < 30


# The budget


def test_memory_is_given_in_turn_and_waits_until_there_is_enough():
    budget, order = MemoryBudget(100), []

    def run(turn: int, size: int) -> None:
        budget.take(turn, size)
        order.append(turn)

    threads = [threading.Thread(target=run, args=(turn, 60)) for turn in (2, 1, 0)]
    for thread in threads:
        thread.start()
    for turn in range(3):
        while len(order) <= turn:
            time.sleep(0.001)
        assert order == list(range(turn + 1))
        assert budget.used == 60
        budget.give_back(60)
    for thread in threads:
        thread.join()
    assert budget.used == 0


def test_an_image_larger_than_the_budget_fails_but_fits_into_the_default_if_memory_is_free():
    with pytest.raises(OverBudgetError, match=r"50 MB of memory, and 40 MB .* --memory"):
        MemoryBudget(40 * MB).take(0, 50 * MB)
    default = MemoryBudget()
    default.take(0, default.limit + 1)  # alone
    assert not default._fits(1)


def test_free_memory_is_that_of_the_container(tmp_path, monkeypatch):
    files = [tmp_path / "max", tmp_path / "current"]
    monkeypatch.setattr(budget_module, "_CGROUPS", (tuple(map(str, files)),))
    assert free_memory() > 50 * MB  # without a limit
    files[0].write_text("max\n")
    files[1].write_text("10000000\n")
    assert free_memory() > 50 * MB
    files[0].write_text("30000000\n")
    assert free_memory() == 20 * MB


@linux
def test_many_pixels_at_once_stay_in_the_budget(tmp_path):
    """Without a budget, eight of them take 8 × 25 MP × 8 bytes and more."""
    paths = [str(flat_png(tmp_path / f"{n}.png", 5000, 5000)) for n in range(8)]
    this = psutil.Process()
    command = this.cmdline()
    earlier = this.children()  # of other tests
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            total = 0
            for process in (this, *(p for p in this.children() if p not in earlier)):
                with contextlib.suppress(psutil.Error):  # it has ended
                    if process == this or process.cmdline() != command:  # not a copy of this one
                        total += process.memory_info().rss
            peak = max(peak, total)

    small = str(flat_png(tmp_path / "small.png", 5, 5))
    list(read_ahead([small], (), 1, memory=450 * MB))  # imports
    before = this.memory_info().rss
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        sizes = [item.image.size for item in read_ahead(paths, (), 8, memory=450 * MB)]
    finally:
        done.set()
        thread.join()
    assert sizes == [(5000, 5000)] * 8
    # What two decoders take before they decode, 60 MB each, and what the allocator here keeps.
    processes = 3 * 60 * MB
    assert peak - before < 450 * MB + processes


def test_all_images_arrive_in_order_however_small_the_budget(tmp_path):
    paths = []
    for number in range(24):
        side = (60, 900, 300)[number % 3]
        paths.append(str(flat_png(tmp_path / f"{number:02}.png", side, side + number)))
    for memory in (13 * MB, 30 * MB, 10_000 * MB):
        found = list(read_ahead(paths, (), 4, memory=memory))
        assert [item.path for item in found] == paths
        assert all(item.image is not None for item in found)


def test_a_build_finishes_however_small_the_budget(tmp_path, models):
    """Images that wait for models release memory, in batches that are not full."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        draw_squares(photos / f"{number:02}.png", {"red": (0, 0, 9 + number, 9)}, (800, 600))
    detector = SquareDetector()
    sizes: list[int] = []
    detect = detector.detect
    detector.detect = lambda images: sizes.append(len(images)) or detect(images)
    options = rg.BuildOptions(memory=12 * MB, progress=False, workers=3)
    index = rg.build(
        photos, tmp_path / "index", detector=detector, clip=models["clip"], options=options
    )
    assert (len(index), index.skipped()) == (12, [])
    assert max(sizes) < 12
    whole = rg.BuildOptions(progress=False, workers=3)
    other = rg.build(photos, tmp_path / "other", options=whole, **models)
    assert [h.score for h in other.query("red", 9)] == [h.score for h in index.query("red", 9)]


def test_what_was_decoded_is_given_back_once_it_is_released(tmp_path):
    paths = [str(flat_png(tmp_path / f"{n}.png", 500, 500)) for n in range(6)]
    taken: list[MemoryBudget] = []
    original = prefetch.MemoryBudget
    prefetch.MemoryBudget = lambda limit: taken.append(original(limit)) or taken[-1]
    try:
        with_images = list(read_ahead(paths, (), 2, memory=100 * MB))
        assert taken[0].used == 6 * 4 * 500 * 500
        del with_images
        gc.collect()
        assert taken[0].used == 0
    finally:
        prefetch.MemoryBudget = original


def test_groups_are_empty_while_the_caller_has_to_release_images(tmp_path):
    paths = [str(flat_png(tmp_path / f"{n}.png", 700, 700)) for n in range(4)]
    groups = read_batches(paths, (), 2, count=1, memory=10 * MB)
    held = [next(groups)]
    while len(held[-1]) == 1 and len(held) < 4:
        held.append(next(groups))
    assert held[-1] == []
    count = sum(map(len, held))
    held.clear()
    gc.collect()
    assert count + sum(map(len, groups)) == 4


def test_an_image_over_the_budget_is_named_and_tried_again_with_more(tmp_path, models):
    photos = tmp_path / "photos"
    photos.mkdir()
    draw_squares(photos / "small.png", {"red": (0, 0, 9, 9)})
    flat_png(photos / "large.png", 2000, 2000)
    for _ in range(2):
        options = rg.BuildOptions(memory=20 * MB, progress=False, workers=1)
        report = rg.build(photos, tmp_path / "index", options=options, **models).build_report
        [skipped] = report.skipped
        assert (Path(skipped.path).name, skipped.reason) == ("large.png", "too-large")
        assert "--memory" in skipped.detail
    options = rg.BuildOptions(memory=200 * MB, progress=False, workers=1)
    report = rg.build(photos, tmp_path / "index", options=options, **models).build_report
    assert (report.added, report.skipped) == (1, [])


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("500 mb", 5 * 10**8), ("1.5GiB", 3 << 29), ("2g", 2 * 10**9), ("9", 9)],
)
def test_sizes_are_written_as_people_write_them(text, size):
    assert build_command._size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "4PB", "nan", "4 GB or so"])
def test_a_size_that_is_none_is_one_sentence(text, photos, tmp_path):
    result = CliRunner().invoke(
        app, ["build", str(photos), "-i", str(tmp_path / "index"), f"--memory={text}"]
    )
    assert result.exit_code == 2
    assert not (tmp_path / "index").exists()


# Limits of the system


PROBE = """
import os, resource, sys, threading
from retrieval_grounding.data.limits import Limits
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)  # limits on processes are not for the administrator
limits = Limits(600.0)
limits.start(1000)
found = []
try:
    with open(sys.argv[1], "wb") as file:
        file.write(b"x")
    found.append("file")
except OSError:
    pass
try:
    bytearray(1_500_000_000)
    found.append("memory")
except MemoryError:
    pass
try:
    if os.fork() == 0:
        os._exit(0)
    found.append("process")
except OSError:
    pass
limits.start(3_000_000_000)
bytearray(1_500_000_000)
limits.start(1000)
try:
    bytearray(1_500_000_000)
    found.append("memory later")
except MemoryError:
    pass
print(resource.getrlimit(resource.RLIMIT_CORE), found)
"""


@linux
def test_a_decoder_cannot_write_start_or_take_more_than_it_should(tmp_path):
    target = tmp_path / "file"
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o777)
    package = str(Path(rg.__file__).parents[1])

    command = [sys.executable, "-c", PROBE, str(target)]
    environment = os.environ | {"PYTHONPATH": package}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.stdout == "(0, 0) []\n", ended.stderr
    assert not target.exists() or target.stat().st_size == 0


@linux
def test_images_of_every_format_decode_within_the_limits():
    decoder = Decoder()
    try:
        for kind, options in FORMATS.values():
            data = encoded(kind, 640, **options)
            expected = decode_with_notes(data).image
            np.testing.assert_array_equal(decoder.decode(data), expected)
    finally:
        decoder.close()


# Compressed expressions


LINE = b'{"image": "a.png", "expression": "the red one", "bbox_xywh": [1, 2, 3, 4]}\n'


def bomb(path: Path, part: bytes, count: int) -> Path:
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(count):
            file.write(part)
    return path


@linux
@pytest.mark.parametrize(
    ("name", "part", "count", "says"),
    [
        ("one line", b"x" * (1 << 20), 300, "one expression per line"),
        ("spaces", b" " * (1 << 20), 300, "one expression per line"),
        ("blank lines", b"\n" * (1 << 20), 200, "more than 1,000,000 blank lines"),
        ("equal lines", LINE * 10_000, 200, "too many for a file of its size"),
    ],
)
def test_a_compressed_bomb_is_one_sentence_in_bounded_memory(tmp_path, name, part, count, says):
    path = bomb(tmp_path / "refs.jsonl.gz", part, count)
    assert path.stat().st_size < 2 * MB
    program = (
        "import resource, sys; from retrieval_grounding.data.readers import read_jsonl;"
        "from retrieval_grounding import ExpressionError; from pathlib import Path\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    for record in read_jsonl(Path(sys.argv[1])): pass\n"
        "except ExpressionError as error: print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    package = str(Path(rg.__file__).parents[1])
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": package}, check=True,
    )  # fmt: skip
    message, megabytes = ended.stdout.splitlines()
    assert says in message
    assert int(megabytes) < 30


def test_ordinary_compressed_expressions_are_read_to_their_end(tmp_path):
    numbers = itertools.count()
    lines = b"".join(LINE.replace(b"one", b"one at %d" % next(numbers)) for _ in range(20_000))
    (tmp_path / "refs.jsonl.gz").write_bytes(gzip.compress(lines))
    assert len(read_expressions(tmp_path / "refs.jsonl.gz")) == 20_000


def test_a_long_line_of_a_plain_file_is_one_sentence(tmp_path):
    (tmp_path / "refs.jsonl").write_bytes(LINE + b"[" * (1 << 21))
    with pytest.raises(rg.ExpressionError, match="more than 1,048,576 bytes"):
        read_expressions(tmp_path / "refs.jsonl")


def test_several_members_of_a_compressed_file_count_together(tmp_path):
    part = gzip.compress((b" " * 999_999 + b"\n") * 10)
    (tmp_path / "refs.jsonl.gz").write_bytes(part * 20)
    assert len(zlib.decompress(part, 31)) == 10_000_000
    with pytest.raises(rg.ExpressionError, match="too many"):
        read_expressions(tmp_path / "refs.jsonl.gz")
