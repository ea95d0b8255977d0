"""Checks of plain values: one declaration per key, used for validation and as a JSON Schema.

A `Rule` says what one value may be. `rule.read(value, path, report)` returns the value, or `INVALID` after it told the report
where and why; it never stops at the first mistake. `rule.schema()` says the same to editors. Rules know nothing of models:
`packaging.manifest.fields`, `packaging.manifest.binding` and `packaging.manifest.decoder` declare `model.yaml` with them, and any other file that people
write can be declared the same way.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec

from limen.contracts.contract import Json
from limen.contracts.errors import Violation

MAX_VIOLATIONS: Final = 100
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_YAML_11_BOOLEANS: Final = frozenset(["yes", "no", "on", "off", "y", "n"])


class _Invalid:
    """The type of `INVALID`."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final[Any] = _Invalid()
"""What a rule returns for a value it refused."""


class Report:
    """Collects what is wrong, up to a sensible number."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def add(self, path: str, text: str) -> None:
        """Note one mistake."""
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(Violation(path, text))
        elif len(self.violations) == MAX_VIOLATIONS:
            self.violations.append(Violation("", f"more than {MAX_VIOLATIONS} mistakes; the rest are not listed"))

    def has(self, path: str) -> bool:
        """Return whether a mistake was noted at exactly this path."""
        return any(v.path == path for v in self.violations)


class Rule(Protocol):
    """What one value may be."""

    def read(self, value: Json, path: str, report: Report) -> Any:
        """Return the value, or `INVALID` after telling the report."""
        ...

    def schema(self) -> dict[str, Json]:
        """Return the same rule as a JSON Schema."""
        ...


def at(path: str, key: str | int) -> str:
    """Return the path of one item or key below `path`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if _KEY.fullmatch(key) is None:
        return f"{path}[{shown(key)}]"
    return f"{path}.{key}" if path else key


def shown(value: Json) -> str:
    """Return a value as its author will recognise it, short and on one line."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, (list, dict)):
        return f"a list of {len(value)}" if isinstance(value, list) else "a mapping"
    if isinstance(value, str):
        body = value if value.isprintable() else ascii(value)[1:-1]
        return f"'{body if len(body) <= 44 else body[:43] + '…'}'"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 44 else text[:43] + "…"


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest allowed word, or nothing."""
    by_case = {a.casefold(): a for a in allowed}
    close = difflib.get_close_matches(word.casefold()[:64], by_case, n=1, cutoff=0.6)
    return f"; did you mean '{by_case[close[0]]}'?" if close else ""


def listed(words: Iterable[Json]) -> str:
    """Return words as `a, b, c`, cut after thirty."""
    found = [str(w) for w in words]
    return ", ".join(found[:30]) + (", …" if len(found) > 30 else "")


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Text, perhaps of a certain form."""

    form: str = ""
    """A regular expression for the whole text."""
    rule: str = ""
    """The form in words."""
    max_length: int = 10_000

    def read(self, value: Json, path: str, report: Report) -> Any:
        """Return the text."""
        if not isinstance(value, str):
            hint = "; put it in quotes" if isinstance(value, (bool, int, float)) else ""
            report.add(path, f"must be text, not {shown(value)}{hint}")
            return INVALID
        if self.form and re.fullmatch(self.form, value, re.ASCII) is None:
            report.add(path, f"must be {self.rule}, not {shown(value)}")
            return INVALID
        if len(value) > self.max_length:
            report.add(path, f"must have at most {self.max_length} characters, not {len(value)}")
            return INVALID
        return value

    def schema(self) -> dict[str, Json]:
        """Return a string schema."""
        form: dict[str, Json] = {"pattern": f"^(?:{self.form})$"} if self.form else {}
        return {"type": "string", "maxLength": self.max_length} | form


class Flag(msgspec.Struct, frozen=True):
    """True or false."""

    def read(self, value: Json, path: str, report: Report) -> Any:
        """Return the boolean."""
        if isinstance(value, bool):
            return value
        hint = ""
        if isinstance(value, str) and value.casefold() in _YAML_11_BOOLEANS:
            hint = "; yes, no, on and off are text in this file"
        report.add(path, f"must be true or false, not {shown(value)}{hint}")
        return INVALID

    def schema(self) -> dict[str, Json]:
        """Return a boolean schema."""
        return {"type": "boolean"}


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """A finite number, perhaps whole and perhaps within bounds."""

    whole: bool = False
    low: float | None = None
    high: float | None = None
    above: float | None = None
    """The number must be greater than this."""

    def read(self, value: Json, path: str, report: Report) -> Any:
        """Return the number; a whole one as int."""
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(_as_float(value))
        if fits and self.whole:
            fits = isinstance(value, int)
        if fits and self._is_within(value):
            return value
        report.add(path, f"must be {self._words()}, not {shown(value)}")
        return INVALID

    def _is_within(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
        )

    def _words(self) -> str:
        noun = "a whole number" if self.whole else "a finite number"
        if self.above is not None:
            return f"{noun} above {self.above}"
        if self.low is not None and self.high is not None:
            return f"{noun} from {self.low} to {self.high}"
        return f"{noun} from {self.low}" if self.low is not None else noun

    def schema(self) -> dict[str, Json]:
        """Return a number or integer schema."""
        bounds = {"minimum": self.low, "maximum": self.high, "exclusiveMinimum": self.above}
        return {"type": "integer" if self.whole else "number"} | {k: v for k, v in bounds.items() if v is not None}


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


class OneOf(msgspec.Struct, frozen=True):
    """One word of a fixed list."""

    words: tuple[str, ...]

    def read(self, value: Json, path: str, report: Report) -> Any:
        """Return the word."""
        if isinstance(value, str) and value in self.words:
            return value
        hint = did_you_mean(value, self.words) if isinstance(value, str) else ""
        report.add(path, f"must be one of {listed(self.words)}, not {shown(value)}{hint}")
        return INVALID

    def schema(self) -> dict[str, Json]:
        """Return an enum schema."""
        return {"type": "string", "enum": list(self.words)}


class Anything(msgspec.Struct, frozen=True):
    """Any value; what it may be depends on other keys."""

    def read(self, value: Json, path: str, report: Report) -> Any:
        """Return the value as it is."""
        return value

    def schema(self) -> dict[str, Json]:
        """Return a schema without a demand."""
        return {}


class ListOf(msgspec.Struct, frozen=True, kw_only=True):
    """A list of values that follow one rule."""

    item: Rule
    min_items: int = 0
    max_items: int = 10_000

    def read(self, value: Json, path: str, report: Report) -> Any:
        """Return the list with `INVALID` where an item was refused."""
        if not isinstance(value, list):
            report.add(path, f"must be a list, not {shown(value)}")
            return INVALID
        if not self.min_items <= len(value) <= self.max_items:
            report.add(path, f"must have {self.min_items} to {self.max_items} items, not {len(value)}")
            return INVALID
        return [self.item.read(item, at(path, i), report) for i, item in enumerate(value)]

    def schema(self) -> dict[str, Json]:
        """Return an array schema."""
        size = {"minItems": self.min_items} if self.min_items else {}
        return {"type": "array", "items": self.item.schema(), "maxItems": self.max_items} | size


class MapOf(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping from names to values that follow one rule."""

    key: Text
    item: Rule

    def read(self, value: Json, path: str, report: Report) -> Any:
        """Return the mapping without the entries that were refused."""
        if not isinstance(value, dict):
            report.add(path, f"must be a mapping, not {shown(value)}")
            return INVALID
        found = {}
        for key, item in value.items():
            where = at(path, key)
            if self.key.read(key, where, report) is not INVALID:
                read = self.item.read(item, where, report)
                if read is not INVALID:
                    found[key] = read
        return found

    def schema(self) -> dict[str, Json]:
        """Return an object schema with free keys."""
        return {"type": "object", "propertyNames": self.key.schema(), "additionalProperties": self.item.schema()}


class ByKind(msgspec.Struct, frozen=True):
    """One of several rules, chosen by the kind of value that is there."""

    words: str
    """The choices in words."""
    text: Rule | None = None
    items: Rule | None = None
    mapping: Rule | None = None

    def read(self, value: Json, path: str, report: Report) -> Any:
        """Return what the chosen rule returns."""
        rule = self.text if isinstance(value, str) else None
        rule = self.items if isinstance(value, list) else rule
        rule = self.mapping if isinstance(value, dict) else rule
        if rule is None:
            report.add(path, f"must be {self.words}, not {shown(value)}")
            return INVALID
        return rule.read(value, path, report)

    def schema(self) -> dict[str, Json]:
        """Return a schema that takes any of the choices."""
        return {"anyOf": [rule.schema() for rule in (self.text, self.items, self.mapping) if rule is not None]}


class Key(msgspec.Struct, frozen=True):
    """One key of a mapping with fixed keys."""

    name: str
    rule: Rule
    doc: str
    """What it means, for editors and for the reader of the table."""
    required: bool = False


class Keys(msgspec.Struct, frozen=True):
    """A mapping with fixed keys."""

    keys: tuple[Key, ...]

    def read(self, value: Json, path: str, report: Report) -> Any:
        """Return the keys that are good; unknown and missing ones are reported."""
        if not isinstance(value, dict):
            report.add(path, f"must be a mapping of {listed(self.names)}, not {shown(value)}")
            return INVALID
        for key in value:
            if key not in self.names:
                report.add(at(path, key), f"unknown key{did_you_mean(key, self.names)}; allowed: {listed(self.names)}")
        found = {}
        for key in self.keys:
            if key.name in value:
                read = key.rule.read(value[key.name], at(path, key.name), report)
                if read is not INVALID:
                    found[key.name] = read
            elif key.required:
                report.add(at(path, key.name), f"is required: {key.doc}")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The allowed keys."""
        return tuple(key.name for key in self.keys)

    def schema(self) -> dict[str, Json]:
        """Return an object schema that refuses other keys."""
        properties: Mapping[str, Json] = {k.name: {"description": k.doc} | k.rule.schema() for k in self.keys}
        schema: dict[str, Json] = {"type": "object", "properties": properties, "additionalProperties": False}
        required = [k.name for k in self.keys if k.required]
        return schema | ({"required": required} if required else {})
