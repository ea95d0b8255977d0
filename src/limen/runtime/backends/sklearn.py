"""scikit-learn estimators stored by skops, never by pickle.

The archive is rewritten to what answering needs (`skops_file`); only types that skops trusts or that were reviewed here are built
(`skops_types`), and what scikit-learn would follow blindly is checked after loading (`sklearn_parts`). A custom transformer is code,
so it belongs into a Python package. Numbers are still only as good as their source: sign packages that come from elsewhere.

Inputs (`sklearn_inputs`): `X` [-1, n] float64 for an estimator fitted on an array; one column per feature for one fitted on a DataFrame,
which is built again for every call (needs pandas); one column `text` for one that takes documents. Outputs: `sklearn_answers`. Only
what the manifest needs is computed, on one thread.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from limen.contracts.errors import InvalidPackage, Reason
from limen.contracts.inference import Parameter
from limen.contracts.tensors import BY_NAME, Array, element_type_of
from limen.packaging.formats.sniff import ensure_format
from limen.packaging.manifest.values import InputBinding, Manifest
from limen.runtime.backends.artifact import OneAnswer, artifact_file, failed, loading, require
from limen.runtime.backends.files.skops import read_archive
from limen.runtime.backends.files.skops_types import ACCEPTED, refusal
from limen.runtime.backends.sklearn_answers import answers_of, ask, specs_of
from limen.runtime.backends.sklearn_inputs import Rows, layout_of
from limen.runtime.backends.sklearn_parts import settle
from limen.runtime.backends.sklearn_trial import Trial
from limen.runtime.binding.binding import wanted_tensors
from limen.runtime.predictor import Signature


class SklearnBackend:
    """Loads `.skops` files."""

    name: ClassVar[str] = "sklearn"
    formats: ClassVar[tuple[str, ...]] = ("skops",)

    def prepare(self) -> None:
        """Import scikit-learn and skops."""
        require("sklearn", "limen[sklearn]")
        require("skops.io", "limen[sklearn]")

    def load(self, path: Path, manifest: Manifest) -> SklearnModel:
        """Load the estimator of the package folder `path`."""
        return SklearnModel(read_estimator(artifact_file(path, manifest, self.formats)), manifest)

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read the estimator's columns and answers; trials show which values it takes, a sample gives the types it does not know."""
        ensure_format(artifact, self.formats)
        estimator = read_estimator(artifact)
        layout, sample = layout_of(estimator), sample or {}
        elements = {name: element_type_of(array.dtype) for name, array in sample.items()}
        types = layout.types({name: element.name for name, element in elements.items() if element})
        answers = answers_of(estimator)
        trial = Trial(estimator, answers, layout, types, sample)
        offered = {name: answer for name, answer in answers.items() if answer.is_offered}
        return Signature(trial.inputs(), specs_of(estimator, offered, trial.answers, {}))


class SklearnModel(OneAnswer):
    """One fitted estimator."""

    def __init__(self, estimator: Any, manifest: Manifest) -> None:
        declared = _declared_inputs(manifest)
        layout, wanted = layout_of(estimator).with_unused(declared), wanted_tensors(manifest)
        answers = {name: a for name, a in answers_of(estimator).items() if a.is_offered or name in wanted}
        types = layout.types({}) | {k: t for k, t in declared.items() if k in layout.names}
        if layout.form == "matrix":
            types = layout.types({})
        trial = Trial(estimator, answers, layout, types, _example(manifest))
        self.signature = Signature(
            layout.specs(types), specs_of(estimator, answers, trial.answers, _declared_outputs(manifest))
        )
        self._estimator = estimator
        self._rows = Rows(layout, types)
        self._answers = {name: answers[name] for name in wanted if name in answers}
        self._types = {t.name: BY_NAME[t.type].dtype for t in self.signature.outputs}

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Call the estimator's methods that the manifest needs."""
        try:
            found = ask(self._estimator, self._answers, self._rows.build(inputs))
            return {name: np.asarray(answer, self._types[name]) for name, answer in found.items()}
        except Exception as exc:
            raise failed("scikit-learn", exc) from exc


def read_estimator(file: Path) -> Any:
    """Return the estimator of a skops file, checked.

    Raises:
        InvalidPackage: it holds what it may not, is damaged, or holds no estimator.
    """
    skops = require("skops.io", "limen[sklearn]")
    with loading("skops"):
        archive = read_archive(file)
        asked = set(skops.get_untrusted_types(file=archive))
    if foreign := asked - ACCEPTED:
        raise InvalidPackage(refusal(foreign), reason=Reason.UNSAFE_FORMAT)
    for library in ("xgboost", "lightgbm"):
        if any(name.startswith(f"{library}.") for name in asked):
            require(library, f"limen[{library}]")
    with loading("skops"), warnings.catch_warnings():
        # Written by another version of scikit-learn: trials and examples show whether it still answers.
        warnings.simplefilter("ignore")
        estimator = skops.load(archive, trusted=sorted(asked))
        if not hasattr(estimator, "get_params"):
            raise InvalidPackage("artifact: holds no estimator")
        settle(estimator)
    return estimator


def _declared_inputs(manifest: Manifest) -> dict[str, str]:
    """Return the type of each tensor that one field of the contract is bound to."""
    types = {field.name: field.type for field in manifest.contract.inputs}
    for tensor, names in manifest.bind.inputs.items():
        chosen = names if isinstance(names, tuple) else (names.field if isinstance(names, InputBinding) else names,)
        if len(chosen) == 1 and chosen[0] in types:
            types[tensor] = types[chosen[0]]
    return types


def _declared_outputs(manifest: Manifest) -> dict[str, str]:
    """Return the type of each tensor that a field of the contract comes from as it is."""
    sources = manifest.bind.outputs
    found = {}
    for field in manifest.contract.outputs:
        source = sources.get(field.name)
        if source is None or not (source.argmax or source.threshold is not None):
            found[field.name if source is None else source.tensor] = field.type
    return found


def _example(manifest: Manifest) -> dict[str, Array]:
    """Return the first example's inputs by tensor, as one row."""
    examples = manifest.contract.examples
    fields = {field.name: field for field in manifest.contract.inputs}
    given = {name: value for name, value in (examples[0].inputs if examples else {}).items() if name in fields}
    tensors = {names: tensor for tensor, names in manifest.bind.inputs.items() if isinstance(names, str)}
    found = {}
    for name, value in given.items():
        row = np.empty(1, object)
        row[0] = value
        dtype = fields[name].element.dtype
        found[tensors.get(name, name)] = (
            row if not fields[name].element.size or value is None else np.array([value], dtype)
        )
    return found
