"""What may stand for an image: paths, bytes, files, pixels, arrays, URLs (inputs, point 8)."""

from __future__ import annotations

import http.server
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fakes import draw_squares
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding.data import http as http_module
from retrieval_grounding.data import remote
from retrieval_grounding.data.http import read_http
from retrieval_grounding.data.reading import MAX_BYTES
from retrieval_grounding.search.draw import save_picture


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return draw_squares(tmp_path / "red.png", {"red": (5, 5, 25, 25)})


@pytest.fixture
def build(tmp_path, models):
    def build(*sources, **options) -> rg.Index:
        return rg.build(
            list(sources), tmp_path / "index", options=rg.BuildOptions(**options), **models
        )

    return build


def refusal(source, **options) -> str:
    with pytest.raises(rg.ImageError) as caught:
        rg.load_image(source, **options)
    return caught.value.reason


# Bytes and pixels


def test_every_kind_of_source_gives_the_same_pixels(picture):
    shown = np.asarray(rg.load_image(picture))
    data = picture.read_bytes()
    with Image.open(picture) as opened, picture.open("rb") as file:
        sources = [
            str(picture), data, bytearray(data), memoryview(data), io.BytesIO(data), file, opened,
            Image.fromarray(shown), shown, np.dstack([shown, np.full(shown.shape[:2], 255, "u1")]),
            shown[::-1][::-1],
        ]  # fmt: skip
        for source in sources:
            loaded = rg.load_image(source)
            assert loaded.mode == "RGB"
            assert (np.asarray(loaded) == shown).all()
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (np.asarray(rg.load_image(gray))[..., 1] == gray).all()
    assert (np.asarray(rg.load_image(gray[..., None]))[..., 1] == gray).all()


def test_what_is_given_is_not_changed_and_orientation_is_applied():
    image = Image.new("RGB", (8, 4), "white")
    loaded = rg.load_image(image)
    loaded.putpixel((0, 0), (0, 0, 0))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    assert rg.load_image(Image.open(buffer)).size == (4, 8)
    assert rg.load_image(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == (255,) * 3


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8), io.StringIO("text"), 5, None, object(),
    ],
    ids=lambda source: type(source).__name__ + str(getattr(source, "shape", "")),
)  # fmt: skip
def test_what_is_no_image_is_one_sentence(source):
    assert refusal(source) == "not-an-image"


def test_limits_hold_for_every_source(monkeypatch, picture):
    assert refusal(b"") == "empty"
    assert refusal(np.zeros((0, 4, 3), np.uint8)) == "empty"
    assert refusal(b"no image") == "not-an-image"
    assert refusal(io.BytesIO(picture.read_bytes()[:60])) in ("truncated", "corrupt")
    monkeypatch.setattr("retrieval_grounding.data.image_source.MAX_BYTES", 10)
    assert refusal(picture.read_bytes()) == "too-large"
    assert refusal(io.BytesIO(picture.read_bytes())) == "too-large"
    monkeypatch.setattr("retrieval_grounding.data.images.MAX_PIXELS", 100)
    assert refusal(np.zeros((11, 10, 3), np.uint8)) == "too-large"
    assert refusal(Image.new("RGB", (11, 10))) == "too-large"
    closed = io.BytesIO(b"x")
    closed.close()
    assert refusal(closed) == "unreadable"


def test_grounding_takes_every_source(picture, models):
    expected = rg.ground(picture, "red", **models)
    for source in (picture.read_bytes(), np.asarray(rg.load_image(picture))):
        hit = rg.ground(source, "red", **models)
        assert (hit.box, hit.score) == (expected.box, expected.score)
        assert hit.image.startswith("content:")
        assert not hit.missing


# URLs


class Server(http.server.BaseHTTPRequestHandler):
    """Serves pictures, redirects and faults by the path that is asked."""

    data = b""

    def do_GET(self) -> None:
        kind, _, rest = self.path[1:].partition("/")
        if kind in ("to", "loop"):
            self.send_response(302)
            self.send_header("Location", rest if kind == "to" else self.path)
            self.end_headers()
        elif kind == "status":
            self.send_error(int(rest))
        elif kind in ("slow", "endless", "lies", "claims"):
            self.send_response(200)
            if kind == "claims":
                self.send_header("Content-Length", str(MAX_BYTES + 1))
            if kind == "lies":
                self.send_header("Content-Length", str(len(self.data) + 10))
            self.end_headers()
            self._misbehave(kind)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.data)))
            self.end_headers()
            self.wfile.write(self.data)

    def _misbehave(self, kind: str) -> None:
        try:
            for _ in range({"slow": 600, "endless": 10_000}.get(kind, 1)):
                self.wfile.write({"slow": b"x", "endless": bytes(1 << 20)}.get(kind, self.data))
                time.sleep(0.05 if kind == "slow" else 0)
        except OSError:
            pass

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(picture) -> Iterator[str]:
    Server.data = picture.read_bytes()
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    http_module._opener.cache_clear()


def test_a_url_is_an_image(server, picture, models, tmp_path):
    shown = np.asarray(rg.load_image(picture))
    assert (np.asarray(rg.load_image(f"{server}/a.png")) == shown).all()
    assert (np.asarray(rg.load_image(f"{server}/to//b.png")) == shown).all()
    assert (np.asarray(rg.load_image(f"{server}/an image é.png?x=1#y")) == shown).all()
    hit = rg.ground(f"{server}/a.png", "red", **models)
    assert hit.image == f"{server}/a.png"
    assert not hit.missing
    out = tmp_path / "out.png"
    assert save_picture(f"{server}/a.png", [hit], out) == []
    assert Image.open(out).size == (80, 60)


def test_a_server_at_fault_is_one_sentence(server, monkeypatch):
    for place, reason in {
        "status/404": "missing", "status/410": "missing", "status/500": "unreadable",
        "status/403": "unreadable", "lies/": "unreadable", "claims/": "too-large",
        "loop/": "url-refused", "to/file:///etc/hosts": "url-refused",
        "to/ftp://127.0.0.1/x": "url-refused", "to/data:,x": "url-refused",
    }.items():  # fmt: skip
        assert refusal(f"{server}/{place}") == reason, place
    with pytest.raises(rg.ImageError, match="more than 3,000,000 bytes"):
        read_http(f"{server}/endless/", 3_000_000)
    monkeypatch.setattr(http_module, "_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(rg.ImageError, match=r"took more than 0.5 s"):
        read_http(f"{server}/slow/", 10_000)
    assert time.monotonic() - started < 5
    assert refusal("http://127.0.0.1:9/closed.png") == "unreadable"
    assert refusal("http://[broken/x.png") == "url-refused"
    assert refusal("http://no such host.invalid/x.png") in ("unreadable", "url-refused")


def test_many_redirects_end(server):
    url = f"{server}/a.png"
    for _ in range(7):
        url = f"{server}/to/{url}"
    assert refusal(url) == "url-refused"


def test_a_public_server_cannot_redirect_into_the_own_network(server, monkeypatch):
    asked = []

    def is_public(address) -> bool:
        asked.append(str(address))
        return len(asked) == 1  # the first server is on the internet

    monkeypatch.setattr(http_module, "_is_public", is_public)
    assert refusal(f"{server}/to//a.png") == "url-refused"
    assert http_module.ipaddress.ip_address("169.254.169.254").is_link_local


def test_stopping_ends_a_transfer(server):
    with pytest.raises(rg.ImageError, match="stopped"):
        read_http(f"{server}/endless/", MAX_BYTES, lambda: True)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/hosts", "local:///etc/hosts", "reference://x", "zip://a.png::file:///a.zip",
     "s3::https://x/y", "simplecache::s3://a/b", "gopher://x/y", "data://x"],
)  # fmt: skip
def test_only_schemes_of_remote_places_are_opened(url):
    assert refusal(url) in ("url-not-supported", "missing")


def test_other_schemes_go_through_fsspec(picture, monkeypatch):
    files = fsspec.filesystem("memory")
    with files.open("/images/a.png", "wb") as file:
        file.write(picture.read_bytes())
    assert rg.load_image("memory://images/a.png").size == (80, 60)
    assert refusal("memory://images/none.png") == "missing"
    with pytest.raises(rg.ImageError, match="more than 20 bytes"):
        remote.read_url("memory://images/a.png", 20)

    class Broken:
        def __init__(self, *_: object, **__: object) -> None:
            raise RuntimeError("no credentials")

    monkeypatch.setattr(fsspec, "open", Broken)
    assert refusal("s3://bucket/a.png") == "unreadable"


def test_a_list_of_urls_is_indexed_and_followed(server, tmp_path, build, picture):
    names = tmp_path / "urls.txt"
    names.write_text(f"{server}/a.png\n{server}/status/404\n  {server}/to//b.png\nred.png\n")
    index = build(names)
    report = index.build_report
    assert (report.found, report.added, report.duplicates) == (4, 1, 2)
    assert report.skipped_reasons == {"missing": 1}
    assert {image.path for image in index.images()} == {
        f"{server}/a.png", f"{server}/to//b.png", str(picture)
    }  # fmt: skip
    assert not any(hit.missing for hit in index.query("red", skip_missing=True))
    assert len(index.query("red", skip_missing=True)) == 3
    Server.data = draw_squares(tmp_path / "x.png", {"blue": (0, 0, 9, 9)}).read_bytes()
    assert build(names).build_report.unchanged == 3  # of a URL, only reading says that it changed
    report = build(names, check_content=True).build_report
    assert (report.unchanged, report.updated) == (1, 2)
    picture.unlink()
    report = build(names, prune=True).build_report
    assert report.missing == [str(picture)]
    assert len(build(f"{server}/a.png")) == 2
    assert build(names).remove(f"{server}/a.png") == 1


def test_an_archive_behind_a_url_is_named(build, server):
    report = build(f"{server}/a.png", f"{server}/shard.tar").build_report
    assert report.skipped_reasons == {"archive-not-supported": 1}
