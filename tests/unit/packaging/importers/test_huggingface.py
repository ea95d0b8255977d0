"""A Hugging Face folder: what is read from it without any of the libraries, and everything that is refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from limen.contracts.errors import InvalidPackage, Reason
from limen.packaging.formats.huggingface import Answer, Pooling, read_model
from limen.packaging.importers import read_source
from tests.services.hugging_face import tokenizer, weights, write_json, write_model, write_sentence_steps


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_model(tmp_path / "Tone of Texts")


def encoder(folder: Path, **changes: Any) -> Path:
    return write_model(folder, architectures=["BertModel"], **changes)


def refusal(folder: Path) -> InvalidPackage:
    with pytest.raises(InvalidPackage) as caught:
        read_source(folder)
    return caught.value


def change(folder: Path, name: str, **changes: Any) -> None:
    write_json(folder / name, json.loads((folder / name).read_bytes()) | changes)


def test_a_classifier_takes_a_text_and_a_pair_and_keeps_its_labels(folder):
    (folder / "vocab.txt").write_text("[PAD]\n")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"w": [1]}))
    draft = read_source(folder)
    assert (draft.kind, draft.name, draft.artifact) == ("Hugging Face model", "Tone of Texts", folder / "config.json")
    assert [(c.name, c.is_required) for c in draft.columns] == [("text", True), ("text_pair", False)]
    assert (draft.label_of, draft.max_rows) == ("probabilities", 32)
    assert (draft.versions, dict(draft.origin)) == (
        {"transformers": "4.57.0"},
        {"architecture": "BertForSequenceClassification"},
    )
    assert draft.notes == (
        "pytorch_model.bin, which is skipped: only safetensors are supported",
        "texts of more than 20 tokens are refused",
    )
    found = read_model(folder)
    assert (found.labels, found.size, found.answer) == (("negative", "neutral", "positive"), 3, Answer.PROBABILITIES)
    assert found.files == ("model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, Answer.PROBABILITIES),
        ({"problem_type": "single_label_classification"}, Answer.PROBABILITIES),
        ({"problem_type": "multi_label_classification"}, Answer.INDEPENDENT),
        ({"id2label": {"0": "relevant"}}, Answer.INDEPENDENT),
        ({"id2label": {"0": "price"}, "problem_type": "regression"}, Answer.SCORES),
    ],
)
def test_what_becomes_of_the_numbers_is_what_transformers_would_make_of_them(folder, changes, answer):
    assert read_model(write_model(folder, **changes)).answer is answer


def test_classes_without_names_are_numbered_as_transformers_numbers_them(folder):
    assert read_model(write_model(folder, id2label=None)).labels == ("LABEL_0", "LABEL_1")


def test_keys_that_say_how_to_run_it_are_not_passed_on(folder):
    config = read_model(
        write_model(folder, _attn_implementation="someone/kernel", torch_dtype="float16", output_attentions=True)
    ).config
    assert config.keys() & {"_attn_implementation", "torch_dtype", "output_attentions", "architectures"} == set()
    assert config["hidden_size"] == 32


def test_a_bare_encoder_gives_the_mean_of_its_tokens(folder):
    draft = read_source(encoder(folder))
    found = read_model(folder)
    assert (found.answer, found.pooling, found.normalises, found.size) == (Answer.EMBEDDING, Pooling.MEAN, False, 32)
    assert [c.name for c in draft.columns] == ["text"]
    assert "no modules.json defines the pooling" in draft.notes[0]


@pytest.mark.parametrize(("normalises", "longest"), [(True, None), (False, 12), (True, 500)])
def test_sentence_transformers_says_how_one_vector_is_made(folder, normalises, longest):
    encoder(folder)
    write_sentence_steps(folder, normalises=normalises, longest=longest)
    found = read_model(folder)
    assert (found.pooling, found.normalises) == (Pooling.MEAN, normalises)
    assert (found.max_tokens, found.truncates) == (min(20, longest or 20), longest is not None)
    assert found.files[-3:] == ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json")


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
        {"pooling_mode_mean_tokens": None, "pooling_mode": "cls"},
    ],
)
def test_the_first_token_may_stand_for_the_text(folder, pooling):
    encoder(folder)
    write_sentence_steps(folder, **pooling)
    assert read_model(folder).pooling is Pooling.FIRST


@pytest.mark.parametrize(
    ("family", "changes", "limit"),
    [
        ("bert", {}, 20),
        ("bert", {"max_position_embeddings": 16}, 16),
        ("roberta", {"max_position_embeddings": 18, "pad_token_id": 1}, 16),
        ("mpnet", {"max_position_embeddings": 18, "pad_token_id": None}, 16),
    ],
)
def test_the_longest_text_is_what_positions_and_tokenizer_allow(folder, family, changes, limit):
    assert read_model(write_model(folder, model_type=family, **changes)).max_tokens == limit


def test_a_tokenizer_without_a_limit_does_not_count(folder):
    change(folder, "tokenizer_config.json", model_max_length=1000000000000000019884624838656)
    assert read_model(folder).max_tokens == 24


def shard(folder: Path, **places: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model-2.safetensors").write_bytes(weights(d=1))
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})


SHARDS = {
    "a": "model-1.safetensors",
    "b": "model-1.safetensors",
    "c": "model-1.safetensors",
    "d": "model-2.safetensors",
}


def test_weights_may_be_in_several_files(folder):
    shard(folder, **SHARDS)
    found = read_model(folder)
    assert found.weights == ("model-1.safetensors", "model-2.safetensors")
    assert found.files[:3] == (*found.weights, "model.safetensors.index.json")


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ({**SHARDS, "e": "model-2.safetensors"}, "does not list what its files hold"),
        ({**SHARDS, "d": "model-1.safetensors"}, "does not list what its files hold"),
        ({"d": "model-2.safetensors", "a": "../model.safetensors"}, "name of a .safetensors file beside it"),
        ({"d": "model-2.safetensors", "a": "model-3.safetensors"}, "there is no such file"),
    ],
)
def test_b93_an_index_that_is_not_true_is_refused(folder, places, text):
    shard(folder, **places)
    assert text in refusal(folder).message


def test_b93_a_tensor_in_two_files_is_refused(folder):
    shard(folder, **SHARDS)
    (folder / "model-2.safetensors").write_bytes(weights(a=3, d=1))
    assert "does not list what its files hold" in refusal(folder).message


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "key",
    [
        {"auto_map": {"AutoModel": "x--modeling.X"}},
        {"custom_pipelines": {"p": {"impl": "x.P"}}},
        {"trust_remote_code": True},
    ],
)
def test_a_model_with_code_of_its_own_is_refused(folder, name, key):
    change(folder, name, **key)
    error = refusal(folder)
    assert error.reason is Reason.UNSAFE_FORMAT
    assert "names code of the model's own, which is never loaded" in error.message


def test_b92_pickled_weights_are_refused_with_what_to_do(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"w": [1]}))
    error = refusal(folder)
    assert error.reason is Reason.UNSAFE_FORMAT
    assert "save_pretrained(FOLDER, safe_serialization=True)" in error.message


def test_b92_a_pickle_by_the_name_of_the_weights_is_refused(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps({"w": [1]}))
    error = refusal(folder)
    assert error.reason is Reason.UNSAFE_FORMAT
    assert "is a pickle, which runs code" in error.message


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model_type": "llama"}, "model_type must be one of albert, bert,"),
        (
            {"architectures": ["BertForMaskedLM"]},
            "must name a text classifier (…ForSequenceClassification) or a bare encoder",
        ),
        ({"architectures": []}, "must name a text classifier"),
        ({"architectures": None}, "must be transformers for this backend"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised weights are not served"),
        ({"max_position_embeddings": "many"}, "max_position_embeddings must be a whole number above 0"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label must name all classes from 0 on"),
        ({"id2label": {"0": "a", "1": "a"}}, "id2label must name all classes from 0 on, each otherwise"),
        ({"id2label": {"a": "0"}}, "id2label must give numbers names"),
        ({"id2label": ["a"]}, "id2label must give numbers names"),
    ],
)
def test_a_configuration_that_is_not_served_is_refused(folder, changes, text):
    assert text in refusal(write_model(folder, **changes)).message


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("tokenizer.json", None, "tokenizer.json is not there; save it again"),
        ("tokenizer.json", tokenizer() | {"post_processor": None}, "adds no special tokens"),
        ("tokenizer.json", [], "must hold an object"),
        ("tokenizer_config.json", {"do_lower_case": False}, "contradict each other on lower case"),
    ],
)
def test_a_tokenizer_that_does_not_say_everything_is_refused(folder, name, content, text):
    (folder / name).unlink()
    if content is not None:
        write_json(folder / name, content)
    assert text in refusal(folder).message


def test_a_file_that_repeats_a_key_is_refused(folder):
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "do_lower_case": true}')
    assert "repeats a key" in refusal(folder).message


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        (
            "modules.json",
            [{"type": "sentence_transformers.models.Transformer", "path": ""}],
            "only Transformer, Pooling and Normalize",
        ),
        (
            "modules.json",
            [{"type": "custom.Transformer"}, {"type": "custom.Pooling"}],
            "only Transformer, Pooling and Normalize",
        ),
        ("modules.json", {"a": 1}, "must hold a list of steps"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "only the mean of the tokens or the first token"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            "only the mean of the tokens or the first token",
        ),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case is not served"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length must be a whole number"),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "query"},
            "a default prompt is not put before texts",
        ),
    ],
)
def test_steps_of_sentence_transformers_that_are_not_served_are_refused(folder, name, content, text):
    encoder(folder)
    write_sentence_steps(folder)
    write_json(folder / name, content)
    assert text in refusal(folder).message


def test_the_folder_of_pooling_must_be_beside_the_list(folder):
    encoder(folder)
    write_sentence_steps(folder)
    modules = json.loads((folder / "modules.json").read_bytes())
    modules[1]["path"] = "../1_Pooling"
    write_json(folder / "modules.json", modules)
    assert "must be the name of a folder beside it" in refusal(folder).message
