"""Publishing: turns a submitted archive into a registered version, or reports why not.

The order is that of cost and danger: the size, the archive's layout, what its files are, its manifest and digests (all in
`packaging.archive.package`), the signature, the contract against the version before it, and only then the model itself, in a process that is
thrown away. What passes is stored, and registered with its evidence in one transaction. Whatever fails before that leaves no
version; a blob that was stored already is reachable from nowhere, and is used when the same package comes again.
Blocking: callers that are asynchronous use a thread. Called by the management API.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec
from sqlalchemy import Connection

from limen.contracts.catalogue import Alias, Evidence, ModelVersion
from limen.contracts.compatibility.findings import Compatibility
from limen.contracts.errors import Stale
from limen.contracts.names import parse_alias
from limen.packaging.archive.origin import read_origin
from limen.packaging.archive.package import Package
from limen.packaging.signing.trust import Judgement
from limen.publishing.replay import Replay
from limen.publishing.staging import staging_folder
from limen.publishing.verification import Findings, Note, Step, Submission, Verification, evidence_of
from limen.registry.registry import Registry
from limen.registry.values import NewVersion
from limen.runtime.sandbox.exchange import Stop
from limen.storage.blobs import BlobStore
from limen.storage.database import Database
from limen.storage.faults import file_faults
from limen.storage.files import hash_of

_ATTEMPTS: Final = 3
"""How often a package is compared anew because another version was published meanwhile."""


class Name(Protocol):
    """Has an alias name a version, as `management.catalogue.Catalogue.point` does."""

    def __call__(
        self, connection: Connection, version: ModelVersion, alias: str, *, expected: int | None, by: str
    ) -> Alias:
        """Do it, or raise what forbids it."""
        ...


class Published(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Its history."""

    version: ModelVersion
    is_new: bool
    """Whether it was registered now; the same package again is the version that there is."""
    compatibility: Compatibility | None = None
    """Against the version before it; None for the first of its major, and when nothing was registered."""
    behaviour: Replay | None = None
    """The examples of the version before it, answered by this one; None as above."""
    steps: tuple[Step, ...] = ()


class Publisher:
    """Verifies packages and registers them. Safe to share between threads."""

    def __init__(
        self,
        registry: Registry,
        database: Database,
        blobs: BlobStore,
        verification: Verification,
        name: Name,
        *,
        staging: Path,
        clock: Callable[[], datetime],
    ) -> None:
        """Work on an open registry.

        Args:
            registry: what exists.
            database: the registry's.
            blobs: where archives are kept.
            verification: finds out whether a package is good.
            name: has an alias name a version, in an open transaction.
            staging: where archives are unpacked meanwhile; nothing stays there.
            clock: gives the time with its zone.
        """
        self._registry = registry
        self._database = database
        self._blobs = blobs
        self._verification = verification
        self._point = name
        self._staging = staging
        self._clock = clock

    def publish(
        self, submission: Submission, tell: Callable[[Step], None] | None = None, stop: Stop | None = None
    ) -> Published:
        """Verify a package and register it; idempotent by its content.

        Args:
            submission: the package, and what it is to be called.
            tell: is told each step when it is done.
            stop: ends the trial of the model early.

        Raises:
            Cancelled: it was ended early.
            InvalidPackage: it is unsafe, broken or REJECTED for what its model does, with everything that is wrong.
            InvalidArgument: it is not the package that it is said to be, or an alias is no name for one.
            PermissionDenied: SIGNATURE: the trust policy refuses it.
            Incompatible: its contract would break callers, with every finding; or its answers would, when they may not differ.
            AlreadyExists: the number belongs to another package.
            Unavailable: STORAGE, STORAGE_FULL. Nothing was registered.
        """
        for alias in submission.aliases:
            parse_alias(alias, "aliases")
        steps: list[Step] = []

        def note(name: str, text: str) -> None:
            steps.append(Step(name, text))
            if tell is not None:
                tell(steps[-1])

        with file_faults("the folder for packages that are checked"), staging_folder(self._staging) as folder:
            package, judgement = self._verification.open(submission, folder, note)
            published = self._known(package, submission, note)
            if published is None:
                published = self._tried_and_registered(submission, package, judgement, note, stop)
            else:
                note("register", f"this package is already version {published.version.number}")
        return msgspec.structs.replace(published, steps=tuple(steps))

    def _known(self, package: Package, submission: Submission, note: Note) -> Published | None:
        """Return the version that this package is already, stored and under the aliases it is to have; None when it is none yet."""
        found = self._registry.find(package.manifest.contract.name, package.digest)
        if found is None:
            return None
        self._restore(submission, found, note)
        if submission.number is not None or submission.aliases:
            with self._database.transaction() as connection:
                # The registry says so when another number is wanted.
                found = self._registry.add_version(connection, self._new(package, submission, "", "", ""))
                found = self._name(connection, found, submission)
        return Published(version=found, is_new=False)

    def _tried_and_registered(
        self, submission: Submission, package: Package, judgement: Judgement, note: Note, stop: Stop | None
    ) -> Published:
        for _ in range(_ATTEMPTS):
            contract = package.manifest.contract
            incumbent = self._registry.incumbent(contract.name, contract.major)
            findings = self._verification.try_out(
                package, judgement, incumbent, note, same_answers=submission.same_answers, stop=stop
            )
            archive, signature = self._stored(submission, note)
            published = self._registered(submission, package, findings, archive, signature)
            if published is not None:
                done = published.version
                note("register", f"{done.model} version {done.number}" if published.is_new else "it exists already")
                return published
        raise Stale("other versions of the model were published in the meantime; publish it again")

    def _stored(self, submission: Submission, note: Note) -> tuple[str, str]:
        """Store the blobs and return their keys; from here on they are there, and reachable from nowhere."""
        archive, signature = hash_of(submission.archive), ""
        self._blobs.put(submission.archive, archive)
        if submission.signature is not None:
            signature = hash_of(submission.signature)
            self._blobs.put(submission.signature, signature)
        note("store", archive[:12])
        return archive, signature

    def _restore(self, submission: Submission, version: ModelVersion, note: Note) -> None:
        """Store the blobs of a version again that have been damaged or lost since it was published."""
        stored = self._registry.archive_of(version.model, version.number)
        for path, key in ((submission.archive, stored.archive), (submission.signature, stored.signature)):
            if path is not None and key == hash_of(path) and not self._blobs.is_whole(key):
                self._blobs.put(path, key)
                note("store", "its stored files were damaged or lost, and have been repaired")

    def _registered(
        self, submission: Submission, package: Package, findings: Findings, archive: str, signature: str
    ) -> Published | None:
        """Register everything in one transaction; None when the package was compared with what is no longer the newest."""
        contract, incumbent = package.manifest.contract, findings.incumbent
        with self._database.transaction() as connection:
            is_new = self._registry.find(contract.name, package.digest) is None
            newest = self._registry.incumbent(contract.name, contract.major)
            if is_new and (newest and newest.number) != (incumbent and incumbent.number):
                return None
            new = self._new(package, submission, archive, signature, findings.signature.signer)
            origin = read_origin(package.root)
            source = new.lineage.source or (origin.source if origin is not None else "")
            parent = incumbent.number if incumbent is not None else None
            lineage = msgspec.structs.replace(new.lineage, source=source, parent=parent)
            new = msgspec.structs.replace(new, lineage=lineage)
            version = self._registry.add_version(connection, new)
            if is_new:
                for kind, verdict, body in evidence_of(findings, origin):
                    evidence = Evidence(
                        model=version.model,
                        version=version.number,
                        kind=kind,
                        verdict=verdict,
                        body=body,
                        created_at=self._clock(),
                        created_by=submission.by,
                    )
                    self._registry.add_evidence(connection, evidence)
            version = self._name(connection, version, submission)
        return Published(
            version=version,
            is_new=is_new,
            compatibility=findings.compatibility if is_new else None,
            behaviour=findings.behaviour if is_new else None,
        )

    def _new(self, package: Package, submission: Submission, archive: str, signature: str, signer: str) -> NewVersion:
        manifest = package.manifest
        return NewVersion(
            contract=manifest.contract,
            digest=package.digest,
            archive=archive,
            size=submission.archive.stat().st_size,
            backend=manifest.backend,
            needs_trust=manifest.needs_trust,
            signature=signature,
            signer=signer,
            number=submission.number,
            lineage=submission.lineage,
            tags=submission.tags,
            created_by=submission.by,
        )

    def _name(self, connection: Connection, version: ModelVersion, submission: Submission) -> ModelVersion:
        for alias in submission.aliases:
            self._point(connection, version, alias, expected=None, by=submission.by)
        names = tuple(sorted({*version.aliases, *submission.aliases}))
        return msgspec.structs.replace(version, aliases=names)
