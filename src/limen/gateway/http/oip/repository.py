"""The model repository extension of the Open Inference Protocol over REST: index, load and unload.

Source: Triton, "Model Repository Extension". The name of a repository is part of some paths; there is one, so the index ignores the
name and the other calls refuse it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from limen.contracts.contract import Json
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.oip.repository_index import IndexEntry
from limen.contracts.strict import json as strict_json
from limen.gateway.engine.message import Request, Response
from limen.gateway.engine.routes import Route
from limen.gateway.http.oip.infer import SETTING_TYPES, check_type
from limen.serving.dataplane.operations import Operations

ROOT: Final = "/v2/repository/"
Change = Callable[[str, Mapping[str, Json], str], Awaitable[None]]
"""Takes a model, parameters and the name of a repository."""


class RepositoryApi:
    """The handlers of the repository paths."""

    def __init__(self, operations: Operations) -> None:
        """Answer from what looks after the server."""
        self._operations = operations
        self._changes: dict[str, Change] = {"load": operations.load, "unload": operations.unload}

    def resolve(self, path: str) -> Route | None:
        """Return the route of a path below `/v2/repository`; None when nothing is there."""
        if not path.startswith(ROOT):
            return None
        parts = path.removeprefix(ROOT).split("/")
        is_named = bool(parts[0]) and (parts[1:] == ["index"] or len(parts) == 4)
        repository, rest = (parts[0], parts[1:]) if is_named else ("", parts)
        template = ROOT + "{r}/" * is_named
        if rest == ["index"]:
            return Route({b"POST": self.index}, template + "index")
        if len(rest) == 3 and rest[0] == "models" and (change := self._changes.get(rest[2])) is not None:
            # The model stays out of the route, whose model is the one that a request is counted for.
            handler = partial(_change, change, rest[1], repository)
            return Route({b"POST": handler}, f"{template}models/{{m}}/{rest[2]}", changes_server=True)
        return None

    async def index(self, request: Request) -> Response:
        """List the versions of all models, or those that answer."""
        body = _body(request, "ready")
        is_ready = body.get("ready", False)
        if not isinstance(is_ready, bool):
            raise InvalidArgument.at("ready", "must be true or false")
        found = await self._operations.index(is_ready=is_ready)
        return Response(msgspec.json.encode([_entry(entry) for entry in found]))


async def _change(change: Change, model: str, repository: str, request: Request) -> Response:
    parameters = _body(request, "parameters").get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidArgument.at("parameters", "must be an object")
    await change(model, parameters, repository)
    return Response(b"")


def _body(request: Request, key: str) -> dict[str, Json]:
    """Return the object that a body holds, which may have one key; no body is an empty object."""
    check_type(request.head, SETTING_TYPES)
    body = strict_json.parse(request.body) if request.body.strip() else {}
    if not isinstance(body, dict):
        raise InvalidArgument("the body must be an object")
    if body.keys() - {key}:
        raise InvalidArgument.at("", f"only {key} is allowed", Reason.UNKNOWN_FIELD)
    return body


def _entry(entry: IndexEntry) -> dict[str, str]:
    version = {"version": entry.version} if entry.version else {}
    return {"name": entry.name, **version, "state": entry.state.value, "reason": entry.reason}
