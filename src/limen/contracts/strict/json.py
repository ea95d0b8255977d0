"""Explains why a JSON body was refused: the slow, exact counterpart of the fast typed decoders.

The decoders in `contracts.validation.records` and the gateways accept good bodies at full speed and know little about bad ones. When
one of them fails, `explain` says what is wrong. `has_duplicate_keys` is the exact form of their cheap duplicate test.
Strict means RFC 8259 in UTF-8 without a byte-order mark: no NaN, no trailing text, no repeated key, at most 100 levels.
"""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec

from limen.contracts.contract import Json
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.strict.pieces import MAX_DEPTH, too_deep, too_many_parts

EXACT_UP_TO: Final = 1 << 20
"""Bytes up to which a refused body is examined exactly; beyond it the first decoder's word stands."""

MAX_PARTS: Final = 1 << 20
"""Lists and objects in one JSON text. Empty ones cost 56 bytes and a visit by the garbage collector for every 3 bytes sent."""

# Text left open runs to the end, and nothing is ever tried twice: bad text must not take longer than good text.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_NOT_FINITE = re.compile(rb"-?(?:NaN|Infinity)")
_OFFSET = re.compile(r"\(byte (\d+)\)")


def parse(body: bytes) -> Json:
    """Return the decoded value of a strict JSON text.

    Raises:
        InvalidArgument: EMPTY_BODY, BAD_JSON (with the byte offset where it is known), TOO_DEEP, NUMBER_RANGE or
            DUPLICATE_KEY, TOO_MANY_PARTS.
    """
    if not body:
        raise InvalidArgument("the body is empty", reason=Reason.EMPTY_BODY)
    check_parts(body)
    if len(body) <= EXACT_UP_TO and _depth(body) > MAX_DEPTH:
        raise too_deep()
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise too_deep() from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise _malformed(exc, body) from exc
    if len(body) <= EXACT_UP_TO and has_duplicate_keys(body):
        raise InvalidArgument("an object repeats a key", reason=Reason.DUPLICATE_KEY)
    return value


def check_parts(body: bytes) -> None:
    """Raise `InvalidArgument` for a text with more lists and objects than anybody means, before any is made."""
    if len(body) > MAX_PARTS and body.count(b"[") + body.count(b"{") > MAX_PARTS:
        raise too_many_parts(MAX_PARTS)


def _malformed(exc: Exception, body: bytes) -> InvalidArgument:
    text = str(exc)
    if isinstance(exc, UnicodeDecodeError):
        return InvalidArgument("the body must be JSON in UTF-8", reason=Reason.BAD_JSON)
    if "out of range" in text:
        return InvalidArgument("a number is out of range", reason=Reason.NUMBER_RANGE)
    found = _OFFSET.search(text)
    offset = int(found.group(1)) if found else len(body)
    if found and _NOT_FINITE.match(body, offset):
        text = f"JSON has no NaN or infinity (byte {offset}); send null for a missing number"
        return InvalidArgument(text, reason=Reason.BAD_JSON)
    what = "ends too early" if "truncated" in text else "is not valid JSON"
    return InvalidArgument(f"the body {what} (byte {offset})", reason=Reason.BAD_JSON)


def has_duplicate_keys(body: bytes) -> bool:
    """Return whether an object of a body that is known to be valid JSON repeats a key."""
    try:
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    except _DuplicateKeyError:
        return True
    except (ValueError, RecursionError):
        # Not what this function judges: the decoders have their own word on numbers and depth.
        return False
    return False


class _DuplicateKeyError(Exception):
    """Ends the parse at the first repeated key."""


def _refuse_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKeyError
    return found


def _depth(body: bytes) -> int:
    """Return how deep the brackets go, stopping just past the limit."""
    depth = deepest = 0
    for token in _TOKENS.finditer(body):
        mark = body[token.start()]
        if mark in b"[{":
            depth += 1
            if depth > deepest:
                deepest = depth
                if deepest > MAX_DEPTH:
                    return deepest
        elif mark in b"]}":
            depth -= 1
    return deepest
