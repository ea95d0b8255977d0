"""Hugging Face model folders: `config.json`, safetensors weights and a tokenizer, including sentence-transformers.

Pickled weights, other frameworks' weights and the rest of a folder stay behind. What is taken is decided by `packaging.formats.huggingface`.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from limen.packaging.formats.huggingface import CONFIG, MODULES, SHARDS, WEIGHTS, Answer, Pooling, TextModel, read_model
from limen.packaging.importers.draft import Column, Draft

MAX_ROWS: Final = 32
"""Texts in one run: what attention needs grows with the square of the longest."""
_PICKLED: Final = "pytorch_model*.bin"


class HuggingFaceImporter:
    """Reads one folder."""

    kind: ClassVar[str] = "Hugging Face model"

    def recognises(self, path: Path) -> bool:
        """Return whether it is a folder with a configuration and weights."""
        has_weights = any((path / name).is_file() for name in (WEIGHTS, SHARDS)) or any(path.glob(_PICKLED))
        return has_weights and (path / CONFIG).is_file()

    def read(self, path: Path, version: str) -> Draft:
        """Return the model with what its folder says about texts and labels."""
        found = read_model(path)
        columns = (Column("text", "string"), Column("text_pair", "string", is_required=False))
        return Draft(
            kind=self.kind,
            name=path.resolve().name,
            artifact=path / CONFIG,
            label_of="probabilities" if found.answer is Answer.PROBABILITIES else "",
            columns=columns if found.labels else columns[:1],
            max_rows=MAX_ROWS,
            origin={"architecture": found.architecture},
            versions={"transformers": found.written_with} if found.written_with else {},
            notes=tuple(_notes(path, found)),
        )


def _notes(folder: Path, found: TextModel) -> list[str]:
    notes = [f"{path.name}, which is skipped: only safetensors are supported" for path in sorted(folder.glob(_PICKLED))]
    if found.answer is Answer.EMBEDDING and not (folder / MODULES).exists():
        notes.append("no modules.json defines the pooling: vectors are the mean of the tokens', not normalised")
    if found.pooling is Pooling.FIRST:
        notes.append("the vector is the one of the first token (cls), as modules.json says")
    longer = "are cut off" if found.truncates else "are refused"
    notes.append(f"texts of more than {found.max_tokens} tokens {longer}")
    return notes
