"""Whether a package's own code may run; checked by every placement before it loads a package."""

from __future__ import annotations

from limen.contracts.errors import InvalidPackage, Reason
from limen.packaging.manifest.values import Manifest


def ensure_trusted(manifest: Manifest, *, trust_code: bool) -> None:
    """Raise `InvalidPackage` when a package brings code that may not run here."""
    if manifest.needs_trust and not trust_code:
        text = f"the package contains code ({manifest.artifact_path}), which runs only with --trust-code"
        raise InvalidPackage(text, reason=Reason.UNTRUSTED_CODE)
