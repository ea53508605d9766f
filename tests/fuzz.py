"""Mutate image files and the files of an index, and see that only named errors come of it.

    OMP_NUM_THREADS=1 python tests/fuzz.py --images 10000 --stores 10000

(FAISS's threads survive no fork.)

Work happens in children, so that a crash or a hang of a decoder is seen as well: each mutant may
take 10 seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from bad_images import sound_images
from fakes import ColourEncoder, SquareDetector, draw_squares

import retrieval_grounding as rg
from retrieval_grounding.images import decode_image

SECONDS = 10
CHUNK = 250
OPTIONS = rg.BuildOptions(batch_images=2, shard_images=2, progress=False)


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Return `data` with a few random changes of several kinds."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 4, 16))):
        if not changed:
            break
        # Headers are short and matter most.
        limit = len(changed) if generator.random() < 0.5 else min(len(changed), 512)
        at = generator.randrange(limit)
        length = generator.choice((1, 2, 4, 8, 64, 1024))
        kind = generator.randrange(7)
        if kind == 0:
            changed[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            changed[at] = generator.choice((0, 1, 127, 128, 255, generator.randrange(256)))
        elif kind == 2:
            changed[at : at + 4] = generator.choice((b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff"))
        elif kind == 3:
            del changed[at : at + length]
        elif kind == 4:
            changed[at:at] = generator.randbytes(length)
        elif kind == 5:
            other = generator.randrange(len(changed))
            changed[at : at + length] = changed[other : other + length]
        else:
            del changed[at if generator.random() < 0.3 else generator.randrange(len(changed)) :]
    return bytes(changed)


def in_children(count: int, seed: int, attempt: Callable[[random.Random], None]) -> None:
    """Call `attempt` with generators of `count` seeds; any unnamed end is an error."""
    for first in range(seed, seed + count, CHUNK):
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receive)
            warnings.simplefilter("ignore")
            for number in range(first, min(first + CHUNK, seed + count)):
                os.write(send, f"{number}\n".encode())
                signal.alarm(SECONDS)
                try:
                    attempt(random.Random(number))
                except BaseException:
                    os.write(send, traceback.format_exc().encode())
                    os._exit(1)
            os._exit(0)
        os.close(send)
        with os.fdopen(receive, errors="replace") as pipe:
            told = pipe.read()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            mutant = told.strip().splitlines()[-1]
            raise AssertionError(f"mutant {mutant} ended by signal {os.WTERMSIG(status)}")
        if os.WEXITSTATUS(status):
            lines = told.splitlines()
            start = next(n for n, line in enumerate(lines) if line.startswith("Traceback"))
            raise AssertionError(f"mutant {lines[start - 1]}:\n" + "\n".join(lines[start:]))


def fuzz_images(count: int, seed: int = 0) -> None:
    """Decode mutants of images of every format."""
    sound = list(sound_images().values())

    def attempt(generator: random.Random) -> None:
        try:
            assert decode_image(mutate(generator.choice(sound), generator)).mode == "RGB"
        except rg.ImageError as error:
            assert error.reason

    in_children(count, seed, attempt)


def fuzz_stores(folder: Path, count: int, seed: int = 0) -> None:
    """Use indexes of which one file is a mutant: open, list, ask, verify, build, repair."""
    photos, index, work = folder / "photos", folder / "index", folder / "work"
    photos.mkdir()
    for number in range(5):
        draw_squares(photos / f"{number}.png", {"red": (0, 0, 9 + number, 9)})
    models = {"detector": SquareDetector(), "clip": ColourEncoder()}
    rg.build(photos, index, options=OPTIONS, **models)
    files = ["catalog.sqlite"] * 3 + ["vectors.faiss"]
    files += [f"shards/{path.name}" for path in (index / "shards").iterdir()]
    sound = {file: (index / file).read_bytes() for file in set(files)}

    def attempt(generator: random.Random) -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(index, work)
        file = generator.choice(files)
        (work / file).write_bytes(mutate(sound[file], generator))
        draw_squares(photos / "new.png", {"blue": (0, 0, 9, generator.randint(2, 50))})
        for use in (
            lambda opened: list(opened.images()),
            lambda opened: opened.info(),
            lambda opened: opened.query(["red", "blue"]),
            lambda opened: opened.verify(),
            lambda _: (
                generator.random() < 0.2 and rg.build(photos, work, options=OPTIONS, **models)
            ),
            lambda opened: generator.random() < 0.2 and opened.compact(0.0, 9),
            lambda opened: (
                generator.random() < 0.2 and opened.verify(repair=True, options=OPTIONS, **models)
            ),
        ):
            try:
                use(rg.Index.open(work, encoder=ColourEncoder()))
            except rg.GroundingError as error:
                assert str(error)

    in_children(count, seed, attempt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--stores", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    fuzz_images(arguments.images, arguments.seed)
    between = time.perf_counter()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        fuzz_stores(Path(folder), arguments.stores, arguments.seed)
    ended = time.perf_counter()
    sys.stdout.write(
        f"{arguments.images} images in {between - started:.0f} s, "
        f"{arguments.stores} stores in {ended - between:.0f} s: only named errors\n"
    )


if __name__ == "__main__":
    main()
