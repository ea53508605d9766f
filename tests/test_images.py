from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval_grounding import ImageError, SourceError, find_images, load_image
from retrieval_grounding.data.images import decode_image

GRADIENT = np.stack(np.meshgrid(np.arange(0, 240, 6), np.arange(0, 180, 6)), -1).astype(np.uint8)
PIXELS = np.concatenate([GRADIENT, np.full((*GRADIENT.shape[:2], 1), 90, np.uint8)], -1)

NOISE = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation):
    upright = Image.fromarray(PIXELS)
    # What a camera stores so that a viewer, following the tag, shows `upright`.
    stored_by_camera = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](PIXELS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored_by_camera)), exif=exif)
    decoded = decode_image(data)
    assert decoded.size == upright.size
    np.testing.assert_array_equal(np.asarray(decoded), PIXELS)


def test_damaged_exif_leaves_the_image_as_stored():
    data = encoded(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert decode_image(data).size == (40, 30)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("LA", "PNG"), ("P", "GIF")],
)
def test_other_modes_become_rgb_like_a_viewer_shows(mode, kind):
    source = Image.fromarray(PIXELS).convert(mode)
    decoded = decode_image(encoded(source, kind, **({"quality": 98} if kind == "JPEG" else {})))
    assert decoded.mode == "RGB"
    expected = np.asarray(source.convert("RGB")).astype(int)
    assert np.abs(np.asarray(decoded).astype(int) - expected).mean() < 3


def test_transparency_is_blended_with_white():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert decode_image(encoded(image)).getpixel((0, 0)) == (255, 255, 255)


def test_16_bit_gray_keeps_its_tones():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    decoded = np.asarray(decode_image(encoded(Image.fromarray(ramp))))
    np.testing.assert_array_equal(decoded[..., 0], ramp >> 8)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data).getpixel((0, 0)) == (255, 0, 0)


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG whose header claims `width` × `height` pixels, with almost no data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        sealed = kind + body
        return struct.pack(">I", len(body)) + sealed + struct.pack(">I", zlib.crc32(sealed))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"just text\n" * 20, "not-an-image"),
        (encoded(Image.fromarray(PIXELS), "JPEG")[:400], "truncated"),
        (encoded(Image.fromarray(NOISE))[:400], "truncated"),
        (png_claiming(65500, 65500), "too-large"),
        (png_claiming(16000, 12000), "too-large"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not-an-image"),
    ],
    ids=["no bytes", "text", "cut JPEG", "cut PNG", "65500 px", "192 MP", "EPS"],
)
def test_bad_bytes_are_refused_with_a_reason(data, reason):
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("cut", range(0, 2000, 97))
def test_no_truncation_raises_anything_else(cut):
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        data = encoded(Image.fromarray(NOISE), kind)[:cut]
        try:
            assert decode_image(data).mode == "RGB"
        except ImageError as error:
            assert error.reason in {"empty", "not-an-image", "truncated", "corrupt", "too-large"}


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1)])
def test_extreme_shapes_are_images_too(size):
    assert decode_image(encoded(Image.new("RGB", size))).size == size


def test_missing_file_and_folder_are_named(tmp_path):
    folder = tmp_path / "photo.jpg"
    folder.mkdir()
    for path, reason in ((tmp_path / "gone.jpg", "missing"), (folder, "not-a-file")):
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert caught.value.reason == reason


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "sub/c.webp", "sub/notes.md", ".hidden.png", ".cache/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def names(paths: list[str], root: Path) -> list[str]:
    return [str(Path(path).relative_to(root)) for path in paths]


def test_a_folder_is_searched_recursively(tree):
    assert names(find_images(tree), tree) == ["a.png", "b.JPG", "sub/c.webp"]


def test_sources_are_combined_with_each_file_once(tree, monkeypatch):
    (tree / "list.txt").write_text("sub/c.webp\n\na.png\n", encoding="utf-8")
    monkeypatch.chdir(tree)
    found = find_images([str(tree / "*.png"), tree / "list.txt", "b.JPG", tree / "sub"])
    assert names(found, tree) == ["a.png", "sub/c.webp", "b.JPG"]


def test_a_glob_may_descend(tree):
    assert names(find_images(str(tree / "**" / "*.webp")), tree) == ["sub/c.webp"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_a_loop_of_links_ends(tree):
    (tree / "sub" / "loop").symlink_to(tree, target_is_directory=True)
    assert len(find_images(tree)) == 3


@pytest.mark.parametrize("source", ["nowhere", "*.none", "empty"])
def test_sources_that_name_nothing(tmp_path, monkeypatch, source):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError):
        find_images(source)
