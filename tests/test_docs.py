"""What the pages of the documentation point to exists, and the code on docs/extending.md runs."""

from __future__ import annotations

import doctest
import importlib
import re
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("indexes/*.md")]
ROOMS = (
    "cli|reproduction|service|finetuning|builder|index|evaluation|search|indexing|matching|data|models|"
    "storage|core"
)

CODE_PATH = re.compile(rf"`((?:{ROOMS})(?:\.(?!py`)\w+)+)`")
TEST_NAME = re.compile(r"`(tests/test_\w+\.py)(?:::(\w+))?`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)[^)]*\)")
CODE_BLOCK = re.compile(r"^```(python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def exists(path: str) -> bool:
    """Tell whether a module, or something in one, has this path below the package."""
    first, *rest = path.split(".")
    found = importlib.import_module(f"retrieval_grounding.{first}")
    for name in rest:
        if not hasattr(found, name):
            try:
                importlib.import_module(f"{found.__name__}.{name}")
            except ModuleNotFoundError:
                return False
        found = getattr(found, name)
    return True


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_code_that_a_page_points_to_exists(page):
    paths = CODE_PATH.findall(read(ROOT / page))
    assert paths
    assert [path for path in paths if not exists(path)] == []


def test_tests_that_contributors_are_pointed_to_exist():
    named = TEST_NAME.findall(read(ROOT / "CONTRIBUTING.md"))
    assert named
    missing = [
        (file, test) for file, test in named if test and f"def {test}(" not in read(ROOT / file)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    assert [link for link in LINK.findall(read(page)) if not (page.parent / link).exists()] == []


def test_the_page_about_your_own_models_runs(tmp_path, monkeypatch):
    """Blocks of ``python`` are executed and those of ``pycon`` are compared, in one namespace."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    page = ROOT / "docs" / "extending.md"
    text = read(page)
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner()
    for block in CODE_BLOCK.finditer(text):
        kind, code = block.groups()
        line = text.count("\n", 0, block.start(2))
        if kind == "python":
            exec(compile("\n" * line + code, str(page), "exec"), names)
        else:
            session = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), line)
            runner.run(session, clear_globs=False)
            names = session.globs
    assert runner.tries
    assert not runner.failures
