"""The protocol's model configuration, made from what a loaded version promises and how it is run. Called by `serving.dataplane.plane`.

Only what is true of this server is said: what a field means to Triton is what it means here, and fields for what there is not are absent.

Source: Triton, "Model Configuration Extension" and `ModelConfig`; whole numbers are numbers in its JSON.
"""

from __future__ import annotations

import msgspec

from limen.contracts.contract import Field
from limen.contracts.oip.platform import platform_of
from limen.runtime.versions.handle import VersionHandle

MICROSECONDS = 1000


class InputConfig(msgspec.Struct, frozen=True):
    """One input."""

    name: str
    data_type: str
    """`TYPE_` and the datatype; text and bytes are TYPE_STRING."""
    dims: tuple[int, ...]
    """Its shape without the batch axis, if there is one; -1 is variable, and one value a row has none."""
    optional: bool


class OutputConfig(msgspec.Struct, frozen=True):
    """One output; as `InputConfig`."""

    name: str
    data_type: str
    dims: tuple[int, ...]


class SpecificVersions(msgspec.Struct, frozen=True):
    """Versions by their numbers."""

    versions: tuple[int, ...]


class VersionPolicy(msgspec.Struct, frozen=True):
    """Which versions are offered: an endpoint names them one by one."""

    specific: SpecificVersions


class InstanceGroup(msgspec.Struct, frozen=True):
    """The copies of the model that run."""

    name: str
    kind: str
    count: int


class DynamicBatching(msgspec.Struct, frozen=True):
    """How requests are run together."""

    max_queue_delay_microseconds: int
    """How long rows may wait for company while the model is idle."""


class TransactionPolicy(msgspec.Struct, frozen=True):
    """How many answers a request gets."""

    decoupled: bool
    """Any number of them, in a stream."""


class ModelConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one version is run."""

    name: str
    platform: str
    backend: str
    version_policy: VersionPolicy
    max_batch_size: int
    """Rows that are run at once; a larger request is run in parts, as far as the contract allows it. 0 without a batch axis."""
    input: tuple[InputConfig, ...]
    output: tuple[OutputConfig, ...]
    instance_group: tuple[InstanceGroup, ...]
    model_transaction_policy: TransactionPolicy
    dynamic_batching: DynamicBatching | None = None
    """None for a model whose requests run alone: it answers in streams, has no batch axis, or its rows influence each other."""


def model_config(handle: VersionHandle, versions: tuple[str, ...]) -> ModelConfig:
    """Return the configuration of a version, with the numbers of all ready versions of its endpoint."""
    contract, manifest = handle.contract, handle.package.manifest
    is_stream, is_batched = handle.predictor.can_stream, contract.batching.is_batched
    delay = round(contract.batching.max_wait_ms * MICROSECONDS)
    return ModelConfig(
        name=contract.name,
        platform=platform_of(manifest.backend),
        backend=manifest.backend,
        version_policy=VersionPolicy(SpecificVersions(tuple(int(v) for v in versions))),
        max_batch_size=min(contract.batching.max_rows, contract.batching.max_request_rows) if is_batched else 0,
        input=tuple(InputConfig(f.wire_name, _type(f), f.shape, not f.is_required) for f in contract.inputs),
        output=tuple(OutputConfig(f.wire_name, _type(f), f.shape) for f in contract.outputs),
        instance_group=(InstanceGroup(contract.name, "KIND_CPU", max(1, manifest.serving.replicas.min)),),
        model_transaction_policy=TransactionPolicy(is_stream),
        dynamic_batching=DynamicBatching(delay) if handle.predictor.merges and is_batched and not is_stream else None,
    )


def _type(field: Field) -> str:
    return "TYPE_STRING" if field.datatype == "BYTES" else f"TYPE_{field.datatype}"
