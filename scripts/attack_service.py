#!/usr/bin/env python3
"""Try what strangers try on a service, and print what each attempt gets.

    python scripts/attack_service.py              # the table of docs/serving.md

Starts ``retrieval-grounding serve`` twice, without and with a token, on an index of five pictures,
and sends raw requests over sockets. Exits with 1 if an attempt gets something else than expected.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

import retrieval_grounding as rg

TOKEN = "not a secret, but long enough"
API = "/api/v1"
LIMIT = 32 << 20


class Attempt(NamedTuple):
    """What is sent, and the status that it must get; 0 for a connection that just ends."""

    name: str
    status: int
    head: str
    body: bytes = b""
    pause: float = 0.0
    guarded: bool = False


def request(line: str, *headers: str, host: str = "127.0.0.1", body: bytes = b"") -> str:
    """Return the head of a request."""
    known = [f"Host: {host}", "Connection: close", *headers]
    if body:
        known.append(f"Content-Length: {len(body)}")
    return f"{line} HTTP/1.1\r\n" + "".join(f"{header}\r\n" for header in known) + "\r\n"


def attempts(image_hash: str) -> list[Attempt]:
    """Return everything that is tried."""
    index = f"{API}/indexes/index"
    image = f"{index}/images/{image_hash}"
    query = json.dumps({"queries": ["a dog"]}).encode()
    json_type = "Content-Type: application/json"
    foreign = "Origin: https://evil.example"
    long_text = "a" * 5000
    bomb = b'{"queries":' + b"[" * 100_000
    return [
        Attempt("a picture by its hash", 200, request(f"GET {image}")),
        Attempt("a path in place of a hash", 404, request(f"GET {index}/images//etc/passwd")),
        Attempt("`..` in place of a hash", 404, request(f"GET {index}/images/../../../etc/passwd")),
        Attempt(
            "the same, percent-encoded", 404, request(f"GET {index}/images/..%2f..%2fetc%2fpasswd")
        ),
        Attempt("`..` below `/static`", 404, request("GET /static/../app.py")),
        Attempt("the same, encoded twice", 404, request("GET /static/%252e%252e/app.py")),
        Attempt("a zero byte in a path", 404, request("GET /static/%00")),
        Attempt("the first characters of a hash", 404, request(f"GET {image[:-10]}")),
        Attempt("`like:/etc/passwd`", 422, request(f"GET {API}/query?q=like:/etc/passwd")),
        Attempt("`like:` a URL", 422, request(f"GET {API}/query?q=like:http://169.254.169.254/")),
        Attempt("a query of 5,000 characters", 422, request(f"GET {API}/query?q={long_text}")),
        Attempt("a million hits", 422, request(f"GET {API}/query?q=dog&top=1000000")),
        Attempt(
            "a condition that is SQL",
            422,
            request(f"GET {API}/query?q=dog+where:%221;drop+table+images%22"),
        ),
        Attempt(
            "JSON, nested 100,000 times",
            400,
            request(f"POST {API}/query", json_type, body=bomb),
            bomb,
        ),
        Attempt(
            "a body that says it has 4 GiB",
            413,
            request(f"POST {API}/uploads", f"Content-Length: {4 << 30}"),
        ),
        Attempt(
            "chunks without an end",
            413,
            request(f"POST {API}/uploads", "Transfer-Encoding: chunked"),
            b"100000\r\n" + b"x" * (1 << 20) + b"\r\n",
        ),
        Attempt("a header of 1 MB", 400, request(f"GET {API}/health", "X: " + "x" * 1_000_000)),
        Attempt(
            "an image of 10⁹ pixels",
            422,
            request(f"POST {API}/uploads", body=huge_png()),
            huge_png(),
        ),
        Attempt(
            "no image at all", 422, request(f"POST {API}/uploads", body=b"#!/bin/sh"), b"#!/bin/sh"
        ),
        Attempt("a head, a byte a second (slow loris)", 408, "G", b"E" * 60, 1.0),
        Attempt(
            "a body, a byte a second",
            408,
            request(f"POST {API}/uploads", "Content-Length: 1000"),
            b"x" * 120,
            1.0,
        ),
        Attempt("a connection that says nothing", 408, ""),
        Attempt(
            "the host of a stranger (DNS rebinding)",
            421,
            request(f"GET {API}/indexes", host="evil.example"),
        ),
        Attempt("no host", 400, f"GET {API}/indexes HTTP/1.1\r\n\r\n"),
        Attempt(
            "a query from another site",
            403,
            request(f"POST {API}/query", foreign, json_type, body=query),
            query,
        ),
        Attempt(
            "a form of another site (CSRF)",
            403,
            request(f"POST {API}/query", foreign, "Content-Type: text/plain", body=query),
            query,
        ),
        Attempt(
            "a page in a frame without an origin",
            403,
            request(f"POST {API}/query", "Origin: null", json_type, body=query),
            query,
        ),
        Attempt(
            "a picture in a page elsewhere",
            403,
            request(f"GET {image}", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
        ),
        Attempt(
            "adding an image without `--writable`",
            403,
            request(f"POST {index}/images", body=query),
            query,
        ),
        Attempt("removing an image without `--writable`", 403, request(f"DELETE {image}")),
        Attempt("no token", 401, request(f"GET {API}/indexes"), guarded=True),
        Attempt(
            "a wrong token",
            401,
            request(f"GET {API}/indexes", "Authorization: Bearer wrong"),
            guarded=True,
        ),
        Attempt(
            "the token in the URL",
            401,
            request(f"GET {API}/indexes?token={TOKEN.replace(' ', '+')}"),
            guarded=True,
        ),
        Attempt(
            "a made-up cookie",
            401,
            request(f"GET {API}/indexes", "Cookie: rg_session_8770=1"),
            guarded=True,
        ),
        Attempt("metrics without the token", 401, request(f"GET {API}/metrics"), guarded=True),
        Attempt(
            "the token",
            200,
            request(f"GET {API}/indexes", f"Authorization: Bearer {TOKEN}"),
            guarded=True,
        ),
        Attempt("TLS to a port without", 400, "\x16\x03\x01\x02\r\n\r\n"),
        Attempt(
            "two lengths (smuggling); the rest is not read",
            422,
            request(f"POST {API}/query", "Content-Length: 4", "Transfer-Encoding: chunked"),
            b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ),
    ]


def huge_png() -> bytes:
    """Return the head of a PNG that claims a thousand million pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 40_000, 25_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def send(port: int, attempt: Attempt) -> tuple[int, str, float]:
    """Send an attempt; return the status, the kind of the error, and the seconds it took."""
    began = time.monotonic()
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=180) as connection:
        try:
            connection.sendall(attempt.head.encode("latin-1"))
            if attempt.pause:
                for byte in attempt.body:
                    connection.sendall(bytes([byte]))
                    time.sleep(attempt.pause)
            elif "without an end" in attempt.name:
                for _ in range(40):
                    connection.sendall(attempt.body)
            else:
                connection.sendall(attempt.body)
        except OSError:  # the service has ended the connection; it may have answered before
            pass
        with contextlib.suppress(OSError):
            while part := connection.recv(1 << 16):
                answer += part
    seconds = time.monotonic() - began
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0
    try:
        kind = str(json.loads(body)["kind"])
    except (ValueError, LookupError, TypeError):
        kind = ""
    assert b"Traceback" not in answer
    return status, kind, seconds


@contextlib.contextmanager
def service(index: Path, token: str | None) -> Iterator[int]:
    """Run the command ``serve``; yield its port."""
    known = {
        name: value for name, value in os.environ.items() if name != "RETRIEVAL_GROUNDING_TOKEN"
    }
    environment = known | ({} if token is None else {"RETRIEVAL_GROUNDING_TOKEN": token})
    command = [sys.executable, "-m", "retrieval_grounding", "serve", str(index), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        if not line.startswith("Serving at "):
            raise SystemExit(line + process.stderr.read())
        try:
            yield int(line.split()[2].rstrip(";").rsplit(":", 1)[1])
        finally:
            process.terminate()


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    failed = 0
    print("| attempt | answer | kind | s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "index"
        picture = Path(work) / "red.png"
        Image.new("RGB", (320, 240), "red").save(picture)
        options = rg.BuildOptions(progress=False)
        with rg.build(picture, folder, options=options) as index:
            image_hash = next(iter(index.images())).content_hash
        tried = attempts(image_hash)
        for token in (None, TOKEN):
            with service(folder, token) as port:
                for attempt in tried:
                    if attempt.guarded != (token is not None):
                        continue
                    status, kind, seconds = send(port, attempt)
                    failed += status != attempt.status
                    remark = "" if status == attempt.status else f" (not {attempt.status}!)"
                    print(
                        f"| {attempt.name} | {status or 'closed'}{remark} | {kind} "
                        f"| {seconds:.2g} |",
                        flush=True,
                    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
