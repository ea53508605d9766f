"""Phrases that come one by one: typed at a prompt, or as the lines of standard input."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator

import typer

from ..core.errors import GroundingError, PhraseError
from .hits import PhraseHits, hits_as_dicts, print_explanations, print_hits, print_paths
from .output import note, print_json

__all__ = ["answer_lines"]

_PROMPT = "> "
_LONGEST = 10_000  # characters; a longer line is not what anybody typed

Ask = Callable[[list[str]], list[PhraseHits]]
"""Returns the hits of phrases."""


def answer_lines(
    ask: Ask, as_json: bool, path_end: bytes | None = None, explain: bool = False
) -> None:
    """Answer one phrase after the other, as text or as one line of JSON for each.

    A phrase that cannot be answered does not end this; Ctrl-D does, and the end of the input.

    Parameters
    ----------
    ask : callable
        Answers phrases.
    as_json : bool
        Whether to print JSON.
    path_end : bytes, optional
        Print only the paths of images, each followed by this.
    explain : bool
        Whether to say why each hit was found.

    Raises
    ------
    typer.Exit
        With code 1, if a line of an input that is not a terminal could not be answered.
    typer.BadParameter
        If such an input has no phrase.
    """
    typed = sys.stdin is not None and sys.stdin.isatty()
    asked = failed = 0
    for line in _typed_lines() if typed else _piped_lines():
        asked += 1
        try:
            if len(line) > _LONGEST:
                raise PhraseError(f"the phrase is longer than {_LONGEST:,} characters")
            results = ask([line])
        except GroundingError as error:
            failed += 1
            if as_json:
                print_json({"phrase": line[:_LONGEST], "error": str(error)}, indent=None)
            else:
                note(f"error: {error}")
            continue
        if path_end is not None:
            print_paths(results, path_end)
        elif as_json:
            print_json(hits_as_dicts(results, explain)[0], indent=None)
        else:
            print_hits(results)
            if explain:
                print_explanations(results)
    if not typed and not asked:
        raise typer.BadParameter("there is no phrase: name one, or write one to standard input")
    if not typed and failed:
        raise typer.Exit(1)


def _typed_lines() -> Iterator[str]:
    """Yield what somebody types at the prompt, with a history where Python has readline."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() uses it
    note("Type a phrase and press Enter; Ctrl-D ends.")
    while True:
        try:
            line = _ask_for_line().strip()
        except EOFError:
            note("")  # the shell's prompt gets a line of its own
            return
        except KeyboardInterrupt:  # as shells do: the line is dropped, the prompt stays
            note("")
            continue
        if line:
            yield line


def _ask_for_line() -> str:
    if sys.stdout.isatty():
        return input(_PROMPT)
    # Into a pipe go results alone.
    print(_PROMPT, end="", file=sys.stderr, flush=True)  # noqa: T201
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _piped_lines() -> Iterator[str]:
    """Yield the lines of standard input that are not blank, the rest of overlong ones left out."""
    stream = sys.stdin
    if isinstance(stream, io.TextIOWrapper):  # a phrase may drop bytes that are no text
        stream.reconfigure(errors="surrogateescape")
    while stream is not None and (line := stream.readline(_LONGEST + 2)):
        part = line
        while len(part) > _LONGEST and not part.endswith("\n"):
            part = stream.readline(_LONGEST + 2)
        if text := line.strip():
            yield text
