"""Conditions on metadata, such as ``price < 20 and brand = 'x'``: text to a tree of values.

The grammar is a small part of SQL's, but no text of it ever reaches SQL: the tree holds operators
from a fixed set, and names and values that become parameters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import QueryError

__all__ = ["And", "Comparison", "Condition", "Not", "Or", "Value", "parse_where"]


Value = str | int | float | bool
"""A literal."""

_OPERATORS = {
    "=": "=",
    "==": "=",
    "!=": "!=",
    "<>": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
_WORDS = frozenset(("and", "or", "not", "in", "is", "null", "like", "true", "false"))
_MAX_CHARACTERS = 4000
_MAX_COMPARISONS = 64
_MAX_DEPTH = 30
_MAX_INTEGER = 1 << 63

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
      | '(?P<text>(?:[^']|'')*)'
      | "(?P<double>(?:[^"]|"")*)"
      | `(?P<quoted>[^`]+)`
      | (?P<name>[^\W\d][\w.-]*)
      | (?P<sign><=|>=|<>|!=|==|[=<>(),])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Comparison:
    """A column compared with values.

    Parameters
    ----------
    column : str
        Its name.
    operator : str
        ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``like`` or ``known`` (there is a
        value).
    values : tuple
        One, or those of ``in``; none for ``known``.
    position : int
        Where the comparison begins in the text.
    """

    column: str
    operator: str
    values: tuple[Value, ...]
    position: int


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    condition: Condition


@dataclass(frozen=True)
class And:
    """Both conditions."""

    left: Condition
    right: Condition


@dataclass(frozen=True)
class Or:
    """At least one of two conditions."""

    left: Condition
    right: Condition


Condition = Comparison | Not | And | Or


def parse_where(text: str) -> Condition:
    """Return the tree of a condition.

    Raises
    ------
    QueryError
        If it is not a condition; `position` says where.

    Examples
    --------
    >>> parse_where("price < 20").values
    (20,)
    >>> parse_where("price <")
    Traceback (most recent call last):
        ...
    retrieval_grounding.core.errors.QueryError: a value is missing (at the end of 'price <')
    """
    if not isinstance(text, str) or len(text) > _MAX_CHARACTERS:
        raise QueryError(f"a condition is a text of at most {_MAX_CHARACTERS:,} characters")
    parser = _Parser(text)
    condition = parser.disjunction(0)
    parser.end()
    return condition


class _Token(NamedTuple):
    kind: str
    value: str
    position: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._comparisons = 0

    def disjunction(self, depth: int) -> Condition:
        if depth > _MAX_DEPTH:
            raise self._error(f"there are more than {_MAX_DEPTH} conditions inside each other")
        found = self._conjunction(depth)
        while self._accept("or"):
            found = Or(found, self._conjunction(depth))
        return found

    def _conjunction(self, depth: int) -> Condition:
        found = self._negation(depth)
        while self._accept("and"):
            found = And(found, self._negation(depth))
        return found

    def _negation(self, depth: int) -> Condition:
        negated = False
        while self._accept("not"):
            negated = not negated
        if self._accept("("):
            found = self.disjunction(depth + 1)
            if not self._accept(")"):
                raise self._error("a ) is missing")
        else:
            found = self._comparison()
        return Not(found) if negated else found

    def _comparison(self) -> Condition:
        self._comparisons += 1
        if self._comparisons > _MAX_COMPARISONS:
            raise self._error(f"a condition has at most {_MAX_COMPARISONS} comparisons")
        token = self._peek()
        if token.kind != "column" and (token.kind != "name" or token.value.lower() in _WORDS):
            raise self._error("the name of a column is missing")
        self._next += 1
        column, position = token.value, token.position
        operator = self._peek()
        if operator.kind == "sign" and operator.value in _OPERATORS:
            self._next += 1
            sign = _OPERATORS[operator.value]
            return Comparison(column, sign, (self._value(),), position)
        if self._accept("is"):
            negated = self._accept("not")
            if not self._accept("null"):
                raise self._error("null is missing")
            known = Comparison(column, "known", (), position)
            return known if negated else Not(known)
        negated = self._accept("not")
        found = Comparison(column, *self._word_operator(), position)
        return Not(found) if negated else found

    def _word_operator(self) -> tuple[str, tuple[Value, ...]]:
        if self._accept("like"):
            value = self._value()
            if not isinstance(value, str):
                raise self._error("like needs a text, in which % stands for anything", back=1)
            return "like", (value,)
        if not self._accept("in"):
            raise self._error("a comparison is missing: =, !=, <, <=, >, >=, in, like or is null")
        if not self._accept("("):
            raise self._error("a ( is missing")
        values = [self._value()]
        while self._accept(","):
            values.append(self._value())
            if len(values) > _MAX_COMPARISONS:
                raise self._error(f"there are more than {_MAX_COMPARISONS} values")
        if not self._accept(")"):
            raise self._error("a ) is missing")
        return "in", tuple(values)

    def _value(self) -> Value:
        token = self._peek()
        word = token.value.lower()
        if token.kind == "text":
            value: Value = token.value
        elif token.kind == "number":
            value = _number(token.value)
            if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
                value = float(value)
            if value in (float("inf"), float("-inf")):
                raise self._error("the number is too large")
        elif token.kind == "name" and word in ("true", "false"):
            value = word == "true"
        elif token.kind == "name" and word not in _WORDS:
            raise self._error(f"a value is missing; a text is quoted, as in '{token.value}'")
        else:
            raise self._error("a value is missing")
        self._next += 1
        return value

    def end(self) -> None:
        if self._peek().kind != "end":
            raise self._error("'and' or 'or' is missing")

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _accept(self, text: str) -> bool:
        token = self._peek()
        found = token.kind in ("name", "sign") and token.value.lower() == text
        self._next += found
        return found

    def _error(self, problem: str, back: int = 0) -> QueryError:
        return QueryError(problem, self._text, self._tokens[self._next - back].position)


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    while text[position:].strip():
        start = position + len(text[position:]) - len(text[position:].lstrip())
        match = _TOKEN.match(text, position)
        if match is None:
            quote = text[start] in "'\"`"
            problem = "a quoted text has no end" if quote else "this is not part of a condition"
            raise QueryError(problem, text, start)
        kind, value = next((k, v) for k, v in match.groupdict().items() if v is not None)
        if kind in ("text", "double"):
            quote_sign = "'" if kind == "text" else '"'
            kind, value = "text", value.replace(quote_sign * 2, quote_sign)
        elif kind == "quoted":
            kind = "column"
        if "\0" in value:
            raise QueryError("a zero byte is not part of a condition", text, start)
        tokens.append(_Token(kind, value, start))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
