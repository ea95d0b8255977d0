"""The trust policy of the settings, with its keys read, applied to a package and its signature.

Called by `publishing.publisher` and `limen verify`. Not here: whether a signature is genuine (`packaging.signing.signatures`), and whether a
package's code may run (`runtime.placement.trust`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from limen.contracts.catalogue import Verdict
from limen.contracts.errors import InvalidArgument, Violation
from limen.packaging.archive.statement import check_statement, refused
from limen.packaging.signing.config import TrustConfig
from limen.packaging.signing.keys import Authority, PublicKey, public_keys
from limen.packaging.signing.signatures import Content, verify

FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
MAX_KEY_BYTES: Final = 1 << 20


class Judgement(msgspec.Struct, frozen=True):
    """What the policy makes of a package that it does not refuse."""

    verdict: Verdict
    """PASS for a signature that was verified, INCONCLUSIVE without one that could be."""
    signer: str
    """Fingerprint of the key that signed; empty when none was verified."""
    text: str
    """For people."""


class Trust(msgspec.Struct, frozen=True):
    """The policy with its keys."""

    is_required: bool = False
    keys: tuple[PublicKey, ...] = ()
    authorities: tuple[Authority, ...] = ()
    revoked: frozenset[str] = frozenset()
    """Fingerprints."""
    code: bool = False
    """Whether packages may bring Python code."""

    @classmethod
    def of(cls, config: TrustConfig, more: Sequence[str] = ()) -> Trust:
        """Read the keys that a configuration names.

        Args:
            config: the configuration.
            more: further key files, which `--key` of the command line names.

        Raises:
            InvalidArgument: a key cannot be read or used.
            Unsupported: MISSING_DEPENDENCY, when keys are named and the extra `signing` is not installed.
        """
        named = [
            *((name, f"trust.keys[{i}]") for i, name in enumerate(config.keys)),
            *((name, "--key") for name in more),
        ]
        found = [key for name, path in named for key in _read(name, path)]
        revoked = {print_ for i, name in enumerate(config.revoked) for print_ in _prints(name, f"trust.revoked[{i}]")}
        return cls(
            config.signatures == "required",
            tuple(key for key in found if isinstance(key, PublicKey)),
            tuple(key for key in found if isinstance(key, Authority)),
            frozenset(revoked),
            config.code,
        )

    def still_believes(self, signer: str) -> bool:
        """Return whether a version that was published with this signer may be served now.

        A key that an authority has certified is believed for as long as the authority is, which only a new look at the signature
        could tell apart.

        Args:
            signer: fingerprint of the key; empty for a version without a verified signature.
        """
        if signer in self.revoked:
            return False
        if not self.is_required:
            return True
        return bool(signer) and (bool(self.authorities) or signer in {key.fingerprint for key in self.keys})

    def judge(self, content: Content, signature: bytes | None) -> Judgement:
        """Return what to make of a package.

        Args:
            content: the package's name and files.
            signature: the content of its signature file, if it came with one.

        Raises:
            PermissionDenied: SIGNATURE: there is none and there must be; it is not genuine, of a key that is not trusted or was
                revoked, or about other content.
        """
        if signature is None:
            if self.is_required:
                raise refused("the package is not signed, but a signature is required")
            return Judgement(Verdict.INCONCLUSIVE, "", "not signed")
        if not (self.keys or self.authorities or self.is_required):
            check_statement(signature, content.name, content.files)
            return Judgement(Verdict.INCONCLUSIVE, "", "signed, but no trusted key can verify it")
        signers = verify(content, signature, self.keys, self.authorities)
        if not self.revoked.isdisjoint(signers):
            raise refused("the package is signed with a key that was revoked")
        return Judgement(Verdict.PASS, signers[0], f"signed by {signers[0]}")


def _read(name: str, path: str) -> list[PublicKey | Authority]:
    if FINGERPRINT.fullmatch(name):
        text = "must be a public key or certificate file: a fingerprint alone cannot verify a signature"
        raise InvalidArgument.at(path, text)
    try:
        with Path(name).open("rb") as file:
            pem = file.read(MAX_KEY_BYTES)
    except OSError as exc:
        raise InvalidArgument.at(path, f"{name} cannot be read: {exc.strerror}") from exc
    if b"PRIVATE KEY-----" in pem:
        raise InvalidArgument.at(path, f"{name} must be a public key or certificates in PEM, and holds a private key")
    try:
        return public_keys(pem, path)
    except InvalidArgument as exc:
        raise InvalidArgument.of([Violation(v.path, f"{name} {v.reason}") for v in exc.violations]) from exc


def _prints(name: str, path: str) -> list[str]:
    return [name] if FINGERPRINT.fullmatch(name) else [key.fingerprint for key in _read(name, path)]
