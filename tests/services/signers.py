"""Keys and certificates for tests, made anew each time; nobody outside a test believes them."""

import datetime as dt
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID


class Signer(NamedTuple):
    """A key in two files."""

    private: Path
    public: Path


class Holder(NamedTuple):
    """A key with a certificate, and the authority that gave it."""

    private: Path
    certificate: Path
    authority: Path


def write_key(
    folder: Path, name: str = "key", *, curve: ec.EllipticCurve | None = None, passphrase: str = ""
) -> Signer:
    """Write a key and its public half."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    protection = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    signer = Signer(folder / f"{name}.pem", folder / f"{name}.pub.pem")
    signer.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    signer.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return signer


def write_holder(folder: Path, name: str = "holder") -> Holder:
    """Write a key, its certificate and the certificate of the authority."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("authority", authority_key, "authority", authority_key, is_authority=True)
    certificate = _certificate(name, key, "authority", authority_key, is_authority=False)
    holder = Holder(folder / f"{name}.pem", folder / f"{name}.cert.pem", folder / f"{name}.authority.pem")
    holder.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    holder.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    holder.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    return holder


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    usage = {
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "crl_sign": is_authority,
        "encipher_only": False,
        "decipher_only": False,
    }
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1 if is_authority else 0))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not is_authority, key_cert_sign=is_authority, **usage), critical=True
        )
        .sign(issuer_key, hashes.SHA256())
    )
