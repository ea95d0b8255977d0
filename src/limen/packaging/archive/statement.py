"""Compares a signature's statement with the package it came with.

Pure, and without cryptography: `packaging.signing.signatures` asks the library whether a signature is genuine, this module whether it is
about exactly these files. The list of what to ignore that a signature may carry is not believed but refused: the library would
leave out whatever it names (`.git/…` by default), and files that nobody signed would come along.
Called by `packaging.signing.signatures`, and by `packaging.archive.package` when it puts a signature beside an archive.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Final, Literal, TypeVar

import msgspec

from limen.contracts.errors import PermissionDenied, Reason, Violation
from limen.contracts.strict.json import has_duplicate_keys
from limen.packaging.archive.index import FileEntry
from limen.packaging.paths import MAX_FILES, shown

T = TypeVar("T")
MAX_SIGNATURE_BYTES: Final = 8 << 20
"""A signature names every file of the package, so it grows with them."""
MAX_NAMED: Final = 3
"""Files that one error names of each kind."""
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One certificate, DER in base64."""

    raw_bytes: bytes


class CertificateChain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signer's certificate and those between it and an authority."""

    certificates: tuple[Certificate, ...]


class PublicKeyHint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which key signed: SHA-256 of its PEM text."""

    hint: str


class Material(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What the signature can be checked with; one of the first two is set."""

    public_key: PublicKeyHint | None = None
    x509_certificate_chain: CertificateChain | None = None
    tlog_entries: tuple[()] = ()


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature over the payload."""

    sig: str
    keyid: str = ""


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The statement, in base64, and its signature."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signed, ...]


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A signature file. Unknown keys are refused, so that nobody reads another payload in it than the one that was verified."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: Material
    dsse_envelope: Envelope


class _Resource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    algorithm: str
    digest: str


class _Serialization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    method: str
    hash_type: str
    allow_symlinks: bool
    ignore_paths: tuple[str, ...] = ()


class _Predicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    serialization: _Serialization
    resources: tuple[_Resource, ...]


class _Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"predicate_type": "predicateType"}):
    subject: tuple[_Subject, ...]
    predicate_type: str
    predicate: _Predicate
    type_: str = msgspec.field(name="_type")


def read_bundle(signature: bytes) -> Bundle:
    """Return what a signature file holds; nothing of it is verified yet.

    Raises:
        PermissionDenied: SIGNATURE, when it is not a signature that `limen sign` could have made.
    """
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise refused(f"the signature has more than {MAX_SIGNATURE_BYTES} bytes")
    bundle = _decode(signature, Bundle)
    material = bundle.verification_material
    if (material.public_key is None) == (material.x509_certificate_chain is None):
        raise refused("the signature must name either a key or certificates")
    if material.x509_certificate_chain is not None and not material.x509_certificate_chain.certificates:
        raise refused("the signature carries no certificate")
    if bundle.dsse_envelope.payload_type != PAYLOAD_TYPE or len(bundle.dsse_envelope.signatures) != 1:
        raise refused("the signature file must hold one signature of one statement")
    return bundle


def check_statement(signature: bytes, name: str, files: Sequence[FileEntry]) -> None:
    """Refuse a signature that is about anything else than exactly these files of this model.

    Args:
        signature: the content of the signature file.
        name: the model's name.
        files: every file of the package, as its index lists them.

    Raises:
        PermissionDenied: SIGNATURE, with every file that differs.
    """
    statement = _decode(read_bundle(signature).dsse_envelope.payload, _Statement)
    how = statement.predicate.serialization
    if statement.predicate_type != PREDICATE_TYPE or how.method != "files" or how.hash_type != "sha256":
        raise refused("the signature must list the SHA-256 of each file")
    if how.ignore_paths:
        raise refused("the signature leaves files out: it must have no ignore_paths")
    if how.allow_symlinks:
        raise refused("the signature follows links: allow_symlinks must be false")
    if [subject.name for subject in statement.subject] != [name]:
        raise refused("the signature is of a package with another name")
    resources = statement.predicate.resources
    signed = {r.name: r.digest for r in resources if r.algorithm == "sha256"}
    if len(signed) != len(resources) or len(resources) > MAX_FILES:
        raise refused("the signature lists a file twice or not by its SHA-256")
    _compare(signed, {file.path: file.sha256 for file in files})


def _compare(signed: dict[str, str], there: dict[str, str]) -> None:
    kinds = (
        ("was not signed", sorted(there.keys() - signed.keys())),
        ("was signed and is missing", sorted(signed.keys() - there.keys())),
        ("is not what was signed", sorted(p for p in there.keys() & signed.keys() if there[p] != signed[p])),
    )
    found = [Violation(shown(path), text) for text, paths in kinds for path in paths[:MAX_NAMED]]
    if found:
        raise refused("the signature is of other files", *found)


def refused(text: str, *violations: Violation) -> PermissionDenied:
    """Return the error for a signature that is not accepted."""
    message = f"{text}: {'; '.join(map(str, violations))}" if violations else text
    return PermissionDenied(message, reason=Reason.SIGNATURE, violations=violations)


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        found = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, binascii.Error) as exc:
        raise refused("it was not made by `limen sign`") from exc
    if has_duplicate_keys(data):
        raise refused("the signature repeats a key")
    return found
