"""Make a corpus of files that a collection may hold and that break programs.

    python tests/bad_images.py FOLDER

`make_corpus` returns for every file what must become of it.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from raw_files import dng

INDEXED = frozenset(("indexed",))
CUT = frozenset(("truncated", "corrupt", "not-an-image"))

NOISE = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int, data: bytes = b"\0") -> bytes:
    """Return a PNG whose header claims a size that its pixels do not have."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def sound_images() -> dict[str, bytes]:
    """Return one sound image of each format, by suffix."""
    noise = Image.fromarray(NOISE)
    kinds = {
        "jpg": ("JPEG", {"quality": 92}), "png": ("PNG", {}), "webp": ("WEBP", {"quality": 90}),
        "gif": ("GIF", {}), "bmp": ("BMP", {}), "tif": ("TIFF", {}),
        "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
        "progressive.jpg": ("JPEG", {"progressive": True}),
    }  # fmt: skip
    found = {name: encoded(noise, kind, **options) for name, (kind, options) in kinds.items()}
    for name, kind in (("jp2", "JPEG2000"), ("avif", "AVIF")):
        Image.init()
        if kind in Image.SAVE:
            found[name] = encoded(noise, kind)
    with zipfile.ZipFile(Path(__file__).parent / "fixtures" / "heic.zip") as heic:
        found["heic"] = heic.read("large.heic")  # no library that is installed writes it
    found["dng"] = dng(encoded(noise, "JPEG", quality=92), noise.size)
    return found


def _odd_but_sound() -> dict[str, bytes]:
    noise = Image.fromarray(NOISE)
    files = {
        "one pixel.png": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
        "tall.png": encoded(Image.new("RGB", (1, 20000), "red"), "PNG"),
        "wide.png": encoded(Image.new("RGB", (20000, 1), "red"), "PNG"),
        "png as.jpg": encoded(noise, "PNG"),
        "jpeg as.png": encoded(noise, "JPEG"),
        "cmyk.jpg": encoded(noise.convert("CMYK"), "JPEG"),
        "16 bit.png": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "PNG"),
        "16 bit.tif": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "TIFF"),
        "float.tif": encoded(Image.fromarray(NOISE[..., 0].astype(np.float32)), "TIFF"),
        "bilevel.png": encoded(noise.convert("1"), "PNG"),
        "palette.png": encoded(noise.convert("P"), "PNG"),
        "palette with alpha.png": encoded(noise.convert("P"), "PNG", transparency=3),
        "grey.jpg": encoded(noise.convert("L"), "JPEG"),
        "grey alpha.png": encoded(noise.convert("LA"), "PNG"),
        "alpha.png": encoded(noise.convert("RGBA"), "PNG"),
        "alpha.webp": encoded(noise.convert("RGBA"), "WEBP"),
        "lab.tif": encoded(noise.convert("LAB"), "TIFF"),
        "broken exif.jpg": encoded(noise, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        "exif of nonsense.jpg": encoded(noise, "JPEG", exif=b"Exif\0\0" + bytes(range(256))),
        "trailing bytes.jpg": encoded(noise, "JPEG") + b"and more" * 500,
    }
    frames = [Image.fromarray(np.roll(NOISE, step, 0)) for step in range(3)]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=20)
        files[f"animated.{kind.lower()}"] = data
    for orientation in range(10):  # 0 and 9 do not exist
        exif = Image.Exif()
        exif[0x0112] = orientation
        files[f"exif {orientation}.jpg"] = encoded(noise, "JPEG", exif=exif)
    return files


def make_corpus(folder: Path) -> dict[str, frozenset[str]]:
    """Write the corpus.

    Returns
    -------
    dict of str to frozenset of str
        By path relative to `folder` (bytes that are no UTF-8 escaped as an index does): what may
        become of the file, ``"indexed"`` or reasons for which it is skipped.
    """
    expected: dict[str, frozenset[str]] = {}

    def put(name: str, data: bytes, *outcome: str) -> None:
        (folder / name).write_bytes(data)
        expected[name] = frozenset(outcome) or INDEXED

    for suffix, data in sound_images().items():
        put(f"sound.{suffix}", data)
        # A cut in the last bytes may leave all pixels; a decoder that fills in the rest says so.
        for kilobyte in range(1, len(data) // 1024 + 1):
            put(f"cut {kilobyte}.{suffix}", data[: 1024 * kilobyte], *CUT, "indexed")
    for name, data in _odd_but_sound().items():
        put(name, data)
    put("zero bytes.jpg", b"", "empty")
    put("text.jpg", b"This is a letter, not a photograph.\n" * 40, "not-an-image")
    put("page.png", b"<!doctype html><title>404 Not Found</title>", "not-an-image")
    put("zeros.jpg", bytes(5000), "not-an-image")
    put("postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not-an-image")
    put("vector.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not-an-image")
    put("claims 65500.png", png_claiming(65500, 65500), "too-large")
    put("claims 2 billion.png", png_claiming(2**31 - 1, 2**31 - 1), "too-large", "corrupt")
    put("claims nothing.png", png_claiming(0, 0), "corrupt", "not-an-image")
    put("bomb.png", png_claiming(16000, 12000, bytes(10_000_000)), "too-large")
    # A whole stream of too few pixels: viewers show the rest black.
    put("pixels of 1 row.png", png_claiming(300, 300, bytes(901)), "indexed", "truncated")
    sound = encoded(Image.fromarray(NOISE), "JPEG")
    put("line\nbreak.png", sound)
    put("tab\tand 'quotes\".png", sound)
    put("-rf.jpg", sound)
    put("<script>alert(1)</script>.jpg".replace("/", "∕"), sound)
    put("кошка 猫 🐈.jpg", sound)
    put("n" * 251 + ".jpg", sound)
    (folder / "a folder.jpg").mkdir()
    if os.name != "nt":
        name = os.fsencode(folder) + b"/latin\xe9.jpg"
        Path(os.fsdecode(name)).write_bytes(sound)
        expected["latin\\xe9.jpg"] = frozenset(("undecodable-name",))
        (folder / "loop.jpg").symlink_to("loop.jpg")
        expected["loop.jpg"] = frozenset(("unreadable",))
        (folder / "dangling.jpg").symlink_to("nowhere.jpg")
        expected["dangling.jpg"] = frozenset(("missing",))
        (folder / "up").symlink_to(folder, target_is_directory=True)
        os.mkfifo(folder / "pipe.jpg")
        expected["pipe.jpg"] = frozenset(("not-a-file",))
        put("secret.jpg", sound, "unreadable")
        (folder / "secret.jpg").chmod(0)
        if os.geteuid() == 0:
            expected["secret.jpg"] = INDEXED
    return expected


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"{len(make_corpus(target))} files in {target}\n")
