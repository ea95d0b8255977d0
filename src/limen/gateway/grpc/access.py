"""Request log lines for gRPC calls, as for HTTP: method, version, duration, outcome."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from limen.contracts.errors import Internal, LimenError
from limen.contracts.names import REQUEST_ID
from limen.contracts.outcomes import outcome_of
from limen.gateway.grpc.status import STATUS, Context, next_id, request_id_of
from limen.telemetry.logs import RequestLine, RequestLog, now


class Access:
    """Logs the calls of one server; without a log, nothing."""

    __slots__ = ("_is_known", "_log")

    def __init__(self, log: RequestLog | None, is_known: Callable[[str], bool] = bool) -> None:
        """Log to `log`, which says what is logged, and of models only the names that `is_known`."""
        self._log = log
        self._is_known = is_known

    def answered(self, context: Context, method: str, model: str, version: str, request_id: str, began: float) -> None:
        """Note a call that was answered; `began` is of `perf_counter`."""
        if self._log is not None and self._log.successes:
            took_ms, called = round(1000 * (perf_counter() - began), 3), request_id or request_id_of(context)
            self._log.add(RequestLine(now(), called, "grpc", 0, method, model, version, ms=took_ms))

    def failed(self, context: Context, method: str, model: str, request_id: str, error: Exception, began: float) -> str:
        """Note a call that ended in an error, and return what it is called: for its caller as well."""
        given = request_id_of(context) or request_id
        called = given if REQUEST_ID.fullmatch(given) else next_id()
        if self._log is None:
            return called
        model = model if self._is_known(model) else ""
        known = error if isinstance(error, LimenError) else Internal()
        status: int = STATUS[known.code].value[0]
        line = RequestLine(now(), called, "grpc", status, method, model, known.version, known.reason.value)
        line.outcome = outcome_of(known)
        line.ms = round(1000 * (perf_counter() - began), 3)
        if known is not error:
            line.cause = type(error).__name__
        self._log.add(line)
        return called


UNLOGGED: Final = Access(None)
"""Logs nothing."""
