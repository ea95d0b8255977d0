"""Reads a Hugging Face model folder without its libraries and without running code: model, head and files.

Taken are text encoders of known families (`FAMILIES`) that classify a text or turn it into a vector, with weights in safetensors and
a `tokenizer.json`. Folders of sentence-transformers say how tokens become one vector (`modules.json`); a bare encoder takes their mean.
Everything that would make the libraries import code or look elsewhere is refused. Called by `packaging.importers.huggingface`, which
copies what is named here, and by the backend `transformers`, which reads the copy the same way.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from limen.contracts.errors import InvalidPackage, Reason
from limen.contracts.strict.json import has_duplicate_keys
from limen.packaging.formats.safetensors import read_header
from limen.packaging.formats.sniff import ensure_format

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
SHARDS: Final = "model.safetensors.index.json"
TOKENIZER: Final = "tokenizer.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
MODULES: Final = "modules.json"
SENTENCE_CONFIG: Final = "sentence_bert_config.json"
SENTENCE_SETTINGS: Final = "config_sentence_transformers.json"
MAX_JSON_BYTES: Final = 64 << 20
"""A tokenizer of 250,000 pieces has 17 MB."""
MAX_LABELS: Final = 10_000
CLASSIFIER: Final = "ForSequenceClassification"
FAMILIES: Final = frozenset(
    [
        "albert",
        "bert",
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "modernbert",
        "mpnet",
        "roberta",
        "xlm-roberta",
    ]
)
"""Values of `model_type` whose `tokenizer.json` says all there is to say about making tokens."""
_COUNTED_FROM_PADDING: Final = frozenset(["camembert", "mpnet", "roberta", "xlm-roberta"])
"""Families that count positions from the number of the padding token on, so that many are not to be had."""
_RUNS_CODE: Final = ("auto_map", "custom_pipelines", "trust_remote_code")
_NOT_PASSED_ON: Final = re.compile(
    r"_.*|architectures|attn_implementation|dtype|torch_dtype|torchscript|return_dict|use_return_dict|output_.*|transformers_version"
)
"""Keys of a configuration that say how to run it and not what it is."""
_SHARD: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.safetensors", re.ASCII)


class Answer(StrEnum):
    """What a model makes of a text."""

    PROBABILITIES = "probabilities"
    """One for each label, together one."""
    INDEPENDENT = "independent"
    """One probability for each label, each by itself."""
    SCORES = "scores"
    """Numbers without bounds: a regression."""
    EMBEDDING = "embedding"
    """A vector."""


class Pooling(StrEnum):
    """How the vectors of tokens become one."""

    MEAN = "mean"
    """Their mean."""
    FIRST = "cls"
    """The one of the first token."""


class TextModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds."""

    family: str
    """Its `model_type`."""
    architecture: str
    """The class that its configuration names."""
    config: Mapping[str, Any]
    """What the class is made with."""
    answer: Answer
    labels: tuple[str, ...] = ()
    """Names of the classes in order; empty for embeddings."""
    size: int
    """Numbers in an answer."""
    pooling: Pooling = Pooling.MEAN
    normalises: bool = False
    """Vectors are brought to length one."""
    max_tokens: int
    """The longest text, special tokens included."""
    truncates: bool = False
    """Longer texts are cut off, because the folder says so; otherwise they are refused."""
    weights: tuple[str, ...]
    files: tuple[str, ...]
    """All files that the model needs besides the configuration, relative to the folder."""
    written_with: str = ""
    """Version of transformers that wrote the configuration."""


class _Sentence(msgspec.Struct, frozen=True):
    """What sentence-transformers adds to an encoder."""

    files: tuple[str, ...] = ()
    pooling: Pooling = Pooling.MEAN
    normalises: bool = False
    max_tokens: int | None = None


def read_model(folder: Path) -> TextModel:
    """Return what a folder holds, after a look at the header of every file of weights.

    Raises:
        InvalidPackage: it cannot be served; UNSAFE_FORMAT for pickles, broken weights and code.
    """
    ensure_format(folder / CONFIG, ("transformers",))
    config = _object(folder, CONFIG)
    tokenizer_config = _object(folder, TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).exists() else {}
    _refuse_code(config, CONFIG)
    _refuse_code(tokenizer_config, TOKENIZER_CONFIG)
    family, architecture = config.get("model_type"), (config.get("architectures") or [""])[0]
    if family not in FAMILIES:
        raise InvalidPackage(
            f"{CONFIG}: model_type must be one of {', '.join(sorted(FAMILIES))}; export others to ONNX"
        )
    if "quantization_config" in config:
        raise InvalidPackage(f"{CONFIG}: quantised weights are not served; save the model without quantization_config")
    _check_tokenizer(folder, tokenizer_config)
    weights = _weights(folder)
    limit = _limit(config, tokenizer_config)
    files = (*weights, *((SHARDS,) if weights != (WEIGHTS,) else ()), TOKENIZER)
    files += (TOKENIZER_CONFIG,) if tokenizer_config else ()
    if str(architecture).endswith(CLASSIFIER):
        answer, labels, sentence = _answer(config), _labels(config), _Sentence()
    elif re.fullmatch(r"[A-Za-z0-9]+Model", str(architecture)):
        answer, labels, sentence = Answer.EMBEDDING, (), _sentence(folder)
    else:
        raise InvalidPackage(
            f"{CONFIG}: architectures must name a text classifier (…{CLASSIFIER}) or a bare encoder (…Model)"
        )
    return TextModel(
        family=family,
        architecture=architecture,
        config={key: value for key, value in config.items() if not _NOT_PASSED_ON.fullmatch(key)},
        answer=answer,
        labels=labels,
        size=len(labels) or _whole(config, "dim" if family == "distilbert" else "hidden_size"),
        pooling=sentence.pooling,
        normalises=sentence.normalises,
        max_tokens=min(limit, sentence.max_tokens or limit),
        truncates=sentence.max_tokens is not None,
        weights=weights,
        files=files + sentence.files,
        written_with=str(config.get("transformers_version", "")),
    )


def padding_token(config: Mapping[str, Any]) -> int:
    """Return the number of the token that fills up the shorter texts of a batch."""
    found = config.get("pad_token_id")
    return found if isinstance(found, int) and found >= 0 else int(config.get("model_type") in _COUNTED_FROM_PADDING)


def _json(folder: Path, name: str) -> Any:
    path = folder / name
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except OSError as exc:
        raise InvalidPackage(f"{name} is not there or cannot be read") from exc
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidPackage(f"{name} is not JSON") from exc
    if len(data) > MAX_JSON_BYTES or has_duplicate_keys(data):
        raise InvalidPackage(f"{name} is too large or repeats a key")
    return found


def _object(folder: Path, name: str) -> dict[str, Any]:
    found = _json(folder, name)
    if not isinstance(found, dict):
        raise InvalidPackage(f"{name} must hold an object")
    return found


def _whole(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidPackage(f"{CONFIG}: {key} must be a whole number above 0")
    return value


def _refuse_code(found: Mapping[str, Any], name: str) -> None:
    for key in _RUNS_CODE:
        if found.get(key):
            text = f"{name}: {key} names code of the model's own, which is never loaded; export the model to ONNX"
            raise InvalidPackage(text, reason=Reason.UNSAFE_FORMAT)


def _check_tokenizer(folder: Path, tokenizer_config: Mapping[str, Any]) -> None:
    """Refuse a folder whose `tokenizer.json` is not all there is to say about its tokens."""
    hint = "save it again: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    if not (folder / TOKENIZER).exists():
        raise InvalidPackage(f"{TOKENIZER} is not there; {hint}")
    found = _object(folder, TOKENIZER)
    if not found.get("post_processor"):
        raise InvalidPackage(f"{TOKENIZER} adds no special tokens; {hint}")
    lowers = (found.get("normalizer") or {}).get("lowercase")
    if lowers is not None and tokenizer_config.get("do_lower_case", lowers) != lowers:
        raise InvalidPackage(f"{TOKENIZER} and {TOKENIZER_CONFIG} contradict each other on lower case; {hint}")


def _weights(folder: Path) -> tuple[str, ...]:
    """Return the files of weights; every tensor is in one of them, and where the index says."""
    if (folder / WEIGHTS).exists():
        _tensors(folder, WEIGHTS)
        return (WEIGHTS,)
    if not (folder / SHARDS).exists():
        text = f"has no {WEIGHTS}; only safetensors are taken: model.save_pretrained(FOLDER, safe_serialization=True) writes them"
        raise InvalidPackage(
            f"the folder {text}", reason=Reason.UNSAFE_FORMAT if _has_pickle(folder) else Reason.INVALID_PACKAGE
        )
    places = _object(folder, SHARDS).get("weight_map")
    if not isinstance(places, dict) or not all(
        isinstance(name, str) and _SHARD.fullmatch(name) for name in places.values()
    ):
        raise InvalidPackage(f"{SHARDS}: weight_map must give each tensor the name of a .safetensors file beside it")
    shards = sorted(set(places.values()))
    held = [(name, shard) for shard in shards for name in _tensors(folder, shard)]
    if dict(held) != places or len(held) != len(places):
        raise InvalidPackage(f"{SHARDS} does not list what its files hold", reason=Reason.UNSAFE_FORMAT)
    return tuple(shards)


def _has_pickle(folder: Path) -> bool:
    return any(folder.glob("pytorch_model*.bin"))


def _tensors(folder: Path, name: str) -> set[str]:
    path = folder / name
    ensure_format(path, ("safetensors",))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return set(read_header(data))


def _limit(config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> int:
    """Return how many tokens a text may have."""
    limit = _whole(config, "max_position_embeddings")
    if config["model_type"] in _COUNTED_FROM_PADDING:
        limit -= padding_token(config) + 1
    said = tokenizer_config.get("model_max_length")
    # A tokenizer without a limit says 10^30.
    return min(limit, int(said)) if isinstance(said, int | float) and 0 < said < limit else limit


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    named = config.get("id2label")
    if not named:
        count = _whole(config, "num_labels") if "num_labels" in config else 2
        return tuple(f"LABEL_{i}" for i in range(min(count, MAX_LABELS)))
    try:
        found = {int(key): str(value) for key, value in named.items()}
    except (AttributeError, ValueError) as exc:
        raise InvalidPackage(f"{CONFIG}: id2label must give numbers names") from exc
    if sorted(found) != list(range(len(found))) or len(set(found.values())) != len(found) or len(found) > MAX_LABELS:
        raise InvalidPackage(f"{CONFIG}: id2label must name all classes from 0 on, each otherwise")
    return tuple(found[i] for i in range(len(found)))


def _answer(config: Mapping[str, Any]) -> Answer:
    """Return what becomes of the numbers, as `transformers.TextClassificationPipeline` decides it."""
    problem = config.get("problem_type")
    if problem == "regression":
        return Answer.SCORES
    is_alone = problem == "multi_label_classification" or len(_labels(config)) == 1
    return Answer.INDEPENDENT if is_alone else Answer.PROBABILITIES


_STEPS: Final = re.compile(r"sentence_transformers\.(?:\w+\.)*(Transformer|Pooling|Normalize)")
_PATH: Final = re.compile(r"[A-Za-z0-9_]+", re.ASCII)


def _sentence(folder: Path) -> _Sentence:
    """Return what sentence-transformers does with the tokens' vectors: their mean or the first, then perhaps length one."""
    if not (folder / MODULES).exists():
        return _Sentence()
    modules = _json(folder, MODULES)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise InvalidPackage(f"{MODULES} must hold a list of steps")
    found = [_STEPS.fullmatch(str(module.get("type"))) for module in modules]
    steps = [match.group(1) if match else "" for match in found]
    if (
        steps not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        or modules[0].get("path", "") != ""
    ):
        text = "only Transformer, Pooling and Normalize in this order are served; export the model to ONNX"
        raise InvalidPackage(f"{MODULES}: {text}")
    place = str(modules[1].get("path"))
    if not _PATH.fullmatch(place):
        raise InvalidPackage(f"{MODULES}: the path of Pooling must be the name of a folder beside it")
    pooling = f"{place}/{CONFIG}"
    files, longest = [MODULES, pooling], None
    if (folder / SENTENCE_CONFIG).exists():
        said = _object(folder, SENTENCE_CONFIG)
        if said.get("do_lower_case"):
            raise InvalidPackage(f"{SENTENCE_CONFIG}: do_lower_case is not served; let {TOKENIZER} do it")
        longest = _whole(said, "max_seq_length") if said.get("max_seq_length") is not None else None
        files.append(SENTENCE_CONFIG)
    if (folder / SENTENCE_SETTINGS).exists() and _object(folder, SENTENCE_SETTINGS).get("default_prompt_name"):
        raise InvalidPackage(
            f"{SENTENCE_SETTINGS}: a default prompt is not put before texts; set default_prompt_name to null"
        )
    return _Sentence(tuple(files), _pooling(_object(folder, pooling), pooling), len(steps) == 3, longest)


def _pooling(said: Mapping[str, Any], name: str) -> Pooling:
    modes = {
        key.removeprefix("pooling_mode_").removesuffix("_token").removesuffix("_tokens")
        for key, value in said.items()
        if key.startswith("pooling_mode_") and value is True
    }
    if isinstance(said.get("pooling_mode"), str):
        modes.add(said["pooling_mode"])
    if len(modes) != 1 or (mode := modes.pop()) not in tuple(Pooling):
        raise InvalidPackage(f"{name}: only the mean of the tokens or the first token (cls) is served")
    return Pooling(mode)
