"""Opens packages for a server: verified, trusted, and then independent of their original folder.

Called by the control process. A folder is copied first and the copy is verified and served, so that editing the folder changes nothing
until it is loaded again: a replica that is restarted, or a version that is kept because its successor is broken, has the files it
was started with. Archives are unpacked into the cache, which has the same effect.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import msgspec

from limen.contracts.contract import Contract, Sensitivity
from limen.contracts.errors import InvalidPackage, LimenError
from limen.contracts.openapi.examples import example_record, is_showable
from limen.contracts.serving import Serving
from limen.contracts.snapshot import ServedEndpoint, ServedVersion
from limen.packaging.archive.package import Package, open_package
from limen.packaging.manifest.decoder import read_manifest
from limen.packaging.manifest.values import Manifest
from limen.packaging.paths import list_files
from limen.runtime.placement.trust import ensure_trusted
from limen.serving.fleet.records import Opened
from limen.serving.messages.lines import ModelSummary
from limen.storage.private import make_private_folder

LOG = logging.getLogger("limen.control")
MAX_EXAMPLE_CHARS = 400


def open_verified(path: Path, home: Path, copies: Path, *, is_inline: bool, trust_code: bool) -> Opened:
    """Return a package that may be served.

    Args:
        path: a package folder or an archive.
        home: where archives are unpacked.
        copies: where copies of folders are kept.
        is_inline: whether it is to live in the gateways.
        trust_code: whether a package may run code it brings.

    Raises:
        InvalidPackage: it cannot be served as it is; the text names its path.
    """
    try:
        package = _open_folder(path, copies, trust_code=trust_code) if path.is_dir() else open_package(path, home)
        ensure_trusted(package.manifest, trust_code=trust_code)
    except LimenError as exc:
        raise InvalidPackage(f"{path}: {exc.message}", reason=exc.reason, violations=exc.violations) from exc
    return opened_as(package.manifest.contract.name, package, str(path), is_inline=is_inline)


def opened_as(endpoint: str, package: Package, origin: str, *, is_inline: bool) -> Opened:
    """Return a package as one endpoint serves it.

    Args:
        endpoint: the endpoint's name.
        package: verified.
        origin: where it comes from, for people.
        is_inline: whether it is to live in the gateways.
    """
    manifest = package.manifest
    ensure_variables_reach(manifest.environment, is_inline=is_inline)
    return Opened(
        endpoint,
        str(package.root),
        package.digest,
        origin,
        manifest.serving,
        summary_of(endpoint, manifest),
        is_inline=is_inline,
        environment=manifest.environment,
    )


def ensure_variables_reach(names: tuple[str, ...], *, is_inline: bool) -> None:
    """Refuse a package in the gateways whose code asks for variables: a gateway is not given any for it.

    Raises:
        InvalidPackage: it must run in processes of its own.
    """
    if names and is_inline:
        text = f"environment: {', '.join(names)} can only be passed to separate model processes; use placement process"
        raise InvalidPackage(text)


def reopen(endpoint: ServedEndpoint, served: ServedVersion) -> Opened:
    """Return a version that an earlier control process has verified; one whose files are gone goes on where it is loaded."""
    root = Path(served.root)
    try:
        package = Package(root, read_manifest(root), served.digest, Path(served.origin))
        opened = opened_as(endpoint.name, package, served.origin, is_inline=served.is_inline)
    except (LimenError, OSError) as exc:
        LOG.warning("%s version %s cannot be read any more: %s", endpoint.name, served.number, exc)
        summary = ModelSummary(endpoint.name, "", 0, 0)
        opened = Opened(
            endpoint.name, served.root, served.digest, served.origin, Serving(), summary, is_inline=served.is_inline
        )
    serving = endpoint.serving or opened.serving
    return msgspec.structs.replace(opened, serving=serving, inputs=served.inputs, outputs=served.outputs)


def forget_copy(root: str, copies: Path) -> None:
    """Remove the copy of a version that nobody wants any more; what is not a copy stays."""
    if Path(root).parent == copies:
        shutil.rmtree(root, ignore_errors=True)


def summary_of(endpoint: str, manifest: Manifest) -> ModelSummary:
    """Return what the summary of a started server shows of an endpoint."""
    contract = manifest.contract
    return ModelSummary(
        endpoint,
        manifest.backend,
        len(contract.inputs),
        len(contract.outputs),
        contract.title,
        _example(contract),
    )


def _open_folder(folder: Path, copies: Path, *, trust_code: bool) -> Package:
    # Before anything is copied: most mistakes are in the manifest.
    ensure_trusted(read_manifest(folder), trust_code=trust_code)
    copy = _copied(folder, copies)
    try:
        return open_package(copy, copies)
    except LimenError:
        shutil.rmtree(copy, ignore_errors=True)
        raise


def _copied(folder: Path, copies: Path) -> Path:
    files = list_files(folder)
    try:
        make_private_folder(copies, is_passage=True)
        target = Path(tempfile.mkdtemp(prefix=f"{folder.resolve().name[:40]}-", dir=copies))
        target.chmod(0o755)  # a replica may read it as another user
        for name in files:
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, copy, follow_symlinks=False)
    except OSError as exc:
        text = f"cannot copy the package to {copies}: {exc.strerror or type(exc).__name__}"
        raise InvalidPackage(text) from exc
    return target


def _example(contract: Contract) -> str:
    """Return the body of a request, when it can be pasted into a shell and shows nothing secret."""
    if any(f.sensitivity is Sensitivity.SECRET for f in contract.inputs) or not is_showable(contract):
        return ""
    body = msgspec.json.encode({"instances": [example_record(contract)]}).decode()
    return body if len(body) <= MAX_EXAMPLE_CHARS and "'" not in body else ""
