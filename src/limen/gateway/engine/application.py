"""The HTTP engine's interface to an application: it checks heads, answers requests and is told the outcome.

`gateway.http.app` is the gateway's; `gateway.http.metrics_app` is a small one of its own. Called by `gateway.engine.connection`.
"""

from __future__ import annotations

from typing import Protocol

from limen.contracts.errors import LimenError
from limen.gateway.engine.errors import Refused
from limen.gateway.engine.message import Answer, Head, Request, Response


class Application(Protocol):
    """Everything behind the HTTP engine of one listener. Used from one event loop."""

    def next_id(self) -> str:
        """Return a new request id."""
        ...

    def admit(self, head: Head) -> None:
        """Look at a head whose body has not been read yet, and note what its headers mean.

        Raises:
            Refused: the body must not even be read.
        """
        ...

    def unknown_method(self, target: bytes) -> Refused:
        """Return the refusal of a method that HTTP does not know."""
        ...

    def handle(self, request: Request) -> Answer:
        """Return the response to a whole request, or what is to become one; sets the request's id. Raises nothing.

        What comes of a `Pending` or a `Streaming` is handed to `settle` or `told`.
        """
        ...

    def settle(self, request: Request, outcome: Response | Exception) -> Response:
        """Return the response to what came of a request that had to wait. Raises nothing."""
        ...

    def told(self, request: Request, exc: Exception) -> LimenError | Refused:
        """Take note of a failure, and return what the caller is told of it."""
        ...

    def note(self, request: Request, error: LimenError | Refused) -> None:
        """Take note of a request that failed."""
        ...

    def note_success(self, request: Request, status: int) -> None:
        """Take note of an answer that went out piece by piece."""
        ...
