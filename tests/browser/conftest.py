"""One service over two small indexes, and a browser, for all tests of the page."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from filelock import FileLock
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding.cli.demo import demo_photographs

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
uvicorn = pytest.importorskip("uvicorn")


@dataclass
class Site:
    """A service that runs, and what it serves."""

    url: str
    index: rg.Index
    photos: Path

    def api(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(f"{self.url}/api/v1{path}", params=parameters, timeout=180)
        answer.raise_for_status()
        return answer.json()

    def query(self, text: str, **parameters: Any) -> list[dict[str, Any]]:
        hits: list[dict[str, Any]] = self.api("/query", q=text, **parameters)["answers"][0]["hits"]
        return hits


@dataclass
class Seen:
    """What a page did that it must not do."""

    origin: str
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    @property
    def foreign(self) -> list[str]:
        own = (self.origin, "data:", "blob:")
        return [url for url in self.requests if not url.startswith(own)]

    @property
    def unexpected(self) -> list[str]:
        return [m for m in self.messages if not any(known in m for known in self.expected)]


def collect_photos(folder: Path) -> None:
    """Put five photographs in three folders, a smaller copy of one, and a file that is damaged."""
    for place in ("city", "garden", "people", "small"):
        (folder / place).mkdir(parents=True)
    places = {"bus": "city", "china": "garden", "flower": "garden"}
    for path in map(Path, demo_photographs()):
        shutil.copy(path, folder / places.get(path.stem, "people") / path.name)
    with Image.open(folder / "city" / "bus.jpg") as bus:
        bus.resize((bus.width // 2, bus.height // 2)).save(folder / "small" / "bus-small.jpg")
    whole = (folder / "garden" / "flower.jpg").read_bytes()
    (folder / "garden" / "broken.jpg").write_bytes(whole[:400])


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with photographs and two indexes, which the processes of a test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "page"
    options = rg.BuildOptions(progress=False)
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            collect_photos(folder / "photos")
            rg.build(folder / "photos", folder / "pictures", options=options).close()
            shutil.copytree(folder / "pictures", folder / "garden")
            with rg.Index.open(folder / "garden") as garden:
                paths = [image.path for image in garden.images()]
                garden.remove([path for path in paths if Path(path).parent.name != "garden"])
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="session")
def site(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    from retrieval_grounding.service.app import create_app
    from retrieval_grounding.service.settings import ServiceSettings

    own = tmp_path_factory.mktemp("served")  # tests change it
    shutil.copytree(built / "pictures", own / "pictures")
    index, other = rg.Index.open(own / "pictures"), rg.Index.open(built / "garden")
    _ = index.encoder, index.matcher, other.encoder  # as serve does before anybody waits
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = create_app([index, other], ServiceSettings(port=port))
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service has ended"
        time.sleep(0.05)
    yield Site(f"http://127.0.0.1:{port}", index, built / "photos")
    server.should_exit = True
    thread.join(30)
    index.close()
    other.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    # Chromium's sandbox needs rights that root in a container does not have.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def opened(site: Site, browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page; what any of them loads or logs is checked at the end."""
    contexts, seen = [], []

    def open_page(path: str = "/", *, expected: tuple[str, ...] = (), **options: Any) -> Any:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = browser.new_context(base_url=site.url, **options)
        context.set_default_timeout(180_000)  # for a machine that is busy
        contexts.append(context)
        noted = Seen(site.url, expected=expected)
        seen.append(noted)
        context.on("request", lambda request: noted.requests.append(request.url))
        page = context.new_page()
        page.on(
            "console",
            lambda message: (
                message.type in ("error", "warning") and noted.messages.append(message.text)
            ),
        )
        page.on("pageerror", lambda error: noted.messages.append(str(error)))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [noted.foreign for noted in seen] == [[] for _ in seen]
    assert [noted.unexpected for noted in seen] == [[] for _ in seen]


@pytest.fixture
def shot(request: pytest.FixtureRequest) -> Callable[[Any, str], None]:
    """Return a function that keeps a screenshot, if a folder for them is named."""
    folder = os.environ.get("RETRIEVAL_GROUNDING_SCREENSHOTS")

    def keep(page: Any, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.wait_for_load_state("networkidle")
            page.screenshot(path=str(Path(folder) / f"{name}.png"))

    return keep
