"""Camera raw files are indexed by their previews; what has none is reported."""

from __future__ import annotations

import io

import pytest
from fakes import draw_squares
from PIL import Image
from raw_files import dng

import retrieval_grounding as rg
from retrieval_grounding.core.errors import ImageError
from retrieval_grounding.core.photo import Photo
from retrieval_grounding.data.images import decode_image, decode_with_notes


@pytest.fixture
def preview(tmp_path):
    draw_squares(tmp_path / "preview.png", {"red": (8, 8, 32, 32), "blue": (44, 20, 68, 44)})
    with Image.open(tmp_path / "preview.png") as image:
        return image.convert("RGB")


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_a_preview_is_shown_upright_with_what_the_camera_says(preview):
    data = dng(jpeg(preview), preview.size, orientation=6, gps=True)
    decoded = decode_with_notes(data)
    assert decoded.image.size == preview.size[::-1]
    turned = Image.open(io.BytesIO(jpeg(preview))).transpose(Image.Transpose.ROTATE_270)
    assert decoded.image.tobytes() == turned.tobytes()
    assert decoded.photo == Photo("2024-05-06T07:08:09", "Example One", gps=True)


def test_raw_files_are_indexed_and_found_whatever_their_names(preview, tmp_path, models):
    photos = tmp_path / "photos"
    photos.mkdir()
    data = dng(jpeg(preview), preview.size)
    for name in ("a.dng", "b.NEF", "c.tif"):
        (photos / name).write_bytes(data + name.encode())
    (photos / "no preview.cr2").write_bytes(dng(b"", (0, 0)))
    (photos / "unknown camera.arw").write_bytes(dng(jpeg(preview), preview.size, version=0))
    (photos / "no image.raw").write_bytes(b"some bytes")
    index = rg.build(photos, tmp_path / "index", **models)
    assert {(image.width, image.height) for image in index.images()} == {preview.size}
    assert index.build_report.added == 3
    skipped = {file.path.rsplit("/")[-1]: file.reason for file in index.skipped()}
    assert skipped == {
        "no preview.cr2": "raw-not-supported",
        "unknown camera.arw": "raw-not-supported",
        "no image.raw": "not-an-image",
    }
    hit = index.query("red", top=1)[0]
    decode_image(data).crop(tuple(map(int, hit.box)))  # the box is one of the preview
    assert hit.image_size == preview.size
    rg.render_html(index.query("red"), tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("data:image/") == 3


def test_a_photograph_that_is_tiff_is_no_raw_file(preview):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[271], exif[272] = "Example", "Example One"
    preview.save(buffer, "TIFF", exif=exif)
    assert decode_image(buffer.getvalue()).tobytes() == preview.tobytes()


@pytest.mark.parametrize("cut", [9, 100, 500, -900, -300])
def test_a_damaged_raw_file_is_a_named_error(preview, cut):
    data = dng(jpeg(preview), preview.size)[:cut]
    with pytest.raises(ImageError) as error:
        decode_image(data)
    assert error.value.reason in ("corrupt", "truncated", "not-an-image", "raw-not-supported")
