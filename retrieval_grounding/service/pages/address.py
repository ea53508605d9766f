"""What the URL of a page says, and the URLs of other pages: everything is in the URL.

``q`` has the words of a query, each ``f`` one more clause (``label:dog``), ``p`` the smallest
probability in percent, ``index`` the collection. ``fold=no`` shows near-duplicates, ``page`` counts
from 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from starlette.datastructures import ImmutableMultiDict

from ...core.errors import QueryError
from ...core.hits import MIN_PROBABILITY
from ...core.query.text import KEYS
from ...core.query.units import parse_share

__all__ = ["Address"]

DEFAULT_PERCENT = round(100 * MIN_PROBABILITY)
_PIECE = re.compile(r'[+-]?(?:[A-Za-z][A-Za-z-]*:)?"(?:\\.|[^"\\])*"|\S+')
_CLAUSE = re.compile(rf"-?(?:{'|'.join(KEYS)}):\S", re.IGNORECASE)
_MAX_CLAUSES = 40
_MAX_PAGE = 1000


@dataclass(frozen=True)
class Address:
    """What a URL asks for.

    Parameters
    ----------
    index : str or None
        Name of the collection; the first one if it is None.
    words : str
        What is in the search box: the phrase, and what is also wanted or unwanted.
    clauses : tuple of str
        Further clauses of the query language, one each.
    percent : int
        The smallest probability that an image is shown with.
    folded : bool
        Whether near-duplicates are shown as one.
    page : int
        From 1.
    taught : bool
        Whether answers follow the thumbs of this session.

    Examples
    --------
    >>> from starlette.datastructures import QueryParams
    >>> address = Address.read(QueryParams("q=a+dog+size:>5%+p:>0.5&f=label:dog"))
    >>> address.words, address.clauses, address.percent
    ('a dog', ('label:dog', 'size:>5%'), 50)
    >>> address.url("/", page=2)
    '/?q=a+dog&f=label:dog&f=size:%3E5%25&p=50&page=2'
    >>> address.text
    'a dog label:dog size:>5%'
    """

    index: str | None = None
    words: str = ""
    clauses: tuple[str, ...] = ()
    percent: int = DEFAULT_PERCENT
    folded: bool = True
    page: int = 1
    taught: bool = True

    @classmethod
    def read(cls, parameters: ImmutableMultiDict[str, Any]) -> Address:
        """Return what the parameters of a URL ask for; what is not a number counts as left out."""
        typed = _PIECE.findall(str(parameters.get("q", "")))
        given = [str(value).strip() for value in parameters.getlist("f")][:_MAX_CLAUSES]
        clauses = list(dict.fromkeys(value for value in given if value))
        clauses += [piece for piece in typed if _CLAUSE.match(piece) and piece not in clauses]
        percent = _number(parameters.get("p"), 0, 100, DEFAULT_PERCENT)
        for piece in [piece for piece in clauses if piece.lower().startswith("p:>")]:
            try:
                percent = round(100 * parse_share(piece[3:].removeprefix("=")))
            except (ValueError, QueryError):
                continue  # the query says what is wrong with it
            clauses.remove(piece)
        return cls(
            index=parameters.get("index") or None,
            words=" ".join(piece for piece in typed if not _CLAUSE.match(piece)),
            clauses=tuple(clauses),
            percent=percent,
            folded=parameters.get("fold") != "no",
            page=_number(parameters.get("page"), 1, _MAX_PAGE, 1),
            taught=parameters.get("taught") != "no",
        )

    @property
    def text(self) -> str:
        """The query as text; empty if nothing is asked for."""
        return " ".join([*([self.words] if self.words else []), *self.clauses])

    @property
    def likes(self) -> tuple[str, ...]:
        """The examples among the clauses."""
        return tuple(clause for clause in self.clauses if clause.lower().startswith("like:"))

    @property
    def filters(self) -> tuple[str, ...]:
        """The other clauses."""
        return tuple(clause for clause in self.clauses if clause not in self.likes)

    @property
    def minimum(self) -> float:
        """The smallest probability, 0 to 1."""
        return self.percent / 100

    def pairs(self) -> list[tuple[str, str]]:
        """Return the parameters that say the same, without those that everybody means."""
        pairs = [("index", self.index)] if self.index else []
        pairs += [("q", self.words)] if self.words else []
        pairs += [("f", clause) for clause in self.clauses]
        pairs += [("p", str(self.percent))] if self.percent != DEFAULT_PERCENT else []
        pairs += [] if self.folded else [("fold", "no")]
        pairs += [] if self.taught else [("taught", "no")]
        pairs += [("page", str(self.page))] if self.page > 1 else []
        return pairs

    def url(self, path: str, more: Mapping[str, str] | None = None, **changes: Any) -> str:
        """Return the URL of a page for this, or for it with changes; a new query begins on page 1.

        Parameters
        ----------
        path : str
            Of the page; it is quoted.
        more : mapping of str to str, optional
            Parameters of that page alone.
        changes
            Other values of fields.
        """
        changed = replace(self, **({"page": 1} | changes)) if changes else self
        pairs = [*changed.pairs(), *(more or {}).items()]
        query = urlencode(pairs, safe=":/,*", errors="replace")
        return quote(path) + (f"?{query}" if query else "")

    def without(self, clause: str) -> Address:
        """Return the same without one of its clauses."""
        kept = tuple(own for own in self.clauses if own != clause)
        return replace(self, clauses=kept, page=1)

    def with_clauses(self, text: str) -> Address:
        """Return the same with further clauses, which replace those of the same key."""
        new = tuple(_PIECE.findall(text))
        keys = {_key(clause) for clause in new}
        kept = tuple(own for own in self.clauses if _key(own) not in keys)
        return replace(self, clauses=(*kept, *new), page=1)


def _key(clause: str) -> str:
    return clause.partition(":")[0].lower()


def _number(value: object, low: int, high: int, default: int) -> int:
    try:
        return min(max(int(str(value)), low), high)
    except ValueError:
        return default
