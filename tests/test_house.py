"""The plan of the package: few rooms at the root, and no module that has grown too large."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import retrieval_grounding as rg

PACKAGE = Path(rg.__file__).parent
DEMANDED_BY_PYTHON = {"__init__.py", "__main__.py", "py.typed", "__pycache__"}


def test_the_root_has_at_most_fourteen_entries():
    entries = {path.name for path in PACKAGE.iterdir()} - DEMANDED_BY_PYTHON
    assert len(entries) <= 14, sorted(entries)


def test_modules_are_short():
    lines = {
        str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: count for name, count in lines.items() if count > 400} == {}
    assert median(lines.values()) <= 150


def test_every_public_name_has_a_docstring_and_a_home_in_a_room():
    for name in rg.__all__:
        value = getattr(rg, name)
        if not isinstance(value, (dict, float, str)):  # constants have neither
            assert value.__doc__, name
            assert value.__module__.startswith("retrieval_grounding."), name
