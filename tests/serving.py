"""Services in this process and in processes of their own, for tests."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
from fastapi.testclient import TestClient
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding.service.app import create_app
from retrieval_grounding.service.settings import ServiceSettings

HOME = "http://127.0.0.1:8770"
API = "/api/v1"


@contextlib.contextmanager
def serving(*indexes: rg.Index, **settings: object) -> Iterator[TestClient]:
    """Serve open indexes in this process."""
    app = create_app(indexes, ServiceSettings(**settings))
    with TestClient(app, base_url=HOME, raise_server_exceptions=False) as client:
        yield client


@contextlib.contextmanager
def serve_process(
    *arguments: object, environment: dict[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the command ``serve`` at a free port; yield its address and the process."""
    command = [sys.executable, "-m", "retrieval_grounding", "serve", *map(str, arguments)]
    process = subprocess.Popen(
        [*command, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {}),
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("Serving at "), line + process.stderr.read()
        address = line.split()[2].rstrip(";")
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{address}{API}/health", timeout=10).raise_for_status()
                break
            assert time.monotonic() < end, "the service does not answer"
            time.sleep(0.1)
        yield address, process
    finally:
        process.kill()
        process.communicate()


def png(color: str, size: Sequence[int] = (40, 30)) -> bytes:
    """Return a picture of one color as a file."""
    buffer = io.BytesIO()
    Image.new("RGB", (size[0], size[1]), color).save(buffer, "PNG")
    return buffer.getvalue()


def build_squares(photos: Path, folder: Path, models: dict[str, object], **options: object):
    """Return an open index of the instant models."""
    chosen = rg.BuildOptions(progress=False, workers=1, **options)
    return rg.build(photos, folder, options=chosen, **models)
