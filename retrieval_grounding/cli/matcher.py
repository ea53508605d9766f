"""The commands ``matcher list``, ``matcher use`` and ``matcher remove``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from .logs import Verbose
from .options import IndexDirectory, Json, Wait, check_index_first
from .output import print_json, print_table, say

__all__ = ["matcher"]

matcher = typer.Typer(
    no_args_is_help=True, help="List the matchers of an index, choose one, or remove one."
)

MatcherName = Annotated[str, typer.Argument(help="Name of the matcher.", metavar="NAME")]


@matcher.command("list")
def list_matchers(index: IndexDirectory, as_json: Json = False, verbose: Verbose = 0) -> None:
    """List the matchers that queries can name; * marks the one in use.

    Example: retrieval-grounding matcher list indexes/pictures
    """
    from ..index import Index

    entries = Index.open(index).matchers()
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    rows = [
        (
            f"{entry.name}{' *' if entry.in_use else ''}",
            entry.kind or "–",
            entry.problem or entry.trained_on,
        )
        for entry in entries
    ]
    print_table(("matcher", "kind", "trained on"), rows, header_in_pipe=True)


@matcher.command("use")
def use_matcher(
    index: IndexDirectory,
    name: MatcherName,
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Use a matcher for all queries that do not name another one.

    Example: retrieval-grounding matcher use indexes/pictures cosine
    """
    from ..index import Index

    check_index_first(index, [name])
    Index.open(index).use_matcher(name, timeout=wait)
    if as_json:
        print_json({"index": str(index), "in_use": name})
    else:
        say(f"{index}: uses the matcher {name}")


@matcher.command("remove")
def remove_matcher(
    index: IndexDirectory,
    name: MatcherName,
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Delete a matcher that was trained on an index. This cannot be undone.

    Example: retrieval-grounding matcher remove indexes/pictures trained
    """
    from ..index import Index

    check_index_first(index, [name])
    opened = Index.open(index)
    opened.remove_matcher(name, timeout=wait)
    in_use = next((entry.name for entry in opened.matchers() if entry.in_use), None)
    if as_json:
        print_json({"index": str(index), "removed": name, "in_use": in_use})
    else:
        say(f"{index}: removed the matcher {name}; uses {in_use}")
