"""Names read by an expression of the ZEN language, and the type each appears to have.

A scan of tokens, not a parser: the engine itself judges what is an expression. Names are always found; a type is a guess from what
stands beside a name, and None where nothing does. Language: <https://docs.gorules.io/developers/zen/zen-language>. Pure. Called by
`backends.jdm_file`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import msgspec

NUMBER: Final = "float64"
TEXT: Final = "string"
TRUTH: Final = "bool"
ANY: Final = "json"
"""A value that is used in several ways."""
LIST: Final = "list"
OBJECT: Final = "object"
DATE: Final = "date"
ADDED: Final = "added"
"""Uses that a contract calls `json` as well, each with an example that the engine takes; what is added to another may be text."""
EXAMPLES: Final[Mapping[str, object]] = {LIST: [], OBJECT: {}, DATE: "2025-01-31T12:00:00Z", ADDED: 1}

_TOKEN: Final = re.compile(
    r"\s+|(?P<template>`[^`]*`)|(?P<text>\"[^\"]*\"|'[^']*')|(?P<number>\d+(?:_\d+)*(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[^\W\d]\w*|\$\w*|\#)|(?P<sign>\?\?|==|!=|<=|>=|\.\.|&&|\|\||.)",
    re.DOTALL,
)
_KEYWORDS: Final = frozenset({"true", "false", "null", "and", "or", "not", "in", "as"})
_LONGEST: Final = 200
"""Words of an expression whose type is looked for: the search goes through them once for each operator."""
_NEAR: Final = 8
"""Words after `in` among which a literal is looked for."""
_DEEPEST: Final = 64
"""Names and dots of one path."""
_ARITHMETIC: Final = frozenset("-*/%^")
_ORDER: Final = frozenset({"<", ">", "<=", ">="})
_EQUALITY: Final = frozenset({"==", "!="})
_LOGIC: Final = frozenset({"and", "or", "not"})
_LISTS: Final = (
    "len",
    "sum",
    "avg",
    "min",
    "max",
    "median",
    "mode",
    "map",
    "flatMap",
    "filter",
    "some",
    "all",
    "none",
    "one",
)
_TAKES: Final[Mapping[str, str]] = {
    **dict.fromkeys((*_LISTS, "count", "flatten", "contains"), LIST),
    **dict.fromkeys(("keys", "values"), OBJECT),
    **dict.fromkeys(("date", "d", "time", "duration", "year", "month", "dayOfWeek", "dayOfMonth"), DATE),
    **dict.fromkeys(("abs", "floor", "ceil", "round", "trunc", "rand"), NUMBER),
    **dict.fromkeys(("upper", "lower", "trim", "startsWith", "endsWith", "matches", "extract", "split"), TEXT),
}
"""What functions take first; all others take values of several types."""
_OF_NUMBERS: Final = frozenset({"max", "min", "sum", "avg", "median", "mode"})
"""Functions of a list of numbers."""
_GIVES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("abs", "floor", "ceil", "round", "trunc", "rand", "number", "len", "count"), NUMBER),
    **dict.fromkeys(
        ("max", "min", "sum", "avg", "median", "date", "duration", "year", "dayOfWeek", "dayOfMonth"), NUMBER
    ),
    **dict.fromkeys(("upper", "lower", "trim", "string", "type", "dateString"), TEXT),
    **dict.fromkeys(("contains", "startsWith", "endsWith", "matches", "some", "all", "none", "one", "bool"), TRUTH),
    **dict.fromkeys(("isNumeric", "fuzzyMatch"), ANY),
}


class Token(msgspec.Struct, frozen=True):
    """One word of an expression."""

    kind: str
    text: str


class Use(msgspec.Struct, frozen=True):
    """One place where a name is read."""

    path: tuple[str, ...]
    """The name and the members asked of it: `customer.age`."""
    type: str | None
    """What it seems to be there; None where nothing says so."""


def tokens(expression: str) -> list[Token]:
    """Return the words of an expression without the blanks."""
    found: list[Token] = []
    for match in _TOKEN.finditer(expression):
        if match.lastgroup is not None:
            is_member = bool(found) and found[-1].text == "."
            kind = "word" if match[0] in _KEYWORDS and not is_member else match.lastgroup
            found.append(Token(kind, match[0]))
    return found


def uses(expression: str) -> Iterator[Use]:
    """Yield every read of a name that the expression does not define itself, those of its templates included."""
    yield from _Scan(tokens(expression)).uses()


def simple_path(expression: str) -> tuple[str, ...] | None:
    """Return the path that an expression is, or None when it is anything more."""
    words = tokens(expression)
    names, dots = words[::2], words[1::2]
    if len(words) % 2 and all(w.kind == "name" for w in names) and all(w.text == "." for w in dots):
        return tuple(w.text for w in names)
    return None


def tested_type(cells: list[str]) -> str | None:
    """Return the type that the tests of a table's column are made for: `> 5`, `"a", "b"`, `[1..9]`, `true`."""
    found: set[str] = set()
    for cell in cells:
        words = tokens(cell)
        if any(a.text == "in" and b.text == "$" for a, b in pairwise(words)):
            return LIST
        depth = 0
        for i, word in enumerate(words):
            # What stands in the call of a function says nothing about the column itself.
            is_call = word.text == "(" and i > 0 and words[i - 1].kind == "name"
            depth += is_call or (depth > 0 and word.text == "(")
            depth -= depth > 0 and word.text == ")"
            if depth == 0 and (kind := literal_type(word)):
                found.add(kind)
            elif word.text == "$" and i >= 2 and words[i - 1].text == "(":
                found.add(_TAKES.get(words[i - 2].text, ANY))
    return found.pop() if len(found) == 1 else ANY if found else None


def literal_type(word: Token) -> str | None:
    """Return the type of a literal, None for any other word."""
    if word.kind in ("number", "text", "template"):
        return NUMBER if word.kind == "number" else TEXT
    return TRUTH if word.text in ("true", "false") else None


def result_type(expression: str, known: Mapping[tuple[str, ...], str] = MappingProxyType({})) -> str:
    """Return the type that an expression seems to give; ANY where it cannot be told.

    Args:
        expression: the expression.
        known: the types of the names it reads, as far as they are known.
    """
    words = tokens(expression)
    return (_result(words, known) if len(words) <= _LONGEST else None) or ANY


class _Scan:
    """One expression on its way through."""

    def __init__(self, words: list[Token]) -> None:
        self._words = words
        self._open: list[tuple[str, str]] = []
        """Brackets around the current word, each with the function it belongs to."""
        self._aliases = {b.text for a, b in pairwise(words) if a.text == "as"}

    def uses(self) -> Iterator[Use]:
        at = 0
        while at < len(self._words):
            word = self._words[at]
            end = at + 1
            if word.kind == "template":
                for inner in re.findall(r"\$\{([^}]{0,1000})\}", word.text):
                    yield from uses(inner)
            elif word.text in ("(", "[", "{"):
                self._open.append((word.text, self._function_of(at)))
            elif word.text in (")", "]", "}") and self._open:
                self._open.pop()
            elif word.kind == "name":
                end = self._chain_end(at)
                if self._is_read(at, end):
                    yield Use(tuple(w.text for w in self._words[at:end:2]), self._type_at(at, end))
            at = end

    def _function_of(self, at: int) -> str:
        before = self._word(at - 1)
        if self._words[at].text == "(" and before.kind == "name":
            return before.text
        return self._open[-1][1] if self._words[at].text == "[" and before.text == "(" and self._open else ""

    def _chain_end(self, at: int) -> int:
        """Return where the members of a name end; the name of a method is none of them."""
        end = at + 1
        while end - at < _DEEPEST and self._word(end).text == "." and self._word(end + 1).kind == "name":
            if self._word(end + 2).text == "(":
                break
            end += 2
        return end

    def _is_read(self, at: int, end: int) -> bool:
        name, before, after = self._words[at].text, self._word(at - 1).text, self._word(end).text
        is_key = after == ":" and before in ("{", ",") and bool(self._open) and self._open[-1][0] == "{"
        is_member = before == "." and at >= 2
        return not (after == "(" or is_key or is_member or name == "#" or name in self._aliases)

    def _type_at(self, at: int, end: int) -> str | None:
        """Return what the neighbours of a name say about it."""
        before, after = self._word(at - 1), self._word(end)
        bracket, function = self._open[-1] if self._open else ("", "")
        if after.text in ("[", ".", "as"):
            return ANY
        if {before.text, after.text} & (_ARITHMETIC | _ORDER):
            return NUMBER
        if bracket == "(" and function and before.text in ("(", ",") and after.text in (")", ","):
            return _TAKES.get(function, ANY)
        if bracket == "[" and function in _OF_NUMBERS:
            return NUMBER
        return self._type_of_other(at, end) or self._type_of_test(before, after)

    def _type_of_other(self, at: int, end: int) -> str | None:
        """Return the type of the literal on the other side of an operator."""
        before, after = self._word(at - 1), self._word(end)
        if after.text in _EQUALITY or after.text in ("+", "??"):
            other = {"[": LIST, "{": OBJECT}.get(self._word(end + 1).text) or literal_type(self._word(end + 1))
            return other or (ADDED if after.text == "+" else None)
        if before.text in _EQUALITY or before.text == "+":
            return literal_type(self._word(at - 2)) or (ADDED if before.text == "+" else None)
        following = self._word(end + 1) if after.text == "not" else after
        if following.text == "in":
            inside = self._words[end + 1 + (after.text == "not") : end + _NEAR]
            return next((kind for word in inside if (kind := literal_type(word))), None)
        return LIST if before.text == "in" else None

    @staticmethod
    def _type_of_test(before: Token, after: Token) -> str | None:
        is_tested = before.text in _LOGIC or after.text in _LOGIC or after.text == "?"
        is_alone = before.text in (*_LOGIC, "", "(", "?", ":", ",") and after.text in (*_LOGIC, "", ")", "?", ":", ",")
        return TRUTH if is_tested and is_alone else None

    def _word(self, at: int) -> Token:
        return self._words[at] if 0 <= at < len(self._words) else _NOTHING


_NOTHING: Final = Token("", "")


def _result(words: list[Token], known: Mapping[tuple[str, ...], str]) -> str | None:
    while len(words) > 1 and words[0].text == "(" and _closing(words, 0) == len(words) - 1:
        words = words[1:-1]
    if not words:
        return None
    if (at := _find(words, {"?"})) is not None:
        ends = _find(words, {":"}, at + 1)
        if ends is None:
            return None
        return _same(_result(words[at + 1 : ends], known), _result(words[ends + 1 :], known))
    if (at := _find(words, {"??"})) is not None:
        return _same(_result(words[:at], known), _result(words[at + 1 :], known))
    if _find(words, _LOGIC | _ORDER | _EQUALITY | {"in"}) is not None:
        return TRUTH
    if (at := _find(words, {"+"}, 1)) is not None:
        return _same(_result(words[:at], known), _result(words[at + 1 :], known))
    return NUMBER if _find(words, _ARITHMETIC) is not None else _operand(words, known)


def _operand(words: list[Token], known: Mapping[tuple[str, ...], str]) -> str | None:
    """Return the type of a literal, of a name, or of what a function gives."""
    if len(words) == 1 and words[0].kind != "name":
        return literal_type(words[0])
    if all(word.text == "." for word in words[1::2]):
        return known.get(tuple(word.text for word in words[::2]))
    is_call = words[0].kind == "name" and words[1].text == "(" and _closing(words, 1) == len(words) - 1
    return _GIVES.get(words[0].text) if is_call else None


def _same(first: str | None, second: str | None) -> str | None:
    return first if first == second else None


def _closing(words: list[Token], at: int) -> int:
    depth = 0
    for i in range(at, len(words)):
        depth += words[i].text in ("(", "[", "{")
        depth -= words[i].text in (")", "]", "}")
        if depth == 0:
            return i
    return -1


def _find(words: list[Token], wanted: frozenset[str] | set[str], start: int = 0) -> int | None:
    """Return where one of the words stands outside all brackets and, for a colon, outside inner questions."""
    depth = questions = 0
    for i in range(start, len(words)):
        text = words[i].text if words[i].kind in ("sign", "word") else ""
        depth += text in ("(", "[", "{")
        depth -= text in (")", "]", "}")
        if depth == 0 and text in wanted and not (text == ":" and questions):
            return i
        if depth == 0:
            questions += (text == "?") - (text == ":" and questions > 0)
    return None
