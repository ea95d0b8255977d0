"""Formats values as one-line YAML, for the texts that Limen writes into a `model.yaml`."""

from __future__ import annotations

import json
import re
from typing import Final

from limen.contracts.contract import Json

_PLAIN: Final = re.compile(r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[A-Za-z][A-Za-z0-9_./-]*", re.IGNORECASE)


def flow(value: Json) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{word(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return word(value) if isinstance(value, str) else json.dumps(value)


def word(text: str) -> str:
    """Return text as YAML: plain where that is safe, quoted otherwise."""
    if _PLAIN.fullmatch(text):
        return text
    # JSON strings are YAML strings, but YAML knows no surrogate pairs, so only what cannot be shown is escaped.
    return json.dumps(text, ensure_ascii=not text.isprintable() and max(text) < "\U00010000")
