"""Maps request targets to handlers.

A target is decoded once and matched whole; whatever does not match is 404, so no second spelling of a path exists. Targets of
known models are remembered, so that the hot path is one dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from limen.contracts.errors import LimenError
from limen.contracts.names import parse_alias, parse_called, parse_version
from limen.gateway.engine.errors import Refused
from limen.gateway.engine.message import Handler

MAX_REMEMBERED: Final = 4096
MAX_TARGET_BYTES: Final = 4096
CHANGING: Final = frozenset({"/v2/logging", "/v2/trace/setting", "/v2/models/{m}/trace/setting"})
"""Paths whose POST changes what the server does for others."""


class Route:
    """What a target means: its handlers by method, and the model it names."""

    __slots__ = ("changes_server", "handlers", "label", "model", "version")

    def __init__(
        self,
        handlers: Mapping[bytes, Handler],
        label: str,
        model: str = "",
        version: str = "",
        *,
        changes_server: bool = False,
    ) -> None:
        """Bind handlers to a model and version.

        Args:
            handlers: what answers, by method.
            label: the path template, for logs.
            model: the model that a request is counted for.
            version: its version, when the path names one.
            changes_server: whether a POST changes what the server does for others.
        """
        self.handlers = handlers
        self.label = label
        self.model = model
        self.version = version
        self.changes_server = changes_server

    @property
    def allow(self) -> bytes:
        """The methods of this route, for the Allow header."""
        return b", ".join(sorted({*self.handlers, *((b"HEAD",) if b"GET" in self.handlers else ())}))


Table = Mapping[str, Mapping[bytes, Handler]]
"""Path template to handlers by method. `{m}` stands for the model part."""


class Router:
    """Resolves targets against a fixed table."""

    def __init__(
        self,
        fixed: Table,
        per_model: Table,
        is_known: Callable[[str], bool],
        others: Callable[[str], Route | None] | None = None,
    ) -> None:
        """Take the server's own paths and, for `/v1/models/` and `/v2/models/`, what may follow a model.

        Args:
            fixed: whole paths.
            per_model: `/v1/models/{m}` or `/v2/models/{m}` and a suffix; the version part is understood.
            is_known: whether a model of that name exists now; only such targets are remembered.
            others: resolves paths that are neither, and gives None for one that it does not know.
        """
        self._fixed = fixed
        self._per_model = per_model
        self._is_known = is_known
        self._others = others
        self._remembered: dict[bytes, Route] = {}

    def resolve(self, target: bytes) -> Route:
        """Return the route of a request target.

        Raises:
            Refused: 404 for a path that is not served, 400 for one that is not a path.
            LimenError: a model name or version that is not one.
        """
        route = self._remembered.get(target)
        if route is not None:
            return route
        path = _path(target)
        handlers = self._fixed.get(path)
        if handlers is not None:
            return Route(handlers, path, changes_server=path in CHANGING)
        other = self._others(path) if self._others is not None else None
        if other is not None:
            return other
        route = self._model_route(path)
        if self._is_known(route.model):
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[target] = route
        return route

    def _model_route(self, path: str) -> Route:
        parts = path.split("/")
        if len(parts) < 4 or parts[0] or parts[1] not in ("v1", "v2") or parts[2] != "models":
            raise not_found()
        root = f"/{parts[1]}/models/{{m}}"
        name, rest = parts[3], parts[4:]
        verb = ""
        if parts[1] == "v1":
            last = rest[-1] if rest else name
            stem, colon, action = last.partition(":")
            if colon:
                verb = f":{action}"
                name, rest = (name, [*rest[:-1], stem]) if rest else (stem, rest)
            elif not rest and name.endswith(".proto") and not self._is_known(name):
                name, verb = name.removesuffix(".proto"), ".proto"
        version: str | None = None
        if len(rest) >= 2 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        elif len(rest) >= 2 and rest[0] == "labels" and parts[1] == "v1":
            # As TensorFlow Serving writes it.
            name, rest = f"{name}@{parse_alias(rest[1])}", rest[2:]
        suffix = "".join(f"/{part}" for part in rest) + verb
        handlers = self._per_model.get(root + suffix)
        if handlers is None:
            raise not_found()
        parse_called(name)
        if version is not None:
            parse_version(version)
        label = root + suffix
        return Route(handlers, label, name, version or "", changes_server=label in CHANGING)


def not_found(text: str = "no such path") -> Refused:
    """Return the refusal of a path that is not served."""
    return Refused(404, "NOT_FOUND", text)


def _path(target: bytes) -> str:
    """Return the path of an origin-form target, decoded once, without one trailing slash."""
    if len(target) > MAX_TARGET_BYTES:
        raise Refused(414, "TARGET_TOO_LONG", f"the request target may have at most {MAX_TARGET_BYTES} bytes")
    raw = target.partition(b"?")[0]
    if not raw.startswith(b"/"):
        raise Refused(400, "BAD_REQUEST", "the request target must be a path")
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Refused(400, "BAD_REQUEST", "the path is not valid UTF-8") from None
    # An encoded slash would make two spellings of one path; a literal one is the only separator.
    if path.count("/") != raw.count(b"/") or not path.isprintable():
        raise not_found()
    return path[:-1] if len(path) > 1 and path.endswith("/") and not path.endswith("//") else path


def is_error(route: object) -> bool:
    """Return whether resolving ended in an error that is still to be answered."""
    return isinstance(route, (Refused, LimenError))
