"""The inputs and outputs of a Triton configuration: types, shapes on the wire and in the model, and the names of classes.

Triton's `dims` are what callers send, without the batch; `reshape` says the model's inputs instead. With `max_batch_size: 0` there is no
batch axis. Called by `importers.triton`.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, Final

import msgspec

from limen.contracts.errors import InvalidPackage, Violation
from limen.contracts.tensors import TYPES, TensorSpec
from limen.packaging.importers.text_proto import Message, messages, one
from limen.packaging.manifest.binding import reshape_problem
from limen.packaging.paths import ensure_inside

_TYPES: Final = {f"TYPE_{t.wire}": t.name for t in TYPES if t.wire != "BYTES"} | {"TYPE_STRING": "string"}
_INTEGERS: Final = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
_BY_NUMBER: Final = dict(enumerate(("BOOL", *_INTEGERS, "FP16", "FP32", "FP64", "STRING", "BF16"), start=1))
"""The numbers of Triton's data types: Protobuf text may give an enum so."""
_REFUSED: Final = {
    "is_shape_tensor": "shape tensors",
    "allow_ragged_batch": "ragged batches",
    "optional": "optional inputs",
    "is_non_linear_format_io": "tensors in a layout of the GPU's own",
}
_KNOWN: Final = {"name", "data_type", "dims", "reshape", "format", "label_filename", *_REFUSED}


class TensorConfig(msgspec.Struct, frozen=True):
    """One side of a configuration."""

    tensors: tuple[TensorSpec, ...]
    """The tensors as the model has them, the batch as their first axis if there is one."""
    rows: dict[str, tuple[int, ...]]
    """What callers send or get for one row, by tensor; without a batch axis the whole tensor."""


def read_tensors(config: Message, side: str, mistakes: list[Violation], *, is_batched: bool) -> TensorConfig:
    """Return one side of a configuration; what cannot be kept is added to the mistakes.

    Args:
        config: the whole configuration.
        side: `input` or `output`.
        mistakes: where they go.
        is_batched: whether tensors have the batch as their first axis.
    """
    found: list[TensorSpec] = []
    rows: dict[str, tuple[int, ...]] = {}
    for i, tensor in enumerate(messages(config, side)):
        path = f"{side}[{i}]"
        mistakes += [
            Violation(f"{path}.{k}", f"{what} cannot be kept") for k, what in _REFUSED.items() if one(tensor, k)
        ]
        mistakes += [
            Violation(f"{path}.{key}", "is not a field of Triton's configuration")
            for key in sorted(tensor.keys() - _KNOWN)
        ]
        name, element, dims = str(one(tensor, "name", "")), _element(tensor), tuple(tensor.get("dims", ()))
        if not name or name in rows:
            mistakes.append(Violation(f"{path}.name", "is repeated" if name else "is required"))
        if element is None:
            mistakes.append(Violation(f"{path}.data_type", f"must be one of {', '.join(_TYPES)}"))
        if not _are_sizes(dims) or not (dims or is_batched):
            mistakes.append(Violation(f"{path}.dims", "must be whole numbers from 1, or -1 for a variable axis"))
            continue
        shape = _reshaped(tensor, dims, f"{path}.reshape", mistakes)
        rows[name] = dims
        found.append(TensorSpec(name, element or "float32", (-1, *shape) if is_batched else shape))
    return TensorConfig(tuple(found), rows)


def _element(tensor: Message) -> str | None:
    given = one(tensor, "data_type", "")
    return _TYPES.get(f"TYPE_{_BY_NUMBER.get(given)}" if isinstance(given, int) else str(given))


def _are_sizes(dims: tuple[Any, ...]) -> bool:
    return all(isinstance(d, int) and not isinstance(d, bool) and (d == -1 or d > 0) for d in dims)


def _reshaped(tensor: Message, dims: tuple[int, ...], path: str, mistakes: list[Violation]) -> tuple[int, ...]:
    """Return the shape that the model has for what callers know as `dims`."""
    reshape = one(tensor, "reshape")
    if not isinstance(reshape, dict):
        return dims
    shape = tuple(reshape.get("shape", ()))
    if not _are_sizes(shape):
        mistakes.append(Violation(path, "must be whole numbers from 1, or -1 for a variable axis"))
        return dims
    if shape != dims and (problem := reshape_problem(dims, shape)):
        mistakes.append(Violation(path, f"cannot be kept: {problem}; dims is {list(dims)}"))
    return shape


def read_labels(config: Message, folder: Path, notes: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes of every output that has a file of them; what is of no use is added to the notes.

    The place of a line is the number of its class, so an empty line names nothing and still counts.
    """
    found = {}
    for tensor in messages(config, "output"):
        file_name = str(one(tensor, "label_filename", ""))
        if not file_name:
            continue
        name = str(one(tensor, "name", ""))
        file = ensure_inside(folder, file_name)
        if not file.is_file():
            raise InvalidPackage(f"{folder}: there is no label file {file_name}")
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as exc:
            raise InvalidPackage(f"{file} must be text in UTF-8") from exc
        # Not splitlines: it breaks lines at characters that Triton takes for a part of the name.
        labels = [line.strip() for line in text.rstrip().split("\n")]
        dims = tensor.get("dims", [])
        if not any(labels) or not dims or any(not isinstance(d, int) or d < 1 for d in dims):
            notes.append(f"the labels of {name}: the configuration does not say how many classes there are")
        elif dims[-1] != prod(dims):
            notes.append(f"the labels of {name}, whose classes are not along its last axis")
        else:
            # Classes after the last line have no name, and lines beyond the last class no use.
            found[name] = (*labels[: dims[-1]], *[""] * (dims[-1] - len(labels)))
            if len(labels) != dims[-1]:
                notes.append(f"{file_name} has {len(labels)} names for the {dims[-1]} classes of {name}")
    return found
