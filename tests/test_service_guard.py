"""Who may ask the service: Host, Origin, token, and clients that take their time (issue 19)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from serving import API, HOME, png, serve_process, serving
from typer.testing import CliRunner
from uvicorn.server import ServerState

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app as command_line
from retrieval_grounding.core.user_folder import services_folder
from retrieval_grounding.service.app import create_app
from retrieval_grounding.service.limits import Limits
from retrieval_grounding.service.protocol import timed_protocol
from retrieval_grounding.service.settings import ServiceSettings

TOKEN = "a token that nobody guesses"
ASK = """
import json, sys
from retrieval_grounding.cli.app import main
sys.argv = ["retrieval-grounding", "query", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
print("\\n" + json.dumps([name for name in sys.modules if name == "torch"]))
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guard") / "index"
    empty = rg.BuildOptions(progress=False, allow_empty=True)
    with rg.build([], folder, options=empty) as opened:
        yield opened


@pytest.fixture
def client(index):
    with serving(index) as made:
        yield made


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8770", 200),
        ("localhost:9999", 200),
        ("[::1]:8770", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("", 421),
        ("192.168.0.7", 421),
    ],
)
def test_only_the_hosts_of_the_service_are_answered(client, host, status):
    answer = client.get(f"{API}/indexes", headers={"Host": host})
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["kind"] == "host"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 422),
        ({"Origin": HOME}, 422),
        ({"Origin": HOME, "Sec-Fetch-Site": "same-origin"}, 422),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8771"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, 403),
    ],
)
def test_other_sites_cannot_change_anything(client, headers, status):
    # As a form of a different site would send it; 422: the body is no query, but was read.
    headers = headers | {"Content-Type": "text/plain"}
    answer = client.post(f"{API}/query", content=b"{}", headers=headers)
    assert answer.status_code == status


def test_other_sites_cannot_read_but_may_link_to_pages(client):
    navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/login", headers=navigation).status_code == 200
    assert client.get(f"{API}/indexes", headers=navigation).status_code == 403
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert client.get("/login", headers=image).status_code == 403


@pytest.mark.parametrize(
    "path", ["/login", "/nowhere", f"{API}/health", f"{API}/query", "/static/no"]
)
def test_every_answer_forbids_what_a_page_does_not_need(client, path):
    headers = client.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_with_a_token_nothing_is_answered_without(index):
    with serving(index, token=TOKEN) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            answer = client.get(f"{API}/indexes", headers=headers)
            assert (answer.status_code, answer.json()["kind"]) == (401, "token")
            assert client.get(f"{API}/metrics", headers=headers).status_code == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get(f"{API}/indexes", headers=right).status_code == 200
        assert client.get(f"{API}/health").status_code == 200


def test_a_browser_signs_in_with_the_token(index):
    with serving(index, token=TOKEN) as client:
        page = client.get("/?q=a+dog", headers={"Accept": "text/html"}, follow_redirects=False)
        assert (page.status_code, page.headers["location"]) == (
            303,
            "/login?next=%2F%3Fq%3Da%2Bdog",
        )
        assert "?q=a+dog" in client.get(page.headers["location"]).text
        wrong = client.post("/login", data={"token": "wrong"})
        assert wrong.status_code == 401
        assert not client.cookies
        right = client.post(
            "/login", data={"token": TOKEN, "next": "/?q=a+dog"}, follow_redirects=False
        )
        assert (right.status_code, right.headers["location"]) == (303, "/?q=a+dog")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get(f"{API}/indexes").status_code == 200


@pytest.mark.parametrize(
    "place", ["//evil.example", "https://evil.example", "/\\evil.example", "/\r\nx"]
)
def test_signing_in_leads_nowhere_else(index, place):
    with serving(index, token=TOKEN) as client:
        data = {"token": TOKEN, "next": place}
        answer = client.post("/login", data=data, follow_redirects=False)
        assert answer.headers["location"] == "/"
        assert "evil" not in client.get("/login", params={"next": place}).text


def test_a_proxy_has_a_public_address(index):
    with serving(index, token=TOKEN, public_url="https://photos.example.org") as client:
        headers = {"Authorization": f"Bearer {TOKEN}", "Host": "photos.example.org"}
        assert client.get(f"{API}/indexes", headers=headers).status_code == 200
        for host in ("photos.example.org", "127.0.0.1:8770"):
            headers |= {"Host": host, "Origin": "https://photos.example.org"}
            answer = client.post(f"{API}/query", json={"queries": ["a dog"]}, headers=headers)
            assert answer.status_code == 200
        signed = client.post("/login", data={"token": TOKEN}, follow_redirects=False)
        assert "Secure" in signed.headers["set-cookie"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "token"),
        ({"host": "photos"}, "token"),
        ({"public_url": "https://photos.example.org"}, "token"),
        ({"token": "short"}, "16"),
        ({"token": TOKEN, "public_url": "photos.example.org"}, "https://"),
    ],
)
def test_a_service_is_not_opened_to_others_by_accident(settings, words):
    with pytest.raises(rg.GroundingError, match=words):
        ServiceSettings(**settings)


def test_the_command_line_refuses_it_in_one_sentence(index, monkeypatch):
    monkeypatch.delenv("RETRIEVAL_GROUNDING_TOKEN", raising=False)
    arguments = ["serve", str(index.directory), "--host", "0.0.0.0"]
    result = CliRunner().invoke(command_line, arguments)
    assert isinstance(result.exception, rg.GroundingError)
    assert "--token" in str(result.exception)


# Connections, over real sockets


@pytest.fixture
def address(index):
    """A service in a thread whose clients have little time."""
    limits = Limits(header_seconds=0.6, body_seconds=0.6, stalled_seconds=0.6, body_bytes=1 << 20)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app([index], ServiceSettings(limits=limits)),
        http=timed_protocol(limits),
        ws="none",
        log_level="critical",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def talk(address, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts with pauses between them; return all that comes back until the end."""
    with socket.create_connection(address, timeout=20) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:  # it was ended
                break
            time.sleep(pause)
        answer = b""
        while True:
            try:
                received = connection.recv(65536)
            except ConnectionResetError:
                return answer
            if not received:
                return answer
            answer += received


def test_connections_send_without_delay(index):
    """Otherwise the second piece of each answer waits for the first to be acknowledged."""
    seen = []

    class Noted(timed_protocol(Limits())):
        def connection_made(self, transport):
            super().connection_made(transport)
            connection = transport.get_extra_info("socket")
            seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def connect() -> None:
        config = uvicorn.Config(create_app([index], ServiceSettings()), http=Noted)
        config.load()
        listener = socket.create_server(("127.0.0.1", 0))
        loop = asyncio.get_running_loop()
        await loop.create_server(lambda: Noted(config, ServerState(), {}), sock=listener)
        _, writer = await asyncio.open_connection(*listener.getsockname())
        while not seen:
            await asyncio.sleep(0.01)
        writer.close()

    with ThreadPoolExecutor(1) as pool:  # the tests of the page leave a loop in this thread
        pool.submit(asyncio.run, connect()).result()
    assert all(seen)


HEADER = b"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"GET / HT"],
        [bytes([byte]) for byte in b"GET /api/v1/health HTTP/1.1\r\nHost: localhost"],
        [HEADER],
        [HEADER, *[b"x"] * 50],
    ],
    ids=["nothing", "half a line", "byte by byte", "no body", "a slow body"],
)
def test_slow_clients_are_told_and_left(address, parts):
    began = time.monotonic()
    answer = talk(address, *parts, pause=0.05)
    assert time.monotonic() - began < 10
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["kind"] == "too-slow"


def test_slow_clients_hold_no_place(address):
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(address)).sendall(HEADER)
        answer = httpx.get(f"http://{address[0]}:{address[1]}{API}/health", timeout=10)
        assert answer.status_code == 200


def test_a_request_after_a_pause_is_answered(address):
    request = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = talk(address, request, request, b"GET", pause=0.4)
    assert answer.count(b"HTTP/1.1 200 ") == 2


def test_what_is_no_http_is_refused(address):
    assert talk(address, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    large = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000
    assert talk(address, large).startswith(b"HTTP/1.1 400 ")


# The command


def test_the_command_serves_until_it_is_told_to_end_and_answers_what_it_began(index):
    with serve_process(index.directory) as (address, process):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            body = json.dumps({"queries": ["a dog"]}).encode()
            head = (
                f"POST {API}/query HTTP/1.1\r\nHost: {host}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body[:5])
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(body[5:])
            answer = b""
            while part := connection.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert process.wait(30) == 0
        with pytest.raises(httpx.HTTPError):
            httpx.get(address)


def test_a_port_that_is_taken_is_one_sentence(index):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = ["serve", str(index.directory), "--port", str(taken.getsockname()[1])]
        result = CliRunner().invoke(command_line, arguments)
    assert isinstance(result.exception, rg.GroundingError)
    assert "--port" in str(result.exception)


@pytest.mark.slow
def test_the_command_line_asks_a_service_that_runs(index, tmp_path):
    arguments = [sys.executable, "-c", ASK, str(index.directory), "a red wall", "--json"]

    def ask(*more: str):
        done = subprocess.run([*arguments, *more], capture_output=True, text=True, check=True)
        *shown, modules = done.stdout.rpartition("\n[")
        return json.loads(shown[0]), "torch" in json.loads("[" + modules)

    index.add([png(color, (320, 240)) for color in ("red", "blue")])
    environment = {"RETRIEVAL_GROUNDING_TOKEN": TOKEN}
    alone, _ = ask()
    assert alone[0]["hits"]
    with serve_process(index.directory, environment=environment) as (_, process):
        [private] = services_folder().glob("*.json")
        assert private.stat().st_mode & 0o077 == 0
        served, loaded = ask()
        assert (served, loaded) == (alone, False)
        assert ask("--top", "2000") == (alone, True)  # beyond its limits
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert ask() == (alone, True)  # nobody listens where the file says
