"""Protobuf's text format, read strictly into plain values without a schema.

A message is a dict from field names to the list of their values; a value is text, a number, a bool, an enum's name (`Word`) or a
message. Not supported, because no model configuration uses it: extensions, `Any` expansion. Grammar:
<https://protobuf.dev/reference/protobuf/textformat-spec/>. Called by `importers.triton`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from limen.contracts.errors import InvalidPackage

Message = dict[str, list[Any]]
MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
_TOKEN = re.compile(
    r"(?P<blank>(?:[ \t\r\n]+|\#[^\n]*)+)"
    r"""|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"|(?P<number>-?\s*(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[fF]?)(?![\w.]))"
    r"|(?P<word>-?[A-Za-z_]\w*)"
    r"|(?P<mark>[{}\[\]<>:,;])"
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"} | {
    c: c for c in "\\'\"?"
}
_ESCAPE = re.compile(
    r"\\(?:(?P<octal>[0-7]{1,3})|[xX](?P<hex>[0-9a-fA-F]{1,2})|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<letter>.))"
)
_BOOLS: Final = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}


class Word(str):
    """The name of an enum's value."""

    __slots__ = ()


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def read_text_proto(data: bytes, source: str) -> Message:
    """Return the message that a text stands for.

    Args:
        data: the file's content.
        source: how the file is called in the error text.

    Raises:
        InvalidPackage: naming the line that cannot be read.
    """
    if len(data) > MAX_BYTES:
        raise InvalidPackage(f"{source} is larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InvalidPackage(f"{source} must be text in UTF-8") from exc
    return _Reader(text, source).message("", 0)


def one(message: Message, key: str, default: Any = None) -> Any:
    """Return the value of a field that is there once; the last one counts."""
    values = message.get(key)
    return values[-1] if values else default


def messages(message: Message, key: str) -> list[Message]:
    """Return the messages among a field's values."""
    return [value for value in message.get(key, []) if isinstance(value, dict)]


class _Reader:
    """Reads tokens from left to right; one token ahead is enough."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._tokens = self._scan(text)
        self._next = next(self._tokens)

    def message(self, end: str, depth: int) -> Message:
        """Return the fields up to the mark that ends the message."""
        if depth > MAX_DEPTH:
            raise self._wrong(f"messages are nested more than {MAX_DEPTH} levels deep")
        found: Message = {}
        while not self._takes(end):
            name = self._take()
            if name.kind != "word" or name.text.startswith("-"):
                raise self._wrong("a field's name is expected", name)
            has_colon = self._takes(":")
            if not has_colon and self._next.text not in ("{", "<", "["):
                raise self._wrong(f"a colon is expected after {name.text}")
            found.setdefault(name.text, []).extend(self._values(depth))
            if not self._takes(","):
                self._takes(";")
        return found

    def _values(self, depth: int) -> list[Any]:
        if not self._takes("["):
            return [self._value(depth)]
        values: list[Any] = []
        while not self._takes("]"):
            values.append(self._value(depth))
            # Triton's own examples leave the last comma, so it is not missed either way.
            if not self._takes(",") and self._next.text != "]":
                raise self._wrong("a comma or ] is expected")
        return values

    def _value(self, depth: int) -> Any:
        token = self._take()
        if token.kind == "mark" and token.text in "{<" and token.text:
            return self.message("}" if token.text == "{" else ">", depth + 1)
        if token.kind == "text":
            content = self._content(token)
            while self._next.kind == "text":
                content += self._content(self._take())
            try:
                return content.decode()
            except UnicodeDecodeError:
                raise self._wrong("the text is not UTF-8", token) from None
        if token.kind == "number":
            return self._number(token)
        if token.kind == "word":
            return _BOOLS.get(token.text, Word(token.text))
        raise self._wrong("a value is expected", token)

    def _content(self, token: _Token) -> bytes:
        """Return the bytes of a quoted text; only several of them together have to be UTF-8."""

        def plain(match: re.Match[str]) -> str:
            digits = match["octal"] or match["hex"]
            if digits:
                # A byte. It is kept in the form that `surrogateescape` has for those that are no character by themselves.
                byte = int(digits, 8 if match["octal"] else 16) & 0xFF
                return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
            if point := match["short"] or match["long"]:
                code = int(point, 16)
                if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                    raise self._wrong("an escape names no character", token)
                return chr(code)
            if match["letter"] not in _ESCAPES:
                raise self._wrong(f"there is no escape \\{match['letter']}", token)
            return _ESCAPES[match["letter"]]

        return _ESCAPE.sub(plain, token.text[1:-1]).encode("utf-8", "surrogateescape")

    def _number(self, token: _Token) -> int | float:
        plain = "".join(token.text.split())
        sign, digits = (-1, plain[1:]) if plain.startswith("-") else (1, plain)
        if digits[:2] in ("0x", "0X"):
            return sign * int(digits, 16)
        if not digits.isdigit():
            return sign * float(digits.rstrip("fF"))
        if digits[0] != "0" or digits == "0":
            return sign * int(digits)
        try:
            return sign * int(digits, 8)  # as in C
        except ValueError:
            raise self._wrong("a number that begins with 0 is octal", token) from None

    def _takes(self, mark: str) -> bool:
        if self._next.kind == ("mark" if mark else "end") and self._next.text == mark:
            if mark:
                self._take()
            return True
        return False

    def _take(self) -> _Token:
        token = self._next
        if token.kind == "end":
            raise self._wrong("the text ends too early")
        self._next = next(self._tokens)
        return token

    def _scan(self, text: str) -> Iterator[_Token]:
        position, line = 0, 1
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise self._wrong("this character is not expected", _Token("", "", line))
            if match.lastgroup != "blank":
                yield _Token(match.lastgroup, match[0], line)
            line += match[0].count("\n")
            position = match.end()
        yield _Token("end", "", line)

    def _wrong(self, text: str, token: _Token | None = None) -> InvalidPackage:
        return InvalidPackage(f"{self._source}, line {(token or self._next).line}: {text}")
