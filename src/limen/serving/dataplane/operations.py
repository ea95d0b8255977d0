"""What callers may change of the server as a whole, as gateways see it: the protocol's management extensions.

`serving.link.operations` has control do it; this room does not know control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from limen.contracts.contract import Json
from limen.contracts.oip.repository_index import IndexEntry


class Operations(Protocol):
    """The management of one server, as far as gateways offer it. Everything raised is a `LimenError`."""

    @property
    def is_explicit(self) -> bool:
        """Whether callers may change what is loaded and logged, and not only see it."""
        ...

    async def index(self, *, is_ready: bool = False) -> tuple[IndexEntry, ...]:
        """Return every version of every endpoint, or those that answer."""
        ...

    async def load(self, name: str, parameters: Mapping[str, Json], repository: str = "") -> None:
        """Have an endpoint loaded, again if it is; return when it answers."""
        ...

    async def unload(self, name: str, parameters: Mapping[str, Json], repository: str = "") -> None:
        """Have an endpoint let go; requests in flight are answered."""
        ...

    async def log(self, settings: Mapping[str, Json]) -> dict[str, bool | int | str]:
        """Change what all gateways log, and return all settings then; without a setting, only that."""
        ...
