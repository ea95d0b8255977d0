"""The metrics listener: two paths, on an engine that is the gateway's."""

import asyncio
import gzip
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from limen.contracts.errors import Internal, Unavailable
from limen.gateway.engine.application import Application
from limen.gateway.engine.errors import Refused
from limen.gateway.engine.message import Head, Request, Response
from limen.gateway.engine.server import HttpServer
from limen.gateway.http.metrics_app import MetricsApplication

TEXT = b"# HELP up 1 if it is\n# TYPE up gauge\n" + b"".join(b'up{process="p%d"} 1.0\n' % i for i in range(100))
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def ask(
    application: MetricsApplication,
    target: bytes,
    method: bytes = b"GET",
    host: bytes = b"localhost:8003",
    **headers: bytes,
) -> Response:
    lines = {b"host": host} | {k.replace("_", "-").encode(): v for k, v in headers.items()}
    head = Head(method, target, lines, keep_alive=True)
    application.admit(head)
    answer = application.handle(Request(head))
    return answer if isinstance(answer, Response) else asyncio.run(answer)


def made(*texts: bytes) -> Callable[[], Awaitable[bytes]]:
    """Return what makes one text after the other, and the last one from then on."""
    left = list(texts)

    async def text() -> bytes:
        return left.pop(0) if len(left) > 1 else left[0]

    return text


@pytest.fixture
def application() -> MetricsApplication:
    return MetricsApplication(made(TEXT), LOCAL)


def test_metrics_are_prometheus_text(application: MetricsApplication):
    response = ask(application, b"/metrics")
    assert (response.status, response.content_type, response.body) == (
        200,
        b"text/plain; version=0.0.4; charset=utf-8",
        TEXT,
    )
    [family] = text_string_to_metric_families(response.body.decode())
    assert len(family.samples) == 100


def test_the_text_is_made_anew_for_every_request():
    application = MetricsApplication(made(b"1", b"2"))
    assert [ask(application, b"/metrics").body for _ in range(2)] == [b"1", b"2"]


def test_health_says_that_the_process_answers(application: MetricsApplication):
    assert ask(application, b"/health").body == b'{"live":true}'


def test_a_scraper_that_takes_gzip_gets_it(application: MetricsApplication):
    response = ask(application, b"/metrics", accept_encoding=b"gzip")
    assert b"content-encoding: gzip\r\n" in response.head
    assert gzip.decompress(response.body) == TEXT
    assert b"content-encoding" not in ask(application, b"/metrics", accept_encoding=b"identity").head


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        (b"/", b"GET", 404),
        (b"/v2/models/credit", b"GET", 404),
        (b"/v1/models/CREDIT/contract", b"GET", 404),
        (b"/metrics", b"POST", 405),
        (b"/metrics", b"HEAD", 200),
        (b"/metrics/", b"GET", 200),
        (b"/metrics?x=1", b"GET", 200),
    ],
)
def test_there_is_nothing_else(application: MetricsApplication, target: bytes, method: bytes, status: int):
    assert ask(application, target, method).status == status


@pytest.mark.parametrize("host", [b"localhost", b"127.0.0.1:8003", b"[::1]:8003", b"LOCALHOST"])
def test_it_answers_for_its_own_names(application: MetricsApplication, host: bytes):
    assert ask(application, b"/health", host=host).status == 200


@pytest.mark.parametrize(("host", "status"), [(b"evil.example", 421), (b"evil.example:8003", 421), (b"", 421)])
def test_it_answers_for_nobody_else(application: MetricsApplication, host: bytes, status: int):
    with pytest.raises(Refused) as refused:
        ask(application, b"/metrics", host=host)
    assert refused.value.status == status


def test_a_request_needs_a_host(application: MetricsApplication):
    with pytest.raises(Refused) as refused:
        application.admit(Head(b"GET", b"/metrics", {}, keep_alive=True))
    assert refused.value.status == 400


def test_a_failure_says_nothing_about_its_inside(caplog: pytest.LogCaptureFixture):
    async def text() -> bytes:
        raise RuntimeError("secret")

    with caplog.at_level(logging.ERROR):
        response = ask(MetricsApplication(text), b"/metrics")
    assert response.status == 500
    assert b"secret" not in response.body
    assert "unexpected failure" in caplog.text


def test_what_the_engine_asks_for_is_there(application: MetricsApplication):
    served: Application = application
    request = Request(Head(b"GET", b"/metrics", {}, keep_alive=True))
    assert served.unknown_method(b"/metrics").status == 405
    assert served.unknown_method(b"/nothing").status == 404
    assert served.next_id() != served.next_id()
    assert served.settle(request, Unavailable()).status == 503
    assert isinstance(served.told(request, KeyError()), Internal)
    served.note(request, Internal())
    served.note_success(request, 200)


@pytest.fixture
async def port(application: MetricsApplication) -> AsyncIterator[int]:
    server = HttpServer(application)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    await server.start(listener)
    yield listener.getsockname()[1]
    await server.stop()


async def test_the_engine_serves_it(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for target in (b"/health", b"/metrics", b"/nothing"):
        writer.write(b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % target)
    writer.write(b"DELETE /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
    writer.write_eof()
    async with asyncio.timeout(60):
        answers = await reader.read()
    writer.close()
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.count(b"HTTP/1.1 404 ") == 1
    assert answers.count(b"HTTP/1.1 405 ") == 1
    assert TEXT in answers
