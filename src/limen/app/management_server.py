"""The HTTP server of the management API: uvicorn, with limits on what an incomplete request may cost.

Bodies are bounded in `limen.admin`; here are connections and heads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from limen.admin.config import AdminConfig
from limen.runtime.sandbox.open_files import caller_files, file_limit

GRACE_S: Final = 5
"""How long requests may take that are running when the server stops."""


class BoundedProtocol(H11Protocol):
    """One connection."""

    _timer: asyncio.TimerHandle | None = None

    def __init__(self, bounds: AdminConfig, *args: Any, **kwargs: Any) -> None:
        """Serve within bounds; uvicorn gives the rest."""
        super().__init__(*args, **kwargs)
        self._bounds = bounds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base
        """Take a caller on, unless there are too many, and wait for its first request."""
        super().connection_made(transport)
        if len(self.connections) > min(self._bounds.max_connections, caller_files(file_limit())):
            transport.abort()
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that is not whole has until its time is up."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_waiting()
        elif self._timer is None and _is_between_requests(before):
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let it go."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(self._bounds.header_timeout_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ManagementServer(uvicorn.Server):
    """Leaves signals to the process it is in."""

    def __init__(self, app: Any, bounds: AdminConfig | None = None) -> None:
        """Serve an ASGI application, within the default bounds when None."""
        bounds = bounds or AdminConfig()
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(BoundedProtocol, bounds),  # type: ignore[arg-type]  # it only makes one for each connection
                ws="none",
                h11_max_incomplete_event_size=bounds.max_header_bytes,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _is_between_requests(cycle: RequestResponseCycle | None) -> bool:
    return cycle is None or cycle.response_complete
