"""Hugging Face model folders written without any of the libraries: a word list as the tokenizer, and weights of zeros."""

import json
import struct
from pathlib import Path
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("good", "bad", "day", "night", "a", "the", "very", "was", "it", "##s", "##ly")
BERT = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "id2label": {"0": "negative", "1": "neutral", "2": "positive"},
    "transformers_version": "4.57.0",
}
POOLING = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def header(tensors: dict[str, Any]) -> bytes:
    """Return the header of a file of weights, its length in front."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def weights(**sizes: int) -> bytes:
    """Return a file of weights: vectors of float32 zeros, so many in each."""
    tensors, end = {}, 0
    for name, size in sizes.items():
        tensors[name] = {"dtype": "F32", "shape": [size], "data_offsets": [end, end + 4 * size]}
        end += 4 * size
    return header({"__metadata__": {"format": "pt"}, **tensors}) + bytes(end)


def tokenizer() -> dict[str, Any]:
    """Return what `tokenizer.json` says: words and their pieces in lower case, `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`."""
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    added = [
        {
            "id": i,
            "content": word,
            "special": True,
            "normalized": False,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
        }
        for i, word in enumerate(SPECIAL)
    ]
    first = [_special("[CLS]", 0), {"Sequence": {"id": "A", "type_id": 0}}, _special("[SEP]", 0)]
    second = [{"Sequence": {"id": "B", "type_id": 1}}, _special("[SEP]", 1)]
    tokens = {word: {"id": word, "ids": [vocabulary[word]], "tokens": [word]} for word in ("[CLS]", "[SEP]")}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": first,
            "pair": first + second,
            "special_tokens": tokens,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }


def _special(word: str, kind: int) -> dict[str, Any]:
    return {"SpecialToken": {"id": word, "type_id": kind}}


def write_json(path: Path, value: Any) -> None:
    """Write one JSON file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_model(folder: Path, **changes: Any) -> Path:
    """Write a text classifier that cannot be loaded, because its weights are a stand-in; keys of the configuration can be changed."""
    write_json(folder / "config.json", {key: value for key, value in (BERT | changes).items() if value is not None})
    write_json(folder / "tokenizer.json", tokenizer())
    write_json(folder / "tokenizer_config.json", {"model_max_length": 20, "do_lower_case": True})
    (folder / "model.safetensors").write_bytes(weights(a=3, b=0, c=2))
    return folder


def write_sentence_steps(folder: Path, *, longest: int | None = None, normalises: bool = True, **pooling: Any) -> None:
    """Write what sentence-transformers adds to an encoder."""
    steps = ["Transformer", "Pooling", *(["Normalize"] if normalises else [])]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{step}" if i else "", "type": f"sentence_transformers.models.{step}"}
        for i, step in enumerate(steps)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", POOLING | pooling)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
