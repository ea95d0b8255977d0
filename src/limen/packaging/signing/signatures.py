"""Signs packages and verifies signatures, with OpenSSF model-signing and elliptic-curve keys.

A signature is a file of its own: `model.sig` in a package folder, `X.limen.sig` beside an archive. It covers the name and the
SHA-256 of every file of the package, which are taken from the package's index, so that an archive is signed and verified as it is.
The library is asked whether the signature is genuine; whether it is about these files is our own comparison
(`packaging.archive.statement`). Needs the extra `signing`, which is imported when it is first needed.
Not here: whether a package without a signature is accepted, and whom to believe (`packaging.signing.trust`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from limen.contracts.errors import InvalidArgument
from limen.packaging.archive.index import FileEntry
from limen.packaging.archive.package import hash_folder, inspect
from limen.packaging.archive.statement import check_statement, read_bundle, refused
from limen.packaging.manifest.decoder import read_manifest
from limen.packaging.paths import SIGNATURE_NAME
from limen.packaging.signing.keys import Authority, PublicKey, certificate_fingerprint, missing_extra, opened_pem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


class Content(msgspec.Struct, frozen=True):
    """What a signature is about."""

    name: str
    """The model's name."""
    files: tuple[FileEntry, ...]


def content_of(package: Path) -> Content:
    """Return what a signature of a package folder or archive is about; the files are read and hashed.

    Raises:
        InvalidPackage: it is not a package.
    """
    if package.is_dir():
        return Content(read_manifest(package).contract.name, hash_folder(package))
    found = inspect(package)
    return Content(found.manifest.contract.name, found.files)


def sign(content: Content, key: EllipticCurvePrivateKey, certificates: Sequence[bytes] = ()) -> bytes:
    """Return a signature.

    Args:
        content: what to sign.
        key: what signs it.
        certificates: PEM of the signer's certificate, then of those between it and an authority; none for a bare key.

    Raises:
        InvalidArgument: the certificates are not those of the key.
        Unsupported: MISSING_DEPENDENCY without the extra `signing`.
    """
    try:
        from model_signing import signing
    except ImportError as exc:
        raise missing_extra() from exc
    config = signing.Config()  # type: ignore[no-untyped-call]  # of the library
    config.set_hashing_config(_indexed(content))
    with tempfile.TemporaryDirectory(prefix="limen-sign-") as folder, _piped(opened_pem(key)) as source:
        target = Path(folder) / SIGNATURE_NAME
        if certificates:
            first, *rest = _written(Path(folder), certificates)
            try:
                # The library takes no empty chain; a certificate that is repeated changes nothing.
                chain = rest or [first]
                config.use_certificate_signer(private_key=source, signing_certificate=first, certificate_chain=chain)
            except ValueError as exc:
                text = "must be PEM certificates, first the one of the key that signs"
                raise InvalidArgument.at("certificates", text) from exc
        else:
            config.use_elliptic_key_signer(private_key=source)
        config.sign(folder, target)
        return target.read_bytes()


def verify(
    content: Content, signature: bytes, keys: Sequence[PublicKey], authorities: Sequence[Authority] = ()
) -> tuple[str, ...]:
    """Return who signed: the fingerprint of the key, and after it those of the certificates that vouch for it.

    Raises:
        PermissionDenied: SIGNATURE: not genuine, of a key that is not among those given, or about anything else than exactly this
            content.
        Unsupported: MISSING_DEPENDENCY without the extra `signing`.
    """
    check_statement(signature, content.name, content.files)
    material = read_bundle(signature).verification_material
    try:
        from model_signing import verifying
    except ImportError as exc:
        raise missing_extra() from exc
    config = verifying.Config()  # type: ignore[no-untyped-call]  # of the library
    config.set_hashing_config(_indexed(content))
    with tempfile.TemporaryDirectory(prefix="limen-verify-") as folder:
        source = Path(folder) / SIGNATURE_NAME
        source.write_bytes(signature)
        if material.public_key is not None:
            key = _key_called(material.public_key.hint, keys)
            signers = [key.fingerprint]
            config.use_elliptic_key_verifier(public_key=_written(Path(folder), [key.pem])[0])
        else:
            if not authorities:
                raise refused("the package is signed with a certificate, but no authority is trusted")
            chain = material.x509_certificate_chain
            signers = _holders([c.raw_bytes for c in chain.certificates] if chain else [])
            roots = _written(Path(folder), [authority.pem for authority in authorities])
            config.use_certificate_verifier(certificate_chain=roots)
        try:
            config.verify(folder, source)
        except Exception as exc:  # noqa: BLE001 - whatever the libraries make of bytes that anybody may send
            _not_genuine(exc)
    return tuple(signers)


def _key_called(hint: str, keys: Sequence[PublicKey]) -> PublicKey:
    for key in keys:
        if key.hint == hint:
            return key
    raise refused("the package is signed with a key that is not trusted")


def _holders(certificates: Sequence[bytes]) -> list[str]:
    try:
        return [certificate_fingerprint(der) for der in certificates]
    except ValueError as exc:
        _not_genuine(exc)


def _not_genuine(exc: Exception) -> NoReturn:
    raise refused("the signature is not genuine, or its signer is not trusted") from exc


def _indexed(content: Content) -> Any:
    """Return what tells the library the files and their digests; left to itself it walks through a folder by rules of its own."""
    from model_signing import hashing, manifest
    from model_signing._hashing.hashing import Digest

    how = manifest.SerializationType.from_args({"method": "files", "hash_type": "sha256", "allow_symlinks": False})
    items = [how.new_item(file.path, Digest("sha256", bytes.fromhex(file.sha256))) for file in content.files]

    class Indexed(hashing.Config):
        def hash(self, model_path: object, *, files_to_hash: object = None) -> manifest.Manifest:
            return manifest.Manifest(content.name, items, how)

    return Indexed()  # type: ignore[no-untyped-call]  # of the library


def _written(folder: Path, contents: Sequence[bytes]) -> list[Path]:
    paths = [folder / f"{i}.pem" for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


@contextmanager
def _piped(content: bytes) -> Iterator[str]:
    """Give a path that can be read once. The library wants a file, and an opened private key must never be one."""
    reader, writer = os.pipe()
    try:
        os.write(writer, content)
        os.close(writer)
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)
