"""Converts a contract's fields to an artifact's tensors, and its tensors back to the contract's outputs.

Everything that can be decided from the manifest and the artifact's signature is decided once, when a version is loaded; what
fits as it is costs nothing per call. Not here: checking values (`contracts.validation.tensors`) or reading `bind` (`packaging.manifest.binding`).
Called by the placements and `limen check`; `wanted_tensors` also by the backends.

Shapes: a scalar field may stand for a tensor [-1, 1] and the other way round. Types: see `runtime.binding.casts`. The batch axis must
be free, or 1 with `batching.max_rows: 1`; with `batching: none` there is none. An artifact that declares no tensors (a Python class) is taken by its word: inputs go
in as the contract has them and each answer is brought to the contract's type when it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final

import numpy as np

from limen.contracts.contract import Field
from limen.contracts.errors import InvalidOutput, Violation
from limen.contracts.strict.rules import at, listed
from limen.contracts.tensors import BY_NAME, Array, ElementType, TensorSpec
from limen.contracts.validation import json_values
from limen.contracts.validation.tensors import no_output
from limen.packaging.manifest.binding import reshape_problem
from limen.packaging.manifest.values import InputBinding, Manifest, OutputBinding
from limen.packaging.paths import invalid
from limen.runtime.binding.batch_axis import Pack, Unpack, as_one_row, with_batch_axis, without_batch_axis
from limen.runtime.binding.casts import cast_problem, cast_values, limits_of, listed_shape
from limen.runtime.predictor import Signature

Feed = Callable[[dict[str, Array]], Array]
"""Makes one artifact tensor from the contract's inputs."""
Take = Callable[[Array, int], Array]
"""Makes one contract output from an artifact tensor and the number of rows."""


class Binding:
    """The two functions between a contract and one artifact. Immutable, without state, for any number of threads."""

    __slots__ = ("pack", "unpack", "wanted")

    def __init__(self, pack: Pack, unpack: Unpack, wanted: tuple[str, ...]) -> None:
        self.pack: Final = pack
        """Contract inputs to artifact inputs; the same dict when nothing has to change."""
        self.unpack: Final = unpack
        """Artifact outputs and the number of rows to contract outputs."""
        self.wanted: Final = wanted
        """The artifact outputs that are needed, in contract order."""


def wanted_tensors(manifest: Manifest) -> tuple[str, ...]:
    """Return the artifact outputs that the contract's outputs come from, each once."""
    return tuple(dict.fromkeys(_source(manifest, field).tensor for field in manifest.contract.outputs))


def field_types(manifest: Manifest) -> dict[str, str]:
    """Return the type of each artifact input that one field of the contract is bound to, by the input's name."""
    return {tensor: field.type for tensor, field in fields_by_tensor(manifest).items()}


def fields_by_tensor(manifest: Manifest) -> dict[str, Field]:
    """Return the field of the contract that each artifact input is bound to, for inputs of one field."""
    fields = {field.name: field for field in manifest.contract.inputs}
    renamed = {t: fields[name] for t, name in manifest.bind.inputs.items() if isinstance(name, str) and name in fields}
    return fields | renamed


def compile_binding(manifest: Manifest, signature: Signature) -> Binding:
    """Bind a contract to the tensors of a loaded artifact.

    Raises:
        InvalidPackage: everything that does not fit, each mistake with its path in the manifest.
    """
    mistakes: list[Violation] = []
    pack = _Inputs(manifest, signature.inputs, mistakes).compile()
    unpack = _Outputs(manifest, signature.outputs, mistakes, signature.left_out).compile()
    if mistakes:
        raise invalid("the manifest does not fit the artifact", mistakes)
    if not manifest.contract.batching.is_batched:
        pack, unpack = without_batch_axis(pack), as_one_row(unpack)
    return Binding(pack, unpack, wanted_tensors(manifest))


def _source(manifest: Manifest, field: Field) -> OutputBinding:
    return manifest.bind.outputs.get(field.name) or OutputBinding(tensor=field.name)


class _Side:
    """One direction of a binding while it is compiled."""

    def __init__(
        self,
        manifest: Manifest,
        tensors: tuple[TensorSpec, ...],
        mistakes: list[Violation],
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.manifest = manifest
        self.contract = manifest.contract
        self.is_batched = manifest.contract.batching.is_batched
        # Without a batch axis of its own an artifact takes and gives one row, see `runtime.binding.batch_axis`.
        self.tensors = {t.name: t if self.is_batched or not t.shape else with_batch_axis(t) for t in tensors}
        self.mistakes = mistakes
        self.left_out = left_out

    def report(self, path: str, text: str) -> None:
        self.mistakes.append(Violation(path, text))

    def listed(self, shape: tuple[int, ...]) -> str:
        """Return a shape as the artifact and its author know it."""
        return listed_shape(shape if self.is_batched else shape[1:])

    def find(self, tensor: str, path: str, noun: str) -> TensorSpec | None:
        """Return the artifact's tensor, or None after reporting it; None as well when the artifact declares nothing."""
        spec = self.tensors.get(tensor)
        if spec is None and self.tensors:
            known = next((text for text in self.left_out if text.startswith(f"{noun} '{tensor}' is ")), None)
            text = f"the artifact has no {noun} '{tensor}'; it has {listed(self.tensors)}"
            self.report(path, f"the artifact's {known}, which a contract cannot express" if known else text)
        if spec is not None and spec.shape and not self._is_batched(spec):
            text = f"the artifact's {noun} '{tensor}' takes batches of {spec.shape[0]} only"
            hint = "set batching.max_rows to 1, " if spec.shape[0] == 1 else ""
            text = f"{text}: {hint}export it with a variable first axis, or set `batching: none` if it is no batch"
            self.report(path, text)
            return None
        return spec

    def _is_batched(self, spec: TensorSpec) -> bool:
        return spec.shape[0] == -1 or (spec.shape[0] == 1 and self.contract.batching.max_rows == 1)


class _Inputs(_Side):
    """From the contract's fields to the artifact's inputs."""

    def compile(self) -> Pack:
        fields = {f.name: f for f in self.contract.inputs}
        places = {f.name: f"inputs[{i}]" for i, f in enumerate(self.contract.inputs)}
        feeds: dict[str, Feed | None] = {}
        used: set[str] = set()
        for tensor, names in self.manifest.bind.inputs.items():
            path = at("bind.inputs", tensor)
            spec = self.find(tensor, path, "input")
            if isinstance(names, InputBinding):
                used.add(names.field)
                feeds[tensor] = self._reshaped(fields[names.field], names.shape, spec, path)
            elif isinstance(names, str):
                used.add(names)
                feeds[tensor] = self._rename(fields[names], spec, path) or itemgetter(names)
            else:
                used.update(names)
                feeds[tensor] = self._columns([fields[n] for n in names], spec, path)
        for name, field in fields.items():
            if name in used or name in feeds:
                continue
            if self.tensors and name not in self.tensors:
                text = f"is not used: neither bind.inputs nor the artifact has '{name}'; its inputs are"
                self.report(places[name], f"{text} {listed(self.tensors)}")
                continue
            feeds[name] = self._rename(field, self.find(name, places[name], "input"), places[name])
        for missing in self.tensors.keys() - feeds.keys():
            spec = self.tensors[missing]
            text = f"nothing feeds this input of the artifact ({spec.type} {self.listed(spec.shape)})"
            self.report(at("bind.inputs", missing), text)
        return _packing(feeds)

    def _rename(self, field: Field, spec: TensorSpec | None, path: str) -> Feed | None:
        """Return how one field becomes one tensor; None when it already is."""
        if spec is None:
            return None
        target = BY_NAME[spec.type]
        shape = field.batched_shape
        width = 1 if field.is_scalar and len(spec.shape) == 2 and spec.shape[1] in (1, -1) else None
        is_unknown = not spec.shape and not self.is_batched
        fits = width == 1 or is_unknown or _accepts(spec.shape, shape)
        problem = cast_problem(field.element, target, limits_of(field))
        if not fits or problem:
            self._refuse(field, shape, spec, path, problem if fits else None)
            return None
        name, dtype = field.name, target.dtype
        if width == 1:
            return lambda inputs: _cast(inputs[name], dtype).reshape(-1, 1)
        return None if field.element is target else lambda inputs: _cast(inputs[name], dtype)

    def _reshaped(self, field: Field, shape: tuple[int, ...], spec: TensorSpec | None, path: str) -> Feed | None:
        """Return how one field becomes one tensor of another shape."""
        target = field.element if spec is None else BY_NAME[spec.type]
        problem = cast_problem(field.element, target, limits_of(field))
        fits = spec is None or not spec.shape or _accepts(spec.shape, (-1, *shape))
        if spec is not None and (problem or not fits):
            self._refuse(field, (-1, *shape), spec, path, problem if fits else None)
            return None
        name, dtype = field.name, target.dtype
        return lambda inputs: _cast(inputs[name], dtype).reshape(len(inputs[name]), *shape)

    def _refuse(self, field: Field, shape: tuple[int, ...], spec: TensorSpec, path: str, problem: str | None) -> None:
        text = f"is {field.type} {self.listed(shape)}; the artifact's input '{spec.name}' takes {spec.type} {self.listed(spec.shape)}"
        self.report(path, text + (f" ({problem})" if problem else ""))

    def _columns(self, fields: list[Field], spec: TensorSpec | None, path: str) -> Feed | None:
        """Return how scalar fields become the columns of one tensor."""
        if spec is None:
            dtype = np.result_type(*(f.element.dtype for f in fields))
            return _columns(tuple(f.name for f in fields), dtype, _share(fields, dtype))
        target = BY_NAME[spec.type]
        if not _accepts(spec.shape, (-1, len(fields))):
            text = f"packs {len(fields)} columns; the artifact's input '{spec.name}' takes {self.listed(spec.shape)}"
            self.report(path, text)
        for i, field in enumerate(fields):
            if problem := cast_problem(field.element, target, limits_of(field)):
                text = f"{field.name} is {field.type}, the artifact's input '{spec.name}' {spec.type}: {problem}"
                self.report(at(path, i), text)
        return _columns(tuple(f.name for f in fields), target.dtype, _share(fields, target.dtype))


class _Outputs(_Side):
    """From the artifact's outputs to the contract's fields."""

    def compile(self) -> Unpack:
        takes: dict[str, tuple[str, Take | None]] = {}
        for i, field in enumerate(self.contract.outputs):
            source = _source(self.manifest, field)
            path = at("bind.outputs", field.name) if field.name in self.manifest.bind.outputs else f"outputs[{i}]"
            spec = self.find(source.tensor, path, "output")
            takes[field.name] = source.tensor, self._take(field, source, spec, path)
        return _unpacking(takes)

    def _take(self, field: Field, source: OutputBinding, spec: TensorSpec | None, path: str) -> Take | None:
        if spec is None:
            return _adapting(field, source)
        left = spec.shape
        if source.argmax or source.column is not None:
            if not self._has_column(field, source, spec, path):
                return None
            left = spec.shape[:-1]
        is_class = source.argmax or source.threshold is not None
        given: ElementType = BY_NAME["int64"] if is_class else BY_NAME[spec.type]
        problem = None if is_class else cast_problem(given, field.element)
        shape = field.batched_shape
        is_column = field.is_scalar and len(left) == 2 and left[1] in (1, -1)
        fits = not left or is_column or _promises(left, shape)
        if source.reshape and left:
            fits = reshape_problem(left[1:], field.shape) is None
        if not fits or problem:
            text = f"is {field.type} {self.listed(shape)}; it comes from {spec.type} {self.listed(left)}"
            self.report(path, text + (f" ({problem})" if fits and problem else ""))
            return None
        if left and not (is_column or source.reshape or is_class) and given is field.element and left == spec.shape:
            return None
        return _adapting(field, source, given)

    def _has_column(self, field: Field, source: OutputBinding, spec: TensorSpec, path: str) -> bool:
        width = spec.shape[-1] if len(spec.shape) > 1 else -1
        names = field.enum or field.labels
        if len(spec.shape) == 1:
            self.report(path, f"the artifact's output '{spec.name}' has one value a row and no columns")
        elif width >= 0 and source.column is not None and not 0 <= source.column < width:
            self.report(at(path, "column"), f"must be from 0 to {width - 1}: '{spec.name}' has {width} columns")
        elif width >= 0 and source.argmax and field.type == "string" and len(names) != width:
            self.report(path, f"names {len(names)} classes; the artifact's output '{spec.name}' has {width} columns")
        else:
            return True
        return False


def _accepts(taken: tuple[int, ...], given: tuple[int, ...]) -> bool:
    """Whether a tensor of shape `taken` takes whatever has the shape `given` (the first axis has been looked at)."""
    return len(taken) == len(given) and all(t in (-1, g) for t, g in zip(taken[1:], given[1:], strict=True))


def _promises(made: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a tensor of shape `made` may be what was `wanted`; its variable axes are checked on every answer."""
    return len(made) == len(wanted) and all(-1 in (m, w) or m == w for m, w in zip(made[1:], wanted[1:], strict=True))


def _share(fields: list[Field], dtype: np.dtype[Any]) -> bool:
    return all(f.element.dtype == dtype for f in fields) and dtype.kind in "biuf"


def _packing(feeds: dict[str, Feed | None]) -> Pack:
    if all(feed is None for feed in feeds.values()):
        return _unchanged
    steps = tuple((tensor, feed or itemgetter(tensor)) for tensor, feed in feeds.items())
    return lambda inputs: {tensor: feed(inputs) for tensor, feed in steps}


def _unchanged(inputs: dict[str, Array]) -> dict[str, Array]:
    return inputs


def _unpacking(takes: dict[str, tuple[str, Take | None]]) -> Unpack:
    if all(take is None and name == tensor for name, (tensor, take) in takes.items()):
        return _untouched

    def unpack(raw: dict[str, Array], rows: int) -> dict[str, Array]:
        answer = {}
        for name, (tensor, take) in takes.items():
            array = raw.get(tensor)
            if array is None:
                raise no_output(tensor, raw)
            answer[name] = array if take is None else take(array, rows)
        return answer

    return unpack


def _untouched(raw: dict[str, Array], rows: int) -> dict[str, Array]:  # noqa: ARG001 - the shape of Unpack
    return raw


def _cast(array: Array, dtype: np.dtype[Any]) -> Array:
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):  # float64 beyond float32's range becomes infinity: the model's answer is checked
        return array.astype(dtype)


def _columns(names: tuple[str, ...], dtype: np.dtype[Any], is_uniform: bool) -> Feed:
    """Return how to pack scalar fields side by side.

    For twenty columns and one row: joining buffers 1.6 µs, a list of items 3.0, one assignment a column 7.5.
    """
    width = len(names)

    def feed(inputs: dict[str, Array]) -> Array:
        arrays = [inputs[name] for name in names]
        rows = len(arrays[0])
        if rows == 1:
            if is_uniform:
                return np.frombuffer(b"".join(arrays), dtype).reshape(1, width)  # type: ignore[arg-type] # arrays are buffers
            with np.errstate(over="ignore"):
                return np.array([[a.item() for a in arrays]], dtype)
        packed = np.empty((rows, width), dtype)
        with np.errstate(over="ignore"):
            for i, array in enumerate(arrays):
                packed[:, i] = array
        return packed

    return feed


def _adapting(field: Field, source: OutputBinding, given: ElementType | None = None) -> Take:
    """Return how an artifact's tensor becomes this field: column or class, then type, then shape.

    `given` is the type it is known to have; None checks the type of every answer.
    """
    element, name, ndim = field.element, field.name, len(field.shape) + 1
    column, argmax, threshold, reshape = source.column, source.argmax, source.threshold, source.reshape
    is_named = field.type == "string" and (argmax or threshold is not None)
    labels = np.array(field.enum or field.labels, object) if is_named else None

    def take(array: Array, rows: int) -> Array:
        if argmax or column is not None:
            if array.ndim < 2 or (column is not None and column >= array.shape[-1]):
                raise InvalidOutput(f"the model's output for {name} has too few columns")
            array = array[..., column] if column is not None else _largest(array, labels, name)
        if threshold is not None:
            array = _above(array, threshold, labels, name)
        if field.is_json:
            array = json_values.encoded(array, name)
        if array.dtype != element.dtype:
            array = _cast(array, element.dtype) if given is not None else cast_values(array, element, name)
        if reshape:
            return _laid_out(array, (rows, *field.shape), name)
        if array.ndim != ndim and array.size == rows and ndim == 1:
            array = array.reshape(rows)
        return array

    return take


def _laid_out(array: Array, shape: tuple[int, ...], name: str) -> Array:
    try:
        return array.reshape(shape)
    except ValueError:
        raise InvalidOutput(f"the model's output for {name} does not have the values of its shape") from None


def _above(array: Array, threshold: float, labels: Array | None, name: str) -> Array:
    if array.dtype.kind not in "iuf" or np.isnan(array).any():
        raise InvalidOutput(f"the model's output for {name} is not a number")
    index: Array = (array > threshold).astype(np.int64)
    if labels is None:
        return index
    named: Array = labels[index]
    return named


def _largest(array: Array, labels: Array | None, name: str) -> Array:
    if array.dtype.kind not in "biuO" and np.isnan(array).any():
        raise InvalidOutput(f"the model's output for {name} is not a number")
    index: Array = np.asarray(array.argmax(axis=-1))
    if labels is None:
        return index
    if array.shape[-1] > len(labels):
        raise InvalidOutput(f"the model's output for {name} has more columns than there are names")
    named: Array = labels[index]
    return named
