"""The HTTP application: admits a request, finds its handler, and turns any outcome into a response.

Called by `gateway.engine.connection`; calls the protocol modules `oip`, `record_api` and `documents`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, Final

from limen.contracts.errors import Internal, LimenError, PermissionDenied
from limen.contracts.names import REQUEST_ID
from limen.contracts.outcomes import OutcomeClass, outcome_of
from limen.contracts.strict.pieces import LARGE_TEXT
from limen.contracts.web import FOREIGN_PAGE, is_for_another_site
from limen.gateway.engine.config import HttpLimits
from limen.gateway.engine.encoding import Inflation, choose, deflate
from limen.gateway.engine.errors import Refused, error_response, status_of, too_large
from limen.gateway.engine.message import Answer, Head, Pending, Request, Response, Streaming
from limen.gateway.engine.routes import Route, Router, Table, not_found
from limen.gateway.http.aside import Aside, does_take_large
from limen.gateway.http.docs.documents import Documents
from limen.gateway.http.oip.infer import PROTOCOL as REST
from limen.gateway.http.oip.infer import OipApi
from limen.gateway.http.oip.log_settings import LogSettingsApi
from limen.gateway.http.oip.repository import RepositoryApi
from limen.gateway.http.oip.statistics import StatisticsApi
from limen.gateway.http.records.predict import PROTOCOL as RECORD
from limen.gateway.http.records.predict import RecordApi
from limen.gateway.http.records.streams import StreamApi
from limen.serving.dataplane.plane import DataPlane
from limen.telemetry.logs import RequestLine, RequestLog, now

LOG = logging.getLogger("limen.gateway")
PROTOCOLS: Final = {"v1": RECORD, "v2": REST}
"""What requests are counted as, by the first part of their path."""
_VARY: Final = b"vary: accept-encoding\r\n"


class HttpApplication:
    """Everything behind the HTTP engine of one worker."""

    def __init__(
        self,
        plane: DataPlane,
        log: RequestLog,
        limits: HttpLimits | None = None,
        hosts: frozenset[str] | None = None,
        grpc_target: str = "127.0.0.1:8001",
    ) -> None:
        """Serve a data plane.

        Args:
            plane: where requests are answered.
            log: where failures are told.
            limits: body limits; the defaults when None.
            hosts: host names a request may be addressed to; any when None. A server on loopback names its own, so that a
                page in a browser cannot reach it through a name of its own (DNS rebinding).
            grpc_target: where the docs page tells people to call over gRPC.
        """
        self.limits = limits or HttpLimits()
        """May be replaced at any time."""
        self._log = log
        self._plane = plane
        self._lanes = plane.admission.lanes
        self._hosts = None if hosts is None else {h.encode().lower() for h in hosts}
        self._known_hosts: set[bytes] = set()
        aside = Aside()
        oip, records, streams = OipApi(plane, aside), RecordApi(plane, aside), StreamApi(plane, aside)
        directory = plane.directory
        documents = Documents(directory, grpc_target)
        counted = StatisticsApi(directory.statistics if directory.has_statistics else None)
        fixed = [api.fixed_routes() for api in (oip, records, documents, counted)]
        per_model = [api.model_routes() for api in (oip, records, streams, documents, counted)]
        others: Callable[[str], Route | None] | None = None
        if plane.operations is not None:
            logged = LogSettingsApi(plane.operations)
            fixed, per_model = [*fixed, logged.fixed_routes()], [*per_model, logged.model_routes()]
            others = RepositoryApi(plane.operations).resolve
        self._router = Router(_merged(fixed), _merged(per_model), directory.is_known, others)
        # Unique over workers and restarts, so that an id in a log means one request.
        self._id_prefix = os.urandom(6).hex()
        self._id_count = 0
        self.errors: Counter[int] = Counter()
        """Requests that were answered with an error, by status."""

    def next_id(self) -> str:
        """Return a new request id."""
        self._id_count += 1
        return f"{self._id_prefix}-{self._id_count:x}"

    def admit(self, head: Head) -> None:
        """Look at a head whose body has not been read yet, and note what its headers mean.

        Routing errors are answered after the body; what must not be read at all is refused here.

        Raises:
            Refused: a body over the limit, or a host that is not this server.
        """
        headers = head.headers
        host = headers.get(b"host")
        if host is None:
            raise Refused(400, "BAD_REQUEST", "the Host header is required")
        if host not in self._known_hosts:
            self._check_host(host)
        length = headers.get(b"content-length")
        if length is not None and int(length) > self.limits.max_body_bytes:
            raise too_large(self.limits.max_body_bytes)
        try:
            head.route = self._router.resolve(head.target)
            # A body without a type is taken for JSON, and a page may send one without asking first.
            if head.method == b"POST" and (head.route.changes_server or head.media_type is None):
                _refuse_pages(headers)
        except (Refused, LimenError) as error:
            head.route = error
        # A bad id is replaced and not refused: it is the caller's tracing, not its request.
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        head.given_id = given if REQUEST_ID.fullmatch(given) else ""
        if head.media_type is not None:
            head.media_type = head.media_type.partition(b";")[0].strip().lower()
        if head.varies:
            head.answer_coding = choose(headers[b"accept-encoding"])

    def unknown_method(self, target: bytes) -> Refused:
        """Return the refusal of a method that HTTP does not know: of this path like any other method it does not take."""
        try:
            return _wrong_method(self._router.resolve(target))
        except Refused as refused:
            return refused
        except LimenError:
            return not_found()

    def handle(self, request: Request) -> Answer:
        """Return the response to a whole request, or what is to become one. Raises nothing.

        What comes of a `Pending` or a `Streaming` is handed to `settle` or `told`.
        """
        head = request.head
        request.id, request.began = head.given_id or self.next_id(), perf_counter()
        try:
            route = head.route
            if type(route) is not Route:
                raise route
            handler = route.handlers.get(head.method)
            if handler is None:
                handler = route.handlers.get(b"GET") if head.method == b"HEAD" else None
                if handler is None:
                    raise _wrong_method(route)
            # Nothing has a lane as long as nothing has had to wait.
            if self._lanes and head.method == b"POST":
                self._plane.refuse_early(route.model, is_retry=head.is_retry)
            if head.coding is not None:
                self._unpack(request)
            if request.is_large and not does_take_large(handler):
                raise too_large(LARGE_TEXT)
            answer = handler(request)
        except Exception as exc:  # noqa: BLE001  told apart by _failed
            return self._failed(request, exc)
        if type(answer) is Response:
            return self._finished(request, answer)
        return answer if isinstance(answer, (Pending, Streaming)) else self._wait(request, answer)

    def _unpack(self, request: Request) -> None:
        """Take the content encoding off a body, unless that is more than a moment's work."""
        inflation = Inflation(request.pieces or [request.body], request.head.coding or b"", self.limits.max_body_bytes)
        body = None if request.pieces else inflation.read(LARGE_TEXT)
        if body is None:
            request.packed, body = inflation, b""
        request.body, request.pieces = bytes(body), []

    def settle(self, request: Request, outcome: Response | Exception) -> Response:
        """Return the response to what came of a request that had to wait. Raises nothing."""
        return self._failed(request, outcome) if isinstance(outcome, Exception) else self._finished(request, outcome)

    def told(self, request: Request, exc: Exception) -> LimenError | Refused:
        """Note a failure, and return what the caller is told of it."""
        if isinstance(exc, (Refused, LimenError)):
            error: Refused | LimenError = exc
        else:  # a bug of ours must not become a caller's stack trace
            LOG.error("unexpected failure in the HTTP gateway, request_id=%s", request.id, exc_info=exc)
            error = Internal()
            error.__cause__ = exc
        self.note(request, error)
        return error

    def note_success(self, request: Request, status: int) -> None:
        """Log a request that was answered, if such are logged."""
        if self._log.successes:
            self._log.add(_line(request, status))

    async def _wait(self, request: Request, answer: Any) -> Response:
        try:
            response = await answer
        except Exception as exc:  # noqa: BLE001  told apart by _failed
            return self._failed(request, exc)
        return self._finished(request, response)

    def _finished(self, request: Request, response: Response) -> Response:
        if request.head.varies and len(response.body) >= self.limits.compress_from_bytes:
            _compress(request.head.answer_coding, response)
        if self._log.successes:
            self._log.add(_line(request, response.status, response.version))
        return response

    def _failed(self, request: Request, exc: Exception) -> Response:
        return error_response(self.told(request, exc), request.id)

    def note(self, request: Request, error: LimenError | Refused) -> None:
        """Log a request that failed, and count it unless the data plane has."""
        route = request.head.route
        if isinstance(error, LimenError) and isinstance(route, Route) and route.model:
            self._plane.finaliser.refused(route.model, route.version, PROTOCOLS[route.label[1:3]], error)
        status = status_of(error)
        self.errors[status] += 1
        line = _line(request, status, error.version if isinstance(error, LimenError) else "")
        if line.model and not self._plane.directory.is_known(line.model):
            line.model = line.version = ""
        line.code = error.code if isinstance(error, Refused) else error.reason.value
        line.outcome = outcome_of(error) if isinstance(error, LimenError) else OutcomeClass.CALLER
        if isinstance(error, Internal) and error.__cause__ is not None:
            line.cause = type(error.__cause__).__name__
        self._log.add(line)

    def _check_host(self, host: bytes) -> None:
        name = host.lower().strip()
        if not name or any(c in name for c in b", /\\@?#"):
            raise Refused(400, "BAD_REQUEST", "the Host header must name one host")
        if not name.endswith(b"]"):
            stem, colon, port = name.rpartition(b":")
            name = stem if colon and port.isdigit() else name
        if self._hosts is not None and name.strip(b"[]") not in self._hosts:
            raise Refused(421, "MISDIRECTED", "this server does not serve that host")
        if len(self._known_hosts) < 64:
            self._known_hosts.add(host)


def _merged(tables: Iterable[Table]) -> Table:
    return {path: handlers for table in tables for path, handlers in table.items()}


def _refuse_pages(headers: dict[bytes, bytes]) -> None:
    """Refuse what a browser sends for a page of another site.

    Raises:
        PermissionDenied: it does.
    """
    host, origin, site = (headers.get(name) for name in (b"host", b"origin", b"sec-fetch-site"))
    found = [None if text is None else text.decode("latin-1") for text in (origin, site)]
    if is_for_another_site((host or b"").decode("latin-1"), *found):
        raise PermissionDenied(FOREIGN_PAGE)


def _wrong_method(route: Route) -> Refused:
    allow = route.allow
    text = f"this path supports {allow.decode()}"
    return Refused(405, "METHOD_NOT_ALLOWED", text, head=b"allow: %s\r\n" % allow)


def _compress(coding: bytes, response: Response) -> None:
    response.head += _VARY
    if coding:
        response.body = deflate(response.body, coding)
        response.head += b"content-encoding: %s\r\n" % coding


def _line(request: Request, status: int, version: str = "") -> RequestLine:
    line = RequestLine(now(), request.id, "http", status)
    route = request.head.route
    if isinstance(route, Route):
        line.route, line.model, line.version = route.label, route.model, version or route.version
    if request.began:
        line.ms = round(1000 * (perf_counter() - request.began), 3)
    return line
