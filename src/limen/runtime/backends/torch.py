"""PyTorch programs saved by `torch.export`, on one CPU thread each.

What a file declares is read from its JSON without PyTorch. Loading it evaluates expressions that stand in it (the sizes of its axes),
so such a package is served with `--trust-code` only; pickles inside it are refused all the same. PyTorch insists on pickled sample
inputs, so it gets zeros that are made here. TorchScript is not loaded: it cannot be without unpickling.

Types: bool, integers, float16 to float64. Inputs are the program's own, by position. Called through `limen.runtime.backends`.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Final

import msgspec
import numpy as np

from limen.contracts.errors import InvalidPackage
from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array, TensorSpec
from limen.packaging.formats.sniff import ensure_format
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends.artifact import OneAnswer, artifact_file, failed, loading, require
from limen.runtime.binding.binding import wanted_tensors
from limen.runtime.predictor import Signature

_TYPES: Final = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
}
"""Source: `torch._export.serde.schema.ScalarType`."""
_PROGRAM: Final = "/models/model.json"
_READING: Final = Lock()


class TorchBackend:
    """Loads `.pt2` files."""

    name: ClassVar[str] = "torch"
    formats: ClassVar[tuple[str, ...]] = ("torch-export",)

    def load(self, path: Path, manifest: Manifest) -> TorchModel:
        """Load the program of the package folder `path`. Whether that is wanted has been decided by whoever calls."""
        file = artifact_file(path, manifest, self.formats)
        signature = _signature(file)
        torch = require("torch", "limen[torch]")
        with loading("torch"):
            torch.set_num_threads(1)
        # PyTorch keeps the program that it reads in a global variable.
        with _READING, loading("torch"):
            program = torch.export.load(_with_samples(file, signature, torch)).module()
        return TorchModel(torch, program, signature, wanted_tensors(manifest))

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read what the program declares."""
        ensure_format(artifact, self.formats)
        return _signature(artifact)


class TorchModel(OneAnswer):
    """One program."""

    def __init__(self, torch: Any, program: Any, signature: Signature, wanted: Sequence[str]) -> None:
        self.signature = signature
        self._torch = torch
        self._program = program
        self._inputs = [t.name for t in signature.inputs]
        self._outputs = [t.name for t in signature.outputs]
        self._wanted = wanted

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Run the program once."""
        torch = self._torch
        try:
            with torch.inference_mode():
                # PyTorch takes no array that it may not write to.
                given = [torch.from_numpy(np.require(inputs[name], requirements=["C", "W"])) for name in self._inputs]
                answer = torch.utils._pytree.tree_leaves(self._program(*given))  # noqa: SLF001 - has no public name
                found = dict(zip(self._outputs, answer, strict=True))
                return {name: found[name].numpy() for name in self._wanted}
        except Exception as exc:
            raise failed("torch", exc) from exc


def _with_samples(file: Path, signature: Signature, torch: Any) -> io.BytesIO:
    """Return the archive with sample inputs of zeros."""
    samples, whole = io.BytesIO(), io.BytesIO()
    zeros = [torch.zeros([2 if d < 0 else d for d in t.shape], dtype=getattr(torch, t.type)) for t in signature.inputs]
    torch.save((tuple(zeros), {}), samples)
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as made:
        for info in archive.infolist():
            made.writestr(info.filename, archive.read(info))
        made.writestr(f"{_top(archive)}/data/sample_inputs/model.pt", samples.getvalue())
    whole.seek(0)
    return whole


def _top(archive: zipfile.ZipFile) -> str:
    found = [name.removesuffix(_PROGRAM) for name in archive.namelist() if name.endswith(_PROGRAM)]
    if len(found) != 1:
        raise InvalidPackage("artifact: must hold exactly one program, named model")
    return found[0]


def _signature(file: Path) -> Signature:
    """Return the tensors of a program.

    Raises:
        InvalidPackage: it is no such program, or takes or gives something else than tensors.
    """
    with zipfile.ZipFile(file) as archive:
        data = archive.read(_top(archive) + _PROGRAM)
    try:
        module = msgspec.json.decode(data)["graph_module"]
        values, declared = module["graph"]["tensor_values"], module["signature"]
        inputs = [spec["user_input"]["arg"] for spec in declared["input_specs"] if "user_input" in spec]
        outputs = [spec["user_output"]["arg"] for spec in declared["output_specs"] if "user_output" in spec]
        return Signature(
            tuple(_spec(arg["as_tensor"]["name"], values) for arg in inputs),
            tuple(_spec(arg["as_tensor"]["name"], values) for arg in outputs),
        )
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidPackage("artifact: the program must take and give tensors, and nothing else") from exc


def _spec(name: str, values: Mapping[str, Any]) -> TensorSpec:
    value = values[name]
    element = _TYPES.get(value["dtype"])
    if element is None:
        raise InvalidPackage(
            f"artifact: the tensor '{name}' has a type that is not served; allowed: {', '.join(_TYPES.values())}"
        )
    return TensorSpec(name, element, tuple(int(size.get("as_int", -1)) for size in value["sizes"]))
