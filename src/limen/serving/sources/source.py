"""Where the endpoints of a server come from, as the control process sees it: packages that were named, or a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from limen.contracts.snapshot import ServedEndpoint, ServedVersion
from limen.serving.fleet.history import Cause
from limen.serving.fleet.records import Opened, Version
from limen.serving.messages.lines import Refused, Reloaded

if TYPE_CHECKING:
    from limen.serving.control.controlplane import ControlPlane


class Source(Protocol):
    """Where the endpoints of a server come from."""

    is_required: bool
    """Whether a server that cannot serve all of it is not started."""
    is_numbered_here: bool
    """Whether a higher number means that a version was wanted later."""
    mends_in_place: bool
    """Whether a package that is brought back lies where it did, so that nothing has to be started anew for it."""
    revision: int | None
    """Of the registry that is followed; None where there is none."""
    problem: str
    """Why it cannot be followed; empty when it can."""

    async def start(self, control: ControlPlane) -> None:
        """Want for the first time what is there.

        Raises:
            LimenError: it cannot be served.
        """
        ...

    def resume(self, served: ServedEndpoint, version: ServedVersion) -> Opened:
        """Return a version that an earlier control process has verified."""
        ...

    async def follow(self, control: ControlPlane, *, is_watching: bool) -> None:
        """Keep the endpoints at what is there, until cancelled or for as long as it can change."""
        ...

    async def reload(self, control: ControlPlane, name: str, package: str) -> Reloaded | Refused:
        """Load what an endpoint of this server serves again, and return when it answers or has failed."""
        ...

    async def load(self, control: ControlPlane, name: str) -> Reloaded | Refused:
        """Have an endpoint answer again that was let go, or load it again, and return when it answers or has failed.

        Raises:
            LimenError: it cannot be had.
        """
        ...

    async def unload(self, control: ControlPlane, name: str) -> None:
        """Have an endpoint let everything go, and remember that; requests in hand are finished afterwards.

        Raises:
            LimenError: that cannot be remembered.
        """
        ...

    def problem_of(self, name: str) -> str:
        """Return why an endpoint is not what it should be; empty when nothing is known."""
        ...

    def cause_of(self, name: str) -> Cause:
        """Return who wanted an endpoint as it is wanted now, and what they did."""
        ...

    async def mend(self, version: Version) -> bool:
        """Bring the package of a version back where its replicas look for it, if it is not whole; return whether that was done.

        Raises:
            LimenError: it cannot be had.
        """
        ...
