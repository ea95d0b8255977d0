"""Reads untrusted YAML or JSON text into plain values.

One document, read as JSON would be: text, whole numbers, numbers, true, false, null, lists and mappings with text keys. Words
follow YAML 1.2, so `no`, `off`, `007`, `1_000` and `2024-01-31` are text; only `true` and `false` are booleans. Refused: tags,
anchors and aliases, repeated keys, several documents, and texts that are too large, too deep or too many values.
Not here: what the values mean (`contracts.strict.rules`). Called by `packaging.manifest.decoder`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from limen.contracts.contract import Json
from limen.contracts.strict.rules import Report, at, shown

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 200_000
MAX_DIGITS: Final = 400
"""A longer run of digits is text."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
}
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)", re.ASCII)


class _Refused(Exception):
    """Ends the reading: what follows cannot be understood. The report says why."""


def read_yaml(data: bytes, report: Report, *, max_bytes: int = MAX_BYTES) -> Json:
    """Return the value of one YAML (or JSON) document; mistakes go to `report`, and then the value may be incomplete."""
    if len(data) > max_bytes:
        report.add("", f"is larger than {max_bytes} bytes")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        report.add("", f"must be text in UTF-8 (byte {exc.start} is not)")
        return None
    try:
        return _Builder(yaml.parse(text, Loader=_LOADER), report).document()
    except _Refused:
        return None
    except yaml.YAMLError as exc:
        report.add("", _position(exc, text))
        return None


def _position(exc: yaml.YAMLError, text: str) -> str:
    mark = getattr(exc, "problem_mark", None)
    if mark is None:
        return "is not valid YAML: it holds a character that YAML does not allow"
    lines = text.splitlines()
    line = min(mark.line, len(lines) - 1)
    near = f" near {shown(lines[line].strip())}" if line >= 0 else ""
    return f"is not valid YAML at line {mark.line + 1}, column {mark.column + 1}{near}"


class _Builder:
    """Turns parse events into values and counts them, so that a bomb is refused before it is built."""

    def __init__(self, events: Iterator[Any], report: Report) -> None:
        self._events = events
        self._report = report
        self._values = 0

    def document(self) -> Json:
        next(self._events)  # start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            self._report.add("", "is empty")
            return None
        value = self._value(next(self._events), "", 0)
        next(self._events)  # end of the document
        if not isinstance(next(self._events), yaml.StreamEndEvent):
            self._report.add("", "holds more than one document; remove the line '---' between them")
        return value

    def _value(self, event: Any, path: str, depth: int) -> Json:
        self._values += 1
        if self._values > MAX_VALUES:
            self._refuse(path, f"is one of more than {MAX_VALUES} values; put large examples in a separate file")
        if depth > MAX_DEPTH:
            self._refuse("", f"is nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._refuse(path, "anchors and aliases (& and *) are not allowed; write the value out")
        if event.tag is not None:
            self._refuse(path, "tags (!) are not allowed; write the plain value")
        if isinstance(event, yaml.ScalarEvent):
            return _plain(event.value) if event.implicit[0] else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path, depth)
        return self._mapping(path, depth)

    def _list(self, path: str, depth: int) -> list[Json]:
        items: list[Json] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, at(path, len(items)), depth + 1))
        return items

    def _mapping(self, path: str, depth: int) -> dict[str, Json]:
        found: dict[str, Json] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._refuse(path, "a key must be plain text")
            self._value(event, path, depth)
            key = event.value
            if key == "<<" and event.implicit[0]:
                self._refuse(path, "merge keys (<<) are not allowed; write the keys out")
            where = at(path, key)
            value = self._value(next(self._events), where, depth + 1)
            if key in found:
                self._report.add(where, "this key is repeated")
            found[key] = value
        return found

    def _refuse(self, path: str, text: str) -> None:
        self._report.add(path, text)
        raise _Refused


def _plain(text: str) -> Json:
    """Return what an unquoted word means."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= MAX_DIGITS:
        if _WHOLE.fullmatch(text):
            return int(text)
        if _NUMBER.fullmatch(text):
            return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float(special[1] + special[2])
    return text
