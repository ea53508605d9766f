"""Mutate image files, index files and expression files; only named errors may result.

    python tests/fuzz.py --images 10000 --stores 10000 --texts 10000

Work happens in child processes, so that crashes and hangs are noticed as well: each mutant may
compute for 10 seconds. Images are also decoded as in builds, and must not crash a decoder.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bad_images import sound_images
from fakes import ColorEncoder, SquareDetector, decode_here, draw_squares, vectors_file
from kill_writers import use_one_thread

import retrieval_grounding as rg
from retrieval_grounding.data.decoder import Decoder
from retrieval_grounding.data.expressions import read_expressions
from retrieval_grounding.data.images import decode_image
from retrieval_grounding.data.resolve import ImageNames
from retrieval_grounding.evaluation.references import score_predictions
from retrieval_grounding.storage.rows import ImageRow

SECONDS = 10
WAITING_SECONDS = 120
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
    """Call `attempt` with generators of `count` seeds; any other end is an error."""
    for first in range(seed, seed + count, CHUNK):
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receive)
            use_one_thread()
            warnings.simplefilter("ignore")
            for number in range(first, min(first + CHUNK, seed + count)):
                os.write(send, f"{number}\n".encode())
                # Both end the process. Time in which it does not run, because the computer is busy,
                # does not count; the alarm is for waiting without end.
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                signal.alarm(WAITING_SECONDS)
                try:
                    attempt(random.Random(number))
                except BaseException:
                    os.write(send, traceback.format_exc().encode())
                    os._exit(1)
            os._exit(0)
        os.close(send)
        with os.fdopen(receive, errors="replace") as pipe:
            output = pipe.read()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            mutant = output.strip().splitlines()[-1]
            raise AssertionError(f"mutant {mutant} ended by signal {os.WTERMSIG(status)}")
        if os.WEXITSTATUS(status):
            lines = output.splitlines()
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


def fuzz_decoders(count: int, seed: int = 0) -> None:
    """Decode mutants in the processes that builds use."""
    sound = list(sound_images().values())
    decoder = Decoder(timeout=SECONDS)
    for number in range(seed, seed + count):
        generator = random.Random(number)
        try:
            assert decoder.decode(mutate(generator.choice(sound), generator)).mode == "RGB"
        except rg.ImageError as error:
            assert not error.reason.startswith("decoder"), f"mutant {number}: {error}"
    decoder.close()


def expression_files() -> dict[str, bytes]:
    """Return a valid file of expressions in every format, by name."""
    rows = [
        {"image": f"{n}.png", "expression": f"the {word} square, at {n}", "bbox_xywh": [n, 2, 9, 8],
         "split": "val", "width": 80, "height": 60, "category": None, "object_id": n}
        for n, word in enumerate(("red", "blue", "größte", "left"))
    ]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = ["image,expression,x1,y1,x2,y2,split"]
    table += [f'{n}.png,"the {n}th, or so",{n},2,{n + 9},10.5,val' for n in range(4)]
    refs = [
        {"ann_id": n, "image_id": n, "ref_id": n, "split": "val", "file_name": f"{n}.png",
         "sentences": [{"sent": f"square {n}", "raw": f"Square {n}", "tokens": ["square"]}]}
        for n in range(4)
    ]  # fmt: skip
    instances = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 80, "height": 60} for n in range(4)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [n, 2, 9, 8]} for n in range(4)
        ],
        "categories": [{"id": 1, "name": "square"}],
    }
    return {
        "refs.jsonl": lines,
        "refs.jsonl.gz": gzip.compress(lines, mtime=0),
        "refs.csv": "\n".join(table).encode(),
        "refs(0).p": pickle.dumps(refs, 0),
        "refs(2).p": pickle.dumps(refs, 2),
        "refs(5).p": pickle.dumps(refs, 5),
        "instances.json": json.dumps(instances).encode(),
        "photos.txt": b"0.png\n1.png\n",
    }


def fuzz_texts(folder: Path, count: int, seed: int = 0) -> None:
    """Read expressions, predictions and lists of images; one file is a mutant."""
    sound = expression_files()
    for name, data in sound.items():
        (folder / name).write_bytes(data)
    expressions = read_expressions(folder / "refs.jsonl").expressions
    for name in sound.keys() - {"instances.json", "photos.txt"}:
        assert len(read_expressions(folder / name)) == 4, name
    rows = [ImageRow(f"/{n}.png", 80, 60, 1, n, "") for n in range(4)]
    names = ImageNames(rows)

    def attempt(generator: random.Random) -> None:
        name = generator.choice(sorted(sound))
        mutant = mutate(sound[name], generator)
        (folder / name).write_bytes(mutant)
        try:
            if name == "photos.txt":
                rg.find_images(folder / name)
            elif generator.random() < 0.2 and name == "refs.jsonl":
                score_predictions(folder / name, expressions, rows, names)
            else:
                asked = "refs(2).p" if name == "instances.json" else name
                read_expressions(folder / asked)
        except rg.GroundingError as error:
            assert str(error)
        finally:
            (folder / name).write_bytes(sound[name])

    in_children(count, seed, attempt)


def fuzz_stores(folder: Path, count: int, seed: int = 0) -> None:
    """Use indexes with one mutated file: open, list, query, verify, build, repair."""
    photos, index, work = folder / "photos", folder / "index", folder / "work"
    photos.mkdir()
    for number in range(5):
        draw_squares(photos / f"{number}.png", {"red": (0, 0, 9 + number, 9)})
    models = {"detector": SquareDetector(), "clip": ColorEncoder()}
    decode_here()  # the images are sound
    rg.build(photos, index, options=OPTIONS, **models)
    files = ["catalog.sqlite"] * 3 + [vectors_file(index).name]
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
                use(rg.Index.open(work, encoder=ColorEncoder()))
            except rg.GroundingError as error:
                assert str(error)

    in_children(count, seed, attempt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--stores", type=int, default=10_000)
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--decoded", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        for what, fuzz, count in (
            ("images", fuzz_images, arguments.images),
            ("images in decoding processes", fuzz_decoders, arguments.decoded),
            ("files of expressions", partial(fuzz_texts, Path(folder)), arguments.texts),
            ("stores", partial(fuzz_stores, Path(folder)), arguments.stores),
        ):
            started = time.perf_counter()
            fuzz(count, arguments.seed)
            seconds = time.perf_counter() - started
            sys.stdout.write(f"{count} {what} in {seconds:.0f} s: only named errors\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
