"""Settings of trust: who may sign packages and whether packages may bring code. `limen.settings` composes them with the others."""

from __future__ import annotations

from typing import Literal

import msgspec


class TrustConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which packages are trusted, and with what."""

    signatures: Literal["optional", "required"] = "optional"
    """Whether to refuse packages without a valid signature. Off by default, because no key is known in
    advance; once `keys` lists a key, any signature present must be valid."""
    keys: tuple[str, ...] = ()
    """PEM files of those who may sign: a public key (P-256, P-384 or P-521), or the certificate of an authority. Not a
    fingerprint: a signature does not contain the key needed to check it."""
    revoked: tuple[str, ...] = ()
    """Keys that are no longer trusted, regardless of `keys`: SHA-256 fingerprints, or PEM files."""
    code: bool = False
    """Whether packages with Python code may be published, checked and served; `--trust-code` allows it for one command. Off: such
    code runs with the server's permissions."""
