"""The logging extension of the Open Inference Protocol over REST, and the answer to the unsupported trace extension.

Source: Triton, "Logging Extension" and "Trace Extension".
"""

from __future__ import annotations

import msgspec

from limen.contracts.errors import InvalidArgument, Unsupported
from limen.contracts.strict import json as strict_json
from limen.gateway.engine.message import Request, Response
from limen.gateway.engine.routes import Table
from limen.gateway.http.oip.infer import SETTING_TYPES, check_type
from limen.serving.dataplane.operations import Operations


class LogSettingsApi:
    """The handlers of the logging and trace paths."""

    def __init__(self, operations: Operations) -> None:
        """Answer from what looks after the server."""
        self._operations = operations

    def fixed_routes(self) -> Table:
        """Return the paths that name no model."""
        return {
            "/v2/logging": {b"GET": self.show, b"POST": self.change},
            "/v2/trace/setting": {b"GET": no_traces, b"POST": no_traces},
        }

    def model_routes(self) -> Table:
        """Return what may follow a model."""
        return {"/v2/models/{m}/trace/setting": {b"GET": no_traces, b"POST": no_traces}}

    async def show(self, request: Request) -> Response:
        """Say what is logged."""
        return await self._settings({})

    async def change(self, request: Request) -> Response:
        """Change what all gateways log, and say it."""
        check_type(request.head, SETTING_TYPES)
        settings = strict_json.parse(request.body)
        if not isinstance(settings, dict):
            raise InvalidArgument("the body must be an object")
        return await self._settings(settings)

    async def _settings(self, changes: dict[str, object]) -> Response:
        return Response(msgspec.json.encode(await self._operations.log(changes)))


def no_traces(_: Request) -> Response:
    """Say that there are no traces whose making could be set."""
    raise Unsupported("the trace extension is not supported")
