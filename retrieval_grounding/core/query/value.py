"""``rg.Query``: what to find, as one value that Python, the command line and URLs build."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..errors import QueryError
from ..phrases import clean_phrase
from .examples import Example, example_text
from .filters import Filters, clean_texts
from .text import (
    GROUPINGS,
    SCOPES,
    Clauses,
    Grouping,
    Scope,
    parse_clauses,
    phrase_text,
    quoted_text,
)
from .units import share_text, shown_number

__all__ = ["Query"]


_MAX_CLAUSES = 32  # each costs a search


@dataclass(frozen=True, repr=False)
class Query:
    """What to find. :meth:`parse` reads the text form, and ``str(query)`` writes it.

    Parameters
    ----------
    phrase : str, optional
        What to find. It may be left out if there is something in `also` or `like`.
    unwanted : tuple of str
        What must not be there. Each is asked as a phrase of its own: a hit's probability is
        multiplied by the probability that it is absent, and hits in which it is more probably there
        than not are dropped.
    also : tuple of str
        What the same image must show as well. Its best region comes back as ``hit.also``, and the
        hit's probability is the product.
    like : tuple of Example
        What the region should look like.
    filters : Filters
        Which images and regions may be found.
    top : int, optional
        Maximum number of hits; that of :meth:`Index.query` if left out.
    min_probability : float, optional
        Drop hits with a lower probability; that of :meth:`Index.query` if left out.
    scope : str
        Where `unwanted` things are unwanted: anywhere in the ``"image"``, or in the ``"region"``
        that is found.
    unique : str, optional
        Keep the best of several images of the same: of exact ``"copies"``; also of ``"near"``
        duplicates, such as smaller or recompressed versions; also of ``"bursts"``, photographs
        taken within seconds that look alike. The others are in ``hit.similar``.
    diverse : bool
        Prefer hits that differ from those before them, among ten times as many.

    Raises
    ------
    QueryError
        If nothing is asked for, or a value is impossible.

    Examples
    --------
    >>> query = Query.parse('a dog -"on grass" +ball label:dog size:>5% since:2024-05')
    >>> query.phrase, query.unwanted, query.also, query.filters.min_size
    ('a dog', ('on grass',), ('ball',), 0.05)
    >>> str(query)
    'a dog -"on grass" +ball label:dog size:>5% since:2024-05'
    """

    phrase: str | None = None
    unwanted: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    like: tuple[Example, ...] = ()
    filters: Filters = field(default_factory=Filters)
    top: int | None = None
    min_probability: float | None = None
    scope: Scope = "image"
    unique: Grouping | None = None
    diverse: bool = False

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        for name in ("unwanted", "also"):
            texts = clean_texts(getattr(self, name), name)
            put(name, tuple(clean_phrase(text) for text in texts))
        if self.phrase is not None:
            put("phrase", clean_phrase(self.phrase))
        put("like", (self.like,) if isinstance(self.like, Example) else tuple(self.like))
        if self.phrase is None and not self.also and not self.like:
            raise QueryError("the query says nothing to find; add a phrase, or an example (--like)")
        if len(self.unwanted) + len(self.also) + len(self.like) > _MAX_CLAUSES:
            raise QueryError(f"a query has at most {_MAX_CLAUSES} phrases and examples")
        if self.top is not None and self.top < 1:
            raise QueryError(f"top must be at least 1, not {self.top}")
        minimum = self.min_probability
        if minimum is not None and not 0 <= minimum <= 1:
            raise QueryError(f"the minimum probability must be between 0 and 1, not {minimum}")
        if self.scope not in SCOPES:
            raise QueryError(f"unwanted things are in the image or the region, not {self.scope!r}")
        if self.unique is not None and self.unique not in GROUPINGS:
            raise QueryError(f"unique is one of {', '.join(GROUPINGS)}, not {self.unique!r}")

    @classmethod
    def parse(cls, text: str) -> Query:
        """Return the query of a text such as ``a dog -person label:dog since:2024``.

        Raises
        ------
        QueryError
            If it is not a query; ``position`` says where.
        """
        return cls.of(parse_clauses(text))

    @classmethod
    def of(cls, clauses: Clauses) -> Query:
        """Return the query that has these clauses."""
        return cls(**clauses.values, filters=clauses.filters)

    def __str__(self) -> str:
        parts = [] if self.phrase is None else [phrase_text(self.phrase)]
        parts += [f"-{quoted_text(text, signed=True)}" for text in self.unwanted]
        parts += [f"+{quoted_text(text, signed=True)}" for text in self.also]
        parts += [f"like:{quoted_text(example_text(example))}" for example in self.like]
        filters = self.filters
        parts += [f"label:{quoted_text(label)}" for label in filters.labels]
        parts += [f"-label:{quoted_text(label)}" for label in filters.without_labels]
        parts += [f"folder:{quoted_text(folder)}" for folder in filters.folders]
        parts += [f"-folder:{quoted_text(folder)}" for folder in filters.without_folders]
        if filters.min_size is not None:
            parts.append(f"size:>{share_text(filters.min_size)}")
        if filters.max_size is not None:
            parts.append(f"size:<{share_text(filters.max_size)}")
        for key in ("since", "until", "where"):
            if (value := getattr(filters, key)) is not None:
                parts.append(f"{key}:{quoted_text(value)}")
        if self.min_probability is not None:
            parts.append(f"p:>{shown_number(self.min_probability)}")
        if self.top is not None:
            parts.append(f"top:{self.top}")
        if self.unique is not None:
            parts.append(f"unique:{self.unique}")
        if self.diverse:
            parts.append("diverse:yes")
        if self.scope != "image":
            parts.append(f"not-in:{self.scope}")
        return " ".join(parts)

    def __repr__(self) -> str:
        try:
            return f"Query({str(self)!r})"
        except QueryError:  # an example has no text form
            return f"<Query {self.title!r}>"

    @property
    def is_plain(self) -> bool:
        """Whether it is a phrase alone, perhaps with a number of hits and a probability."""
        if self.phrase is None:
            return False
        return self == Query(self.phrase, top=self.top, min_probability=self.min_probability)

    @property
    def is_filtered_phrase(self) -> bool:
        """Whether it is a plain phrase, perhaps among some of the images or regions only."""
        return replace(self, filters=Filters()).is_plain

    @property
    def title(self) -> str:
        """What its hits are called: the phrase, or the text form of a query that is more."""
        if self.phrase is not None and self.is_plain:
            return self.phrase
        try:
            return clean_phrase(str(self))
        except QueryError:  # an example has no text form
            return " ".join(part for part in (self.phrase, "like an example") if part)

    def promoted(self) -> Query:
        """Return the same query with a phrase, if it has only phrases in `also`."""
        if self.phrase is not None or not self.also or self.like:
            return self
        return replace(self, phrase=self.also[0], also=self.also[1:])
