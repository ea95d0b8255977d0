"""Parses server-sent events from chunks of a body. Source: HTML, section 9.2.6, as far as model servers use it."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """One event."""

    kind: str
    """`message` when the server names none."""
    data: bytes


class EventReader:
    """Takes pieces of any size and gives the events that are whole."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._rest = b""

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that end in this piece."""
        *whole, self._rest = (self._rest + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        return [event for text in whole if (event := _parse(text)) is not None]


def _parse(text: bytes) -> Event | None:
    kind, data = "message", []
    for line in text.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value.decode("utf-8", "replace")
    return Event(kind, b"\n".join(data)) if data else None
