"""The interface of a source of endpoints, as control sees it: named packages, or a registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from limen.contracts.snapshot import ServedEndpoint, ServedVersion
from limen.serving.fleet.fleet import Fleet
from limen.serving.fleet.history import Cause
from limen.serving.fleet.records import Opened, Version
from limen.serving.messages.lines import Failure, Refused, Reloaded


class ControlPort(Protocol):
    """What a source may do to the control process: change what is wanted, wait for it, and report."""

    fleet: Fleet

    @property
    def now(self) -> Callable[[], float]:
        """The clock, in seconds that never go back."""
        ...

    def wake_up(self) -> None:
        """Have control look soon, because something has changed."""
        ...

    def note(self, text: str) -> None:
        """Tell the operator's terminal what has happened."""
        ...

    def refuse(self, failure: Failure) -> None:
        """Report that the server cannot start."""
        ...

    async def mend(self, version: Version) -> None:
        """Have the package of a version looked after now."""
        ...

    async def until_in_use(self, name: str, version: Version) -> None:
        """Return when a version answers, has failed, or is no longer wanted."""
        ...


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

    async def start(self, control: ControlPort) -> None:
        """Want for the first time what is there.

        Raises:
            LimenError: it cannot be served.
        """
        ...

    def resume(self, served: ServedEndpoint, version: ServedVersion) -> Opened:
        """Return a version that an earlier control process has verified."""
        ...

    async def follow(self, control: ControlPort, *, is_watching: bool) -> None:
        """Keep the endpoints at what is there, until cancelled or for as long as it can change."""
        ...

    async def reload(self, control: ControlPort, name: str, package: str) -> Reloaded | Refused:
        """Load what an endpoint of this server serves again, and return when it answers or has failed."""
        ...

    async def load(self, control: ControlPort, name: str) -> Reloaded | Refused:
        """Have an endpoint answer again that was let go, or load it again, and return when it answers or has failed.

        Raises:
            LimenError: it cannot be had.
        """
        ...

    async def unload(self, control: ControlPort, name: str) -> None:
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
