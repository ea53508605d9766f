"""Options of ``query`` that become parts of its queries; each can also be typed in the phrase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..core.query.value import Query

__all__ = [
    "Also",
    "Diverse",
    "Folder",
    "Label",
    "Like",
    "MaxSize",
    "MinSize",
    "NotIn",
    "QueryTexts",
    "Since",
    "Unique",
    "Until",
    "Unwanted",
    "Where",
    "make_queries",
]


QueryTexts = Annotated[
    list[str] | None,
    typer.Argument(
        help="What to find. Each argument is one query, so quote phrases of several words. "
        "-word, +word and key:value in it mean the same as the options below. Without one, a "
        "prompt asks for phrases, or each line of standard input is one.",
        metavar="PHRASE",
    ),
]
Unwanted = Annotated[
    list[str] | None,
    typer.Option(
        "--not",
        metavar="PHRASE",
        help="What must not be there; also label:NAME and folder:GLOB. Repeatable.",
    ),
]
NotIn = Annotated[
    str | None,
    typer.Option(
        "--not-in",
        metavar="image|region",
        help="Where it must not be: in the image (default), or in the region that is found.",
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(metavar="PHRASE", help="What the image must show, too. Repeatable."),
]
Like = Annotated[
    list[str] | None,
    typer.Option(
        metavar="EXAMPLE",
        help="What it looks like: FILE, FILE:X1,Y1,X2,Y2 (or a URL) or HASH:REGION, perhaps with "
        "a weight such as +0.5. Repeatable.",
    ),
]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Only regions with this label of the detector. Repeatable."),
]
Folder = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="Only images below this folder, such as '2024/*'."),
]
MinSize = Annotated[
    str | None,
    typer.Option(metavar="SHARE", help="Only regions of at least this share of the image: 5%."),
]
MaxSize = Annotated[
    str | None, typer.Option(metavar="SHARE", help="Only regions of at most this share.")
]
Since = Annotated[
    str | None,
    typer.Option(metavar="DATE", help="Only photographs taken since then: 2024, 2024-05, …"),
]
Until = Annotated[
    str | None, typer.Option(metavar="DATE", help="Only photographs taken until then, inclusive.")
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help="Only images whose metadata meets it: \"price < 20 and brand = 'x'\".",
    ),
]
Unique = Annotated[
    str | None,
    typer.Option(
        metavar="copies|near|bursts",
        help="Show the best of several: of exact copies; also of near-duplicates; also of bursts.",
    ),
]
Diverse = Annotated[
    bool, typer.Option("--diverse", help="Prefer hits that differ from those before them.")
]


def make_queries(texts: Sequence[str], flags: dict[str, Any]) -> list[Query]:
    """Return a query for each text, to each of which the options apply.

    Parameters
    ----------
    texts : sequence of str
        As typed; none makes one query of the options alone.
    flags : dict
        Values of the options, by their name in :class:`Query` or its filters.

    Raises
    ------
    PhraseError
        If there is nothing in a phrase.
    QueryError
        If a query or an option cannot be understood.
    """
    from ..core.errors import PhraseError, QueryError
    from ..core.query.text import parse_clauses
    from ..core.query.value import Query

    queries = []
    for text in texts or ("",):
        try:
            clauses = parse_clauses(text)
            for name, value in flags.items():
                for one in value if isinstance(value, (list, tuple)) else (value,):
                    if one is not None and one is not False:
                        _APPLY[name](clauses, one)
            queries.append(Query.of(clauses))
        except (PhraseError, QueryError):
            raise
        except ValueError as error:
            raise QueryError(str(error)) from error
    return queries


def _restrict(name: str, *, many: bool) -> Callable[[Any, str], None]:
    return lambda clauses, value: clauses.restrict(**{name: (value,) if many else value})


def _share(name: str) -> Callable[[Any, str], None]:
    def apply(clauses: Any, value: str) -> None:
        from ..core.query.units import parse_share

        clauses.restrict(**{name: parse_share(value)})

    return apply


def _like(clauses: Any, value: str) -> None:
    from ..core.query.examples import parse_example

    clauses.add("like", parse_example(value))


_APPLY: dict[str, Callable[[Any, Any], None]] = {
    "unwanted": lambda clauses, value: clauses.unwanted(value),
    "scope": lambda clauses, value: clauses.put("scope", value),
    "also": lambda clauses, value: clauses.add("also", value),
    "like": _like,
    "labels": _restrict("labels", many=True),
    "folders": _restrict("folders", many=True),
    "min_size": _share("min_size"),
    "max_size": _share("max_size"),
    "since": _restrict("since", many=False),
    "until": _restrict("until", many=False),
    "where": _restrict("where", many=False),
    "unique": lambda clauses, value: clauses.put("unique", value),
    "diverse": lambda clauses, value: clauses.put("diverse", value),
}
