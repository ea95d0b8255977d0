"""The message of the statistics call: every number in its place, by the protocol's field numbers."""

from typing import Any, cast

import pytest

from limen.contracts.errors import InvalidArgument
from limen.contracts.oip.statistics import (
    BatchStatistics,
    Duration,
    InferStatistics,
    MemoryUsage,
    ModelStatistics,
    ResponseStatistics,
)
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.calls import Calls
from limen.gateway.grpc.oip.service import InferenceService
from limen.gateway.grpc.oip.statistics import encode_statistics, statistics_call
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.plane import DataPlane
from limen.telemetry.metrics.totals import Totals
from tests.unit.runtime.fakes import FakePlacement

NUMBERS = {
    pb.ModelStatisticsRequest: "name version",
    pb.ModelStatisticsResponse: "model_stats",
    pb.ModelStatistics: "name version last_inference inference_count execution_count inference_stats batch_stats "
    "memory_usage response_stats",
    pb.InferStatistics: "success fail queue compute_input compute_infer compute_output cache_hit cache_miss",
    pb.InferBatchStatistics: "batch_size compute_input compute_infer compute_output",
    pb.InferResponseStatistics: "compute_infer compute_output success fail empty_response cancel",
    pb.StatisticDuration: "count ns",
    pb.MemoryUsage: "type id byte_size",
}
"""The fields of each message, numbered from 1."""

D = [Duration(i, i * 1000) for i in range(20)]
FOUND = ModelStatistics(
    name="credit",
    version="3",
    last_inference=1_700_000_000_250,
    inference_count=80,
    execution_count=20,
    inference_stats=InferStatistics(*D[1:9]),
    response_stats={"0": ResponseStatistics(*D[9:15])},
    batch_stats=(BatchStatistics(8, *D[15:18]),),
    memory_usage=(MemoryUsage("CPU", 0, 4096),),
)


@pytest.mark.parametrize("message", NUMBERS, ids=lambda m: m.DESCRIPTOR.name)
def test_field_numbers_are_the_protocols(message):
    expected = {name: i for i, name in enumerate(NUMBERS[message].split(), 1)}
    assert {f.name: f.number for f in message.DESCRIPTOR.fields} == expected


def test_every_number_has_its_place():
    message = encode_statistics(FOUND)
    assert (message.name, message.version, message.last_inference) == ("credit", "3", 1_700_000_000_250)
    assert (message.inference_count, message.execution_count) == (80, 20)
    infer = message.inference_stats
    leaves = [getattr(infer, f.name) for f in infer.DESCRIPTOR.fields]
    [batch], response = message.batch_stats, message.response_stats["0"]
    leaves += [getattr(response, f.name) for f in response.DESCRIPTOR.fields]
    leaves += [batch.compute_input, batch.compute_infer, batch.compute_output]
    assert [(leaf.count, leaf.ns) for leaf in leaves] == [(d.count, d.ns) for d in D[1:18]]
    assert batch.batch_size == 8
    [memory] = message.memory_usage
    assert (memory.type, memory.id, memory.byte_size) == ("CPU", 0, 4096)


async def test_the_call_asks_for_what_is_named():
    asked = []

    def source(name: str, version: str) -> list[ModelStatistics]:
        asked.append((name, version))
        return [FOUND]

    data = pb.ModelStatisticsRequest(name="credit", version="3").SerializeToString()
    answer = pb.ModelStatisticsResponse.FromString(await statistics_call(source)(data, cast("Any", None)))
    assert asked == [("credit", "3")]
    assert [found.name for found in answer.model_stats] == ["credit"]


async def test_what_is_no_message_is_the_callers_mistake():
    with pytest.raises(InvalidArgument):
        await statistics_call(lambda *_: [])(b"\xff", cast("Any", None))


def test_the_method_is_offered_only_with_statistics():
    for read_totals in (None, Totals):
        plane = DataPlane(VersionManager(FakePlacement()), read_totals=read_totals)
        assert ("ModelStatistics" in InferenceService(plane, Calls(), 4).handlers()) is (read_totals is not None)
