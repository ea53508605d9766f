"""HEIC and HEIF: decoded like every other format, in the process with limits, too."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from fakes import BACKGROUND, COLORS
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding.core.errors import ImageError
from retrieval_grounding.data.decoder import Decoder
from retrieval_grounding.data.decoder_process import YES
from retrieval_grounding.data.images import decode_image

FIXTURE = Path(__file__).parent / "fixtures" / "heic.zip"
PICTURES = ("plain.heic", "turned.heic", "alpha.heif", "10 bit.hif", "two.heic")


def stored(name: str) -> bytes:
    with zipfile.ZipFile(FIXTURE) as archive:
        return archive.read(name)


def shows_the_picture(image: Image.Image) -> bool:
    """Return whether an image is a red rectangle from (8, 8) to (40, 24) on gray."""

    def near(place, color):
        return all(abs(a - b) < 6 for a, b in zip(image.getpixel(place), color, strict=True))

    inside, outside = ((9, 9), (38, 22)), ((5, 5), (43, 15), (20, 28), (90, 60))
    return (
        image.size == (96, 64)
        and image.mode == "RGB"
        and all(near(place, COLORS["red"]) for place in inside)
        and all(near(place, BACKGROUND) for place in outside)
    )


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_shows_what_a_viewer_shows(name):
    assert shows_the_picture(decode_image(stored(name)))


def test_a_build_indexes_them_under_any_name(tmp_path, models):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in PICTURES:
        (photos / name).write_bytes(stored(name))
    (photos / "named by a phone.jpg").write_bytes(stored("turned.heic") + b"\0")
    index = rg.build(photos, tmp_path / "index", **models)
    assert index.build_report.added == 6
    assert {(image.width, image.height) for image in index.images()} == {(96, 64)}
    hit = index.query("red", top=1)[0]
    assert hit.label == "red"
    assert [round(side) for side in hit.box] == [8, 8, 40, 24]


def test_a_damaged_file_is_a_named_error_and_no_crash():
    data = stored("large.heic")
    decoder = Decoder(10)
    try:
        for end in range(20, len(data), len(data) // 12):
            for wrong in (data[:end], data[:end] + bytes(len(data) - end)):
                try:
                    decoder.decode(wrong)
                except ImageError as error:
                    assert error.reason in ("truncated", "corrupt", "not-an-image")
        assert decoder.decode(data).size == (1600, 1600)
    finally:
        decoder.close()


def test_avif_with_the_general_brand_is_left_to_pillow():
    buffer = BytesIO()
    try:
        Image.new("RGB", (32, 32), "red").save(buffer, "AVIF")
    except (OSError, KeyError):
        pytest.skip("this Pillow has no AVIF")
    data = buffer.getvalue()
    assert decode_image(data[:8] + b"mif1" + data[12:]).size == (32, 32)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on processes is Linux's")
def test_its_threads_start_where_processes_are_limited():
    """Limits on processes do not hold for root, so the decoding process gives its rights up."""
    program = (
        "import io, os, pi_heif.as_plugin\n"
        "from PIL import Image\n"
        "from retrieval_grounding.data import decoder_process, images\n"
        "png = io.BytesIO(); Image.new('RGB', (7, 5)).save(png, 'PNG')\n"
        "images.decode_image(png.getvalue())\n"  # imports what a different user may not read
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "decoder_process.main(10)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(rg.__file__).parents[1])}
    heif, png = stored("large.heic"), BytesIO()
    Image.new("RGB", (7, 5)).save(png, "PNG")
    asked = b"".join(
        len(data).to_bytes(8, "little") + data + YES for data in (heif, png.getvalue(), heif)
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, input=asked, capture_output=True, env=environment, check=False, timeout=60
    )
    assert done.stdout.count(b"P6\n1600 1600\n") == 2, done.stderr[-1000:]
    assert done.stdout.count(b"P6\n7 5\n") == 1
