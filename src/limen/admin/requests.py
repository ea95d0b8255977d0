"""Parses headers and parameters of management requests: preconditions, deadlines, pages."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import NO_DEADLINE, Deadline
from limen.contracts.management import MAX_PAGE, Page

T = TypeVar("T")
PAGE: Final = 50
MAX_TAGS: Final = 16
MAX_TIMEOUT_MS: Final = 86_400_000
_ENTITY_TAG = re.compile(r'"([1-9][0-9]{0,17})"', re.ASCII)
_CURSOR = re.compile(r"[A-Za-z0-9_-]{1,512}", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_NAME = re.compile(r"[a-z0-9._-]{1,63}", re.ASCII)
_WHOLE = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


class Window(msgspec.Struct, frozen=True):
    """The part of a list that is asked for."""

    limit: int
    after: str
    """The key of the last item of the page before; empty for the first page."""

    @property
    def before(self) -> int:
        """The same key in a list of numbers; 0 for the first page."""
        return int(self.after or 0)


def expected_of(headers: Mapping[str, str]) -> int | None:
    """Return the revision that `If-Match` insists on; 0 for `If-None-Match: *`, None when whatever is there may be changed.

    Raises:
        InvalidArgument: INVALID_HEADER; something else, or both.
    """
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if none_match is not None:
        if none_match.strip() != "*" or match is not None:
            raise InvalidArgument.at("If-None-Match", "must be * on its own", Reason.INVALID_HEADER)
        return 0
    if match is None:
        return None
    found = _ENTITY_TAG.fullmatch(match.strip())
    if found is None:
        raise InvalidArgument.at("If-Match", "must be a single quoted revision", Reason.INVALID_HEADER)
    return int(found[1])


def deadline_of(headers: Mapping[str, str]) -> Deadline:
    """Return the deadline that `X-Request-Timeout-Ms` sets.

    Raises:
        InvalidArgument: INVALID_HEADER; not a number of milliseconds.
    """
    given = headers.get("x-request-timeout-ms")
    if given is None:
        return NO_DEADLINE
    if _WHOLE.fullmatch(given) is None:
        text = "must be a whole number of milliseconds"
        raise InvalidArgument.at("X-Request-Timeout-Ms", text, Reason.INVALID_HEADER)
    return Deadline.after(min(int(given), MAX_TIMEOUT_MS) / 1000)


def window_of(
    request: Request[Any, Any, Any], limit: str | None, cursor: str | None, *, of_numbers: bool = False
) -> Window:
    """Return the part of a list that is asked for.

    Args:
        request: names the list.
        limit: most items of the page.
        cursor: `next` of the page before.
        of_numbers: whether the keys of the list are numbers, and no names.

    Raises:
        InvalidArgument: INVALID_PARAMETER.
    """
    if limit is not None and (_WHOLE.fullmatch(limit) is None or int(limit) > MAX_PAGE):
        raise InvalidArgument.at("limit", f"must be from 1 to {MAX_PAGE}", Reason.INVALID_PARAMETER)
    key = "" if cursor is None else _key_of(request.url.path, cursor, _NUMBER if of_numbers else _NAME)
    return Window(PAGE if limit is None else int(limit), key)


def page_of(request: Request[Any, Any, Any], window: Window, found: Sequence[T], keys: Sequence[str]) -> Page[T]:
    """Return a page of one item less than what was looked for: the item too many says that there is a next page."""
    items = tuple(found[: window.limit])
    has_more = len(found) > window.limit
    return Page(items=items, next=_cursor(request.url.path, keys[len(items) - 1]) if has_more else "")


def tags_of(given: Sequence[str] | None) -> dict[str, str]:
    """Return the tags that a list is narrowed to.

    Raises:
        InvalidArgument: INVALID_PARAMETER.
    """
    if given and len(given) > MAX_TAGS:
        raise InvalidArgument.at("tag", f"may be given at most {MAX_TAGS} times", Reason.INVALID_PARAMETER)
    found: dict[str, str] = {}
    for tag in given or ():
        key, equals, value = tag.partition("=")
        if not equals or not key or key in found or not tag.isprintable():
            raise InvalidArgument.at("tag", "must be KEY=VALUE, each key once", Reason.INVALID_PARAMETER)
        found[key] = value
    return found


def _cursor(path: str, key: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((path, key))).decode().rstrip("=")


def _key_of(path: str, cursor: str, form: re.Pattern[str]) -> str:
    """Return the key in a cursor of this very list. Anybody can make one up: it says no more than where to begin."""
    its_path = key = ""
    if _CURSOR.fullmatch(cursor) is not None:
        with suppress(ValueError):
            its_path, key = msgspec.json.decode(
                base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=tuple[str, str]
            )
    if its_path != path or form.fullmatch(key) is None:
        raise InvalidArgument.at("cursor", "must be the `next` value of a page of this list", Reason.INVALID_PARAMETER)
    return key
