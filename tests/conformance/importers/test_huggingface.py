"""Hugging Face folders become packages, and answer as transformers and sentence-transformers do where these are installed."""

import asyncio
import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from limen.authoring.check import check_package
from limen.authoring.importing import ImportOptions, import_model
from limen.authoring.scaffolding import create_package
from limen.contracts.errors import InvalidArgument, InvalidPackage, Reason
from limen.contracts.serving import Resources, Serving
from limen.contracts.tensors import TensorSpec
from limen.packaging.formats.sniff import scan_folder
from limen.packaging.manifest.decoder import read_manifest
from limen.runtime.backends import backend
from limen.runtime.execution import load
from tests.conformance.importers.conftest import answers
from tests.services.hugging_face import BERT, SPECIAL, WORDS, tokenizer, write_json, write_model, write_sentence_steps

LABELS = tuple(BERT["id2label"].values())
TEXTS = ["a very good day", "Bad", "the night was badly, it was the very night", "good days, unheard of", ""]
PAIRS = ["it was good", None, "bad day", "", None]


def take(folder: Path, tmp_path: Path) -> Path:
    return import_model(str(folder), ImportOptions(folder=tmp_path / "package", name="tone")).created.folder


# -- without the libraries ---------------------------------------------------------------------------------------------------


def test_the_package_holds_what_the_model_needs_and_a_contract_in_words(tmp_path):
    source = write_model(tmp_path / "source")
    (source / "README.md").write_text("words")
    (source / "modeling.py").write_text("import os\n")
    package = take(source, tmp_path)
    assert sorted(p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()) == [
        "model.yaml",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
        "origin.json",
    ]
    manifest = read_manifest(package)
    scan_folder(package, manifest)
    assert (manifest.backend, manifest.artifact, manifest.needs_trust) == ("transformers", "model/config.json", False)
    contract = manifest.contract
    assert [(f.name, f.type, f.nullable) for f in contract.inputs] == [
        ("text", "string", False),
        ("text_pair", "string", True),
    ]
    assert [(f.name, f.type, f.shape, f.labels or f.enum) for f in contract.outputs] == [
        ("probabilities", "float32", (3,), LABELS),
        ("label", "string", (), LABELS),
    ]
    assert contract.batching.max_rows == 32
    assert json.loads((package / "origin.json").read_bytes())["versions"] == {"transformers": "4.57.0"}


def test_what_a_model_takes_and_gives_is_read_without_its_libraries(tmp_path):
    write_model(tmp_path, architectures=["BertModel"])
    found = backend("transformers").describe(tmp_path / "config.json")
    assert found.inputs == (TensorSpec("text", "string", (-1,)),)
    assert found.outputs == (TensorSpec("embedding", "float32", (-1, 32)),)


def test_a_package_can_be_made_of_the_configuration_alone(tmp_path):
    source = write_model(tmp_path / "source", id2label={"0": "relevant"})
    create_package("rank", source / "config.json", tmp_path / "package", None)
    contract = read_manifest(tmp_path / "package").contract
    assert [(f.name, f.shape) for f in contract.outputs] == [("score", ())]
    assert (tmp_path / "package" / "model" / "tokenizer.json").is_file()


@pytest.mark.parametrize("missing", ["torch", "tokenizers"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch, missing):
    package = take(write_model(tmp_path / "source"), tmp_path)
    for name in ("torch", "tokenizers"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else sys)
    with pytest.raises(InvalidPackage, match=rf"needs {missing}: install limen\[huggingface\]") as caught:
        backend("transformers").load(package, read_manifest(package))
    assert caught.value.reason is Reason.MISSING_DEPENDENCY


def test_a_package_into_which_code_was_put_is_refused_before_a_library_is_loaded(tmp_path):
    package = take(write_model(tmp_path / "source"), tmp_path)
    config = package / "model" / "config.json"
    write_json(config, json.loads(config.read_bytes()) | {"auto_map": {"AutoModel": "modeling.Evil"}})
    with pytest.raises(InvalidPackage, match="auto_map names code") as caught:
        backend("transformers").load(package, read_manifest(package))
    assert caught.value.reason is Reason.UNSAFE_FORMAT


# -- with them ---------------------------------------------------------------------------------------------------------------


class Library:
    """transformers, and the folders it writes of small models with random weights."""

    def __init__(self, place: Path) -> None:
        reason = "transformers, tokenizers, safetensors or PyTorch are not installed here"
        for name in ("torch", "tokenizers", "safetensors"):
            pytest.importorskip(name, reason=reason)
        self.torch = pytest.importorskip("torch", reason=reason)
        self.transformers = pytest.importorskip("transformers", reason=reason)
        self._place = place

    def write(self, family: str, kind: str, *, shards: bool = False, **config: Any) -> Path:
        """Write a model of a family; `kind` is the end of its class's name."""
        self.torch.manual_seed(3)
        folder = self._place / "source"
        settings = {key: value for key, value in BERT.items() if key not in ("architectures", "model_type")} | config
        made = self.transformers.CONFIG_MAPPING[family](**settings)
        mapping = {"Model": "MODEL_MAPPING", "ForSequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING"}[
            kind
        ]
        model = getattr(self.transformers, mapping)[type(made)](made)
        with self.torch.no_grad():
            for parameter in model.parameters():  # far from each other, so that a mistake shows
                parameter.add_(self.torch.randn_like(parameter) * 0.3)
        model.save_pretrained(folder, **({"max_shard_size": "20KB"} if shards else {}))
        write_json(folder / "tokenizer.json", tokenizer())
        write_json(folder / "tokenizer_config.json", {"model_max_length": 20, "do_lower_case": True})
        return folder

    def tokenizer(self, folder: Path, *, has_kinds: bool = True) -> Any:
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if has_kinds else [])]
        return self.transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", model_input_names=names
        )

    def classified(self, folder: Path, *, has_kinds: bool = True) -> list[dict[str, float]]:
        """Return what transformers' own pipeline answers, one text at a time."""
        pipeline = self.transformers.pipeline(
            "text-classification",
            model=self.transformers.AutoModelForSequenceClassification.from_pretrained(folder),
            tokenizer=self.tokenizer(folder, has_kinds=has_kinds),
            top_k=None,
        )
        rows = [{"text": t} if p is None else {"text": t, "text_pair": p} for t, p in zip(TEXTS, PAIRS, strict=True)]
        return [{entry["label"]: entry["score"] for entry in pipeline(row)} for row in rows]

    def embedded(self, folder: Path, pooling: str, *, normalises: bool) -> np.ndarray:
        """Return vectors as sentence-transformers documents them, one text at a time."""
        model = self.transformers.AutoModel.from_pretrained(folder).eval()
        found = []
        for text in TEXTS:
            with self.torch.no_grad():
                hidden = model(**self.tokenizer(folder)(text, return_tensors="pt")).last_hidden_state[0]
            vector = hidden[0] if pooling == "cls" else hidden.mean(0)
            found.append((vector / vector.norm() if normalises else vector).numpy())
        return np.stack(found)


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(tmp_path)


def records(*, pairs: bool = True) -> list[dict[str, Any]]:
    return [{"text": t, **({"text_pair": p} if pairs else {})} for t, p in zip(TEXTS, PAIRS, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("bert", {}),
        ("albert", {"embedding_size": 16}),
        ("camembert", {"type_vocab_size": 1, "max_position_embeddings": 26}),
        ("deberta", {}),
        ("deberta-v2", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}),
        ("distilbert", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 37}),
        ("electra", {"embedding_size": 16}),
        ("modernbert", {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}),
        ("mpnet", {"pad_token_id": 1, "max_position_embeddings": 26}),
        ("roberta", {"type_vocab_size": 1, "max_position_embeddings": 26}),
        ("xlm-roberta", {"type_vocab_size": 1, "max_position_embeddings": 26}),
    ],
)
def test_a_classifier_of_every_family_answers_as_the_pipeline_of_transformers_does(tmp_path, library, family, config):
    source = library.write(family, "ForSequenceClassification", **config)
    package = take(source, tmp_path)
    report = asyncio.run(check_package(package, tmp_path / "home", trust_code=False))
    assert report.ok, report.steps
    expected = library.classified(source, has_kinds=config.get("type_vocab_size", 2) > 1 and family in HAVE_KINDS)
    found = answers(package, records())
    wanted = np.array([[row[label] for label in LABELS] for row in expected])
    np.testing.assert_allclose(found["probabilities"], wanted, rtol=1e-4, atol=1e-6)
    assert found["label"].tolist() == [max(row, key=row.__getitem__) for row in expected]
    assert np.ptp(wanted, axis=0).max() > 0.01


HAVE_KINDS = ("bert", "albert", "electra", "deberta")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "output"),
    [
        ({"problem_type": "multi_label_classification"}, "probabilities"),
        ({"id2label": {0: "relevant"}}, "score"),
        ({"id2label": {0: "price"}, "problem_type": "regression"}, "score"),
        ({"id2label": {0: "price", 1: "age"}, "problem_type": "regression"}, "scores"),
    ],
)
def test_other_heads_answer_as_the_pipeline_of_transformers_does(tmp_path, library, config, output):
    source = library.write("bert", "ForSequenceClassification", **config)
    package = take(source, tmp_path)
    found = answers(package, records())
    labels = [str(label) for label in config.get("id2label", BERT["id2label"]).values()]
    wanted = np.array([[row[label] for label in labels] for row in library.classified(source)])
    assert list(found) == [output]
    np.testing.assert_allclose(found[output].reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalises", [True, False])
def test_vectors_are_those_of_sentence_transformers(tmp_path, library, pooling, normalises):
    source = library.write("bert", "Model")
    is_mean = pooling == "mean"
    write_sentence_steps(
        source, normalises=normalises, pooling_mode_mean_tokens=is_mean, pooling_mode_cls_token=not is_mean
    )
    found = answers(take(source, tmp_path), records(pairs=False))["embedding"]
    assert found.shape == (len(TEXTS), 32)
    np.testing.assert_allclose(found, library.embedded(source, pooling, normalises=normalises), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_encoder_without_a_pooler_and_one_taken_from_a_classifier_are_complete(tmp_path, library):
    source = library.write("bert", "ForSequenceClassification")
    config = json.loads((source / "config.json").read_bytes())
    write_json(source / "config.json", config | {"architectures": ["BertModel"]})
    found = answers(take(source, tmp_path), records(pairs=False))["embedding"]
    np.testing.assert_allclose(found, library.embedded(source, "mean", normalises=False), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_weights_in_several_files_are_put_together(tmp_path, library):
    source = library.write("bert", "ForSequenceClassification", shards=True)
    assert len(list(source.glob("*.safetensors"))) > 1
    found = answers(take(source, tmp_path), records())["probabilities"]
    wanted = [[row[label] for label in LABELS] for row in library.classified(source)]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_text_that_is_too_long_is_the_callers_mistake_and_harms_no_other(tmp_path, library):
    package = take(library.write("bert", "ForSequenceClassification"), tmp_path)
    with pytest.raises(InvalidArgument) as caught:
        answers(package, [{"text": "good"}, {"text": "good " * 19}])
    assert [(v.path, v.reason) for v in caught.value.violations] == [
        ("text[1]", "a text may have 20 tokens, its pair and special tokens included")
    ]
    assert answers(package, [{"text": "good " * 18}])["label"].shape == (1,)


@pytest.mark.slow
def test_a_text_is_cut_off_where_sentence_transformers_cuts_it_off(tmp_path, library):
    source = library.write("bert", "Model")
    write_sentence_steps(source, longest=6)
    package = take(source, tmp_path)
    whole, cut = answers(package, [{"text": "good bad day night"}, {"text": "good bad day night the very"}])[
        "embedding"
    ]
    np.testing.assert_allclose(whole, cut, rtol=1e-5)


@pytest.mark.slow
def test_missing_weights_are_not_made_up(tmp_path, library):
    source = library.write("bert", "Model")
    config = json.loads((source / "config.json").read_bytes())
    write_json(source / "config.json", config | {"architectures": ["BertForSequenceClassification"]})
    package = take(source, tmp_path)
    with pytest.raises(InvalidPackage, match=r"weights are missing or of another shape .* \(2 missing\)"):
        load(package, read_manifest(package))


@pytest.mark.slow
def test_weights_of_another_shape_are_refused(tmp_path, library):
    package = take(library.write("bert", "ForSequenceClassification"), tmp_path)
    config = package / "model" / "config.json"
    write_json(config, json.loads(config.read_bytes()) | {"vocab_size": len(SPECIAL) + len(WORDS) + 1})
    with pytest.raises(InvalidPackage):
        load(package, read_manifest(package))


@pytest.mark.slow
def test_loading_and_asking_reach_no_network_and_use_the_threads_of_the_contract(tmp_path, library, monkeypatch):
    package = take(library.write("bert", "ForSequenceClassification"), tmp_path)

    def connect(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    before = library.torch.get_num_threads()
    try:
        for cpus in (1, 2):
            serving = Serving(resources=Resources(cpus=cpus))
            manifest = msgspec.structs.replace(read_manifest(package), serving=serving)
            model, _ = load(package, manifest)
            assert library.torch.get_num_threads() == cpus
            assert model.predict({"text": np.array(["good"], object)}, {})["probabilities"].shape == (1, 3)
    finally:
        library.torch.set_num_threads(before)


@pytest.mark.slow
def test_a_contract_may_leave_the_second_text_out_and_rename_the_first(tmp_path, library):
    package = take(library.write("bert", "ForSequenceClassification"), tmp_path)
    manifest = package / "model.yaml"
    lines = [line for line in manifest.read_text().splitlines() if "text_pair" not in line]
    text = "\n".join(lines).replace("name: text,", "name: review,").replace("bind:", "bind:\n  inputs: {text: review}")
    manifest.write_text(text)
    assert answers(package, [{"review": "good"}])["label"].shape == (1,)
    with pytest.raises(InvalidArgument, match=r"^review\[0\]: a text may have 20 tokens"):
        answers(package, [{"review": "good " * 30}])


@pytest.mark.slow
def test_the_weights_may_be_in_half_precision(tmp_path, library):
    source = library.write("bert", "Model")
    expected = library.embedded(source, "mean", normalises=False)
    model = library.transformers.AutoModel.from_pretrained(source)
    shutil.copytree(source, tmp_path / "half")
    model.half().save_pretrained(tmp_path / "half")
    found = answers(take(tmp_path / "half", tmp_path), records(pairs=False))["embedding"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.02)
