"""Settings of trust: who may sign packages and whether packages may bring code. `limen.settings` composes them with the others."""

from __future__ import annotations

from typing import Literal

import msgspec


class TrustConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which packages are trusted, and with what."""

    signatures: Literal["optional", "required"] = "optional"
    """Whether a package without a valid signature is refused. Optional, because there is no key that could be known beforehand;
    a signature that is there must hold as soon as `keys` names somebody to believe."""
    keys: tuple[str, ...] = ()
    """PEM files of those who may sign: a public key (P-256, P-384 or P-521), or the certificate of an authority. Not a
    fingerprint: a signature does not carry the key that it could be checked with."""
    revoked: tuple[str, ...] = ()
    """Keys that nobody believes any more, whatever `keys` says: SHA-256 fingerprints, or PEM files."""
    code: bool = False
    """Whether packages with Python code may be published, checked and served; `--trust-code` of a command says so for once. Off: such
    code runs with the rights of the server."""
