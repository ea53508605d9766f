#!/usr/bin/env python3
"""Send a service what its OpenAPI description allows, and what it does not; count server errors.

    python scripts/fuzz_service.py                       # 10,000 cases against five pictures
    python scripts/fuzz_service.py --index indexes/mine --cases 2000

schemathesis makes the cases. A copy of the index is served, writable, in this process. Answers must
have a status that is described, the described form, and no status of 500 or more. Prints how many
answers of each status each route gave; exits with 1 if one is wrong.
"""

from __future__ import annotations

import argparse
import collections
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
QUERIES = ["a red wall", "a wall -red", "+blue +wall top:2", "a wall size:>5% unique:near p:>0.1"]
COLORS = ("red", "green", "blue", "white", "black")


def small_index(folder: Path) -> rg.Index:
    """Return a new index of a few pictures of one color each."""
    index = rg.build([], folder, options=rg.BuildOptions(progress=False, allow_empty=True))
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


def fuzz(url: str, cases: int, first_seed: int = 0) -> tuple[Statuses, list[str]]:
    """Send about `cases` requests; return statuses by route, and what is wrong with answers."""
    schema = schemathesis.openapi.from_dict(known_description(url))
    schema.config.update(base_url=url)
    operations = [found.ok() for found in schema.get_all_operations()]
    statuses: Statuses = {operation.label: collections.Counter() for operation in operations}
    wrong: list[str] = []
    each = -(-cases // (2 * len(operations)))
    for operation in operations:
        # First requests as they are described, then others.
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            send = sender(statuses[operation.label], wrong)
            run = given(case=operation.as_strategy(generation_mode=mode))(send)
            try:
                seed(first_seed)(settings(QUIET, max_examples=each)(run))()
            except (SkipTest, Unsatisfiable):  # nothing in it can be wrong
                continue
    return statuses, wrong


def known_description(url: str) -> dict[str, Any]:
    """Return the description of the API, with what exists among the values that are likely."""
    with httpx.Client(base_url=f"{url}/api/v1", timeout=300) as client:
        description: dict[str, Any] = client.get("/openapi.json").json()
        name = client.get("/indexes").json()["indexes"][0]["name"]
        images = client.get(f"/indexes/{name}/images").json()["images"]
    hashes = [image["content_hash"] for image in images[:3]]
    likely = {"name": [name], "index": [name], "content_hash": hashes, "q": QUERIES}
    for path in description["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in likely:
                    some = {"enum": likely[parameter["name"]]}
                    parameter["schema"] = {"anyOf": [some, parameter["schema"]]}
    return description


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
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "index"
        if options.index:
            shutil.copytree(options.index, folder)
        index = rg.Index.open(folder) if options.index else small_index(folder)
        with Served(index, ServiceSettings(writable=True)) as served:
            statuses, wrong = fuzz(served.url, options.cases, options.seed)
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
