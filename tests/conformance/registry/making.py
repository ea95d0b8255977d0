"""Small versions to register."""

import hashlib
from pathlib import Path

from limen.contracts.catalogue import Lineage, ModelVersion
from limen.contracts.contract import Contract, Field
from limen.registry.registry import Registry
from limen.registry.values import NewVersion
from limen.storage.blobs import BlobStore
from limen.storage.database import Database


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def put_text(blobs: BlobStore, folder: Path, text: str) -> None:
    """Store a blob that stands for the archive of a version."""
    folder.mkdir(exist_ok=True)
    (folder / "text").write_text(text)
    blobs.put(folder / "text", digest(text))
    (folder / "text").unlink()


def contract(name: str = "credit", *, major: int = 1, inputs: str = "amount age", title: str = "Credit") -> Contract:
    """Return a contract whose inputs are named in one word each, `age:3` with a number of its own."""
    fields = []
    for word in inputs.split():
        field, _, number = word.partition(":")
        fields.append(Field(name=field, type="float32", number=int(number) if number else None))
    outputs = (Field(name="risk", type="float64", minimum=0, maximum=1),)
    return Contract(name=name, inputs=tuple(fields), outputs=outputs, major=major, title=title, owner="risk@bank")


def new_version(content: str = "first", of: Contract | None = None, **more: object) -> NewVersion:
    """Return a package with this content, ready to be registered."""
    facts = {"lineage": Lineage(source="run-7", code="abc"), "created_by": "ada", "backend": "onnx"}
    facts |= {"archive": digest(f"archive of {content}"), "size": 1234}
    return NewVersion(contract=of or contract(), digest=digest(content), **(facts | more))


def add(
    database: Database, registry: Registry, content: str = "first", of: Contract | None = None, **more: object
) -> ModelVersion:
    """Register a package in a transaction of its own."""
    with database.transaction() as connection:
        return registry.add_version(connection, new_version(content, of, **more))
