"""Reads the header of a safetensors file strictly: it must match the file before a library maps any of it.

A file is eight bytes with the length of a JSON text, that text, and the values of the tensors without gaps. Format:
<https://huggingface.co/docs/safetensors>. Not here: values. Pure. Called by `packaging.formats.sniff` for every file of a package that is or
calls itself one, and by `packaging.formats.huggingface`.
"""

from __future__ import annotations

from math import prod
from typing import Final

import msgspec

from limen.contracts.errors import InvalidPackage
from limen.contracts.strict.json import has_duplicate_keys
from limen.packaging.formats.pickles import Data

LENGTH_BYTES: Final = 8
MAX_HEADER_BYTES: Final = 32 << 20
"""The format allows 100 MB; a hundred thousand tensors need a sixth of that."""
MAX_TENSORS: Final = 100_000
MAX_RANK: Final = 32
METADATA: Final = "__metadata__"
_WIDTHS: Final = {
    4: ("F4",),
    6: ("F6_E2M3", "F6_E3M2"),
    8: ("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
    16: ("I16", "U16", "F16", "BF16"),
    32: ("I32", "U32", "F32"),
    64: ("I64", "U64", "F64", "C64"),
}
BITS: Final = {name: bits for bits, names in _WIDTHS.items() for name in names}
"""Element types and how many bits one element takes. Source: `safetensors::tensor::Dtype`."""


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What the header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]
    """First byte and the one after the last, counted from the end of the header."""


def claims_safetensors(data: Data, head: bytes) -> bool:
    """Return whether a file begins as a safetensors file does, true or not.

    Args:
        data: the file.
        head: its first bytes.
    """
    if head[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{":
        return False
    end = LENGTH_BYTES + int.from_bytes(head[:LENGTH_BYTES], "little")
    return b'"data_offsets"' in head or (end <= len(data) and data[end - 1 : end] in (b"}", b" "))


def read_header(data: Data) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        InvalidPackage: the header is not one, or contradicts itself or the size of the file. The text is short and names no tensor.
    """
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if len(data) < LENGTH_BYTES + 2 or length > len(data) - LENGTH_BYTES:
        raise InvalidPackage("its header is longer than the file")
    if length > MAX_HEADER_BYTES:
        raise InvalidPackage(f"its header is longer than {MAX_HEADER_BYTES} bytes")
    header = bytes(data[LENGTH_BYTES : LENGTH_BYTES + length])
    tensors = _decode(header)
    end = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: tensor.data_offsets):
        begin, end_of_tensor = tensor.data_offsets
        if begin != end:
            raise InvalidPackage("its tensors overlap, leave gaps or lie outside the file")
        if end_of_tensor - begin != _size(tensor):
            raise InvalidPackage("a tensor has another size than its type and shape make")
        end = end_of_tensor
    if end != len(data) - LENGTH_BYTES - length:
        raise InvalidPackage("its tensors do not fill the file exactly")
    return tensors


def _decode(header: bytes) -> dict[str, Tensor]:
    if not header.startswith(b"{"):
        raise InvalidPackage("its header is no JSON object")
    try:
        found = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        # Before one object is made for each of them.
        if len(found) > MAX_TENSORS + 1:
            raise InvalidPackage(f"it has more than {MAX_TENSORS} tensors")
        if (metadata := found.pop(METADATA, None)) is not None:
            msgspec.json.decode(metadata, type=dict[str, str])
        tensors = {name: msgspec.json.decode(raw, type=Tensor) for name, raw in found.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidPackage(
            "its header is not what the format says: names with dtype, shape and data_offsets"
        ) from exc
    if has_duplicate_keys(header):
        raise InvalidPackage("its header repeats a name")
    return tensors


def _size(tensor: Tensor) -> int:
    """Return how many bytes a tensor takes."""
    bits = BITS.get(tensor.dtype)
    if bits is None:
        raise InvalidPackage("a tensor has a type that the format does not know")
    if len(tensor.shape) > MAX_RANK or any(size < 0 for size in tensor.shape):
        raise InvalidPackage("a tensor has a shape that is none")
    total = prod(tensor.shape) * bits
    if total % 8:
        raise InvalidPackage("a tensor does not end with a whole byte")
    return total // 8
