"""Inspects a trained model in a disposable process: its tensors and its answers. Used to build packages.

    described     what `Backend.describe` says of an artifact
    compared      what `parity.compare` says of a package and the answers of an original

The process runs `main`. Decisions of a Python class are not looked at here: describing code runs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from limen.authoring.conversion.messages import Rows, rows_of
from limen.authoring.disposable import attend, one, run
from limen.authoring.parity import Parity, as_table, compare
from limen.contracts.errors import InvalidPackage, LimenError
from limen.contracts.tensors import Array
from limen.packaging.manifest.decoder import read_manifest
from limen.runtime.backends import backend
from limen.runtime.predictor import Signature

MODULE: Final = "limen.authoring.workbench"


class Describe(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Say what tensors an artifact has."""

    path: str
    backend: str
    sample: Rows | None


class Compare(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Say how a package answers, against an original."""

    root: str
    rows: Rows
    answers: Rows


class Work(msgspec.Struct, frozen=True):
    """One piece of work."""

    what: Describe | Compare


def described(artifact: Path, backend_name: str, sample: Mapping[str, Array] | None) -> Signature:
    """Return the tensors of an artifact.

    Args:
        artifact: its file.
        backend_name: what loads it.
        sample: example columns.

    Raises:
        InvalidPackage: the backend cannot load it, or crashes.
    """
    rows = None if sample is None else rows_of(sample)
    task = Work(Describe(path=str(artifact.absolute()), backend=backend_name, sample=rows))
    return one(run(MODULE, task, Signature, root=artifact))


def compared(root: Path, rows: Mapping[str, Array], answers: Mapping[str, Array]) -> Parity:
    """Return how the package in a folder answers rows, against the answers of an original.

    Raises:
        InvalidPackage: it cannot be loaded, cannot answer, or crashes.
    """
    task = Work(Compare(root=str(root.absolute()), rows=rows_of(rows), answers=rows_of(answers)))
    return one(run(MODULE, task, Parity, root=root))


def main() -> None:
    """Do one piece of work in this process."""
    attend(Work, _work)


def _work(task: Work, say: Callable[[object], None]) -> None:
    what = task.what
    if isinstance(what, Describe):
        sample = None if what.sample is None else {name: values.array() for name, values in what.sample.items()}
        say(backend(what.backend).describe(Path(what.path), sample))
        return
    root = Path(what.root)
    rows = {name: values.array() for name, values in what.rows.items()}
    answers = {name: values.array() for name, values in what.answers.items()}
    try:
        say(compare(root, as_table(read_manifest(root), rows, answers)))
    except InvalidPackage:
        raise
    except LimenError as exc:
        raise InvalidPackage(exc.message, violations=exc.violations) from exc
