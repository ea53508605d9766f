"""Make every write to an index fail, one after the other, and check that the index stays intact.

    LD_PRELOAD=./fault_shim.so python tests/fault_writers.py

For each action and each of its n changes to files, a child process fails at its n-th change with
ENOSPC, EIO or EACCES (and at all later ones, as on a full disk), or is killed there. It must end
with an error of one sentence; the index must open, pass verification, and have its old or its new
content; and the action must succeed when it is tried again.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fakes import ColorEncoder, SquareDetector, decode_here, draw_squares
from kill_writers import check, content, use_one_thread

import retrieval_grounding as rg

OPTIONS = rg.BuildOptions(batch_images=2, shard_images=2, workers=1, progress=False, prune=True)
KILL = 0
FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "SIGKILL": KILL}


def build(photos: Path, index: Path) -> None:
    rg.build(photos, index, detector=SquareDetector(), clip=ColorEncoder(), options=OPTIONS)


def remove(index: Path, path: Path) -> None:
    opened = rg.Index(index)
    if str(path) in [image.path for image in opened.images()]:
        opened.remove(path)


def prepare(folder: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """Return for each action the state before it, and a function that applies it to a copy."""
    photos, state = folder / "photos", folder / "state"
    photos.mkdir()
    for number in range(6):
        draw_squares(photos / f"{number}.png", {"red": (0, 0, 9 + number, 9)})
    build(photos, state)
    later = folder / "later"
    shutil.copytree(photos, later)
    draw_squares(later / "new.png", {"blue": (0, 0, 30, 9)})
    draw_squares(later / "1.png", {"green": (0, 0, 30, 9)})
    (later / "2.png").unlink()
    (later / "empty.png").write_bytes(b"")
    damaged = folder / "damaged"
    shutil.copytree(state, damaged)
    shard = damaged / "shards" / "000002.h5"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    (folder / "nothing").mkdir()
    return {
        "create": (folder / "nothing", lambda index: build(photos, index)),
        "build": (state, lambda index: build(later, index)),
        "remove": (state, lambda index: remove(index, photos / "3.png")),
        "compact": (state, lambda index: rg.Index(index).compact(0.0, 6)),
        "repair": (
            damaged,
            lambda index: rg.Index(index).verify(
                repair=True, detector=SquareDetector(), clip=ColorEncoder(), options=OPTIONS
            ),
        ),
    }


def attempt(action: Callable[[Path], object], index: Path, n: int, fault: int) -> tuple[str, bool]:
    """Run `action` in a child whose change `n` fails; return its end and whether n was reached."""
    shim = ctypes.CDLL(None)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        use_one_thread()
        shim.fault_arm(os.fsencode(index), n, fault, fault != KILL)
        try:
            action(index)
            end = "succeeded"
        except rg.GroundingError as error:
            end = "reported" if "\n" not in str(error) else f"more than a sentence: {error}"
        except BaseException as error:
            end = f"{type(error).__name__}: {error}"
        os.write(send, f"{int(shim.fault_count() >= n)}{end}".encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as pipe:
        output = pipe.read()
    os.waitpid(child, 0)
    return (output[1:], output[0] == "1") if output else ("killed", True)


def run(folder: Path, stride: int = 1) -> Counter[str]:
    """Let every `stride`-th change of each action fail with each fault; count the ends."""
    counts: Counter[str] = Counter()
    decode_here()  # decoders write nothing
    for name, (state, action) in prepare(folder).items():
        goal = folder / "goal"
        shutil.copytree(state, goal)
        action(goal)
        before = content(state) if name not in ("create", "repair") else {}
        after = content(goal)
        for fault_name, fault in FAULTS.items():
            n, reached = 1 + stride // 2, True
            while reached:
                index = folder / "index"
                shutil.copytree(state, index)
                end, reached = attempt(action, index, n, fault)
                where = f"{fault_name} at change {n} of {name}: {end}"
                assert end in ("reported", "succeeded", "killed"), where
                if name != "repair" and (index / "catalog.sqlite").exists():
                    check(index)
                    found = content(index)
                    assert all(found[p] in (before.get(p), after.get(p)) for p in found), where
                    assert found.keys() >= before.keys() & after.keys(), where
                elif name == "repair":
                    rg.Index.open(index)
                action(index)
                check(index)
                assert content(index) == after, where
                shutil.rmtree(index)
                counts[end] += reached
                counts[f"{name} {fault_name}"] += reached
                n += stride
        shutil.rmtree(goal)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stride", type=int, default=1)
    arguments = parser.parse_args()
    started = time.perf_counter()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        counts = run(Path(folder), arguments.stride)
    sys.stdout.write(f"{dict(counts)} in {time.perf_counter() - started:.0f} s: intact each time\n")


if __name__ == "__main__":
    main()
