"""The file formats Limen knows, detected by content.

Not here: looking into archives (`packaging.formats.containers`) and what a package may hold (`packaging.formats.sniff`). Nothing in these
functions loads a model: they look at magic numbers, field tags and the first lines.
"""

from __future__ import annotations

import csv
import re
from enum import StrEnum
from typing import Final

import msgspec

from limen.packaging.formats.pickles import Data, is_pickle
from limen.packaging.formats.safetensors import claims_safetensors

HEAD_BYTES: Final = 64 << 10
MAX_CONFIGURATION_BYTES: Final = 1 << 20
"""A configuration with a thousand labels has 60 KB."""


class Format(StrEnum):
    """What a file really is, whatever its name says."""

    ONNX = "onnx"
    """An ONNX graph."""
    SKOPS = "skops"
    """A scikit-learn model saved by skops."""
    XGBOOST_JSON = "xgboost-json"
    """An XGBoost model as JSON."""
    XGBOOST_UBJ = "xgboost-ubj"
    """An XGBoost model as UBJSON."""
    LIGHTGBM = "lightgbm"
    """A LightGBM model as text."""
    CATBOOST = "catboost"
    """A CatBoost model in its own binary form or as JSON."""
    JDM = "jdm"
    """A decision as a JSON Decision Model."""
    TORCH_EXPORT = "torch-export"
    """A PyTorch program saved by torch.export, without pickles in it."""
    PYTHON = "python"
    """Python source."""
    SCRIPT = "script"
    """A program with a `#!` line."""
    SAFETENSORS = "safetensors"
    """Tensors saved by safetensors."""
    TRANSFORMERS = "transformers"
    """The configuration of a Hugging Face model, which lies beside its weights."""
    GGUF = "gguf"
    """Weights for llama.cpp."""
    NUMPY = "numpy"
    """NumPy arrays of plain numbers or text (.npy, .npz)."""
    PARQUET = "parquet"
    """A Parquet table."""
    CSV = "csv"
    """A table as text."""
    JSON = "json"
    """A JSON text."""
    YAML = "yaml"
    """A YAML mapping or list."""
    TEXT = "text"
    """Any other text in UTF-8."""
    BINARY = "binary"
    """Bytes of no format known here, such as the external weights of an ONNX graph."""
    EMPTY = "empty"
    """No bytes at all."""
    PICKLE = "pickle"
    """Something Python would unpickle: pickle, joblib, cloudpickle, old PyTorch files."""
    TORCH = "torch"
    """A PyTorch archive: a pickle in a zip."""
    NUMPY_OBJECT = "numpy-object"
    """NumPy arrays of Python objects: pickles in disguise."""
    HDF5 = "hdf5"
    """An HDF5 file, such as a Keras model."""
    BROKEN_SAFETENSORS = "broken-safetensors"
    """Something that calls itself safetensors and is not what it says."""
    NATIVE = "native"
    """A program or library for the processor."""
    BYTECODE = "bytecode"
    """Compiled Python or WebAssembly."""
    COMPRESSED = "compressed"
    """Compressed data."""
    ARCHIVE = "archive"
    """A zip or tar archive."""


UNSAFE: Final = {
    Format.PICKLE: "is a pickle, which runs code when it is loaded",
    Format.TORCH: "is a PyTorch archive, which holds a pickle that runs code when it is loaded",
    Format.NUMPY_OBJECT: "holds NumPy arrays of Python objects, which are pickles that run code when they are loaded",
    Format.HDF5: "is an HDF5 file (Keras), which can hold code",
    Format.BROKEN_SAFETENSORS: "is a safetensors file that is not what its header says",
    Format.NATIVE: "is native code",
    Format.BYTECODE: "is compiled code",
    Format.COMPRESSED: "is compressed; packages must contain uncompressed files, so that they can be checked",
    Format.ARCHIVE: "is an archive; packages must contain uncompressed files, so that they can be checked",
}
"""Formats no package may hold, and why."""

_BLANKS = r"(?:[ \t]*(?:#[^\n]*)?\n)*"
_PYTHON_HEAD = re.compile(rf"\A{_BLANKS}(?:[rR]?(\"{{3}}|'{{3}}).*?\1[^\n]*\n)?{_BLANKS}", re.DOTALL)
_PYTHON_START = re.compile(
    r"(from\s+[\w.]+\s+import\b|import[ \t]+[\w.]+([ \t]*,|[ \t]+as\b|[ \t]*(#|$))|(async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[(:]|@\w[\w.]*)",
    re.MULTILINE,
)
_YAML_START = re.compile(r"(---\s*$|- \S|[\w.\"'-]+\s*:(\s|$))")
_XGBOOST_JSON = re.compile(rb'\s*\{\s*"(?:learner"\s*:\s*\{\s*"|version"\s*:\s*\[\d+,\s*\d+,\s*\d+\],\s*"learner")')
_XGBOOST_UBJ = re.compile(rb"\{(?:i|U|I\x00|l\x00{3}|L\x00{7})\x07(?:learner|version)[\[{]", re.DOTALL)
_CATBOOST_MARKS: Final = (b'"features_info"', b'"model_info"', b'_trees"')
_PLAIN = r"'[<>|=]?[?bBiufcSUVmM]\d*(?:\[\w+\])?'"
_NUMPY_HEADER = re.compile(
    rf"\{{'descr': (?:{_PLAIN}|\[(?:\('[^'\\]*', {_PLAIN}(?:, \([\d, ]*\))?\)(?:, )?)*\]), "
    r"'fortran_order': (?:True|False), 'shape': \([\d, L]*\),? ?\}\s*"
)
_MAGIC: Final = (
    (b"CBM1", Format.CATBOOST),
    (b"\x7fELF", Format.NATIVE),
    (b"\xfe\xed\xfa\xce", Format.NATIVE),
    (b"\xfe\xed\xfa\xcf", Format.NATIVE),
    (b"\xce\xfa\xed\xfe", Format.NATIVE),
    (b"\xcf\xfa\xed\xfe", Format.NATIVE),
    (b"\xca\xfe\xba\xbe", Format.NATIVE),
    (b"!<arch>\n", Format.NATIVE),
    (b"\x00asm", Format.BYTECODE),
    (b"GGUF", Format.GGUF),
    (b"\x1f\x8b\x08", Format.COMPRESSED),
    (b"BZh", Format.COMPRESSED),
    (b"\xfd7zXZ\x00", Format.COMPRESSED),
    (b"\x28\xb5\x2f\xfd", Format.COMPRESSED),
    (b"\x04\x22\x4d\x18", Format.COMPRESSED),
    (b"7z\xbc\xaf\x27\x1c", Format.ARCHIVE),
    (b"Rar!\x1a\x07", Format.ARCHIVE),
    (b"PK\x03\x04", Format.ARCHIVE),
    (b"PK\x05\x06", Format.ARCHIVE),
)
_HDF5: Final = b"\x89HDF\r\n\x1a\n"


def recognise(data: Data) -> Format:
    """Return the format of a file's content; archives are not looked into."""
    if len(data) == 0:
        return Format.EMPTY
    head = bytes(data[:HEAD_BYTES])
    if is_pickle(data):
        return Format.PICKLE
    return _binary(data, head) or _model_text(head) or _text(data, head) or Format.BINARY


def _binary(data: Data, head: bytes) -> Format | None:
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if any(data[at : at + 8] == _HDF5 for at in (0, 512, 1024, 2048, 4096)):
        return Format.HDF5
    if head.startswith(b"\x93NUMPY"):
        return Format.NUMPY if _is_plain_numpy(head) else Format.NUMPY_OBJECT
    if head.startswith(b"PAR1") and data[-4:] == b"PAR1":
        return Format.PARQUET
    if head.startswith(b"MZ") and _is_portable_executable(data, head):
        return Format.NATIVE
    if head[2:4] == b"\r\n" and len(head) >= 16 and head[4:8] in (b"\0\0\0\0", b"\1\0\0\0", b"\3\0\0\0"):
        return Format.BYTECODE
    if head[257:262] == b"ustar":
        return Format.ARCHIVE
    if claims_safetensors(data, head):
        return Format.SAFETENSORS
    return Format.ONNX if is_onnx(data) else None


def _is_plain_numpy(head: bytes) -> bool:
    """Whether a .npy header declares plain numbers or text and nothing else."""
    size = 2 if head[6:7] == b"\x01" else 4
    length = int.from_bytes(head[8 : 8 + size], "little")
    header = head[8 + size : 8 + size + length]
    return len(header) == length and _NUMPY_HEADER.fullmatch(header.decode("latin-1")) is not None


def _is_portable_executable(data: Data, head: bytes) -> bool:
    offset = int.from_bytes(head[60:64], "little")
    return data[offset : offset + 4] == b"PE\0\0"


_ONNX_FIELDS: Final = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""Field number to wire type of `onnx.ModelProto`. Source: onnx.proto."""


def is_onnx(data: Data) -> bool:
    """Return whether `data` is a whole `onnx.ModelProto`: only its fields, and a version, a graph and operator sets."""
    position, size = 0, len(data)
    seen: set[int] = set()
    while position < size:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if _ONNX_FIELDS.get(number) != wire:
            return False
        seen.add(number)
        value, position = _varint(data, position)
        if wire == 2:
            position += value
        if position > size or value < 0:
            return False
    return seen >= {1, 7} and position == size


def _varint(data: Data, position: int) -> tuple[int, int]:
    """Return a Protobuf varint and the place after it; -1 when there is none."""
    value = 0
    for i in range(10):
        byte = data[position + i : position + i + 1]
        if not byte:
            break
        value |= (byte[0] & 0x7F) << (7 * i)
        if byte[0] < 0x80:
            return value, position + i + 1
    return -1, position


def _model_text(head: bytes) -> Format | None:
    if _XGBOOST_UBJ.match(head):
        return Format.XGBOOST_UBJ
    if _XGBOOST_JSON.match(head):
        return Format.XGBOOST_JSON
    if re.match(rb"tree\r?\nversion=v\d", head):
        return Format.LIGHTGBM
    return None


def _text(data: Data, head: bytes) -> Format | None:
    text = _decode(head, is_whole=len(data) == len(head))
    if text is None:
        return None
    if text.startswith("#!"):
        return Format.SCRIPT
    stripped = text.lstrip()
    if stripped[:1] in ("{", "[") and _is_json(data, head):
        if _is_transformers(data):
            return Format.TRANSFORMERS
        if all(data.find(mark) >= 0 for mark in _CATBOOST_MARKS):
            return Format.CATBOOST
        return Format.JDM if _is_decision(data) else Format.JSON
    if _is_python(text):
        return Format.PYTHON
    if _is_csv(text):
        return Format.CSV
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    return Format.YAML if _YAML_START.match(first) else Format.TEXT


def _decode(head: bytes, *, is_whole: bool) -> str | None:
    """Return the head as text, or None when it is none; a character cut off at its end does not count."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        if is_whole or exc.start < len(head) - 4:
            return None
        text = head[: exc.start].decode("utf-8-sig")
    return None if re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", text) else text


def _is_json(data: Data, head: bytes) -> bool:
    if len(data) > len(head):
        return True
    try:
        msgspec.json.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _is_decision(data: Data) -> bool:
    """Whether a JSON text is a graph of nodes with one that takes the input; key order is free in JDM."""
    return all(data.find(mark) >= 0 for mark in (b'"nodes"', b'"edges"', b'"inputNode"'))


class _Configuration(msgspec.Struct):
    """What the configuration of every Hugging Face model has."""

    model_type: str
    architectures: list[str]


def _is_transformers(data: Data) -> bool:
    """Whether a JSON text is a model's configuration; a vocabulary holds every word and is much longer."""
    if len(data) > MAX_CONFIGURATION_BYTES or data.find(b'"architectures"') < 0:
        return False
    try:
        msgspec.json.decode(bytes(data), type=_Configuration)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _is_python(text: str) -> bool:
    """Whether the first statement after comments and a docstring is one only Python has."""
    return _PYTHON_START.match(_PYTHON_HEAD.sub("", text.replace("\r\n", "\n"), count=1)) is not None


def _is_csv(text: str) -> bool:
    lines = text.splitlines()[:20]
    if len(lines) < 2:
        return False
    for delimiter in ",;\t":
        try:
            widths = {len(row) for row in csv.reader(lines[:-1] if len(lines) > 2 else lines, delimiter=delimiter)}
        except csv.Error:
            continue
        if len(widths) == 1 and widths.pop() > 1:
            return True
    return False
