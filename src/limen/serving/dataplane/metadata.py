"""What the Open Inference Protocol's metadata calls answer, made from a loaded version. Called by `serving.dataplane.plane`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from limen._version import __version__
from limen.contracts.contract import Field
from limen.contracts.oip.platform import platform_of
from limen.contracts.tensors import Kind
from limen.runtime.versions.handle import VersionHandle

EXTENSIONS = ("classification", "schedule_policy", "parameters", "binary_tensor_data", "model_configuration")
"""The protocol extensions that every server implements, by Triton's names."""


class TensorMetadata(msgspec.Struct, frozen=True):
    """One input or output as OIP shows it; -1 is variable and the first axis the batch, unless the model has none."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What OIP's model metadata call answers."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    properties: dict[str, str] = {}


class ServerMetadata(msgspec.Struct, frozen=True):
    """What OIP's server metadata call answers."""

    name: str
    version: str
    extensions: tuple[str, ...]


def server_metadata(*, has_statistics: bool, is_explicit: bool) -> ServerMetadata:
    """Return what the server says of itself; an extension is named only when all of it is offered.

    Args:
        has_statistics: whether requests are counted where it can be asked for.
        is_explicit: whether callers may load and unload models, and say what is logged.
    """
    offered = [*EXTENSIONS]
    if has_statistics:
        offered.append("statistics")
    if is_explicit:
        offered += ["model_repository", "logging"]
    return ServerMetadata("limen", __version__, tuple(offered))


def model_metadata(handle: VersionHandle, versions: tuple[str, ...]) -> ModelMetadata:
    """Return a version's tensors as the protocol describes them, with the numbers of all ready versions."""
    contract = handle.contract
    shown = (
        ("title", contract.title),
        ("owner", contract.owner),
        ("licence", contract.licence),
        ("task", contract.task),
        # On the wire text and bytes are one datatype; a client in need of the difference finds it here.
        ("text_inputs", _texts(contract.inputs)),
        ("text_outputs", _texts(contract.outputs)),
        # A missing text travels as an empty one; a client must know whether the model takes it so.
        ("nullable_inputs", ",".join(field.wire_name for field in contract.inputs if field.nullable)),
        # What records call the tensors that have another name, and whether tensors have the batch as their first axis.
        ("input_fields", _renamed(contract.inputs)),
        ("output_fields", _renamed(contract.outputs)),
        ("batching", "" if contract.batching.is_batched else "none"),
        ("json_inputs", ",".join(field.wire_name for field in contract.inputs if field.is_json)),
        ("json_outputs", ",".join(field.wire_name for field in contract.outputs if field.is_json)),
    )
    return ModelMetadata(
        name=contract.name,
        versions=versions,
        platform=platform_of(handle.package.manifest.backend),
        inputs=tuple(TensorMetadata(f.wire_name, f.datatype, contract.wire_shape(f)) for f in contract.inputs),
        outputs=tuple(TensorMetadata(f.wire_name, f.datatype, contract.wire_shape(f)) for f in contract.outputs),
        properties={key: value for key, value in shown if value} | {"digest": handle.package.digest},
    )


def _texts(fields: Sequence[Field]) -> str:
    return ",".join(field.wire_name for field in fields if field.element.kind is Kind.TEXT)


def _renamed(fields: Sequence[Field]) -> str:
    """Return the fields of the tensors that are called otherwise, as a JSON object; nothing when there are none."""
    found = {field.wire: field.name for field in fields if field.wire}
    return msgspec.json.encode(found).decode() if found else ""
