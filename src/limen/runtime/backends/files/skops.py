"""Prepares a skops archive for loading: drops what only fitting needs, and checks foreign payloads first.

skops builds objects from a JSON schema and files beside it. Before it does, the schema is rewritten:

- a search (`GridSearchCV` and its kin) becomes its best estimator; caches, and how the columns of a `ColumnTransformer` were once
  chosen, are left out;
- a search tree of nearest neighbours becomes its points: whoever uses it builds it again (`sklearn_parts`), because scikit-learn
  follows a stored tree's indices without looking;
- a booster of XGBoost or LightGBM inside the archive is checked as the same model in a file of its own would be (B95), and its
  training configuration is left out.

Called by the sklearn backend. Not here: which types may be built (`skops_types`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final
from zipfile import ZIP_STORED, ZipFile

from limen.contracts.errors import InvalidPackage, Reason
from limen.runtime.backends.artifact import require
from limen.runtime.backends.files import lightgbm, ubjson
from limen.runtime.backends.files import xgboost as xgboost_file
from limen.runtime.backends.files.trees import unsound

_SCHEMA: Final = "schema.json"
_SEARCHES: Final = {"GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV"}
_POINTS: Final = {
    ("sklearn.neighbors._kd_tree", "KDTree"),
    ("sklearn.neighbors._ball_tree", "BallTree"),
}
_POINTS_AT, _WEIGHTS_AT, _TREE_PARTS = 0, 12, 13
"""Where the state of a search tree has its points and their weights."""
_NOTHING: Final = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": "null"}
Node = dict[str, Any]


def read_archive(file: Path) -> BinaryIO:
    """Return a skops archive that is safe to audit and load as far as its payloads go.

    Raises:
        InvalidPackage: a payload is damaged, or a search kept no best estimator.
    """
    with ZipFile(file) as archive:
        rewriter = _Rewriter(archive)
        root = json.loads(archive.read(_SCHEMA))
        found = rewriter.rewritten(root)
        if not rewriter.changed:
            return io.BytesIO(file.read_bytes())
        found |= {key: root[key] for key in ("protocol", "_skops_version") if key in root}
        made = io.BytesIO()
        kept = set(_files(found))
        with ZipFile(made, "w", ZIP_STORED) as target:
            for name in kept:
                target.writestr(name, rewriter.files[name] if name in rewriter.files else archive.read(name))
            target.writestr(_SCHEMA, json.dumps(found))
    made.seek(0)
    return made


def _files(node: Any) -> Iterator[str]:
    """Yield the names of the files that a schema refers to."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "__loader__" in part and isinstance(part.get("file"), str):
                yield part["file"]
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


class _Rewriter:
    """Rewrites one schema."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self.changed = False
        self.files: dict[str, bytes] = {}
        """Files whose content is another than the archive's."""

    def rewritten(self, part: Any) -> Any:
        """Return a part of the schema as it is to be loaded."""
        if isinstance(part, list):
            return [self.rewritten(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "__loader__" in part:
            replaced = self._replaced(part)
            if replaced is not part:
                self.changed = True
                return replaced
        return {key: self.rewritten(value) for key, value in part.items()}

    def _replaced(self, node: Node) -> Node:
        module, name = str(node.get("__module__")), str(node.get("__class__"))
        if (module, name) in _POINTS:
            return self.rewritten(_points(node))  # type: ignore[no-any-return] # a node gives a node
        if name == "Booster" and module in ("xgboost.core", "lightgbm.basic"):
            return self._booster(node, module)
        if (module, name) == ("joblib.memory", "Memory"):
            return dict(_NOTHING)
        if node["__loader__"] != "ObjectNode" or not module.startswith("sklearn."):
            return node
        if module.startswith("sklearn.model_selection.") and name in _SEARCHES:
            best = _attributes(node).get("best_estimator_")
            if not isinstance(best, dict):
                raise InvalidPackage(
                    f"artifact: the {name} was not refitted and has no best estimator: fit it with refit=True, or save the "
                    "estimator that you chose"
                )
            return self.rewritten(best)  # type: ignore[no-any-return]
        attributes = _attributes(node)
        if name == "ColumnTransformer" and "transformers_" in attributes and "transformers" in attributes:
            attributes = attributes | {"transformers": attributes["transformers_"]}
            content = {**node["content"], "content": {k: self.rewritten(v) for k, v in attributes.items()}}
            return {**node, "content": content}
        return node

    def _booster(self, node: Node, module: str) -> Node:
        """Return a booster whose payload has been checked.

        Objects with the same `__id__` are one object to skops, so what is checked here loses its own: nothing else can take its place.
        """
        key = "handle" if module == "xgboost.core" else "_handle"
        attributes = _attributes(node)
        payload = attributes.get(key)
        if node["__loader__"] != "ObjectNode" or not isinstance(payload, dict):
            raise unsound("it holds a booster in a form that is never written")
        make = self._xgboost if module == "xgboost.core" else self._lightgbm
        made = {key: make(payload)}
        kept = {k: v for k, v in attributes.items() if k not in ("handle", "_handle")}
        text = {"__class__": "str", "__module__": "builtins", "__loader__": "TypeNode"}
        keys = {
            "__class__": "list",
            "__module__": "builtins",
            "__loader__": "ListNode",
            "content": [text] * (len(kept) + 1),
        }
        content = {
            "__class__": "dict",
            "__module__": "builtins",
            "__loader__": "DictNode",
            "content": {**{k: self.rewritten(v) for k, v in kept.items()}, **made},
            "key_types": keys,
        }
        return {"__class__": "Booster", "__module__": module, "__loader__": "ObjectNode", "content": content}

    def _xgboost(self, payload: Node) -> Node:
        if payload.get("__loader__") != "BytearrayNode" or not isinstance(payload.get("file"), str):
            raise unsound("it holds a booster in a form that is never written")
        name = payload["file"]
        xgboost = require("xgboost", "limen[xgboost]")
        model = _model_of(self._archive.read(name))
        with xgboost.config_context(verbosity=0):
            booster = xgboost.Booster(model_file=bytearray(model))
            self.files[name] = bytes(booster.__getstate__()["handle"])
        return {"__class__": "bytearray", "__module__": "builtins", "__loader__": "BytearrayNode", "file": name}

    def _lightgbm(self, payload: Node) -> Node:
        text = json.loads(payload["content"]) if payload.get("__loader__") == "JsonNode" else None
        if not isinstance(text, str):
            raise unsound("it holds a booster in a form that is never written")
        return dict(_NOTHING) | {"content": json.dumps(lightgbm.checked(text.encode()).trees)}


def _model_of(data: bytes) -> bytes:
    """Return the model in what XGBoost serialises, checked, without the configuration beside it."""
    spans: dict[str, slice] = {}
    try:
        ubjson.decode(data, spans)
    except (ValueError, RecursionError) as exc:
        raise unsound("it holds a booster that cannot be read to its end") from exc
    model = data[spans["Model"]] if "Model" in spans else data
    xgboost_file.facts_of(model)
    return model


def _attributes(node: Node) -> dict[str, Any]:
    """Return the attributes that an object's state sets; none when it is in another form."""
    state = node.get("content")
    found = state.get("content") if isinstance(state, dict) and state.get("__loader__") == "DictNode" else None
    return found if isinstance(found, dict) else {}


def _points(node: Node) -> Node:
    """Return the points of a search tree and their weights, as a tuple."""
    state = node.get("content")
    parts = state.get("content") if isinstance(state, dict) else None
    if node["__loader__"] != "ObjectNode" or not isinstance(parts, list) or len(parts) != _TREE_PARTS:
        raise InvalidPackage(
            "artifact: holds a search tree of nearest neighbours in a form that is not known: save the model again with the "
            'current scikit-learn, or fit it with algorithm="brute"',
            reason=Reason.UNSAFE_FORMAT,
        )
    return {
        "__class__": "tuple",
        "__module__": "builtins",
        "__loader__": "TupleNode",
        "content": [parts[_POINTS_AT], parts[_WEIGHTS_AT]],
    }
