"""Elliptic-curve keys read from PEM: signing keys, verification keys, and their fingerprints.

A fingerprint is the SHA-256 over a public key's SubjectPublicKeyInfo in DER; it says who signed. Needs the extra `signing`,
whose libraries are imported when a key is first read. Called by `packaging.signing.signatures`, `packaging.signing.trust` and the CLI.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from limen.contracts.errors import InvalidArgument, Reason, Unsupported

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
"""P-256, P-384 and P-521."""
_CURVES_TEXT: Final = "must be a key on one of the curves P-256, P-384 and P-521"


class PublicKey(msgspec.Struct, frozen=True):
    """A key that signatures are verified with."""

    pem: bytes
    fingerprint: str
    """64 hexadecimal digits."""

    @property
    def hint(self) -> str:
        """What a signature of this key calls it: SHA-256 over the PEM text."""
        return hashlib.sha256(self.pem).hexdigest()


class Authority(msgspec.Struct, frozen=True):
    """A certificate whose holders may sign."""

    pem: bytes
    fingerprint: str
    """Of its public key."""


def missing_extra() -> Unsupported:
    """Return the error where the extra `signing` is not installed."""
    text = "signatures need the extra `signing`: pip install 'limen[signing]'"
    return Unsupported(text, reason=Reason.MISSING_DEPENDENCY)


def public_keys(pem: bytes, path: str) -> list[PublicKey | Authority]:
    """Return the public key or the certificates of a PEM file.

    Args:
        pem: its content.
        path: how the file is called in errors.

    Raises:
        InvalidArgument: it holds none, or one that cannot be used.
        Unsupported: MISSING_DEPENDENCY without the extra `signing`.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
    except ImportError as exc:
        raise missing_extra() from exc
    try:
        if b"BEGIN CERTIFICATE" in pem:
            found = x509.load_pem_x509_certificates(pem)
            return [Authority(c.public_bytes(Encoding.PEM), _fingerprint(c.public_key())) for c in found]
        key = load_pem_public_key(pem)
    except ValueError as exc:
        raise InvalidArgument.at(path, "must be a public key or certificates in PEM") from exc
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise InvalidArgument.at(path, _CURVES_TEXT)
    return [PublicKey(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), _fingerprint(key))]


def private_key(pem: bytes, passphrase: bytes | None = None) -> EllipticCurvePrivateKey:
    """Return a key that signs.

    Raises:
        InvalidArgument: it is none, on a curve that is not used, or does not open with the passphrase.
        Unsupported: MISSING_DEPENDENCY without the extra `signing`.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as exc:
        raise missing_extra() from exc
    try:
        key = load_pem_private_key(pem, passphrase)
    except TypeError as exc:
        wanted = (
            "is encrypted: give its passphrase" if passphrase is None else "is not encrypted: do not give a passphrase"
        )
        raise InvalidArgument.at("key", wanted) from exc
    except ValueError as exc:
        text = "must be a private key in PEM" if passphrase is None else "cannot be decrypted with this passphrase"
        raise InvalidArgument.at("key", text) from exc
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise InvalidArgument.at("key", _CURVES_TEXT)
    return key


def opened_pem(key: EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM without protection; for memory only."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_half(key: EllipticCurvePrivateKey) -> str:
    """Return the fingerprint of what verifies this key's signatures."""
    return _fingerprint(key.public_key())


def certificate_fingerprint(der: bytes) -> str:
    """Return the fingerprint of a certificate's key.

    Raises:
        ValueError: it is no certificate.
    """
    from cryptography import x509

    return _fingerprint(x509.load_der_x509_certificate(der).public_key())


def _fingerprint(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
