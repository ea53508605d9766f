#!/usr/bin/env python3
"""Send a service what its OpenAPI description allows, and what it does not; count server errors.

    python scripts/fuzz_service.py                       # 10,000 cases against five pictures
    python scripts/fuzz_service.py --index indexes/mine --cases 2000 --minutes 10

schemathesis makes the cases: right ones about what the index has, right ones about anything, and
wrong ones, route after route in small rounds. A copy of the index is served, writable, in this
process. Answers must have a status that is described, the described form, and no status of 500 or
more. Prints how many answers of each status each route gave; exits with 1 if one is wrong.
"""

from __future__ import annotations

import argparse
import collections
import copy
import math
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import SkipTest

import httpx
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Unsatisfiable
from PIL import Image
from rich.console import Console
from rich.table import Table
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import retrieval_grounding as rg
from retrieval_grounding.service.app import create_app
from retrieval_grounding.service.run import server_config
from retrieval_grounding.service.settings import ServiceSettings

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
Statuses = dict[str, collections.Counter[int]]
QUIET = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],
    verbosity=Verbosity.quiet,
    suppress_health_check=list(HealthCheck),
)
ROUND = 10  # cases of a kind, for each route
QUERIES = ["a red wall", "a wall -red", "+blue +wall top:2", "a wall size:>5% unique:near p:>0.1"]
COLORS = ("red", "green", "blue", "white", "black")


def small_index(folder: Path) -> rg.Index:
    """Return a new index of a few pictures of one color each."""
    options = rg.BuildOptions(progress=False, allow_empty=True, thumbnails=True)
    index = rg.build([], folder, options=options)
    index.add([Image.new("RGB", (320, 240), color) for color in COLORS], ids=COLORS)
    return index


class Served:
    """A service in a thread of this process."""

    def __init__(self, index: rg.Index, options: ServiceSettings) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        config = server_config(create_app([index], options), options)
        config.log_config = None
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}
        )

    def __enter__(self) -> Served:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.05)
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join()


def fuzz(
    url: str, cases: int, first_seed: int = 0, seconds: float = math.inf
) -> tuple[Statuses, list[str]]:
    """Send `cases` requests or a few more, unless time is up before.

    Returns statuses by route, and what is wrong with answers.
    """
    known, anything = descriptions(url)
    right, wrong_way = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    statuses: Statuses = collections.defaultdict(collections.Counter)
    wrong: list[str] = []
    end, number = time.monotonic() + seconds, first_seed
    while sum(sum(counts.values()) for counts in statuses.values()) < cases:
        for description, mode in ((known, right), (anything, right), (known, wrong_way)):
            for operation in operations(description, url):
                if time.monotonic() > end:
                    return statuses, wrong
                send = sender(statuses[operation.label], wrong)
                run = given(case=operation.as_strategy(generation_mode=mode))(send)
                try:
                    seed(number)(settings(QUIET, max_examples=ROUND)(run))()
                except (SkipTest, Unsatisfiable):  # nothing in it can be wrong
                    continue
        number += 1
    return statuses, wrong


def operations(description: dict[str, Any], url: str) -> list[Any]:
    """Return what can be called; what deletes comes last, so that there is something before."""
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=url)
    found = [one.ok() for one in schema.get_all_operations()]
    return sorted(found, key=lambda operation: str(operation.method).lower() == "delete")


def descriptions(url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the description of the API with nothing but what exists, and as it is."""
    with httpx.Client(base_url=f"{url}/api/v1", timeout=300) as client:
        anything: dict[str, Any] = client.get("/openapi.json").json()
        name = client.get("/indexes").json()["indexes"][0]["name"]
        images = client.get(f"/indexes/{name}/images").json()["images"]
    hashes = [image["content_hash"] for image in images]
    exists = {"name": [name], "index": [name], "content_hash": hashes[:3], "q": QUERIES}
    exists |= {"region": [0, 1], "matcher": ["bundled", "cosine", "cosine+label"]}
    known = copy.deepcopy(anything)
    for path in known["paths"].values():
        for method, operation in path.items():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in exists:
                    parameter["schema"] = {"enum": exists[parameter["name"]]}
                if parameter["name"] == "content_hash" and method == "delete":
                    parameter["schema"] = {"enum": hashes[3:] or hashes}
    parts = known["components"]["schemas"]["QueryRequest"]["properties"]
    for name in ("index", "matcher"):
        parts[name] = {"enum": [*exists[name], None]}
    return known, anything


def sender(counts: collections.Counter[int], wrong: list[str]) -> Callable[..., None]:
    """Return what sends a case and notes the answer."""

    def send(case: schemathesis.Case) -> None:
        answer = case.call(timeout=300)
        counts[answer.status_code] += 1
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as failure:
            wrong.extend(f"{case.operation.label}: {one}" for one in failure.exceptions)

    return send


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", type=Path, help="an index to copy and serve")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after this time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "index"
        if options.index:
            shutil.copytree(options.index, folder)
        index = rg.Index.open(folder) if options.index else small_index(folder)
        with Served(index, ServiceSettings(writable=True)) as served:
            statuses, wrong = fuzz(served.url, options.cases, options.seed, 60 * options.minutes)
        index.close()
    known = sorted({status for counts in statuses.values() for status in counts})
    table = Table("route", "cases", *map(str, known))
    for name, counts in statuses.items():
        table.add_row(name, str(sum(counts.values())), *(str(counts[s] or "") for s in known))
    total = sum(sum(counts.values()) for counts in statuses.values())
    errors = sum(counts[s] for counts in statuses.values() for s in counts if s >= 500)
    Console(width=140).print(table)
    print(
        f"{total:,} cases, {errors} server errors, {len(wrong)} answers that are not as described"
    )
    for text, count in collections.Counter(wrong).most_common(20):
        print(f"{count} × {text}")
    sys.exit(1 if errors or wrong else 0)


if __name__ == "__main__":
    main()
