"""Models in memory, saved in servable formats with their own answers.

`original_of` tells the kinds apart. What comes out is what an unpickled model comes out as, so that everything after it is the same:
the package is kept only if it answers as the original does (`authoring.importing.package_converted`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any, Final

import numpy as np

from limen.authoring.conversion.formats import converted
from limen.authoring.conversion.messages import Candidate, Converted, Task, rows_of
from limen.authoring.importing import TARGETS
from limen.authoring.samples.sample import Sample
from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array, TensorSpec, element_type_of
from limen.notebook.functions import source_of
from limen.packaging.importers.draft import WHOLE
from limen.packaging.importers.torch_export import copy_without_samples

MAX_ASKED: Final = 200
"""Rows of the sample that the original is asked."""
FEATURES: Final = "features"
"""What the only array is called that a function takes."""
KINDS: Final = (
    "an estimator of scikit-learn, a booster of XGBoost or LightGBM, a torch module, an ONNX model or session, a function, or the "
    "path of a model file"
)


def artifact_of(model: Any, place: Path) -> Path | None:
    """Return the file of a model that has one, written to `place` if need be; None for what has to be converted.

    Raises:
        InvalidPackage: there is no such file.
    """
    if isinstance(model, (str, Path)):
        if not Path(model).is_file():
            raise InvalidPackage(f"there is no file {model}")
        return Path(model)
    kind, data = _kind(model), None
    if kind.startswith("onnxruntime."):
        if file := getattr(model, "_model_path", None):
            return Path(file)
        data = getattr(model, "_model_bytes", None)
        if not data:
            raise InvalidPackage(
                "the session does not record which file it was loaded from; package the .onnx file itself"
            )
    elif kind.startswith("onnx.") and hasattr(model, "SerializeToString"):
        data = model.SerializeToString()
    if data is None:
        return None
    written = place / "model.onnx"
    written.write_bytes(data)
    return written


def original_of(model: Any, sample: Sample, data: Any) -> tuple[Converted, tuple[TensorSpec, ...]]:
    """Return a model in formats that can be served, and its output tensors where no format says them.

    Args:
        model: what was trained.
        sample: example rows.
        data: the same rows as they were given.

    Raises:
        InvalidPackage: it is of no kind that can be packaged, or cannot answer the sample.
    """
    kind = _kind(model)
    if hasattr(model, "state_dict") and hasattr(model, "forward"):
        return _module(model, kind, sample), ()
    if isinstance(model, FunctionType):
        return _function(model, sample, is_frame=hasattr(data, "columns"))
    if kind.startswith(("xgboost.", "lightgbm.")) or (hasattr(model, "get_params") and hasattr(model, "fit")):
        task = Task(model=b"", targets=TARGETS, sample=rows_of(sample.columns), memory_mb=0)
        return converted(model, task), ()
    raise InvalidPackage(f"a {kind} cannot be packaged; give {KINDS}")


def versions_of(model: Any) -> dict[str, str]:
    """Return the versions of Python and of the libraries that a model is made of."""
    import platform
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    heads = {_kind(part).partition(".")[0] for part in _parts(model)} - {"builtins", "__main__"}
    found = {"python": platform.python_version()}
    distributions = packages_distributions()
    for name in sorted({name for head in (*heads, "numpy") for name in distributions.get(head, ())}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _parts(model: Any) -> list[Any]:
    """Return a model and the steps inside it."""
    found, waiting = [], [model]
    while waiting:
        part = waiting.pop()
        found.append(part)
        steps = getattr(part, "steps", None) or getattr(part, "transformers_", None) or ()
        waiting += [step[1] for step in steps if isinstance(step, tuple) and not isinstance(step[1], str)]
        if (best := getattr(part, "best_estimator_", None)) is not None:
            waiting.append(best)
    return found


def _kind(model: Any) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _function(
    function: Callable[..., Any], sample: Sample, *, is_frame: bool
) -> tuple[Converted, tuple[TensorSpec, ...]]:
    """Return a function as its source, and the tensors that it answers with."""
    rows = {name or FEATURES: array[:MAX_ASKED] for name, array in sample.columns.items()}
    field = FEATURES if sample.whole is not None else ""
    source = source_of(function, takes_frame=is_frame, field=field)
    given: Any = rows[field] if field else import_module("pandas").DataFrame(rows) if is_frame else dict(rows)
    try:
        answer = function(given)
    except Exception as exc:
        raise InvalidPackage(f"the function cannot answer the sample: {type(exc).__name__}: {exc}") from exc
    answers = {name: _array(values) for name, values in _named(answer).items()}
    count = len(next(iter(rows.values())))
    for name, array in answers.items():
        if array.ndim == 0 or len(array) != count:
            raise InvalidPackage(
                f"the function returns {array.size} values of {name} for {count} rows; it must return one per row"
            )
    outputs = tuple(TensorSpec(name, _type(array, name), (-1, *array.shape[1:])) for name, array in answers.items())
    found = Converted(
        library="function",
        candidates=(Candidate("python", source.encode()),),
        rows=rows_of(rows),
        sample_rows=count,
        answers=rows_of(answers),
    )
    return found, outputs


def _named(answer: Any) -> Mapping[str, Any]:
    if hasattr(answer, "columns"):
        return {str(column): answer[column] for column in answer.columns}
    return answer if isinstance(answer, Mapping) else {"prediction": answer}


def _array(values: Any) -> Array:
    array = np.asarray(values)
    return array.astype(object) if array.dtype.kind in "US" else array


def _type(array: Array, name: str) -> str:
    if array.dtype == object:
        return "string"
    element = element_type_of(array.dtype)
    if element is None:
        raise InvalidPackage(f"the function returns values of {name} that no contract can express")
    return element.name


def _module(model: Any, kind: str, sample: Sample) -> Converted:
    """Return a torch module as the program that it exports, with any number of rows."""
    torch = import_module("torch")
    rows = _tensor_rows(model, sample)
    tensors = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in rows.values())
    axis = torch.export.Dim("rows")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            program = torch.export.export(model, tensors, dynamic_shapes=tuple({0: axis} for _ in tensors))
            answer = torch.utils._pytree.tree_leaves(model(*tensors))  # noqa: SLF001 - has no public name
    except Exception as exc:
        first = str(exc).strip().partition("\n")[0]
        raise InvalidPackage(f"the module cannot be exported: {type(exc).__name__}: {first}") from exc
    finally:
        model.train(was_training)
    with TemporaryDirectory(prefix="limen-export-") as place:
        saved, clean = Path(place) / "saved.pt2", Path(place) / "clean.pt2"
        torch.export.save(program, saved)
        copy_without_samples(saved, clean)
        data = clean.read_bytes()
    graph = program.graph_signature
    named = dict(zip(graph.user_inputs, rows.values(), strict=True))
    answers = dict(zip(graph.user_outputs, (tensor.numpy() for tensor in answer), strict=True))
    return Converted(
        library=kind,
        candidates=(Candidate("torch-export", data),),
        rows=rows_of({WHOLE: next(iter(named.values()))} if len(named) == 1 else named),
        sample_rows=len(tensors[0]),
        answers=rows_of(answers),
    )


def _tensor_rows(model: Any, sample: Sample) -> dict[str, Array]:
    """Return the sample's rows as a module takes them: its own float type, columns of a table as one matrix, and at least two rows."""
    rows = {name: array[:MAX_ASKED] for name, array in sample.columns.items()}
    if len(rows) > 1 and len(signature(model.forward).parameters) == 1:
        rows = {WHOLE: np.column_stack(list(rows.values()))}
    parameter = next(iter(model.parameters()), None)
    if parameter is not None and parameter.dtype.is_floating_point:
        own = np.dtype(str(parameter.dtype).removeprefix("torch."))
        rows = {name: array.astype(own) if array.dtype.kind == "f" else array for name, array in rows.items()}
    # An axis of one row would be exported as a constant.
    return {name: np.concatenate([array, array]) if len(array) == 1 else array for name, array in rows.items()}
