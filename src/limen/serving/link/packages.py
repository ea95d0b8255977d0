"""The package of a version as a snapshot describes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from limen.contracts.contract import Field
from limen.contracts.snapshot import ServedEndpoint, ServedVersion
from limen.packaging.archive.intact import ensure_intact, is_small
from limen.packaging.archive.package import Package
from limen.packaging.manifest.decoder import read_manifest


def package_of(endpoint: ServedEndpoint, served: ServedVersion) -> Package:
    """Return a version's package as a gateway needs it, under the endpoint's name and with what the endpoint says instead.

    Control has verified the files, which may have been damaged since; a large package is trusted with that, for it would be hashed as a whole.

    Raises:
        InvalidPackage: they are damaged.
    """
    root = Path(served.root)
    if served.digest and is_small(root):
        ensure_intact(root, served.digest)
    manifest = read_manifest(root)
    contract = manifest.contract
    contract = msgspec.structs.replace(
        contract,
        name=endpoint.name,
        slo=endpoint.slo or contract.slo,
        inputs=_numbered(contract.inputs, served.inputs),
        outputs=_numbered(contract.outputs, served.outputs),
    )
    serving = endpoint.serving or manifest.serving
    manifest = msgspec.structs.replace(manifest, contract=contract, serving=serving)
    return Package(root, manifest, served.digest, Path(served.origin))


def _numbered(fields: tuple[Field, ...], numbers: Mapping[str, int]) -> tuple[Field, ...]:
    return tuple(msgspec.structs.replace(f, number=numbers.get(f.name, f.number)) for f in fields)
