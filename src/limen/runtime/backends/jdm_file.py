"""Looking at a decision in JDM (JSON Decision Model) before the engine sees it: only nodes that compute, and what they take and give.

JDM can hold JavaScript (function nodes), call code of the host (custom nodes) and load other files (decision nodes); all three are
refused. Format: <https://docs.gorules.io/developers/jdm/standard>. Pure. Called by `backends.rules`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from limen.contracts.errors import InvalidPackage, Reason

MAX_BYTES: Final = 4 << 20
MAX_NODES: Final = 1000
MAX_EXPRESSION: Final = 10_000
_ALLOWED: Final = ("inputNode", "outputNode", "decisionTableNode", "expressionNode", "switchNode")
_REFUSED: Final = {
    "functionNode": "holds JavaScript, which is code",
    "customNode": "calls code of the host",
    "decisionNode": "loads another file",
}
_NAME: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_TEXT: Final = re.compile(r"\"[^\"]*\"|'[^']*'")


class Decision(msgspec.Struct, frozen=True):
    """What a decision takes and gives as far as its tables and expressions show: dotted names with an element type."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    text: str
    """The decision in JSON, written anew: what was looked at is what the engine reads, repeated keys included."""
    is_complete: bool
    """All outputs are known: no node passes on what it was given, or puts its results elsewhere."""


def read_decision(data: bytes) -> Decision:
    """Return what a decision takes and gives.

    Raises:
        InvalidPackage: it is not JDM; UNSAFE_FORMAT for nodes that run code or load files.
    """
    if len(data) > MAX_BYTES:
        raise InvalidPackage(f"artifact: a decision may not be larger than {MAX_BYTES} bytes")
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidPackage("artifact: is not JSON") from exc
    nodes = found.get("nodes") if isinstance(found, dict) else None
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes) or len(nodes) > MAX_NODES:
        raise InvalidPackage(f"artifact: must hold a list of up to {MAX_NODES} nodes")
    for node in nodes:
        _check(node)
    contents = [node.get("content") or {} for node in nodes if node["type"] in ("decisionTableNode", "expressionNode")]
    return _described(contents, msgspec.json.encode(found).decode())


def _check(node: Mapping[str, Any]) -> None:
    kind = node.get("type")
    if kind in _REFUSED:
        text = f"artifact: a node {_REFUSED[kind]} ({kind}); only tables, expressions and switches are served"
        raise InvalidPackage(text, reason=Reason.UNSAFE_FORMAT)
    if kind not in _ALLOWED:
        raise InvalidPackage(f"artifact: a node is of none of the kinds {', '.join(_ALLOWED)}")
    if not isinstance(node.get("content") or {}, dict):
        raise InvalidPackage("artifact: a node's content must be an object")
    if any(len(text) > MAX_EXPRESSION for text in _texts(node.get("content"))):
        raise InvalidPackage(f"artifact: an expression is longer than {MAX_EXPRESSION} characters")


def _texts(value: Any) -> Iterable[str]:
    """Yield every text in a value, whatever it is nested in; the decoder has bounded the depth."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _described(contents: list[Mapping[str, Any]], text: str) -> Decision:
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    is_complete = True
    for content in contents:
        rules = [rule for rule in content.get("rules") or [] if isinstance(rule, dict)]
        for column in _columns(content, "inputs"):
            inputs.setdefault(column["field"], _type_of(str(rule.get(column.get("id"), "")) for rule in rules))
        for column in _columns(content, "outputs"):
            cells = (str(rule.get(column.get("id"), "")) for rule in rules)
            outputs.setdefault(column["field"], _type_of(cells))
        for line in content.get("expressions") or []:
            if isinstance(line, dict) and _NAME.fullmatch(str(line.get("key", ""))):
                outputs.setdefault(line["key"], _type_of([str(line.get("value", ""))]))
        if content.get("passThrough") or content.get("outputPath") or content.get("executionMode") == "loop":
            is_complete = False
    # What one node gives another is no input of the whole.
    return Decision({n: t for n, t in inputs.items() if n not in outputs}, outputs, text, is_complete)


def _columns(content: Mapping[str, Any], side: str) -> list[dict[str, Any]]:
    columns = [column for column in content.get(side) or [] if isinstance(column, dict)]
    return [column for column in columns if _NAME.fullmatch(str(column.get("field", "")))]


def _type_of(cells: Iterable[str]) -> str:
    """Return the type that the cells of a column speak of: a guess for the author to complete."""
    filled = [cell.strip() for cell in cells if cell.strip() not in ("", "-")]
    if any(_TEXT.search(cell) for cell in filled):
        return "string"
    if filled and all(cell in ("true", "false", "not(true)", "not(false)") for cell in filled):
        return "bool"
    return "float64"
