"""Answers, errors and REST of a generated client, identical for every model; assembled by `contracts.clients.code`.

It is text and not code because it runs in programs that have no Limen. What a test generates from it is type-checked and linted.
"""

from __future__ import annotations

from typing import Final

HEAD: Final = """\
from __future__ import annotations

import base64
import json
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
"""

REST: Final = '''\
Parameter = bool | int | float | str


@dataclass(frozen=True)
class Answer:
    """What a call gives: one prediction for each instance, in the same order."""

    predictions: list[Prediction]
    model_name: str
    model_version: str
    """The version that answered."""
    id: str = ""
    """What the request is called in the server's log."""
    fallback: str = ""
    """`constant` or `version` when the declared fallback answered and not the model."""


class CallFailed(Exception):
    """The server refused or failed; the same for both protocols."""

    def __init__(
        self, message: str, status: int | str, reason: str, violations: Sequence[tuple[str, str]], id: str
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        """HTTP status, or the name of the gRPC status."""
        self.reason = reason
        """The code of the error catalogue, such as `VALUE` or `OVERLOADED`."""
        self.violations = tuple(violations)
        """Every mistake: its path, such as `instances[0].income`, and what is allowed there."""
        self.id = id
        """What the request is called in the server's log."""


# ---- REST ----------------------------------------------------------------------------------------------------------------


class RestClient:
    """Calls the model over REST, needs `httpx`. One connection pool; close it, or use it in a `with` block."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        version: str = "",
        timeout_s: float = 10.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take the address of the server; `version` is a number or an alias."""
        self._path = _path(version)
        self._timeout_s = timeout_s
        self._http: Any = import_module("httpx").Client(base_url=base_url, timeout=timeout_s, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self, instances: Sequence[Instance], *, id: str = "", parameters: Mapping[str, Parameter] | None = None
    ) -> Answer:
        """Return the model's predictions; raise `CallFailed` when there are none."""
        headers = {"x-request-timeout-ms": _milliseconds(self._timeout_s)}
        try:
            response = self._http.post(self._path, json=_body(instances, id, parameters), headers=headers)
        except import_module("httpx").HTTPError as error:
            raise _unanswered(error, id) from error
        return _rest_answer(response)


class AsyncRestClient:
    """Calls the model over REST from asynchronous code, needs `httpx`."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        version: str = "",
        timeout_s: float = 10.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take the address of the server; `version` is a number or an alias."""
        self._path = _path(version)
        self._timeout_s = timeout_s
        self._http: Any = import_module("httpx").AsyncClient(base_url=base_url, timeout=timeout_s, headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self, instances: Sequence[Instance], *, id: str = "", parameters: Mapping[str, Parameter] | None = None
    ) -> Answer:
        """Return the model's predictions; raise `CallFailed` when there are none."""
        headers = {"x-request-timeout-ms": _milliseconds(self._timeout_s)}
        try:
            response = await self._http.post(self._path, json=_body(instances, id, parameters), headers=headers)
        except import_module("httpx").HTTPError as error:
            raise _unanswered(error, id) from error
        return _rest_answer(response)


def _unanswered(error: Exception, id: str) -> CallFailed:
    return CallFailed(f"the server does not answer ({type(error).__name__})", "UNAVAILABLE", "NOT_READY", (), id)


def _path(version: str) -> str:
    kind = "versions" if version.isdecimal() else "labels"
    return f"/v1/models/{MODEL}{f'/{kind}/{version}' if version else ''}:predict"


def _milliseconds(timeout_s: float) -> str:
    return str(max(1, math.floor(timeout_s * 1000)))


def _body(instances: Sequence[Instance], id: str, parameters: Mapping[str, Parameter] | None) -> dict[str, Any]:
    rows = [{name: _to_json(value) for name, value in row.items()} for row in instances]
    body: dict[str, Any] = {"instances": rows}
    if id:
        body["id"] = id
    if parameters:
        body["parameters"] = dict(parameters)
    return body


def _to_json(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [_to_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    """Return NumPy's and pandas' values as Python's own; every missing one (NaN, NA, NaT) as None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value)):
        return None
    return value


def _rest_answer(response: Any) -> Answer:
    id = response.headers.get("x-request-id", "")
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.status_code != 200:
        details = [(d.get("path", ""), d.get("reason", "")) for d in body.get("details", [])]
        raise CallFailed(body.get("error", response.reason_phrase), response.status_code, body.get("code", ""), details, id)
    rows = [{name: _from_json(name, value) for name, value in row.items()} for row in body["predictions"]]
    return Answer(cast("list[Prediction]", rows), body["model_name"], body["model_version"], id, body.get("fallback", ""))


def _from_json(name: str, value: Any) -> Any:
    return _unpacked(value) if _OUTPUTS.get(name, _NO_FIELD).is_bytes else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    return base64.b64decode(value) if isinstance(value, str) else value


'''
