#!/usr/bin/env python3
"""Load a service with 1, 8 and 64 clients, beside a plain loop over ``Index.query``.

    python scripts/bench_service.py --work /tmp/bench --regions 1000000
    python scripts/bench_service.py --work /tmp/bench --regions 100000 --requests 100000

The index is grown as for bench_query.py, and served by the command ``serve`` in a process of its
own. Each client is a connection that asks, waits for the answer, and asks again; all of them are in
one further process, and share the cores with the service. Phrases are expressions of people where
../shared has them, else pseudo-queries; no client asks the same as another at the same time. The
loop runs before and after, in a process of its own, while the service is idle. Encoding is timed in
both. Then a writer adds pictures while 64 clients ask, and is checked to have lost nothing; and
with --requests, that many more are sent, and the service's memory is read meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil
from bench_support.growing import grow_index, seed_index
from bench_support.phrases import load_phrases
from PIL import Image
from rich.console import Console
from rich.table import Table

import retrieval_grounding as rg
from retrieval_grounding.core.addresses import content_address
from retrieval_grounding.data.image_source import hash_pixels

ROOT = Path(__file__).resolve().parents[1]
WARM_UP_SECONDS = 3.0


# What runs in processes of their own


def plain_loop(folder: Path, phrases: list[str], seconds: float) -> dict[str, float]:
    """Ask one phrase after the other in this process."""
    index = rg.Index.open(folder, device="cpu")
    taken: list[float] = []
    endless = itertools.cycle(phrases)
    index.query(next(endless))  # loads the models
    warm, busy = time.perf_counter() + WARM_UP_SECONDS, 0.0
    while (began := time.perf_counter()) < warm + seconds:
        before = time.process_time()
        index.query(next(endless), min_probability=None)
        if began >= warm:
            taken.append(time.perf_counter() - began)
            busy += time.process_time() - before
    return figures(taken, sum(taken)) | {"CPU ms each": 1000 * busy / max(1, len(taken))}


async def ask(
    port: int, phrases: Iterator[str], taken: list[float], until: float, warm: float
) -> tuple[int, int]:
    """Be one client until a time; return how many answers there were, and how many not 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = failed = 0
    while (began := time.perf_counter()) < until:
        path = f"/api/v1/query?q={quote(next(phrases))}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
        await reader.readexactly(length)
        answers += 1
        failed += not head.startswith(b"http/1.1 200 ")
        if warm <= time.perf_counter() < until:  # answered while the clock ran
            taken.append(time.perf_counter() - began)
    writer.close()
    return answers, failed


async def clients(port: int, count: int, phrases: list[str], seconds: float) -> dict[str, float]:
    """Be several clients."""
    endless, taken = itertools.cycle(phrases), list[float]()
    warm = time.perf_counter() + WARM_UP_SECONDS
    asking = [ask(port, endless, taken, warm + seconds, warm) for _ in range(count)]
    answers, failed = map(sum, zip(*await asyncio.gather(*asking), strict=True))
    return figures(taken, seconds) | {"answers": answers, "failed": failed}


def figures(taken: list[float], seconds: float) -> dict[str, float]:
    """Return throughput and latency."""
    milliseconds = np.array(taken or [np.nan]) * 1000
    return {
        "requests": len(taken),
        "per second": len(taken) / seconds,
        "p50 ms": float(np.percentile(milliseconds, 50)),
        "p99 ms": float(np.percentile(milliseconds, 99)),
    }


# What starts them


@contextmanager
def service(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Run the command ``serve``; yield its port and process."""
    command = [sys.executable, "-m", "retrieval_grounding", "serve", str(folder), "--port", "0"]
    with subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        line = run.stderr.readline()
        if not line.startswith("Serving at "):
            raise SystemExit(line + run.stderr.read())
        try:
            yield int(line.split()[2].rstrip(";").rsplit(":", 1)[1]), psutil.Process(run.pid)
        finally:
            run.terminate()


def in_child(part: str, *arguments: object) -> dict[str, float]:
    """Run a part of this script in a new process; return the JSON that it prints."""
    command = [sys.executable, __file__, "--part", part, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def batch_size(port: int, before: tuple[float, float] = (0, 0)) -> tuple[float, float]:
    """Return the phrases and passes that the service has counted since `before`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/metrics") as answer:
        lines = answer.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("rg_batch_phrases"))
    phrases, passes = values["rg_batch_phrases_sum"], values["rg_batch_phrases_count"]
    return float(phrases) - before[0], float(passes) - before[1]


class Writer(threading.Thread):
    """Adds pictures to an index until it is told to end."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.added: list[str] = []
        self.ending = threading.Event()
        self._folder = folder

    def run(self) -> None:
        """Add one picture after the other."""
        random = np.random.default_rng()
        with rg.Index.open(self._folder, device="cpu") as index:
            while not self.ending.is_set():
                picture = Image.fromarray(random.integers(0, 255, (48, 64, 3), dtype=np.uint8))
                index.add(picture)
                self.added.append(content_address(hash_pixels(picture)))


def with_writer(folder: Path, port: int, phrases: Path, seconds: float) -> dict[str, Any]:
    """Ask with 64 clients while a writer adds pictures; return what was lost."""
    writer = Writer(folder)
    writer.start()
    found: dict[str, Any] = dict(in_child("clients", port, 64, phrases, seconds))
    writer.ending.set()
    writer.join()
    with rg.Index.open(folder, device="cpu") as index:
        held = {image.path for image in index.images()}
    del found["answers"]
    found["added"] = len(writer.added)
    found["lost"] = len(set(writer.added) - held)
    return found


def prepare(work: Path, seed_folder: Path | None, regions: int) -> tuple[Path, Path]:
    """Return the folder of an index of this size, and a file of phrases; made if missing."""
    seed = seed_folder or seed_index(work / "seed", ROOT.parent / "shared", 250)
    folder = work / f"served-{regions}"
    grow_index(seed, folder, regions)
    with rg.Index.open(folder, device="cpu") as index:
        index.reindex(progress=False)  # vectors, and what the matcher knows of images beforehand
    known = work / "served-phrases.json"
    texts = load_phrases(seed, ROOT.parent / "shared", 5000).texts
    known.write_text(json.dumps(texts), encoding="utf-8")
    return folder, known


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for the indexes")
    parser.add_argument("--seed", type=Path, help="an index to grow, instead of photographs")
    parser.add_argument("--regions", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=0, help="that many more, for the memory")
    parser.add_argument("--no-writer", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run_part(*options.part)
        return
    if not options.work:
        parser.error("name a folder: --work")
    folder, known = prepare(options.work, options.seed, options.regions)
    columns: dict[str, dict[str, Any]] = {}
    with service(folder) as (port, process):
        in_child("clients", port, 8, known, 5)  # opens shards
        columns["loop"] = in_child("loop", folder, known, options.seconds)
        for count in options.clients:
            before, busy = batch_size(port), cpu_seconds(process)
            found: dict[str, Any] = in_child("clients", port, count, known, options.seconds)
            phrases, passes = batch_size(port, before)
            found["phrases in a pass"] = phrases / passes
            found["CPU ms each"] = 1000 * (cpu_seconds(process) - busy) / found.pop("answers")
            columns[f"{count} clients"] = found
        columns["loop again"] = in_child("loop", folder, known, options.seconds)
        loop = np.mean([columns[name]["per second"] for name in ("loop", "loop again")])
        work = np.mean([columns[name]["CPU ms each"] for name in ("loop", "loop again")])
        for found in columns.values():
            found["CPU of the loop / its own"] = work / found["CPU ms each"]
            found["times the loop"] = found["per second"] / loop
            found["service MB"] = ""
        columns[f"{options.clients[-1]} clients"]["service MB"] = megabytes(process)
        if not options.no_writer:
            columns["64 and a writer"] = with_writer(folder, port, known, options.seconds)
            columns["64 and a writer"]["service MB"] = megabytes(process)
        show(columns)
        left = options.requests
        while left > 0:
            found = in_child("clients", port, 64, known, 60)
            left -= int(found["requests"])
            print(f"{options.requests - left:,} requests: {megabytes(process):.0f} MB", flush=True)
    if options.json:
        options.json.write_text(json.dumps(columns, indent=2) + "\n", encoding="utf-8")


def run_part(part: str, *arguments: str) -> None:
    """Run what :func:`in_child` asks for."""
    phrases = json.loads(Path(arguments[-2]).read_text(encoding="utf-8"))
    seconds = float(arguments[-1])
    if part == "loop":
        found = plain_loop(Path(arguments[0]), phrases, seconds)
    else:
        found = asyncio.run(clients(int(arguments[0]), int(arguments[1]), phrases, seconds))
    print(json.dumps(found))


def cpu_seconds(process: psutil.Process) -> float:
    """Return the time that processors have worked for a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


def megabytes(process: psutil.Process) -> float:
    """Return the memory that a process has for itself."""
    return float(process.memory_full_info().uss) / 2**20


def show(columns: dict[str, dict[str, Any]]) -> None:
    """Print one column for each way of asking."""
    table = Table("", *columns)
    for name in dict.fromkeys(name for found in columns.values() for name in found):
        cells = [found.get(name, "") for found in columns.values()]
        table.add_row(name, *(f"{c:,.3g}" if isinstance(c, float) else str(c) for c in cells))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
