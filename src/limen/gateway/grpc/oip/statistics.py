"""The statistics extension of the Open Inference Protocol over gRPC."""

from __future__ import annotations

from collections.abc import Callable

from limen.contracts.oip.statistics import (
    BatchStatistics,
    Duration,
    InferStatistics,
    ModelStatistics,
    ResponseStatistics,
)
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.messages import parse
from limen.gateway.grpc.status import Context, Unary


def statistics_call(statistics: Callable[[str, str], list[ModelStatistics]]) -> Unary:
    """Return the method `ModelStatistics`, which may raise.

    Args:
        statistics: gives the statistics of a model and version, each empty for all of them.
    """

    async def model_statistics(data: bytes, _: Context) -> bytes:
        asked = parse(pb.ModelStatisticsRequest, data)
        found = [encode_statistics(s) for s in statistics(asked.name, asked.version)]
        return pb.ModelStatisticsResponse(model_stats=found).SerializeToString()

    return model_statistics


def encode_statistics(found: ModelStatistics) -> pb.ModelStatistics:
    """Return the message of one version's statistics; it has no place for percentiles."""
    return pb.ModelStatistics(
        name=found.name,
        version=found.version,
        last_inference=found.last_inference,
        inference_count=found.inference_count,
        execution_count=found.execution_count,
        inference_stats=_infer(found.inference_stats),
        batch_stats=[_batch(b) for b in found.batch_stats],
        memory_usage=[pb.MemoryUsage(type=m.type, id=m.id, byte_size=m.byte_size) for m in found.memory_usage],
        response_stats={index: _response(r) for index, r in found.response_stats.items()},
    )


def _infer(found: InferStatistics) -> pb.InferStatistics:
    return pb.InferStatistics(
        success=_duration(found.success),
        fail=_duration(found.fail),
        queue=_duration(found.queue),
        compute_input=_duration(found.compute_input),
        compute_infer=_duration(found.compute_infer),
        compute_output=_duration(found.compute_output),
        cache_hit=_duration(found.cache_hit),
        cache_miss=_duration(found.cache_miss),
    )


def _batch(found: BatchStatistics) -> pb.InferBatchStatistics:
    return pb.InferBatchStatistics(
        batch_size=found.batch_size,
        compute_input=_duration(found.compute_input),
        compute_infer=_duration(found.compute_infer),
        compute_output=_duration(found.compute_output),
    )


def _response(found: ResponseStatistics) -> pb.InferResponseStatistics:
    return pb.InferResponseStatistics(
        compute_infer=_duration(found.compute_infer),
        compute_output=_duration(found.compute_output),
        success=_duration(found.success),
        fail=_duration(found.fail),
        empty_response=_duration(found.empty_response),
        cancel=_duration(found.cancel),
    )


def _duration(found: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=found.count, ns=found.ns)
