"""scikit-learn estimators stored by skops, never by pickle.

Types: what skops trusts by itself (the estimators of scikit-learn, NumPy and SciPy values) and `ACCEPTED`, scikit-learn's own
plain parts that skops asks about. Anything else is refused by name: a custom transformer is code, so it belongs into a `python`
package; search trees of nearest neighbours (KDTree, BallTree) hold unchecked indices: fit with `algorithm="brute"` or export to
ONNX. skops does not trust decision trees either, because scikit-learn follows their indices without looking; here every index
is checked after loading. Their numbers are still only as good as their source: sign packages that come from elsewhere.

Inputs: `X` [-1, n] float64 for an estimator fitted on an array; one column per feature for one fitted on a DataFrame, which is
built again for every call (needs pandas; about 0.1 ms); one column `text` for one that takes documents. Outputs: `label` and
`probabilities` of a classifier, `value` of a regressor, `label` of a clusterer, `label` and `score` of an outlier detector,
`transformed` of a transformer. Only what the manifest needs is computed, on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from limen.contracts.errors import InvalidPackage, Reason
from limen.contracts.inference import Parameter
from limen.contracts.tensors import BY_NAME, Array, TensorSpec, element_type_of
from limen.packaging.manifest import Manifest
from limen.packaging.sniff import ensure_format
from limen.runtime.backends.artifact import OneAnswer, artifact_file, failed, loading, require
from limen.runtime.backends.trees import check_links, check_range, unsound
from limen.runtime.binding import field_types, wanted_tensors
from limen.runtime.predictor import Signature

ACCEPTED: Final = frozenset(
    [
        "numpy.dtype",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        *(
            f"sklearn.gaussian_process.kernels.{kernel}"
            for kernel in (
                *("CompoundKernel", "ConstantKernel", "DotProduct", "Exponentiation", "ExpSineSquared", "Matern"),
                *("PairwiseKernel", "Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel"),
            )
        ),
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    ]
)
"""Types besides those skops trusts: plain values, and trees that are checked here."""
Method = Callable[[Any], Any]


class SklearnBackend:
    """Loads `.skops` files."""

    name: ClassVar[str] = "sklearn"
    formats: ClassVar[tuple[str, ...]] = ("skops",)

    def load(self, path: Path, manifest: Manifest) -> SklearnModel:
        """Load the estimator of the package folder `path`."""
        estimator = _read(artifact_file(path, manifest, self.formats))
        inputs = _inputs(estimator, field_types(manifest))
        methods = answers_of(estimator)
        signature = Signature(inputs, _outputs(estimator, methods, inputs, None))
        return SklearnModel(signature, methods, wanted_tensors(manifest), is_table=_is_table(estimator))

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read the estimator's features and answers; a sample gives the types of the columns it was fitted on."""
        ensure_format(artifact, self.formats)
        estimator = _read(artifact)
        found = {name: element_type_of(array.dtype) for name, array in (sample or {}).items()}
        inputs = _inputs(estimator, {name: element.name for name, element in found.items() if element})
        return Signature(inputs, _outputs(estimator, answers_of(estimator), inputs, sample))


class SklearnModel(OneAnswer):
    """One fitted estimator."""

    def __init__(
        self, signature: Signature, methods: Mapping[str, Method], wanted: Sequence[str], *, is_table: bool
    ) -> None:
        self.signature = signature
        types = {t.name: BY_NAME[t.type].dtype for t in signature.outputs}
        self._methods = [(name, methods[name], types[name]) for name in wanted if name in methods]
        self._columns = [t.name for t in signature.inputs]
        self._frame = require("pandas", "pandas").DataFrame if is_table else None

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Call the estimator's methods that the manifest needs."""
        try:
            if self._frame is None:
                data = inputs[self._columns[0]]
            else:
                data = self._frame({name: inputs[name] for name in self._columns})
            return {name: _dense(method(data), dtype) for name, method, dtype in self._methods}
        except Exception as exc:
            raise failed("scikit-learn", exc) from exc


def _dense(answer: Any, dtype: np.dtype[Any]) -> Array:
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer, dtype)


def _read(file: Path) -> Any:
    skops = require("skops.io", "limen[sklearn]")
    with loading("skops"):
        asked = set(skops.get_untrusted_types(file=file))
    if foreign := sorted(asked - ACCEPTED):
        text = f"holds types that are not scikit-learn's own plain ones: {', '.join(foreign[:5])}"
        hint = "export the model to ONNX, or bring its code along as a python package"
        raise InvalidPackage(f"artifact: {text}; {hint}", reason=Reason.UNSAFE_FORMAT)
    with loading("skops"):
        estimator = skops.load(file, trusted=sorted(asked))
        if not hasattr(estimator, "get_params"):
            raise InvalidPackage("artifact: holds no estimator")
        for part in _parts(estimator):
            _check(part)
            if hasattr(part, "n_jobs"):
                part.n_jobs = 1
    return estimator


def _parts(estimator: Any) -> Iterator[Any]:
    """Yield every object of scikit-learn's that the estimator holds, itself included, each once."""
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple)) or (isinstance(part, np.ndarray) and part.dtype == object):
            waiting.extend(part)
        elif type(part).__module__.startswith("sklearn."):
            yield part
            waiting.extend(getattr(part, "__dict__", {}).values())


def _check(part: Any) -> None:
    """Refuse trees whose numbers would lead scikit-learn astray (B95)."""
    features = getattr(part, "n_features_in_", None)
    tree = getattr(part, "tree_", None)
    if tree is not None:
        nodes = tree.__getstate__()["nodes"]
        inner = nodes[nodes["left_child"] != -1]
        check_links(inner["left_child"], inner["right_child"], len(nodes), "a tree")
        check_range(inner["feature"], 0, int(features or 0), "a tree asks for a feature that does not exist")
        if not len(nodes):
            raise unsound("a tree is empty")
    for predictor in _flat(getattr(part, "_predictors", ())):
        _check_histogram_tree(predictor, int(features or 0))
    # Ensembles hand their input to their trees unchecked, so both must count the same features.
    members = _flat(getattr(part, "estimators_", ()))
    picked = getattr(part, "estimators_features_", None)
    for i, member in enumerate(members):
        if hasattr(member, "tree_") and type(part).__module__.startswith("sklearn.ensemble."):
            width = features if picked is None else len(picked[i])
            if member.n_features_in_ != width:
                raise unsound("a tree counts other features than its ensemble")


def _check_histogram_tree(tree: Any, features: int) -> None:
    nodes = tree.nodes
    inner = nodes[nodes["is_leaf"] == 0]
    check_links(inner["left"], inner["right"], len(nodes), "a tree")
    check_range(inner["feature_idx"], 0, features, "a tree asks for a feature that does not exist")
    choices = inner[inner["is_categorical"] != 0]["bitset_idx"]
    for sets in (tree.raw_left_cat_bitsets, tree.binned_left_cat_bitsets):
        check_range(choices, 0, len(sets), "a tree asks for a set of categories that does not exist")
        if sets.ndim != 2 or sets.shape[1] != 8:
            raise unsound("a tree has sets of categories of another form")
    if not len(nodes):
        raise unsound("a tree is empty")


def _flat(members: Any) -> list[Any]:
    if isinstance(members, np.ndarray):
        return list(members.ravel())
    return [m for row in members for m in (row if isinstance(row, (list, tuple)) else [row])]


def _is_table(estimator: Any) -> bool:
    return getattr(estimator, "feature_names_in_", None) is not None


def _inputs(estimator: Any, types: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    if _is_table(estimator):
        names = map(str, estimator.feature_names_in_)
        return tuple(TensorSpec(name, types.get(name, "float64"), (-1,)) for name in names)
    width = getattr(estimator, "n_features_in_", None)
    if width is None:
        return (TensorSpec("text", "string", (-1,)),)
    return (TensorSpec("X", "float64", (-1, int(width))),)


def answers_of(estimator: Any) -> dict[str, Method]:
    """Return the methods that give an estimator's answers, by the name of the tensor; also called by `runtime.conversion`."""
    base = require("sklearn.base", "limen[sklearn]")
    if base.is_regressor(estimator):
        return {"value": estimator.predict}
    found = {}
    if hasattr(estimator, "predict"):
        found["label"] = estimator.predict
    if base.is_classifier(estimator):
        if hasattr(estimator, "predict_proba"):
            found["probabilities"] = estimator.predict_proba
    elif base.is_outlier_detector(estimator):
        found["score"] = estimator.decision_function
    elif hasattr(estimator, "transform"):
        found["transformed"] = estimator.transform
    return found


def _outputs(
    estimator: Any,
    methods: Mapping[str, Method],
    inputs: tuple[TensorSpec, ...],
    sample: Mapping[str, Array] | None,
) -> tuple[TensorSpec, ...]:
    classes = (
        getattr(estimator, "classes_", None)
        if require("sklearn.base", "limen[sklearn]").is_classifier(estimator)
        else None
    )
    if isinstance(classes, list):
        raise InvalidPackage("artifact: classifies several targets at once; make one package for each")
    found = []
    for name, method in methods.items():
        probe = _probe(method, inputs, sample)
        if classes is not None:
            element = element_type_of(np.asarray(classes).dtype)
            type_name = element.name if name == "label" and element else "float64"
            shape = (-1,) if name == "label" else (-1, len(classes))
        else:
            element = element_type_of(probe.dtype) if probe is not None else None
            type_name = element.name if name == "label" and element else "int64" if name == "label" else "float64"
            shape = (-1, *probe.shape[1:]) if probe is not None else ()
        columns = tuple(str(c) for c in classes) if classes is not None and name == "probabilities" else ()
        found.append(TensorSpec(name, type_name, shape, columns))
    return tuple(found)


def _probe(method: Method, inputs: tuple[TensorSpec, ...], sample: Mapping[str, Array] | None) -> Array | None:
    """Return what the method answers to one row, or None when no row is at hand that it takes.

    Shapes of answers are written nowhere in an estimator. Zeros do for numbers; a table needs a row of a sample.
    """
    first = inputs[0]
    try:
        with np.errstate(all="ignore"):
            if len(first.shape) == 2:
                answer = method(np.zeros((1, first.shape[1])))
            elif sample is not None and all(t.name in sample for t in inputs):
                answer = method(require("pandas", "pandas").DataFrame({t.name: sample[t.name][:1] for t in inputs}))
            else:
                return None
    except Exception:  # noqa: BLE001 - a row it does not take says nothing about the model
        return None
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
