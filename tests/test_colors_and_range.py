"""Pictures as a viewer shows them: ICC profiles, transparency, real ranges (corners, point 1)."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from retrieval_grounding.core.colors import COLORS, region_colors
from retrieval_grounding.data.images import decode_image, decode_with_notes

RAMP = np.linspace(0, 1, 80 * 60).reshape(60, 80)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def s15(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return an ICC profile of version 2."""
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    illuminant = s15(0.9642) + s15(1) + s15(0.8249)
    head = struct.pack(">I4sI", at + len(body), b"none", 0x02100000)
    head += b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28) + illuminant
    return head.ljust(128, b"\0") + table + body


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(s15, values))


def text(value: bytes) -> bytes:
    return b"desc" + bytes(4) + struct.pack(">I", len(value) + 1) + value + bytes(79)


WHITE = xyz(0.9642, 1, 0.8249)
NAMES = {b"desc": text(b"test"), b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": WHITE}
ADOBE = icc(
    b"RGB ",
    NAMES
    | {b"rXYZ": xyz(0.60974, 0.31111, 0.01947), b"gXYZ": xyz(0.20528, 0.62567, 0.06087)}
    | {b"bXYZ": xyz(0.14919, 0.06322, 0.74457)}
    | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(2.2)),
)
GRAY_1_0 = icc(b"GRAY", NAMES | {b"kTRC": curve(1.0)})
BLACK = icc(
    b"RGB ",
    NAMES
    | dict.fromkeys((b"rXYZ", b"gXYZ", b"bXYZ"), xyz(0, 0, 0))
    | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(2.2)),
)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_the_shared_cases_come_out_as_described(shared):
    wide = decode_image(shared("cases/wide_gamut_red.png").read_bytes())
    plain = decode_image(shared("cases/same_red_srgb.png").read_bytes())
    assert np.abs(np.asarray(wide).astype(int) - np.asarray(plain)).max() <= 1  # rounding
    for image in (wide, plain):
        box = np.array([[0, 0, *image.size]], np.float32)
        assert region_colors(image, box)[0, COLORS.index("red")] == 255
    clear = decode_image(shared("cases/trns_rgb.png").read_bytes())
    assert sorted(color for _, color in clear.getcolors()) == [(0, 0, 255), (255, 255, 255)]


def expected_from_adobe(color: tuple[int, int, int]) -> tuple[int, ...]:
    source = ImageCms.ImageCmsProfile(io.BytesIO(ADOBE))
    change = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    return change.apply(Image.new("RGB", (1, 1), color)).getpixel((0, 0))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_is_applied_in_every_format_and_mode(kind, mode):
    if mode != "RGB" and kind in ("JPEG", "AVIF"):
        pytest.skip("the format has no such mode")
    color = (60, 170, 90)
    image = Image.new("RGB", (40, 30), color)
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    if kind in ("JPEG", "AVIF"):
        options = {"quality": 100}
    decoded = decode_image(encoded(image, kind, icc_profile=ADOBE, **options))
    expected = expected_from_adobe(color)
    assert expected[0] < 10  # the profile matters
    assert np.abs(np.array(decoded.getpixel((20, 15))) - expected).max() <= 3


def test_pixels_with_a_profile_are_blended_with_white_after_conversion():
    image = Image.new("RGBA", (4, 4), (60, 170, 90, 128))
    decoded = decode_image(encoded(image, icc_profile=ADOBE)).getpixel((0, 0))
    expected = [round((255 * 127 + c * 128) / 255) for c in expected_from_adobe((60, 170, 90))]
    assert np.abs(np.array(decoded) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_gray_profile_is_applied(mode):
    value = 128
    if mode == "I;16":
        image = Image.fromarray(np.array([[value * 257, 65535]], np.uint16))
    else:
        image = Image.new("L", (2, 1), value).convert(mode)
    [first, *_] = decode_image(encoded(image, icc_profile=GRAY_1_0)).getdata()
    assert first[0] == pytest.approx(188, abs=2)  # linear light of one half, in sRGB
    assert len(set(first)) == 1


def test_a_profile_of_cmyk_is_applied(tmp_path):
    """The table is made here: every combination of inks is mapped to Lab."""
    grid = 2
    lut = b"mft1" + bytes(4) + bytes([4, 3, grid, 0])
    lut += b"".join(s15(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    lut += bytes(range(256)) * 4  # curves of the inks
    for inks in range(grid**4):
        c, m, y, k = (inks >> 3 & 1, inks >> 2 & 1, inks >> 1 & 1, inks & 1)
        light = 255 * (1 - k) * (1 - 0.25 * (c + m + y))
        lut += bytes([round(light), 128, 128])  # gray, whatever the inks
    lut += bytes(range(256)) * 3
    profile = icc(b"CMYK", NAMES | {b"A2B0": lut})
    profile = profile[:12] + b"prtr" + b"CMYK" + b"Lab " + profile[24:]
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    plain = decode_image(encoded(image, "JPEG", quality=100)).getpixel((8, 8))
    assert plain[0] < 20
    assert plain[2] > 200
    red, green, blue = decode_image(
        encoded(image, "JPEG", quality=100, icc_profile=profile)
    ).getpixel((8, 8))
    assert max(red, green, blue) - min(red, green, blue) <= 3
    assert 150 < red < 220


NONSENSE = {
    "noise": bytes(range(256)) * 4,
    "cut": ADOBE[:200],
    "head only": ADOBE[:128],
    "empty": b"",
    "black": BLACK,
    "of gray": GRAY_1_0,
    "colors outside the file": ADOBE.replace(b"rXYZ\0\0", b"rXYZ\x7f\0"),
    "a billion tags": ADOBE[:128] + b"\x3b\x9a\xca\x00" + ADOBE[132:],
}


@pytest.mark.parametrize("name", sorted(NONSENSE))
def test_a_profile_that_is_broken_absurd_or_of_other_channels_is_ignored(name):
    image = Image.new("RGB", (40, 30), (200, 30, 30))
    assert decode_image(encoded(image, icc_profile=NONSENSE[name])).getpixel((0, 0)) == (
        200, 30, 30,
    )  # fmt: skip


def test_no_mutated_profile_raises_anything_else():
    generator = np.random.default_rng(0)
    image = Image.new("RGB", (8, 8), (200, 30, 30))
    for _ in range(300):
        profile = bytearray(ADOBE)
        for at in generator.integers(0, len(profile), 4):
            profile[at] = generator.integers(0, 256)
        assert decode_image(encoded(image, icc_profile=bytes(profile))).size == (8, 8)


def test_pixels_of_ordinary_jpegs_are_those_that_are_stored(shared):
    """With a profile of sRGB, or none, nothing is converted, not even by one level."""
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    for options in ({}, {"icc_profile": SRGB}, {"progressive": True}, {"subsampling": 0}):
        data = encoded(Image.fromarray(noise), "JPEG", **options)
        stored = Image.open(io.BytesIO(data))
        np.testing.assert_array_equal(np.asarray(decode_image(data)), np.asarray(stored))


def test_a_large_image_is_converted_as_a_small_one_is():
    """It is converted in strips."""
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1100, 4), np.uint8)
    for image in (Image.fromarray(noise), Image.fromarray(noise, "CMYK")):
        kind = "PNG" if image.mode == "RGBA" else "TIFF"
        whole = np.asarray(decode_image(encoded(image, kind)))
        for top in (0, 700, 1400):
            part = image.crop((0, top, 1100, top + 100))
            alone = np.asarray(decode_image(encoded(part, kind)))
            np.testing.assert_array_equal(whole[top : top + 100], alone)


# Transparency


def png(bits: int, color: int, rows: bytes, size: tuple[int, int], trns: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        sealed = kind + body
        return struct.pack(">I", len(body)) + sealed + struct.pack(">I", zlib.crc32(sealed))

    header = struct.pack(">IIBBBBB", *size, bits, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", trns)
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(8, 2, b"\0\xff\0\0\0\0\xff", (2, 1), b"\0\xff\0\0\0\0"), [(255,) * 3, (0, 0, 255)]),
        (
            png(16, 2, b"\0\x12\x34\0\0\0\0\0\0\0\0\xff\xff", (2, 1), b"\x12\x34\0\0\0\0"),
            [(255,) * 3, (0, 0, 255)],
        ),
        (png(8, 0, b"\0\x40\x80", (2, 1), b"\0\x40"), [(255,) * 3, (128,) * 3]),
        (png(16, 0, b"\0\x40\0\x80\0\xff\xff", (3, 1), b"\x40\0"), [(255,) * 3, (128,) * 3]),
        (png(2, 0, b"\0\x60", (2, 1), b"\0\1"), [(255,) * 3, (170,) * 3]),
        (png(4, 0, b"\0\x38", (2, 1), b"\0\3"), [(255,) * 3, (136,) * 3]),
        (png(1, 0, b"\0\x40", (2, 1), b"\0\0"), [(255,) * 3, (255,) * 3]),
    ],
    ids=["RGB", "RGB of 16 bits", "gray", "gray of 16 bits", "2 bits", "4 bits", "1 bit"],
)
def test_a_transparent_color_is_blended_with_white(data, expected):
    assert list(decode_image(data).getdata())[:2] == expected


# Ranges


def tiff(values: np.ndarray, **tags: int) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[{"photometric": 262, "largest": 281}[name]] = value
    return encoded(Image.fromarray(values), "TIFF", tiffinfo=info)


def tones(data: bytes) -> tuple[np.ndarray, list[str]]:
    image, notes, _ = decode_with_notes(data)
    return np.asarray(image)[..., 0].astype(int), [note.reason for note in notes]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_16_bit_gray_uses_its_real_range(bits, kind):
    if (bits, kind) == (14, "PNG"):
        pytest.skip("PNG has 16 bits; a quarter of the range may be a dark photograph")
    values = (RAMP * ((1 << bits) - 1)).round().astype(np.uint16)
    shown, notes = tones(encoded(Image.fromarray(values), kind))
    assert np.abs(shown - RAMP * 255).max() <= 1
    assert notes == ([] if bits == 16 else ["guessed-range"])


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("kind", ["II", "MM", "PNG"])
def test_16_bit_color_uses_its_real_range(bits, kind):
    values = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1)
    stored = (values * ((1 << bits) - 1)).round().astype(np.uint16)
    image, notes, _ = decode_with_notes(color_16(stored, kind))
    assert np.abs(np.asarray(image) / 255 - values).max() <= 0.009
    assert [note.reason for note in notes] == ([] if bits == 16 else ["guessed-range"])


def color_16(values: np.ndarray, kind: str) -> bytes:
    """Return a file of 16-bit colors, which Pillow cannot write."""
    height, width, _ = values.shape
    big = values.astype(">u2")
    if kind == "PNG":
        rows = b"".join(b"\0" + row.tobytes() for row in big)
        return png(16, 2, rows, (width, height), b"\xff\xff\0\1\xff\xff")
    order = ">" if kind == "MM" else "<"
    data = values.astype(f"{order}u2").tobytes()
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8 + len(data)), (259, 3, 1, 1),
        (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]  # fmt: skip
    head = kind.encode() + struct.pack(f"{order}HI", 42, 8 + len(data) + 6)
    table = struct.pack(f"{order}H", len(entries))
    for tag, kind_of_value, count, value in entries:
        short = kind_of_value == 3 and count == 1
        table += struct.pack(f"{order}HHI", tag, kind_of_value, count)
        table += struct.pack(
            f"{order}HH" if short else f"{order}I", *((value, 0) if short else (value,))
        )
    return head + data + struct.pack(f"{order}3H", 16, 16, 16) + table + bytes(4)


@pytest.mark.parametrize("limit", [255, 4095, 65535, 100_000, 2**31 - 1])
def test_32_bit_integers_use_their_real_range(limit):
    shown, notes = tones(tiff((RAMP * limit).round().astype(np.int32)))
    assert np.abs(shown - RAMP * 255).max() <= 1
    assert notes == ["guessed-range"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-5, 5), (0, 1e30), (1000, 1001)])
def test_floats_use_their_real_range(low, high):
    shown, notes = tones(tiff((low + RAMP * (high - low)).astype(np.float32)))
    assert np.abs(shown - RAMP * 255).max() <= 1
    assert notes == ["guessed-range"]


def test_a_dark_float_image_stays_dark():
    shown, _ = tones(tiff((RAMP * 0.2).astype(np.float32)))
    assert shown.max() == 51


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_numbers_do_no_harm(value):
    values = RAMP.astype(np.float32)
    values[0, 0] = value
    assert np.abs(tones(tiff(values))[0] - RAMP * 255)[1:].max() <= 1
    tones(tiff(np.full((3, 3), value, np.float32)))


def test_a_stated_range_is_no_guess():
    shown, notes = tones(tiff((RAMP * 4000).astype(np.uint16), largest=16383))
    assert shown.max() == round(4000 / 16383 * 255)
    assert notes == []


def test_white_may_be_zero():
    shown, _ = tones(tiff((RAMP * 65535).round().astype(np.uint16), photometric=0))
    assert np.abs(shown - (1 - RAMP) * 255).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_black_stays_black(dtype):
    assert tones(tiff(np.zeros((3, 3), dtype)))[0].max() == 0
