"""Generates a short text that matches a regular expression, for fields with a pattern but no example.

Not a general generator: it reads the usual subset (literals, classes, groups, alternatives, repetitions) and gives up on the
rest. What it returns has been matched against the pattern. Called by `contracts.openapi.examples`.
"""

from __future__ import annotations

import re
import string
from typing import Final

from limen.contracts.strict.patterns import PatternError, compile_pattern

_ALPHABET: Final = string.ascii_uppercase + string.ascii_lowercase + "123456789 -_.,:/@" + string.printable + "é€"
_ANCHORS: Final = frozenset("bBAz")
_SHORT_REPEATS: Final[dict[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_REPEAT: Final = re.compile(r"\{(\d*)(,?)(\d*)\}")
_GROUP: Final = re.compile(r"\(\?(?:P<\w+>|:)|\((?!\?)")
_LONGEST: Final = 256


def matching_text(pattern: str, *, min_length: int | None = None, max_length: int | None = None) -> str | None:
    """Return a text that matches `pattern` within the lengths, or None when none was found."""
    try:
        compiled = compile_pattern(pattern)
    except PatternError:
        return None
    low, high = min_length or 0, _LONGEST if max_length is None else max_length
    for extra in range(min(high, _LONGEST) + 1):
        try:
            text = _Reader(pattern, extra).read()
        except _UnreadableError:
            return None
        if low <= len(text) <= high and compiled.matches(text):
            return text
        padded = text + "a" * (low - len(text))
        if low <= len(padded) <= high and compiled.matches(padded):
            return padded
    return None


class _UnreadableError(Exception):
    """The pattern uses something outside the subset."""


class _Reader:
    """Reads a pattern once from left to right and spells the first text it allows.

    Open repetitions are taken `extra` times more than they need.
    """

    def __init__(self, pattern: str, extra: int) -> None:
        self._pattern = pattern
        self._extra = extra
        self._at = 0

    def read(self) -> str:
        text = self._alternatives()
        if self._at < len(self._pattern):
            raise _UnreadableError
        return text

    def _alternatives(self) -> str:
        first = self._sequence()
        while self._peek() == "|":
            self._at += 1
            self._sequence()
        return first

    def _sequence(self) -> str:
        parts: list[str] = []
        while self._peek() not in {"", "|", ")"}:
            parts.append(self._repeated(self._atom()))
        return "".join(parts)

    def _atom(self) -> str:
        char = self._peek()
        if char == "(":
            return self._group()
        if char in "^$":
            self._at += 1
            return ""
        if char == "[":
            return self._one_of(self._class())
        if char == "\\":
            token = self._take(2)
            return "" if token[1:] in _ANCHORS else self._one_of(token)
        return self._one_of(self._take(1)) if char == "." else self._take(1)

    def _group(self) -> str:
        opened = _GROUP.match(self._pattern, self._at)
        if opened is None:
            raise _UnreadableError
        self._at = opened.end()
        text = self._alternatives()
        if self._take(1) != ")":
            raise _UnreadableError
        return text

    def _class(self) -> str:
        end = self._at + 1
        # A `]` that comes first, or first after `^`, is a member.
        end += self._pattern[end : end + 1] == "^"
        end += self._pattern[end : end + 1] == "]"
        while self._pattern[end : end + 1] not in {"]", ""}:
            end += 2 if self._pattern[end] == "\\" else 1
        return self._take(end + 1 - self._at)

    def _repeated(self, atom: str) -> str:
        found = _REPEAT.match(self._pattern, self._at)
        char = self._peek()
        if found:
            self._at = found.end()
            low = int(found[1] or 0)
            high = (int(found[3]) if found[3] else None) if found[2] else low
        elif char in _SHORT_REPEATS:
            self._at += 1
            low, high = _SHORT_REPEATS[char]
        else:
            return atom
        if self._peek() == "?":
            self._at += 1
        wanted = low + self._extra
        times = wanted if high is None else min(wanted, high)
        if len(atom) * times > _LONGEST:
            raise _UnreadableError
        return atom * times

    def _one_of(self, token: str) -> str:
        try:
            member = compile_pattern(f"^{token}$")
        except PatternError:
            raise _UnreadableError from None
        found = next((c for c in _ALPHABET if member.matches(c)), None)
        if found is None:
            raise _UnreadableError
        return found

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self, count: int) -> str:
        text = self._pattern[self._at : self._at + count]
        self._at += count
        return text
