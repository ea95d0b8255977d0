"""The checks a package must pass to become a version: safety, integrity, signature, compatibility and answers.

Changes nothing. `publishing.publisher` asks in this order and registers what passes, with what was found as evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from limen.contracts.catalogue import EvidenceKind, Lineage, ModelVersion, Verdict
from limen.contracts.compatibility.compare import compare
from limen.contracts.compatibility.findings import Compatibility
from limen.contracts.contract import Contract, Example, Json
from limen.contracts.errors import Incompatible, InvalidArgument, InvalidPackage, Reason, Violation
from limen.contracts.openapi.examples import example_record
from limen.contracts.trial import Probed
from limen.packaging.archive.origin import Origin
from limen.packaging.archive.package import Package, hash_folder, open_package
from limen.packaging.archive.statement import MAX_SIGNATURE_BYTES
from limen.packaging.signing.signatures import Content
from limen.packaging.signing.trust import Judgement, Trust
from limen.publishing.config import PublishConfig
from limen.publishing.replay import Replay, compare_answers
from limen.runtime.sandbox.exchange import Stop

Note = Callable[[str, str], None]
"""Is told the name of a step that is done, and what it gave."""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to publish."""

    archive: Path
    """A `.limen` file of ours: nobody else writes to it."""
    model: str = ""
    """The model that it is said to be of; not compared when empty."""
    signature: Path | None = None
    digest: str = ""
    """The digest that the package is said to have; not compared when empty."""
    number: int | None = None
    """The version number to require; None takes the next one."""
    lineage: Lineage = Lineage()
    """Its `parent` is set here, to the version that it was compared with."""
    tags: dict[str, str] = {}
    aliases: tuple[str, ...] = ()
    """Aliases that point at it from then on, also when it existed already."""
    by: str = ""
    same_answers: bool | None = None
    """Whether to refuse a version that answers its predecessor's examples differently; None uses the settings."""


class Step(msgspec.Struct, frozen=True):
    """Something that was done, for people who wait."""

    name: str
    text: str


class Trial(Protocol):
    """Something that tries packages out, as `publishing.probe.Probe` does."""

    def run(
        self,
        package: Package,
        examples: Sequence[Mapping[str, Json]],
        *,
        trust_code: bool,
        stop: Stop | None = None,
    ) -> Probed:
        """Load a package and return its answers, or raise `InvalidPackage`; `stop` ends it early."""
        ...


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence out about a package."""

    signature: Judgement
    golden: Replay
    probed: Probed
    incumbent: ModelVersion | None
    compatibility: Compatibility | None
    behaviour: Replay | None


class Verification:
    """Asks everything of one package after the other. Safe to share between threads."""

    def __init__(self, probe: Trial, trust: Trust, config: PublishConfig) -> None:
        """Say what tries packages out, whom to believe and what a package may cost."""
        self._probe = probe
        self._trust = trust
        self._config = config

    def open(self, submission: Submission, folder: Path, note: Note) -> tuple[Package, Judgement]:
        """Return a package that may be loaded, unpacked into `folder`, and what the trust policy makes of it.

        Raises:
            InvalidPackage: it is too large, unsafe, damaged or brings code that may not run here.
            InvalidArgument: it is another package than it is said to be.
            PermissionDenied: SIGNATURE: the trust policy refuses it.
        """
        size = submission.archive.stat().st_size
        if size > self._config.max_archive_mb << 20:
            text = f"the archive has more than {self._config.max_archive_mb} MiB"
            raise InvalidPackage(text, reason=Reason.UNSAFE_ARCHIVE)
        package = open_package(submission.archive, folder)
        if submission.digest and submission.digest != package.digest:
            raise InvalidArgument.at("digest", "is not the digest of this package", Reason.DATA_SIZE)
        manifest = package.manifest
        if submission.model not in {"", manifest.contract.name}:
            raise InvalidArgument.at("model", "is not the model of this package", Reason.INVALID_NAME)
        if manifest.needs_trust and not self._trust.code:
            text = (
                f"the package contains code ({manifest.artifact_path}), which runs only if it is trusted: set "
                "`code = true` under [trust] in the server's settings, or use `limen publish --trust-code` while no server is running"
            )
            raise InvalidPackage(text, reason=Reason.UNTRUSTED_CODE)
        contract = manifest.contract
        note("package", f"{contract.name}, {manifest.backend}, {package.digest[:12]}")
        note("scan", "no pickles, no unexpected code, nothing outside the package")
        content = Content(contract.name, hash_folder(package.root))
        judgement = self._trust.judge(content, _read(submission.signature))
        note("signature", judgement.text)
        return package, judgement

    def try_out(
        self,
        package: Package,
        judgement: Judgement,
        incumbent: ModelVersion | None,
        note: Note,
        *,
        same_answers: bool | None = None,
        stop: Stop | None = None,
    ) -> Findings:
        """Return what a package does to those who call the version before it, and what its model answers.

        The contract comes first: it costs nothing, and says whether there is anything to try out.

        Raises:
            Incompatible: the contract would break callers; or the answers differ, when they may not.
            InvalidPackage: the model cannot be loaded, or REJECTED: it does not do what its package says.
        """
        contract = package.manifest.contract
        compatibility = _compatible(incumbent, contract)
        if incumbent is not None and compatibility is not None:
            note("compatibility", f"{compatibility.verdict} with version {incumbent.number}")
        own = contract.examples or (Example(inputs=example_record(contract)),)
        theirs = incumbent.contract.examples if incumbent is not None else ()
        probed = self._probe.run(package, [e.inputs for e in (*own, *theirs)], trust_code=self._trust.code, stop=stop)
        note("load", f"loaded in {probed.loaded.load_s:.2f} s, in a separate process")
        golden = compare_answers(contract, own, probed.answers[: len(own)])
        if golden.verdict is Verdict.FAIL:
            raise _rejected("the model does not answer its own examples correctly", golden.differences)
        note("golden", f"{golden.compared} of {golden.examples} examples with an answer to compare, all correct")
        independence = probed.independence
        if independence is not None:
            if independence.breaks:
                raise InvalidPackage(independence.text, reason=Reason.REJECTED)
            note("independence", independence.text)
        behaviour = None
        if incumbent is not None:
            behaviour = compare_answers(incumbent.contract, theirs, probed.answers[len(own) :])
            note("behaviour", _told(behaviour, incumbent))
            must_agree = self._config.same_answers if same_answers is None else same_answers
            if behaviour.verdict is Verdict.FAIL and must_agree:
                text = f"the answers differ from those of version {incumbent.number}"
                raise Incompatible(text, violations=_violations(behaviour.differences))
        return Findings(
            signature=judgement,
            golden=golden,
            probed=probed,
            incumbent=incumbent,
            compatibility=compatibility,
            behaviour=behaviour,
        )


def _compatible(incumbent: ModelVersion | None, contract: Contract) -> Compatibility | None:
    if incumbent is None:
        return None
    found = compare(incumbent.contract, contract)
    if found.breaks_callers:
        text = (
            f"the contract breaks callers of version {incumbent.number}; publish it as another major "
            f"(`major: {contract.major + 1}` in model.yaml), which gets a separate endpoint"
        )
        raise Incompatible(text, violations=found.violations)
    return found


def evidence_of(findings: Findings, origin: Origin | None) -> list[tuple[EvidenceKind, Verdict, Json]]:
    """Return what is kept of the findings for ever."""
    loaded = findings.probed.loaded
    scan = {"files": "known formats by content", "isolation": list(loaded.isolation), "load_s": round(loaded.load_s, 6)}
    signature = {"signer": findings.signature.signer, "text": findings.signature.text}
    found: list[tuple[EvidenceKind, Verdict, Json]] = [
        (EvidenceKind.SCAN, Verdict.PASS, scan),
        (EvidenceKind.SIGNATURE, findings.signature.verdict, signature),
        (EvidenceKind.GOLDEN, findings.golden.verdict, msgspec.to_builtins(findings.golden)),
    ]
    if findings.probed.independence is not None:
        independence = findings.probed.independence
        found.append((EvidenceKind.INDEPENDENCE, independence.verdict, msgspec.to_builtins(independence)))
    if origin is not None and origin.parity is not None:
        # What the import found. A converted model that differs never becomes a package.
        found.append((EvidenceKind.PARITY, Verdict.PASS, {"source": origin.source} | origin.parity))
    if findings.incumbent is not None:
        against = {"against": findings.incumbent.number}
        found += [
            (EvidenceKind.COMPATIBILITY, Verdict.PASS, against | msgspec.to_builtins(findings.compatibility)),
            (
                EvidenceKind.BEHAVIOUR,
                findings.behaviour.verdict if findings.behaviour else Verdict.INCONCLUSIVE,
                against | msgspec.to_builtins(findings.behaviour),
            ),
        ]
    return found


def _told(behaviour: Replay, incumbent: ModelVersion) -> str:
    match behaviour.verdict:
        case Verdict.PASS:
            return f"{behaviour.compared} examples of version {incumbent.number} are answered as before"
        case Verdict.FAIL:
            count = len(behaviour.differences)
            noun = "difference" if count == 1 else "differences"
            return f"{count} {noun} to the answers of version {incumbent.number}"
        case Verdict.INCONCLUSIVE:
            return f"version {incumbent.number} has no example with an answer to compare"


def _rejected(text: str, lines: Sequence[str]) -> InvalidPackage:
    more = f" (and {len(lines) - 3} more)" if len(lines) > 3 else ""
    message = f"{text}: {'; '.join(lines[:3])}{more}"
    return InvalidPackage(message, reason=Reason.REJECTED, violations=_violations(lines))


def _violations(lines: Sequence[str]) -> list[Violation]:
    """Return differences as an error lists them: each line begins with the example and the output it is about."""
    return [Violation(path, text) for path, _, text in (line.partition(": ") for line in lines)]


def _read(signature: Path | None) -> bytes | None:
    if signature is None:
        return None
    with signature.open("rb") as file:
        return file.read(MAX_SIGNATURE_BYTES + 1)
