"""The statistics paths: which versions are asked for, and what stands around the numbers."""

import msgspec
import pytest

from limen.contracts.errors import InvalidArgument, NotFound
from limen.contracts.oip.statistics import ModelStatistics
from limen.gateway.engine.errors import Refused
from limen.gateway.engine.message import Head, Request
from limen.gateway.engine.routes import Router
from limen.gateway.http.oip.statistics import StatisticsApi

ASKED: list[tuple[str, str]] = []


def source(name: str, version: str) -> list[ModelStatistics]:
    ASKED.append((name, version))
    if name == "nosuch":
        raise NotFound
    return [ModelStatistics(name or "credit", version or "1", inference_count=3)]


def ask(target: bytes):
    api = StatisticsApi(source)
    head = Head(b"GET", target, {}, keep_alive=True)
    head.route = Router(api.fixed_routes(), api.model_routes(), lambda _: True).resolve(target)
    return head.route.handlers[b"GET"](Request(head))


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        (b"/v2/models/stats", ("", "")),
        (b"/v2/models/stats/", ("", "")),
        (b"/v2/models/credit/stats", ("credit", "")),
        (b"/v2/models/credit/stats/", ("credit", "")),
        (b"/v2/models/credit/versions/2/stats", ("credit", "2")),
    ],
)
def test_a_path_asks_for_what_it_names(target: bytes, asked: tuple[str, str]):
    ASKED.clear()
    response = ask(target)
    assert [asked] == ASKED
    [entry] = msgspec.json.decode(response.body)["model_stats"]
    assert (response.status, entry["name"], entry["inference_count"]) == (200, asked[0] or "credit", 3)
    assert entry["latency"] == {"p50_ms": None, "p95_ms": None, "p99_ms": None}


@pytest.mark.parametrize("target", [b"/v2/models/stats/stats", b"/v2/models/stats/versions/2/stats"])
def test_no_model_is_called_stats(target: bytes):
    with pytest.raises(InvalidArgument, match="other than 'stats'"):
        ask(target)


def test_what_is_not_served_is_an_error_as_everywhere():
    with pytest.raises(NotFound):
        ask(b"/v2/models/nosuch/stats")


def test_without_statistics_there_are_no_such_paths():
    api = StatisticsApi(None)
    router = Router(api.fixed_routes(), api.model_routes(), lambda _: True)
    for target in (b"/v2/models/stats", b"/v2/models/credit/stats"):
        with pytest.raises(Refused):
            router.resolve(target)
