"""Tags: free-form labels on models and versions for search. Checked and written here for `registry.registry`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from limen.contracts.errors import InvalidArgument, Violation
from limen.contracts.names import shown
from limen.storage.schema import tags

MAX_TAGS: Final = 64
MAX_VALUE: Final = 256
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}", re.ASCII)
_KEY_RULE: Final = "the key must be 1 to 63 of letters, digits, '.', '_', '/' and '-', starting with a letter or digit"


def check_tags(wanted: Mapping[str, str | None]) -> None:
    """Raise `InvalidArgument` with every tag that is not one."""
    found = []
    for key, value in wanted.items():
        if _KEY.fullmatch(key) is None:
            found.append(Violation(f"tags.{shown(key)}", _KEY_RULE))
        elif value is not None and (len(value) > MAX_VALUE or not value.isprintable()):
            found.append(Violation(f"tags.{key}", f"must be at most {MAX_VALUE} printable characters"))
    if len(wanted) > MAX_TAGS:
        found.append(Violation("tags", f"must be at most {MAX_TAGS}"))
    if found:
        raise InvalidArgument.of(found)


def write_tags(connection: sa.Connection, model: str, number: int, wanted: Mapping[str, str | None]) -> None:
    """Set the tags of one thing, and remove those that are None; the others stay."""
    its = (tags.c.model == model, tags.c.number == number)
    connection.execute(tags.delete().where(*its, tags.c.key.in_(list(wanted))))
    rows = [
        {"model": model, "number": number, "key": key, "value": value}
        for key, value in wanted.items()
        if value is not None
    ]
    if rows:
        connection.execute(tags.insert(), rows)
    count = connection.execute(sa.select(sa.func.count()).select_from(tags).where(*its)).scalar_one()
    if count > MAX_TAGS:
        raise InvalidArgument.at("tags", f"must be at most {MAX_TAGS} including existing ones")
