r"""The text form of queries: ``a dog -"on grass" +ball label:dog folder:2024/* size:>5% p:>0.4``.

Words are the phrase. ``-`` before a word or a quoted text makes it unwanted, and ``+`` makes it a
second thing that the image must show. ``key:value`` is a filter or a setting; see `KEYS`. What is
quoted with ``"`` is text, whatever it looks like; inside, ``\"`` is a quote.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..errors import QueryError
from .examples import parse_example
from .filters import Filters
from .units import parse_number, parse_share

__all__ = [
    "GROUPINGS",
    "KEYS",
    "SCOPES",
    "Clauses",
    "Grouping",
    "Scope",
    "parse_clauses",
    "phrase_text",
    "quoted_text",
]


Scope = Literal["image", "region"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
Grouping = Literal["copies", "near", "bursts"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)


KEYS = (
    "label", "folder", "size", "p", "since", "until", "where", "like", "top", "unique", "diverse",
    "not-in",
)  # fmt: skip

_MAX_CHARACTERS = 10_000
_NEGATED = ("label", "folder")
_KEY = re.compile(r"([A-Za-z][A-Za-z-]*):")


@dataclass
class Clauses:
    """The parts of a query, before it is known whether they are one.

    Parameters
    ----------
    values : dict
        Arguments of :class:`Query`, except its filters.
    filters : Filters
        The filters.
    """

    values: dict[str, Any] = field(default_factory=dict)
    filters: Filters = field(default_factory=Filters)

    def add(self, name: str, *values: object) -> None:
        """Append values to a tuple."""
        self.values[name] = (*self.values.get(name, ()), *values)

    def restrict(self, **filters: Any) -> None:
        """Demand further filters."""
        self.filters = self.filters.joined(Filters(**filters))

    def put(self, name: str, value: object) -> None:
        """Set a value that a query has once.

        Raises
        ------
        QueryError
            If it has a different one.
        """
        if self.values.setdefault(name, value) != value:
            raise QueryError(f"{name.replace('_', ' ')} is given twice, with different values")

    def unwanted(self, text: str) -> None:
        """Add what must not be there: a phrase, ``label:NAME`` or ``folder:GLOB``."""
        key, _, value = text.partition(":")
        if key in _NEGATED and value:
            self.restrict(**{f"without_{key}s": (value,)})
        else:
            self.add("unwanted", text)


def parse_clauses(text: str) -> Clauses:
    """Return the clauses of a text, which need not be a whole query.

    Raises
    ------
    QueryError
        If it is not a query; `position` says where.

    Examples
    --------
    >>> parse_clauses("a dog -person top:3").values
    {'unwanted': ('person',), 'top': 3, 'phrase': 'a dog'}
    """
    if not isinstance(text, str):
        raise QueryError(f"a query is text, not {type(text).__name__}")
    if len(text) > _MAX_CHARACTERS:
        raise QueryError(f"a query has at most {_MAX_CHARACTERS:,} characters")
    clauses, words = Clauses(), list[str]()
    reader = _Reader(text)
    while reader.skip_space():
        start = reader.position
        try:
            sign = reader.take() if reader.next in "+-" else ""
            key = reader.key()
            value = reader.value()
            if key is not None:
                _apply(clauses, sign, key, value)
            elif not value.strip():
                what = f"what comes after {sign!r}" if sign else "a quoted text"
                raise QueryError(f"{what} is empty; quote a sign that is part of a phrase")
            elif sign:
                clauses.add("unwanted" if sign == "-" else "also", value)
            else:
                words.append(value)
        except ValueError as error:
            if isinstance(error, QueryError) and error.position is not None:
                raise
            raise QueryError(str(error), text, start) from error
    if words:
        clauses.values["phrase"] = " ".join(words)
    return clauses


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.position = 0

    @property
    def next(self) -> str:
        """The next character; empty at the end."""
        return self._text[self.position : self.position + 1]

    def take(self) -> str:
        """Return the next character, and move past it."""
        self.position += 1
        return self._text[self.position - 1]

    def skip_space(self) -> bool:
        """Go to the next word; return whether there is one."""
        while self.next.isspace():
            self.position += 1
        return bool(self.next)

    def key(self) -> str | None:
        """Return the key before a colon and a value; None if the next word is text."""
        match = _KEY.match(self._text, self.position)
        if match is None:
            return None
        key, after = match[1].lower(), self._text[match.end() : match.end() + 1]
        if key not in KEYS and (not after or after.isspace()):
            return None  # a colon at the end of a word
        self.position = match.end()
        return key

    def value(self) -> str:
        """Return a quoted text or the rest of the word, and move past it."""
        if self.next == '"':
            return self._quoted()
        start = self.position
        while self.next and not self.next.isspace():
            self.position += 1
        return self._text[start : self.position]

    def _quoted(self) -> str:
        start, characters = self.position, []
        self.position += 1
        while self.next != '"':
            if not self.next:
                raise QueryError('a quoted text has no closing "', self._text, start)
            if self.take() == "\\" and self.next and self.next in '"\\':
                self.position += 1
            characters.append(self._text[self.position - 1])
        self.position += 1
        if self.next and not self.next.isspace():
            raise QueryError("put a space after the quoted text", self._text, self.position)
        return "".join(characters)


def _apply(clauses: Clauses, sign: str, key: str, value: str) -> None:
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, 1)
        hint = f"did you mean {near[0]}:" if near else f"there are {', '.join(KEYS)}"
        raise QueryError(f"there is no filter {key}: ({hint}); quote what is part of a phrase")
    if sign == "+" or (sign and key not in _NEGATED):
        raise QueryError(f"{key}: cannot have a {sign!r} before it")
    if not value:
        raise QueryError(f"{key}: needs a value right after the colon")
    if sign:
        clauses.unwanted(f"{key}:{value}")
    else:
        _SETTERS[key](clauses, value)


def _set_size(clauses: Clauses, value: str) -> None:
    if value[:1] not in ("<", ">"):
        raise QueryError("a size is at least (size:>5%) or at most (size:<50%) a share")
    name = "min_size" if value[0] == ">" else "max_size"
    clauses.restrict(**{name: parse_share(value[1:].removeprefix("="))})


def _set_probability(clauses: Clauses, value: str) -> None:
    if value.startswith("<"):
        raise QueryError("only a smallest probability can be asked for, as in p:>0.4")
    clauses.put("min_probability", parse_share(value.removeprefix(">").removeprefix("=")))


def _set_top(clauses: Clauses, value: str) -> None:
    number = parse_number(value)
    if number != int(number) or not 1 <= number <= 1_000_000:
        raise QueryError(f"top: is a number of hits, not {value!r}")
    clauses.put("top", int(number))


def _set_unique(clauses: Clauses, value: str) -> None:
    if value not in GROUPINGS:
        raise QueryError(f"unique: is one of {', '.join(GROUPINGS)}, not {value!r}")
    clauses.put("unique", value)


def _set_diverse(clauses: Clauses, value: str) -> None:
    if value != "yes":
        raise QueryError(f"diverse: is yes, or is left out, not {value!r}")
    clauses.put("diverse", True)


def _set_scope(clauses: Clauses, value: str) -> None:
    if value not in SCOPES:
        raise QueryError(f"not-in: is image or region, not {value!r}")
    clauses.put("scope", value)


_SETTERS: dict[str, Callable[[Clauses, str], None]] = {
    "label": lambda clauses, value: clauses.restrict(labels=(value,)),
    "folder": lambda clauses, value: clauses.restrict(folders=(value,)),
    "size": _set_size,
    "p": _set_probability,
    "since": lambda clauses, value: clauses.restrict(since=value),
    "until": lambda clauses, value: clauses.restrict(until=value),
    "where": lambda clauses, value: clauses.restrict(where=value),
    "like": lambda clauses, value: clauses.add("like", parse_example(value)),
    "top": _set_top,
    "unique": _set_unique,
    "diverse": _set_diverse,
    "not-in": _set_scope,
}


def phrase_text(phrase: str) -> str:
    """Return a phrase as it is, or quoted if it would be read as something else."""
    return phrase if all(map(_is_word, phrase.split(" "))) else _quote(phrase)


def _is_word(word: str) -> bool:
    match = _KEY.match(word)
    is_key = match is not None and (match[1].lower() in KEYS or match.end() < len(word))
    return not is_key and word[:1] not in ('"', "+", "-")


def quoted_text(text: str, *, signed: bool = False) -> str:
    """Return a value as it is, or quoted; `signed` if it follows a plus or minus sign."""
    plain = text and not any(map(str.isspace, text)) and not text.startswith('"')
    if plain and signed:
        plain = _is_word(text) or text[0] in "+-"
        plain = plain and not _KEY.match(text)
    return text if plain else _quote(text)


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
