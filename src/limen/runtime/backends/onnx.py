"""ONNX models on ONNX Runtime, on one CPU thread each.

A graph is looked at before ONNX Runtime sees it: its operators must be ones that ONNX Runtime brings itself and its external
data must lie inside the package. Only the outputs that the manifest needs are fetched. Not here: mapping contract fields to
tensors and casting them to the graph's own types (`runtime.binding.binding`). Called through `limen.runtime.backends`.

Types: every contract type except bfloat16, which ONNX Runtime does not exchange with NumPy. A missing string (None) becomes the
empty string. ZipMap outputs (a sequence of maps, what skl2onnx writes by default) are given as the matrix they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import numpy as np

from limen.contracts.errors import InvalidPackage
from limen.contracts.inference import Parameter
from limen.contracts.tensors import TYPES, Array, Kind, TensorSpec
from limen.packaging.formats.sniff import ensure_format
from limen.packaging.manifest.values import Manifest
from limen.packaging.paths import ensure_inside
from limen.runtime.backends import onnx_rows, onnx_trial
from limen.runtime.backends.artifact import OneAnswer, artifact_file, failed, loading, require
from limen.runtime.binding.binding import wanted_tensors
from limen.runtime.predictor import Signature

DOMAINS: Final = frozenset(["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"])
"""Operator sets that are part of ONNX Runtime; any other needs a native library of the package's own."""
_ELEMENTS: Final = {f"tensor({t.name})": t.name for t in TYPES if t.kind in (Kind.BOOL, Kind.INT)} | {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "string",
}
_MAPS: Final = re.compile(r"seq\(map\((?:string|int64),tensor\(float\)\)\)")
_NESTED: Final = re.compile(r"(seq|map|optional|sparse_tensor)\((.+)\)")
_QUIET: Final = 4
"""Only fatal messages: ONNX Runtime prints to stderr, and what fails is raised as well."""


_SMALLEST: Final = (
    '<ir_version: 8, opset_import: ["" : 17]> smallest (float[n, 1] x) => (float[n, 1] y) { y = Identity (x) }'
)
"""A graph that says nothing of its own."""


class OnnxBackend:
    """Loads `.onnx` files."""

    name: ClassVar[str] = "onnx"
    formats: ClassVar[tuple[str, ...]] = ("onnx",)

    def prepare(self) -> None:
        """Import ONNX Runtime and have it set up what all sessions of a process share, which takes longer than a small session."""
        graph = require("onnx", "limen[onnx]").parser.parse_model(_SMALLEST)
        _built(graph, graph.SerializeToString(), ())

    def load(self, path: Path, manifest: Manifest) -> OnnxModel:
        """Load the graph of the package folder `path`."""
        file = artifact_file(path, manifest, self.formats)
        return _open(file, path, wanted_tensors(manifest))

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read the graph's inputs and outputs."""
        ensure_format(artifact, self.formats)
        return _open(artifact, artifact.parent, ()).signature


class OnnxModel(OneAnswer):
    """One inference session. ONNX Runtime allows calls from several threads at once."""

    def __init__(
        self,
        session: Any,
        signature: Signature,
        wanted: Sequence[str],
        labels: Mapping[str, _Labels],
        mixes_rows: str = "",
    ) -> None:
        self.signature = signature
        self.mixes_rows = mixes_rows
        self._wanted = [name for name in wanted if any(t.name == name for t in signature.outputs)]
        self._is_single = len(self._wanted) == 1
        self._maps = {name: labels[name] for name in self._wanted if name in labels}
        # The session behind the wrapper, where there is one: the wrapper's own checks cost a sixth of a small model's run,
        # and the binding has made them once.
        self._run = getattr(session, "_sess", session).run
        self._texts = tuple(t.name for t in signature.inputs if t.type == "string")

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Run the graph once and fetch the outputs the manifest needs."""
        try:
            if self._texts:
                inputs = inputs | {name: _as_texts(inputs[name]) for name in self._texts}
            # The binding has given every tensor the graph's own type.
            found = self._run(self._wanted, inputs, None)
            outputs: dict[str, Array] = (
                {self._wanted[0]: found[0]} if self._is_single else dict(zip(self._wanted, found, strict=True))
            )
            if self._maps:
                for name, labels in self._maps.items():
                    outputs[name] = labels.matrix(outputs[name])
        except Exception as exc:
            raise failed("onnxruntime", exc) from exc
        return outputs


class _Labels(msgspec.Struct, frozen=True):
    """The classes of one ZipMap output, in the order of the columns it was made from."""

    keys: tuple[str | int, ...]

    def matrix(self, rows: Any) -> Array:
        """Return the list of maps as a matrix again."""
        values = [[row[key] for key in self.keys] for row in rows]
        return np.array(values, np.float32).reshape(len(values), len(self.keys))


def _as_texts(array: Array) -> Array:
    # ONNX Runtime calls str() on whatever is no string: None would become the text "None".
    missing = array == None  # noqa: E711 - element by element
    return np.where(missing, "", array) if missing.any() else array


def _open(file: Path, folder: Path, wanted: Sequence[str]) -> OnnxModel:
    require("onnxruntime", "limen[onnx]")
    with loading("onnx"):
        graph = require("onnx", "limen[onnx]").load_model(str(file), load_external_data=False)
    _refuse_foreign_operators(graph)
    _refuse_data_outside(graph, file, folder)
    return _built(graph, str(file), wanted)


def _built(graph: Any, source: str | bytes, wanted: Sequence[str]) -> OnnxModel:
    """Return the model of a graph, which lies in a file or is what a file would hold."""
    ort, onnx = require("onnxruntime", "limen[onnx]"), require("onnx", "limen[onnx]")
    ort.set_default_logger_severity(_QUIET)
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    with loading("onnxruntime"):
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    labels = _zip_maps(graph)
    return OnnxModel(session, _signature(session, labels), wanted, labels, onnx_rows.mixing_of(graph, onnx))


def _signature(session: Any, labels: dict[str, _Labels]) -> Signature:
    inputs, outputs, left_out = [], [], []
    for node in session.get_inputs():
        element = _ELEMENTS.get(node.type)
        if element is None:
            allowed = ", ".join(t.removeprefix("tensor(").removesuffix(")") for t in _ELEMENTS)
            raise InvalidPackage(f"artifact: input '{node.name}' is {_kind(node.type)}; allowed: {allowed}")
        inputs.append(TensorSpec(node.name, element, _shape(node.shape)))
    for node in session.get_outputs():
        if element := _ELEMENTS.get(node.type):
            outputs.append(TensorSpec(node.name, element, _shape(node.shape)))
        elif node.name in labels and _MAPS.fullmatch(node.type):
            keys = labels[node.name].keys
            outputs.append(TensorSpec(node.name, "float32", (-1, len(keys)), tuple(map(str, keys))))
        else:
            left_out.append(f"output '{node.name}' is {_kind(node.type)}")
    if not inputs:
        raise InvalidPackage("artifact: the graph has no inputs, so it cannot answer requests")
    if not outputs:
        raise InvalidPackage(f"artifact: no output of the graph can be served: {', '.join(left_out)}")
    return Signature(tuple(inputs), onnx_trial.corrected(session, inputs, outputs), tuple(left_out))


def _kind(onnx_type: str) -> str:
    """Return a type of ONNX that contracts cannot express, in words."""
    if match := _NESTED.fullmatch(onnx_type):
        noun = {
            "seq": "a sequence of",
            "map": "a map of",
            "optional": "an optional",
            "sparse_tensor": "a sparse tensor of",
        }
        return f"{noun[match[1]]} {match[2]}"
    return f"of the type {onnx_type.removeprefix('tensor(').removesuffix(')')}"


def _shape(dimensions: Sequence[int | str | None]) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) and d >= 0 else -1 for d in dimensions)


def _graphs(model: Any) -> Iterator[Any]:
    """Yield the graph, its functions and every graph inside their control flow."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _refuse_foreign_operators(model: Any) -> None:
    allowed = DOMAINS | {function.domain for function in model.functions}
    foreign = {node.domain for graph in _graphs(model) for node in graph.node} - allowed
    if foreign:
        text = f"uses custom operators ({len(foreign)} operator sets besides ai.onnx, ai.onnx.ml and com.microsoft)"
        raise InvalidPackage(f"artifact: {text}; they need native code, which packages must not contain")


def _tensors(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        if hasattr(graph, "initializer"):  # functions have none
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def external_files(file: Path) -> tuple[str, ...]:
    """Return the paths of the files that hold a graph's weights, relative to the graph's own folder; all lie inside it.

    Raises:
        InvalidPackage: the graph cannot be read, or names a file elsewhere.
    """
    with loading("onnx"):
        graph = require("onnx", "limen[onnx]").load_model(str(file), load_external_data=False)
    _refuse_data_outside(graph, file, file.parent)
    return tuple(sorted(_locations(graph)))


def _locations(model: Any) -> set[str]:
    return {e.value for t in _tensors(model) for e in t.external_data if e.key == "location"}


def _refuse_data_outside(model: Any, file: Path, folder: Path) -> None:
    locations = _locations(model)
    if not locations:
        return
    root = folder.resolve()
    base = file.resolve().parent.relative_to(root)
    for location in locations:
        target = ensure_inside(root, (base / location).as_posix())
        if not target.is_file():
            raise InvalidPackage("artifact: the graph keeps weights in a second file, which is not in the package")


def _zip_maps(model: Any) -> dict[str, _Labels]:
    found = {}
    for node in model.graph.node:
        if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml":
            for attribute in node.attribute:
                keys = attribute.ints or [text.decode() for text in attribute.strings]
                found[node.output[0]] = _Labels(tuple(keys))
    return found
