"""The contents of `model.yaml` as plain values. `packaging.manifest.decoder` reads the file.

    name: credit
    backend: onnx
    artifact: model.onnx
    inputs:  [...]            the contract's fields
    outputs: [...]
    bind:
      inputs:  {numeric: [loan_amount, interest_rate]}   artifact tensor <- contract fields, packed as columns
      outputs: {default_probability: {tensor: probabilities, column: 1}}

A contract field that `bind` does not mention is bound to the artifact's tensor of the same name.
"""

from __future__ import annotations

import msgspec

from limen.contracts.contract import Contract, Json
from limen.contracts.serving import Serving

MANIFEST_NAME = "model.yaml"


class InputBinding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The one field that an artifact's tensor comes from, laid out in another shape."""

    field: str
    shape: tuple[int, ...]
    """The shape of one row that the tensor takes, without the batch axis as in a field; -1 for at most one variable size."""


class OutputBinding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where one contract output comes from."""

    tensor: str
    """The artifact's output tensor."""
    column: int | None = None
    """Take this column of the tensor's last axis."""
    argmax: bool = False
    """Take the index of the largest value of the last axis; a string output takes its `enum` entry (or label) there."""
    reshape: bool = False
    """Lay the tensor's values out in the field's shape, row by row."""
    threshold: float | None = None
    """Give 1 where the value is above this and 0 elsewhere; a string output takes the second or first `enum` entry (or label)."""


class Bind(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How contract fields map to the artifact's own tensors."""

    inputs: dict[str, tuple[str, ...] | str | InputBinding] = {}
    """Artifact tensor to the scalar fields packed as its columns, or to the one field it is renamed or reshaped from."""
    outputs: dict[str, OutputBinding] = {}
    """Contract output to its source."""


class Fallback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer when the model gives none in time or fails. Exactly one of the two is set; such answers are marked."""

    outputs: dict[str, Json] | None = None
    """A constant answer: one record, given for every row."""
    version: str = ""
    """Another version of the same model, asked with what is left of the deadline."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One package: its contract and how the artifact fulfils it."""

    contract: Contract
    backend: str
    """Name of the backend that loads the artifact: onnx, sklearn, xgboost, lightgbm, rules, torch, transformers, python."""
    artifact: str
    """Path of the artifact in the package; for `python` the file and the class, `model.py:CreditModel`."""
    bind: Bind = Bind()
    serving: Serving = Serving()
    environment: tuple[str, ...] = ()
    """Names of the environment variables that the package's own code reads."""
    fallback: Fallback | None = None
    reference: str = ""
    """Path of a sample of the training data (CSV or Parquet), for checks and for drift later."""

    @property
    def artifact_path(self) -> str:
        """The path of the artifact's file, without the class of a `python` artifact."""
        return self.artifact.partition(":")[0] if self.backend == "python" else self.artifact

    @property
    def needs_trust(self) -> bool:
        """Whether loading the package runs code that came with it: a Python class, or the expressions in a PyTorch program."""
        return self.backend in ("python", "torch")
