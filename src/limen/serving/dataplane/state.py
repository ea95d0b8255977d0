"""What is known of one request on its way: who asks, which version answers and why, until when.

Apart from what is done with it (`visit`), so that the finaliser and a waiting call know a request without knowing who drives it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

import msgspec

from limen.contracts.contract import Contract
from limen.contracts.errors import LimenError
from limen.contracts.identity import Principal
from limen.contracts.inference import Deadline
from limen.runtime.versions.handle import VersionHandle


class RouteReason(StrEnum):
    """Why this version answers."""

    NAMED = "named"
    """The caller named it, by its number or by an alias."""
    ONLY = "only"
    """The caller named none, and the endpoint has one that answers such requests."""
    DRAWN = "drawn"
    """The request's id falls into its share of the endpoint's requests."""
    INSTEAD = "instead"
    """The version that was drawn does not answer just now."""
    FALLBACK = "fallback"
    """Another version failed, whose package declares this one as its fallback."""


class VisitState(msgspec.Struct, gc=False):
    """One request, from the door until its answer. It holds a lease on the version, which is given back exactly once.

    The garbage collector does not see it, so nothing that it holds may hold it for longer than the request lasts.
    """

    principal: Principal
    handle: VersionHandle
    """The version that answers, or has answered: another one after a fallback."""
    reason: RouteReason
    deadline: Deadline
    protocol: str
    """How it came: `rest`, `record`, `grpc`, `typed`; names the series it is counted in."""
    started_at: float
    """When its handling began, on `time.perf_counter()`."""
    id: str
    """What the caller and the log call it."""
    is_retry: bool
    """Whether the caller says that it has asked before."""
    is_wire: bool = False
    """Whether the caller names and shapes tensors as OIP does, so that the answer must be named and shaped so as well."""
    is_fallback: bool = False
    """Whether the declared fallback is answering already."""
    is_held: bool = True
    """Whether the lease has not been given back yet."""
    is_waiting: bool = False
    """Whether a `Call` holds the lease, which gives it back when it ends."""
    failure: LimenError | None = None
    """Why the first version gave no answer, while its fallback is asked."""

    @property
    def contract(self) -> Contract:
        """The contract of the version that answers."""
        return self.handle.contract

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_held and not self.is_waiting:
            self.is_held = False
            self.handle.release()

    def leave(self) -> None:
        """Give the lease back; idempotent."""
        if self.is_held:
            self.is_held = False
            self.handle.release()

    def move(self, handle: VersionHandle) -> None:
        """Hold the lease on another version instead."""
        self.leave()
        self.handle, self.is_held = handle, True
