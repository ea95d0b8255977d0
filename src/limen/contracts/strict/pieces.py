"""Large JSON texts, read in pieces: each step is bounded in memory and time, whatever the text.

A `Cursor` goes through one container after the other and gives its elements in groups of about a piece, as texts that any decoder
takes. An element that is larger than a piece is given by its place, and whoever expects a container there goes into it. Only
brackets, commas and the limits of strings are looked at here; that a group is JSON is for its decoder to say.
Called by `contracts.validation.large_records` and by `gateway.http.oip.large_tensors`, beside the event loop.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final, NamedTuple

import numpy as np

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.tensors import Array

Text = bytes
"""A text. One that is too large to be put together in one step is mapped memory, which can be used like bytes here."""
LARGE_TEXT: Final = 128 << 10
"""Bytes from which a text is read in pieces: what is below takes milliseconds in any decoder."""
PIECE: Final = 64 << 10
"""Bytes of a group. Its numbers take two milliseconds to decode."""
SMALL_PIECE: Final = 2 << 10
"""The same where a large value may be among small ones."""
MAX_DEPTH: Final = 100
"""Brackets in brackets."""
_DELTA: Final = np.zeros(256, np.int8)
_DELTA[list(b"[{")] = 1
_DELTA[list(b"]}")] = -1
_SPACE: Final = re.compile(rb"[ \t\n\r]*")
_KEY: Final = re.compile(rb'[ \t\n\r]*("(?:[^"\\]|\\.){0,1024}")[ \t\n\r]*:[ \t\n\r]*', re.DOTALL)


class Group(NamedTuple):
    """Whole elements of a container, as text."""

    text: bytes
    """Without brackets around it; empty for an empty container."""
    start: int
    """Where it begins."""
    is_last: bool
    """Whether the container ends with it."""


class Cursor:
    """A place in a text, which only moves forward."""

    __slots__ = ("_is_first", "at", "text")

    def __init__(self, text: Text, at: int = 0) -> None:
        """Begin at a place."""
        self.text = text
        self.at = at
        self._is_first = True

    def peek(self) -> bytes:
        """Skip white space and return the next byte; nothing at the end."""
        text, stop = self.text, 0
        while self.at >= stop and stop < len(text):
            stop = min(self.at + PIECE, len(text))
            found = _SPACE.match(text, self.at, stop)
            self.at = stop if found is None else found.end()
        return bytes(text[self.at : self.at + 1])

    def enter(self, bracket: bytes) -> bool:
        """Go into a container if one with this bracket is next, and return whether it is."""
        if self.peek() != bracket:
            return False
        self.at += 1
        self._is_first = True
        return True

    def group(self, closing: bytes, size: int = PIECE) -> Group | None:
        """Return the next elements, at most `size` bytes of them, and move behind them; None when the next one is larger.

        Raises:
            InvalidArgument: there is no element where one must be, or the text ends.
        """
        self.peek()
        text, start = self.text, self.at
        comma, close = _cut(text, start, size)
        if close >= 0:
            if text[close : close + 1] != closing:
                raise self.broken(close)
        elif comma < 0:
            if start + size >= len(text):
                raise self.broken(len(text), "ends too early")
            return None
        end = close if close >= 0 else comma
        found = Group(bytes(text[start:end]), start, is_last=close >= 0)
        self.at = end + 1
        if not found.text and not (found.is_last and self._is_first):
            raise self.broken(end)
        self._is_first = False
        return found

    def leave(self, closing: bytes) -> bool:
        """Go on behind an element that was read in pieces, and return whether its container ends there.

        Raises:
            InvalidArgument: something else comes there.
        """
        found = self.peek()
        if found not in (b",", closing) or not found:
            raise self.broken(self.at)
        self.at += 1
        self._is_first = False
        return found == closing

    def key(self) -> bytes:
        """Return the key of the member that is next, with its quotes, and move to its value.

        Raises:
            InvalidArgument: there is none, or it is very long.
        """
        found = _KEY.match(self.text, self.at)
        if found is None:
            raise self.broken(self.at)
        self.at = found.end()
        return bytes(found[1])

    def skip(self, parts: int, size: int = sys.maxsize) -> None:
        """Move behind the container that is next, or just beyond `size` bytes of it.

        Args:
            parts: lists and objects that it may hold.
            size: bytes after which it does not matter where it ends.

        Raises:
            InvalidArgument: it holds more, or does not end.
        """
        text, end = self.text, len(self.text)
        start, depth, found = self.at, 0, 0
        inside = False
        while self.at < end:
            if self.at - start > size:
                return
            stop = _sound_end(text, self.at, PIECE)
            steps, strings = _steps(text, self.at, stop, inside=inside)
            found += int(np.count_nonzero(steps > 0))
            if found > parts:
                raise too_many_parts(parts)
            levels = depth + np.cumsum(steps, dtype=np.int32)
            ends = np.flatnonzero((levels == 0) & (steps < 0))
            if ends.size:
                self.at += int(ends[0]) + 1
                return
            if int(levels.max()) > MAX_DEPTH:
                raise too_deep()
            depth, inside = int(levels[-1]), bool(strings[-1])
            self.at = stop
        raise self.broken(end, "ends too early")

    def string(self, most: int) -> bytes:
        """Return the string that is next, with its quotes, and move behind it.

        Raises:
            InvalidArgument: it has more than `most` bytes, or does not end.
        """
        text, start = self.text, self.at
        at = start + 1
        while True:
            at = text.find(b'"', at, start + most + 2)
            if at < 0:
                if len(text) <= start + most + 2:
                    raise self.broken(len(text), "ends too early")
                raise InvalidArgument(f"a text may have at most {most} bytes", reason=Reason.ELEMENT_TOO_LARGE)
            before = at
            while text[before - 1] == 0x5C:  # each of them is looked at once: they end at the last quote
                before -= 1
            if (at - before) % 2 == 0:
                self.at = at + 1
                return bytes(text[start : at + 1])
            at += 1

    def value(self, most: int) -> bytes | None:
        """Return the list, object or string that is next and move behind it; None when it has more than `most` bytes.

        Raises:
            InvalidArgument: it is something else, or does not end.
        """
        start, first = self.at, self.peek()
        if first in (b"[", b"{"):
            self.skip(most, most)
        elif first == b'"':
            try:
                self.string(most)
            except InvalidArgument as exc:
                if exc.reason is Reason.ELEMENT_TOO_LARGE:
                    return None
                raise
        else:
            raise self.broken(start)
        return bytes(self.text[start : self.at]) if self.at - start <= most else None

    def refusal(self, error: InvalidArgument) -> InvalidArgument:
        """Return the error for what is next: this one, or that it is nested too deep, which is wrong whatever it is."""
        if not self.peek() or self.text[self.at] not in b'[{"':
            return self.broken(self.at)
        stop = min(self.at + PIECE, len(self.text))
        steps, _ = _steps(self.text, self.at, stop)
        return too_deep() if int(np.cumsum(steps, dtype=np.int32).max()) > MAX_DEPTH else error

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            InvalidArgument: something does.
        """
        if self.peek():
            raise self.broken(self.at)

    def broken(self, at: int, what: str = "is not valid JSON") -> InvalidArgument:
        """Return the error for a text that is not JSON at this place."""
        return InvalidArgument(f"the body {what} (byte {at})", reason=Reason.BAD_JSON)


def too_deep() -> InvalidArgument:
    """Return the error for a text with brackets in too many others."""
    return InvalidArgument(f"JSON may be nested at most {MAX_DEPTH} levels", reason=Reason.TOO_DEEP)


def too_many_parts(most: int) -> InvalidArgument:
    """Return the error for a text with more lists and objects than anybody means."""
    return InvalidArgument(f"JSON may hold at most {most} lists and objects", reason=Reason.TOO_MANY_PARTS)


def _cut(text: Text, start: int, size: int) -> tuple[int, int]:
    """Return the last comma between elements, and where their container ends, within `size` bytes; -1 for what is not there."""
    stop = min(start + size, len(text))
    close = text.find(b"]", start, stop)
    if not any(text.find(mark, start, stop if close < 0 else close) >= 0 for mark in (b'"', b"[", b"{", b"}")):
        # Numbers only, as in most large texts.
        return (-1, close) if close >= 0 else (text.rfind(b",", start, stop), -1)
    steps, strings = _steps(text, start, stop)
    levels = np.cumsum(steps, dtype=np.int32)
    ends = np.flatnonzero(levels < 0)
    if ends.size:
        return -1, start + int(ends[0])
    found = np.frombuffer(text, np.uint8, stop - start, start)
    commas = np.flatnonzero((found == 0x2C) & (levels == 0) & ~strings)
    return (start + int(commas[-1]) if commas.size else -1), -1


def _steps(text: Text, start: int, stop: int, *, inside: bool = False) -> tuple[Any, Array]:
    """Return by how much each byte changes the depth of brackets, and whether it is in a string."""
    found = np.frombuffer(text, np.uint8, stop - start, start)
    quotes = found == 0x22
    if text.find(b"\\", start, stop) >= 0:
        quotes &= ~_escaped(found)
    strings = np.bitwise_xor.accumulate(quotes)
    if inside:
        strings = ~strings
    steps = _DELTA[found]
    steps[strings] = 0
    return steps, strings


def _escaped(found: Array) -> Array:
    """Return which bytes have an odd number of backslashes right before them."""
    places = np.arange(found.size)
    last_other = np.maximum.accumulate(np.where(found == 0x5C, -1, places))
    escaped = np.zeros(found.size, np.bool_)
    escaped[1:] = (places - last_other)[:-1] & 1
    return escaped


def _sound_end(text: Text, start: int, size: int) -> int:
    """Return where a piece may end, so that the next one does not begin with an escaped byte."""
    stop = min(start + size, len(text))
    while stop < len(text) and text[stop - 1] == 0x5C:
        stop += 1
    return stop
