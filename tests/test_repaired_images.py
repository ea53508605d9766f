"""Images that a decoder repairs in silence are indexed, and reported (corners, point 2)."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib

import numpy as np
import pytest
from fakes import draw_squares
from PIL import Image, ImageFilter

import retrieval_grounding as rg
from retrieval_grounding.cli.build_report import build_as_dict, print_build
from retrieval_grounding.data.images import decode_with_notes

QUIET = rg.BuildOptions(progress=False, workers=1)
NOISE = np.random.default_rng(0).integers(0, 255, (260, 360, 3), np.uint8)
PHOTO = Image.fromarray(NOISE).filter(ImageFilter.GaussianBlur(1.5))

KINDS = {
    "plain": {},
    "optimized": {"optimize": True},
    "full color": {"subsampling": 0},
    "progressive": {"progressive": True},
    "with restarts": {"restart_marker_rows": 1},
}


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def notes(data: bytes) -> list[tuple[str, int]]:
    """Return reasons, and the percentages that the details name."""
    found = decode_with_notes(data).notes
    return [(note.reason, int(re.search(r"(\d+) %", note.detail)[1])) for note in found]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_jpeg_that_was_cut_and_closed_names_what_is_missing(kind, share):
    """Without the marker at the end, Pillow refuses it."""
    data = encoded(PHOTO, quality=85, **KINDS[kind])
    kept = data[: round(len(data) * share)]
    if kind == "progressive" and share == 0.9:
        return  # lacks the last bit of some coefficients, which is no visible damage
    [(reason, missing)] = notes(kept + b"\xff\xd9")
    assert reason == ("damaged" if kind == "with restarts" else "truncated")
    if kind != "progressive":  # its data are not in the order of rows
        assert missing == pytest.approx(100 * (1 - share), abs=9)
    with pytest.raises(rg.ImageError, match="truncated"):
        decode_with_notes(kept)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_channels_are_checked_as_well(mode):
    data = encoded(PHOTO.convert(mode), quality=85)
    assert notes(data) == []
    [(reason, missing)] = notes(data[: len(data) // 2] + b"\xff\xd9")
    assert reason == "truncated"
    assert missing == pytest.approx(50, abs=9)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("damage", ["zeros", "rest zeros", "lost", "marker"])
def test_a_jpeg_that_is_destroyed_in_the_middle_is_reported(kind, damage):
    data = encoded(PHOTO, quality=90, **KINDS[kind])
    half = len(data) // 2
    changed = {
        "zeros": data[:half] + bytes(4096) + data[half + 4096 :],
        "rest zeros": data[:half] + bytes(len(data) - half - 2) + b"\xff\xd9",
        "lost": data[:half] + data[half + 4096 :],
        "marker": data[:half] + b"\xff\xe1\0\x20" + bytes(28) + data[half + 32 :],
    }[damage]
    if kind == "progressive" and damage == "lost":
        return  # the details of one scan are shifted, which nothing tells
    try:
        found = notes(changed)
    except rg.ImageError as error:
        assert error.reason in {"corrupt", "truncated"}
    else:
        assert [reason for reason, _ in found] in (["damaged"], ["truncated"])


def sound_jpegs():
    """Yield sound images, flat ones among them, whose data look much like damage."""
    for options in KINDS.values():
        for quality in (30, 75, 95):
            yield encoded(PHOTO, quality=quality, **options)
        for color in ("white", "black", (128, 128, 128), (127, 128, 128), "red"):
            for size in ((1, 1), (7, 9), (64, 64), (333, 500), (1500, 1201)):
                yield encoded(Image.new("RGB", size, color), **options)
        half = PHOTO.copy()
        half.paste((128, 128, 128), (0, 130, 360, 260))
        yield encoded(half, **options)
        yield encoded(half.convert("L"), **options)
        yield encoded(half.transpose(Image.Transpose.ROTATE_90), **options)
    data = encoded(PHOTO)
    yield data + b"and more" * 500
    yield data + encoded(PHOTO.rotate(90))
    yield data + bytes(5000) + b"\xff\xd9"
    yield data[:-2] + b"\xff" * 20 + data[-2:]  # fill bytes
    yield data[:-2] + bytes(16) + data[-2:]  # padded by its encoder
    thumbnail = Image.Exif()
    thumbnail[0x010E] = "a description with the bytes \xff\xd9 in it"
    yield encoded(PHOTO, exif=thumbnail)
    yield encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(180)])


def test_sound_images_are_not_suspected(shared):
    for number, data in enumerate(sound_jpegs()):
        assert decode_with_notes(data).notes == (), number
    for path in shared("coco_val128/images").glob("*.jpg"):
        assert decode_with_notes(path.read_bytes()).notes == (), path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16"])
def test_a_png_whose_stream_has_too_few_rows_names_what_is_missing(mode):
    """Viewers show the rest black."""
    if mode == "I;16":
        image = Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)
    else:
        image = PHOTO.quantize(64) if mode == "P" else PHOTO.convert(mode)
    data = encoded(image, "PNG")
    assert notes(data) == []
    raw = zlib.decompress(b"".join(chunk_bodies(data, b"IDAT")))
    head = data[: data.index(b"IDAT") - 4]
    [(reason, missing)] = notes(head + png_end(raw[: len(raw) // 2]))
    assert reason == "truncated"
    assert missing == pytest.approx(50, abs=2)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_an_interlaced_png_with_too_few_pixels_is_reported(share):
    head = struct.pack(">IIBBBBB", 360, 260, 8, 2, 0, 0, 1)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head
    start += struct.pack(">I", zlib.crc32(b"IHDR" + head))
    passes = ((45, 33), (45, 33), (90, 32), (90, 65), (180, 65), (180, 130), (360, 130))
    size = sum(rows * (1 + 3 * width) for width, rows in passes)
    assert decode_with_notes(start + png_end(bytes(size))).notes == ()
    [note] = decode_with_notes(start + png_end(bytes(int(size * share)))).notes
    assert note.reason == "truncated"


def png_end(raw: bytes) -> bytes:
    body = zlib.compress(raw)
    seal = struct.pack(">I", zlib.crc32(b"IDAT" + body))
    return struct.pack(">I", len(body)) + b"IDAT" + body + seal + bytes(4) + b"IEND\xaeB`\x82"


def chunk_bodies(data: bytes, kind: bytes):
    at = 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == kind:
            yield data[at + 8 : at + 8 + length]
        at += 12 + length


def test_a_png_that_ends_with_any_color_is_not_suspected():
    """The mark that tells whether the last pixel was decoded may be its color."""
    for value in range(256):
        for mode, color in (("L", value), ("RGB", (1, 254, value)), ("RGBA", (253, 2, 251, value))):
            assert decode_with_notes(encoded(Image.new(mode, (3, 3), color), "PNG")).notes == ()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_files_that_were_cut_are_refused_or_reported(kind, share):
    data = encoded(PHOTO, kind)
    assert decode_with_notes(data).notes == ()
    try:
        assert decode_with_notes(data[: round(len(data) * share)]).notes
    except rg.ImageError as error:
        assert error.reason in {"truncated", "corrupt", "not-an-image"}


@pytest.fixture
def repaired(photos):
    """A folder with a half-destroyed JPEG and a 12-bit TIFF."""
    data = encoded(PHOTO)
    (photos / "half.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    Image.fromarray(NOISE[..., 0].astype(np.uint16) * 16).save(photos / "deep.tif")
    draw_squares(photos / "z.png", {"red": (0, 0, 9, 9)})
    return photos


def test_what_was_repaired_is_indexed_and_reported(repaired, tmp_path, models, capsys):
    index = rg.build(repaired, tmp_path / "index", options=QUIET, **models)
    report = index.build_report
    assert (len(index), report.skipped) == (7, [])
    assert report.note_reasons == {"guessed-range": 1, "truncated": 1}
    values = json.loads(json.dumps(build_as_dict(report)))["notes"]
    assert {value["path"]: value["reason"] for value in values} == {
        str(repaired / "half.jpg"): "truncated",
        str(repaired / "deep.tif"): "guessed-range",
    }
    print_build(report, index.directory)
    told = capsys.readouterr().err
    assert "1 guessed-range, 1 truncated" in told
    assert re.search(r"half\.jpg: truncated, the lower \d+ % of the picture is missing", told)
    again = rg.build(repaired, tmp_path / "index", options=QUIET, **models)
    assert (again.build_report.unchanged, again.build_report.notes) == (7, [])
    forced = rg.BuildOptions(progress=False, workers=1, force=True)
    assert len(rg.build(repaired, tmp_path / "index", options=forced, **models)) == 7
