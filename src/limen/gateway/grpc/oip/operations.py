"""The management extensions of the Open Inference Protocol over gRPC: model configuration, model repository and logging.

Source: Triton's `grpc_service.proto` and `model_config.proto`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from limen.contracts.contract import Json
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.messages import parse
from limen.gateway.grpc.status import Context, Unary
from limen.serving.dataplane.model_config import InputConfig, InstanceGroup, ModelConfig, OutputConfig
from limen.serving.dataplane.operations import Operations


def config_call(model_config: Callable[[str, str], ModelConfig]) -> Unary:
    """Return the method `ModelConfig`, which may raise.

    Args:
        model_config: gives the configuration of a model and version; the version may be empty.
    """

    async def answer(data: bytes, _: Context) -> bytes:
        asked = parse(pb.ModelConfigRequest, data)
        found = encode_config(model_config(asked.name, asked.version))
        return pb.ModelConfigResponse(config=found).SerializeToString()

    return answer


def operation_calls(operations: Operations) -> dict[str, Unary]:
    """Return the methods of the model repository and logging extensions by name; they may raise."""

    async def index(data: bytes, _: Context) -> bytes:
        asked = parse(pb.RepositoryIndexRequest, data)
        found = await operations.index(is_ready=asked.ready)
        models = [
            pb.RepositoryIndexResponse.ModelIndex(name=e.name, version=e.version, state=e.state.value, reason=e.reason)
            for e in found
        ]
        return pb.RepositoryIndexResponse(models=models).SerializeToString()

    async def load(data: bytes, _: Context) -> bytes:
        asked = parse(pb.RepositoryModelLoadRequest, data)
        await operations.load(asked.model_name, _values(asked.parameters), asked.repository_name)
        return pb.RepositoryModelLoadResponse().SerializeToString()

    async def unload(data: bytes, _: Context) -> bytes:
        asked = parse(pb.RepositoryModelUnloadRequest, data)
        await operations.unload(asked.model_name, _values(asked.parameters), asked.repository_name)
        return pb.RepositoryModelUnloadResponse().SerializeToString()

    async def log_settings(data: bytes, _: Context) -> bytes:
        asked = parse(pb.LogSettingsRequest, data)
        answer = pb.LogSettingsResponse()
        for key, value in (await operations.log(_values(asked.settings))).items():
            _set(answer.settings[key], value)
        return answer.SerializeToString()

    return {
        "RepositoryIndex": index,
        "RepositoryModelLoad": load,
        "RepositoryModelUnload": unload,
        "LogSettings": log_settings,
    }


def encode_config(config: ModelConfig) -> pb.ModelConfig:
    """Return the message of a version's configuration."""
    policy = pb.ModelVersionPolicy.Specific(versions=config.version_policy.specific.versions)
    message = pb.ModelConfig(
        name=config.name,
        platform=config.platform,
        backend=config.backend,
        version_policy=pb.ModelVersionPolicy(specific=policy),
        max_batch_size=config.max_batch_size,
        input=[_input(i) for i in config.input],
        output=[_output(o) for o in config.output],
        instance_group=[_group(g) for g in config.instance_group],
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=config.model_transaction_policy.decoupled),
    )
    if config.dynamic_batching is not None:
        # Said even when the delay is none.
        message.dynamic_batching.SetInParent()
        message.dynamic_batching.max_queue_delay_microseconds = config.dynamic_batching.max_queue_delay_microseconds
    return message


def _input(found: InputConfig) -> pb.ModelInput:
    return pb.ModelInput(name=found.name, data_type=found.data_type, dims=found.dims, optional=found.optional)


def _output(found: OutputConfig) -> pb.ModelOutput:
    return pb.ModelOutput(name=found.name, data_type=found.data_type, dims=found.dims)


def _group(found: InstanceGroup) -> pb.ModelInstanceGroup:
    return pb.ModelInstanceGroup(name=found.name, count=found.count, kind=found.kind)


def _values(parameters: Mapping[str, Any]) -> dict[str, Json]:
    """Return the values of parameters of any kind; None for one that holds nothing."""
    kinds = {key: value.WhichOneof("parameter_choice") for key, value in parameters.items()}
    return {key: getattr(parameters[key], kind) if kind else None for key, kind in kinds.items()}


def _set(into: pb.LogSettingsResponse.SettingValue, value: bool | int | str) -> None:
    if isinstance(value, bool):
        into.bool_param = value
    elif isinstance(value, int):
        into.uint32_param = value
    else:
        into.string_param = value
