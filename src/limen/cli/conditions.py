"""Conditions formatted for people: `limen status` and `limen endpoint show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limen.contracts.conditions import Condition


def condition_lines(conditions: Iterable[Condition]) -> list[str]:
    """Return a line for each condition: its status, since when, and why."""
    rows = [
        (c.type.value, c.status.value, f"since {c.since:%Y-%m-%d %H:%M:%S} UTC", f"{c.reason.value}: {c.message}")
        for c in conditions
    ]
    return [f"{kind:<11}  {status:<7}  {since}  {why}" for kind, status, since, why in rows]


def short_lines(conditions: Iterable[Condition]) -> list[str]:
    """Return the line of Ready, and those of the conditions that are not how they should be."""
    from limen.contracts.conditions import ConditionType

    return condition_lines(c for c in conditions if c.type is ConditionType.READY or not c.is_as_hoped)
