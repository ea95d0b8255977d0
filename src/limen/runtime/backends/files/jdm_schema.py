"""A decision's own JSON Schema of its inputs or outputs, which takes precedence over guesses from expressions.

The node `inputNode` (and `outputNode`) may carry a schema, and the engine refuses what breaks it. Pure. Called by `backends.jdm_graph`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from limen.runtime.backends.files.zen_expressions import ADDED, ANY, LIST, NUMBER, OBJECT, TEXT, TRUTH

MAX_DEPTH: Final = 20
Path = tuple[str, ...]
Json = Any
_TYPES: Final = {"string": TEXT, "number": NUMBER, "integer": NUMBER, "boolean": TRUTH}


class Said(msgspec.Struct, frozen=True):
    """What a schema says about one value."""

    type: str
    is_required: bool
    choices: tuple[str, ...] = ()
    """The only texts it may be."""
    use: str = ""
    """What it is used as, a key of `zen_expressions.EXAMPLES`; empty where nothing says so."""


def read_schema(content: Mapping[str, Json]) -> dict[Path, Said]:
    """Return what the schema of a node's content says, by path; nothing when there is none that can be read."""
    schema = content.get("schema")
    if isinstance(schema, str):
        try:
            schema = msgspec.json.decode(schema)
        except (msgspec.DecodeError, RecursionError):
            return {}
    return dict(_members(schema, (), is_required=True)) if isinstance(schema, dict) else {}


def _members(schema: Mapping[str, Json], path: Path, *, is_required: bool) -> Iterator[tuple[Path, Said]]:
    members, required = schema.get("properties"), schema.get("required")
    for name, member in members.items() if isinstance(members, dict) else ():
        if not isinstance(member, dict) or not name.isidentifier():
            continue
        inner = (*path, name)
        must = is_required and isinstance(required, list) and name in required
        if isinstance(member.get("properties"), dict) and len(inner) < MAX_DEPTH:
            yield from _members(member, inner, is_required=must)
        else:
            yield inner, _said(member, must)


def _said(schema: Mapping[str, Json], must: bool) -> Said:
    kind, choices = schema.get("type"), schema.get("enum")
    found = _TYPES.get(kind, ANY) if isinstance(kind, str) else ANY
    if kind == "integer" and must:
        found = "int64"
    if found == TRUTH and not must:
        found = ANY  # a bool has no value that could mean "missing"
    texts = tuple(choices) if isinstance(choices, list) and all(isinstance(c, str) for c in choices) else ()
    use = {"array": LIST, "object": OBJECT, "integer": ADDED}.get(str(kind), "")
    return Said(found, must, texts if found == TEXT and len(set(texts)) == len(texts) else (), use)
