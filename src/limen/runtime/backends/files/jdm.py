"""Inspects a decision in JDM (JSON Decision Model) before the engine loads it: only computing nodes are allowed.

JDM can hold JavaScript (function nodes), call code of the host (custom nodes) and load other files (decision nodes); all three are
refused. Format: <https://docs.gorules.io/developers/jdm/standard>. Pure. Called by `backends.rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from limen.contracts.errors import InvalidPackage, Reason
from limen.runtime.backends.files.jdm_graph import Described, describe

MAX_BYTES: Final = 4 << 20
MAX_NODES: Final = 1000
MAX_EXPRESSION: Final = 10_000
_ALLOWED: Final = ("inputNode", "outputNode", "decisionTableNode", "expressionNode", "switchNode")
_REFUSED: Final = {
    "functionNode": "holds JavaScript, which is code",
    "customNode": "calls code of the host",
    "decisionNode": "loads another file",
}


class Decision(msgspec.Struct, frozen=True):
    """A decision that may be served."""

    about: Described
    entries: frozenset[str]
    """The ids of the nodes that may hold a schema of the inputs."""
    text: str
    """The decision in JSON, written anew: what was looked at is what the engine reads, repeated keys included."""


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
    edges = found.get("edges")
    edges = [edge for edge in edges if isinstance(edge, dict)] if isinstance(edges, list) else []
    entries = frozenset(str(node.get("id")) for node in nodes if node["type"] == "inputNode")
    return Decision(describe(nodes, edges), entries, msgspec.json.encode(found).decode())


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
