"""Hugging Face text encoders: a text or a pair becomes label probabilities or a vector; on the CPU, in single precision.

The folder is read by `packaging.formats.huggingface`; `tokenizers` makes tokens of exactly what `tokenizer.json` says, `safetensors` maps the
weights and `transformers` only lends the class. So no code, adapter or kernel is looked for, here or on the network. Weights must fit
the class: none may be missing. A text that is too long is the caller's mistake unless the folder says that texts are cut off.

As many threads as `serving.resources.cpus`. Called through `limen.runtime.backends`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from limen.contracts.errors import InvalidArgument, InvalidPackage, LimenError, Reason, Violation
from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array, TensorSpec
from limen.packaging.formats.huggingface import TOKENIZER, Answer, Pooling, TextModel, padding_token, read_model
from limen.packaging.formats.sniff import ensure_format
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends.artifact import OneAnswer, artifact_file, failed, loading, require
from limen.runtime.predictor import Signature

TEXT: Final = "text"
PAIR: Final = "text_pair"
_INSTALL: Final = "limen[huggingface]"
_SILENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    # Its threads are not among those that `cpus` counts.
    "TOKENIZERS_PARALLELISM": "false",
}
_UNUSED: Final = "pooler."
"""Weights that no embedding is made with."""


class TransformersBackend:
    """Loads `config.json` and what lies beside it."""

    name: ClassVar[str] = "transformers"
    formats: ClassVar[tuple[str, ...]] = ("transformers",)

    def load(self, path: Path, manifest: Manifest) -> TransformersModel:
        """Load the model of the package folder `path`."""
        folder = artifact_file(path, manifest, self.formats).parent
        found = read_model(folder)
        os.environ.update(_SILENT)
        torch = require("torch", _INSTALL)
        tokenizers = require("tokenizers", _INSTALL)
        with loading("transformers"):
            torch.set_num_threads(max(1, manifest.serving.resources.cpus))
            model = _model(folder, found)
            tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
        return TransformersModel(torch, model, _Tokens(tokenizer, found), found, manifest)

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read what the configuration says; none of the libraries is needed."""
        ensure_format(artifact, self.formats)
        return signature_of(read_model(artifact.parent))


def signature_of(found: TextModel) -> Signature:
    """Return the tensors of a model: texts, a second text for classifiers, and one answer."""
    texts = (TEXT,) if found.answer is Answer.EMBEDDING else (TEXT, PAIR)
    shape = (-1,) if found.size == 1 and found.labels else (-1, found.size)
    columns = found.labels if len(shape) == 2 else ()
    answer = TensorSpec(_name_of(found), "float32", shape, columns)
    return Signature(tuple(TensorSpec(name, "string", (-1,)) for name in texts), (answer,))


def _name_of(found: TextModel) -> str:
    if found.answer is Answer.EMBEDDING:
        return "embedding"
    if found.size == 1:
        return "score"
    return "scores" if found.answer is Answer.SCORES else "probabilities"


class TransformersModel(OneAnswer):
    """One encoder with its head. One call at a time."""

    def __init__(self, torch: Any, model: Any, tokens: _Tokens, found: TextModel, manifest: Manifest) -> None:
        whole = signature_of(found)
        taken = _tensors_fed(manifest)
        # The second text is there for those who want it.
        self.signature = Signature(tuple(t for t in whole.inputs if t.name == TEXT or t.name in taken), whole.outputs)
        self._torch = torch
        self._model = model
        self._tokens = tokens
        self._found = found
        self._output = whole.outputs[0].name
        self._has_kinds = (
            "token_type_ids" in inspect.signature(model.forward).parameters
            and getattr(model.config, "type_vocab_size", 0) > 1
        )
        self._text_field = taken.get(TEXT, TEXT)

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Run the encoder once on all texts, filled up to the longest of them."""
        torch = self._torch
        try:
            ids, kinds, mask = self._tokens.of(inputs[TEXT], inputs.get(PAIR), self._text_field)
            given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            if self._has_kinds:
                given["token_type_ids"] = torch.from_numpy(kinds)
            with torch.inference_mode():
                answer = self._head(self._model(**given), given["attention_mask"])
            array: Array = answer.numpy()
        except LimenError:
            raise
        except Exception as exc:
            raise failed("transformers", exc) from exc
        return {self._output: array[:, 0] if len(self.signature.outputs[0].shape) == 1 else array}

    def _head(self, made: Any, mask: Any) -> Any:
        torch, found = self._torch, self._found
        if found.answer is Answer.PROBABILITIES:
            return torch.softmax(made.logits, -1)
        if found.answer is Answer.INDEPENDENT:
            return torch.sigmoid(made.logits)
        if found.answer is Answer.SCORES:
            return made.logits
        hidden = made.last_hidden_state
        if found.pooling is Pooling.FIRST:
            vectors = hidden[:, 0]
        else:
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            vectors = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(vectors, p=2, dim=1) if found.normalises else vectors


def _tensors_fed(manifest: Manifest) -> dict[str, str]:
    """Return which field goes to which tensor."""
    bound = {tensor: field for tensor, field in manifest.bind.inputs.items() if isinstance(field, str)}
    return bound | {f.name: f.name for f in manifest.contract.inputs if f.name not in bound.values()}


class _Tokens:
    """Texts as numbers of tokens."""

    def __init__(self, tokenizer: Any, found: TextModel) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if found.truncates:
            tokenizer.enable_truncation(found.max_tokens)
        self._encode = tokenizer.encode_batch
        self._longest = found.max_tokens
        self._padding = padding_token({**found.config, "model_type": found.family})

    def of(self, texts: Array, pairs: Array | None, field: str) -> tuple[Array, Array, Array]:
        """Return the numbers of the tokens, which text each belongs to, and which are real; each [rows, longest text].

        Raises:
            InvalidArgument: a text is too long.
        """
        firsts = ["" if text is None else text for text in texts.tolist()]
        seconds: Sequence[str | None] = [None] * len(firsts) if pairs is None else pairs.tolist()
        # To transformers an empty second text is none.
        rows = [(one, two) if two else one for one, two in zip(firsts, seconds, strict=True)]
        found = self._encode(rows)
        sizes = [len(row.ids) for row in found]
        width = max(sizes)
        if width > self._longest:
            self._refuse(sizes, field)
        ids = np.full((len(found), width), self._padding, np.int64)
        kinds = np.zeros_like(ids)
        mask = np.zeros_like(ids)
        for i, row in enumerate(found):
            ids[i, : sizes[i]] = row.ids
            kinds[i, : sizes[i]] = row.type_ids
            mask[i, : sizes[i]] = 1
        return ids, kinds, mask

    def _refuse(self, sizes: Sequence[int], field: str) -> None:
        reason = f"a text may have {self._longest} tokens, its pair and special tokens included"
        long = [Violation(f"{field}[{i}]", reason) for i, size in enumerate(sizes) if size > self._longest]
        raise InvalidArgument.of(long, Reason.INVALID_FIELD)


def _model(folder: Path, found: TextModel) -> Any:
    """Return the class of the configuration with the weights of the folder.

    Raises:
        InvalidPackage: transformers has no such class, or weights are missing.
    """
    transformers = require("transformers", _INSTALL)
    read_weights = require("safetensors.torch", _INSTALL).load_file
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    kind = transformers.CONFIG_MAPPING[found.family]
    heads = "MODEL_MAPPING" if found.answer is Answer.EMBEDDING else "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING"
    classes = getattr(transformers, heads)
    if kind not in classes or classes[kind].__name__ != found.architecture:
        raise InvalidPackage(f"artifact: transformers has no {found.architecture} for {found.family} with this head")
    state = {name: tensor for weights in found.weights for name, tensor in read_weights(str(folder / weights)).items()}
    model, said = classes[kind].from_pretrained(
        None,
        config=kind.from_dict(dict(found.config)),
        state_dict=state,
        dtype="float32",
        local_files_only=True,
        output_loading_info=True,
    )
    missing = [name for name in said["missing_keys"] if found.labels or not name.startswith(_UNUSED)]
    if missing or said["mismatched_keys"]:
        # What is missing would be made up at random.
        text = f"artifact: weights are missing or of another shape than the configuration says ({len(missing)} missing)"
        raise InvalidPackage(text)
    return model.eval()
