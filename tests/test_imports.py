"""What a command does not need, it does not import: importing takes longer than most answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import retrieval_grounding as rg
from retrieval_grounding.cli.demo import demo_photographs

HEAVY = {
    "torch", "torchvision", "open_clip", "timm", "transformers", "ultralytics", "sklearn", "scipy",
    "pandas", "matplotlib", "sympy", "cv2",
}  # fmt: skip
PARTS_OF_TORCH = {"torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes"}
SCRIPT = """
import json, sys
from retrieval_grounding.cli.app import main
sys.argv = ["retrieval-grounding", *sys.argv[1:]]
code = 0
try:
    main()
except SystemExit as end:
    code = end.code or 0
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def imported_by(*arguments: object, code: int = 0) -> set[str]:
    """Return the modules that a command has imported when it ends."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ended, modules = json.loads(done.stderr.splitlines()[-1])
    assert ended == code, done.stderr
    return set(modules)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """An index of the bundled models."""
    folder = tmp_path_factory.mktemp("imports") / "index"
    options = rg.BuildOptions(progress=False)
    return rg.build(demo_photographs()[:1], folder, options=options).directory


@pytest.fixture
def index(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "index"))


@pytest.mark.parametrize("command", ["query", "build", "info"])
def test_help_imports_no_numbers(command):
    heavy = HEAVY | {"numpy", "h5py", "faiss", "PIL"}
    assert not heavy & imported_by(command, "--help")


@pytest.mark.parametrize(
    "command",
    [
        ("info", "{index}"),
        ("verify", "{index}"),
        ("remove", "{index}", "--glob", "*"),
        ("models",),
    ],
)
def test_looking_after_an_index_takes_no_pytorch(index, command):
    modules = imported_by(*(part.format(index=index) for part in command))
    asks_for_gpus = command[0] == "info" and torch.cuda.is_available()
    assert not (HEAVY & modules) - ({"torch"} if asks_for_gpus else set())
    opens_shards = command[0] in ("verify", "remove")
    assert opens_shards or "h5py" not in modules


@pytest.mark.parametrize("options", [[], ["--json", "--exact", "--device", "cpu"]])
def test_a_query_with_the_bundled_models_takes_pytorch_alone(index, options):
    modules = imported_by("query", index, "a bus", *options)
    assert modules & HEAVY == {"torch"}
    assert not modules & (PARTS_OF_TORCH | {"rich", "ftfy", "psutil", "pathspec"})


def test_a_mistake_takes_no_pytorch(tmp_path):
    assert not HEAVY & imported_by("query", tmp_path / "missing", "a bus", code=1)


def test_a_device_is_chosen_alike_with_and_without_pytorch():
    script = (
        "import sys; from retrieval_grounding.models.device import resolve_device; "
        "first = resolve_device(); import torch; print(first == resolve_device())"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
