"""What publishing makes of good packages: a version, its evidence, and what it means for those who call the one before it."""

import json
import threading

import pytest

from limen.contracts.catalogue import EvidenceKind, Lineage, Verdict
from limen.contracts.errors import AlreadyExists, Incompatible, InvalidArgument, NotAllowedNow, NotFound, Reason
from limen.contracts.trial import Answer, Loaded, Probed
from limen.packaging.archive.package import open_package
from limen.packaging.paths import signature_path
from limen.packaging.signing.keys import private_key, public_half
from limen.packaging.signing.signatures import content_of, sign
from limen.publishing.config import PublishConfig
from tests.services.packages import write_countdown, write_score, write_trouble
from tests.services.signers import write_key


class Canned:
    """Stands for the process that tries packages out, where a test is about something else."""

    def __init__(self, score=2.0, before=lambda: None):
        self.score = score
        self.before = before
        self.runs = 0

    def run(self, package, examples, *, trust_code, stop=None):
        self.runs += 1
        self.before()
        return Probed(Loaded(0.1, False, ()), tuple(Answer({"score": self.score}) for _ in examples))


def edit(folder, old, new):
    path = folder / "model.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return folder


def kinds(shop, number=1):
    return {e.kind: e.verdict for e in shop.registry.evidence("score", number)}


def test_a_package_becomes_version_1_with_evidence(shop, tmp_path):
    package = write_score(tmp_path / "score")
    found = shop.publish(package, by="ada", tags={"stage": "test"}, lineage=Lineage(source="run 7"))
    version = found.version
    assert (version.model, version.number, version.is_retired) == ("score", 1, False)
    assert (version.created_by, version.tags, version.lineage.source) == ("ada", {"stage": "test"}, "run 7")
    assert found.is_new
    assert kinds(shop) == {
        EvidenceKind.SCAN: Verdict.PASS,
        EvidenceKind.SIGNATURE: Verdict.INCONCLUSIVE,
        EvidenceKind.GOLDEN: Verdict.PASS,
        EvidenceKind.INDEPENDENCE: Verdict.PASS,
    }
    assert shop.leftovers == []


def test_what_an_import_found_is_kept_as_lineage_and_evidence(shop, tmp_path):
    package = write_score(tmp_path / "score")
    origin = {"source": "mlflow:models:/score/3", "format": "onnx", "parity": {"rows": 105, "largest_difference": 1e-7}}
    (package / "origin.json").write_text(json.dumps(origin))
    found = shop.publish(package).version
    assert found.lineage.source == "mlflow:models:/score/3"
    (parity,) = shop.registry.evidence("score", 1, EvidenceKind.PARITY)
    assert parity.verdict is Verdict.PASS
    assert parity.body == {"source": "mlflow:models:/score/3", "rows": 105, "largest_difference": 1e-7}


def test_the_publishers_own_word_about_the_source_stands_and_a_broken_origin_says_nothing(shop, tmp_path):
    package = write_score(tmp_path / "score")
    (package / "origin.json").write_text("{")
    assert shop.publish(package).version.lineage.source == ""
    (package / "origin.json").write_text(json.dumps({"source": "a file"}))
    found = shop.publish(package, lineage=Lineage(source="run 7")).version
    assert found.lineage.source == "run 7"
    assert shop.registry.evidence("score", found.number, EvidenceKind.PARITY) == []


def test_the_stored_archive_is_the_package(shop, tmp_path):
    version = shop.publish(write_score(tmp_path / "score")).version
    kept = shop.registry.archive_of("score", 1)
    shop.blobs.fetch(kept.archive, tmp_path / "fetched.limen")
    assert open_package(tmp_path / "fetched.limen", tmp_path / "cache").digest == version.digest == kept.digest
    assert (tmp_path / "fetched.limen").stat().st_size == version.size


def test_each_step_is_told_when_it_is_done(shop, tmp_path):
    package = write_score(tmp_path / "score")
    first = [step.name for step in shop.publish(package).steps]
    assert first == ["package", "scan", "signature", "load", "golden", "independence", "store", "register"]
    edit(package, "title: Score", "title: Second")
    second = [step.name for step in shop.publish(package).steps]
    assert second == [
        *("package", "scan", "signature", "compatibility", "load", "golden", "independence"),
        *("behaviour", "store", "register"),
    ]


def test_b98_the_same_package_again_is_the_version_that_there_is(shop, tmp_path):
    package = write_score(tmp_path / "score")
    first = shop.publish(package)
    before = (shop.registry.revision(), shop.registry.evidence("score", 1))
    again = shop.publish(package, by="somebody else")
    assert (again.is_new, again.version) == (False, first.version)
    assert (shop.registry.revision(), shop.registry.evidence("score", 1)) == before
    assert again.steps[-1].text == "this package is already version 1"


def test_b98_a_number_belongs_to_one_package(shop, tmp_path):
    package = write_score(tmp_path / "score")
    assert shop.publish(package, number=7).version.number == 7
    with pytest.raises(AlreadyExists):
        shop.publish(package, number=8)
    edit(package, "title: Score", "title: Other")
    with pytest.raises(AlreadyExists):
        shop.publish(package, number=7)
    assert shop.numbers() == [7]


def test_b99_the_digest_must_be_the_one_that_was_said(shop, tmp_path):
    package = write_score(tmp_path / "score")
    with pytest.raises(InvalidArgument, match="digest: is not the digest of this package"):
        shop.publish(package, digest="0" * 64)
    assert shop.models() == []
    digest = shop.publish(package).version.digest
    assert not shop.publish(package, digest=digest).is_new


def test_b99_of_two_uploads_of_one_package_at_once_one_is_new(shop, tmp_path):
    package = write_score(tmp_path / "score")
    meeting = threading.Barrier(2)
    found = []

    def publish():
        found.append(shop.publish(package, probe=Canned(before=lambda: meeting.wait(30))))

    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.is_new for p in found) == [False, True]
    assert {p.version.number for p in found} == {1}
    assert len(shop.registry.evidence("score", 1)) == 3


def test_aliases_are_set_with_the_version_or_not_at_all(shop, tmp_path):
    package = write_score(tmp_path / "score")
    assert shop.publish(package, aliases=("champion",)).version.aliases == ("champion",)
    assert shop.registry.resolve("score", "champion").number == 1
    edit(package, "title: Score", "title: Second")
    with pytest.raises(InvalidArgument, match="aliases"):
        shop.publish(package, aliases=("latest",))
    assert shop.numbers() == [1]


@pytest.mark.parametrize("harm", ["damaged", "lost"])
def test_f18_publishing_the_same_package_again_repairs_what_is_stored_of_it(shop, tmp_path, harm):
    package = write_score(tmp_path / "score")
    shop.publish(package, probe=Canned())
    archive = shop.registry.archive_of("score", 1).archive
    [blob] = (shop.home / "blobs").rglob(archive)
    blob.write_bytes(b"damaged") if harm == "damaged" else blob.unlink()
    again = shop.publish(package, probe=Canned(), aliases=("champion",))
    assert shop.blobs.is_whole(archive)
    assert (again.is_new, again.version.aliases) == (False, ("champion",))
    assert [step.text for step in again.steps if step.name == "store"] == [
        "its stored files were damaged or lost, and have been repaired"
    ]


def test_an_alias_can_be_set_by_publishing_again(shop, tmp_path):
    package = write_score(tmp_path / "score")
    shop.publish(package)
    assert shop.publish(package, aliases=("champion",)).version.aliases == ("champion",)
    with shop.database.transaction() as connection:
        shop.registry.remove_alias(connection, "score", "champion", expected=None)
        shop.registry.retire(connection, "score", 1, "old", expected=None, by="")
    with pytest.raises(NotAllowedNow) as caught:
        shop.publish(package, aliases=("champion",))
    assert caught.value.reason is Reason.RETIRED
    with pytest.raises(NotFound):
        shop.registry.resolve("score", "champion")


def test_a_compatible_version_is_compared_with_the_one_before_it(shop, tmp_path):
    package = write_score(tmp_path / "score")
    shop.publish(package)
    found = shop.publish(edit(package, "maximum: 1000", "maximum: 2000"))
    assert (found.version.number, found.version.lineage.parent) == (2, 1)
    assert [str(f.path) for f in found.compatibility.findings] == ["inputs.amount.maximum"]
    assert found.behaviour.verdict is Verdict.PASS
    assert kinds(shop, 2)[EvidenceKind.COMPATIBILITY] is Verdict.PASS
    assert kinds(shop, 2)[EvidenceKind.BEHAVIOUR] is Verdict.PASS
    [evidence] = shop.registry.evidence("score", 2, EvidenceKind.COMPATIBILITY)
    assert (evidence.body["against"], len(evidence.body["findings"])) == (1, 1)


def test_a_breaking_version_is_refused_with_every_finding(shop, tmp_path):
    package = write_score(tmp_path / "score")
    shop.publish(package)
    edit(package, "maximum: 1000", "maximum: 10")
    edit(package, "maximum: 130", "maximum: 100")
    probe = Canned()
    with pytest.raises(Incompatible, match=r"`major: 2` in model\.yaml") as caught:
        shop.publish(package, probe=probe)
    assert [v.path for v in caught.value.violations] == ["inputs.amount.maximum", "inputs.age.maximum"]
    assert (shop.numbers(), len(shop.stored), probe.runs) == ([1], 1, 0)


def test_a_breaking_version_may_be_another_major(shop, tmp_path):
    package = write_score(tmp_path / "score")
    shop.publish(package)
    found = shop.publish(edit(edit(package, "maximum: 1000", "maximum: 10"), "title: Score", "major: 2"))
    assert (found.version.number, found.version.major, found.compatibility) == (2, 2, None)


def other_answers(package):
    """Change the model's promise, and with it what its canned answers may be."""
    return edit(package, "outputs: {score: 2.0}", "outputs: {score: 5.0}")


def test_other_answers_are_told_and_kept_as_evidence(shop, tmp_path):
    package = write_score(tmp_path / "score")
    shop.publish(package)
    found = shop.publish(other_answers(package), probe=Canned(5.0))
    assert (found.version.number, found.behaviour.verdict) == (2, Verdict.FAIL)
    assert found.behaviour.differences == ("golden.score: expected 2.0, got 5.0 (difference 3)",)
    [evidence] = shop.registry.evidence("score", 2, EvidenceKind.BEHAVIOUR)
    assert evidence.verdict is Verdict.FAIL
    assert evidence.body["differences"] == ["golden.score: expected 2.0, got 5.0 (difference 3)"]
    assert "1 difference to the answers of version 1" in [step.text for step in found.steps]


@pytest.mark.parametrize("by_setting", [False, True])
def test_other_answers_are_refused_where_they_must_be_the_same(shop, tmp_path, by_setting):
    package = write_score(tmp_path / "score")
    shop.publish(package)
    shop.config = PublishConfig(same_answers=by_setting)
    with pytest.raises(Incompatible, match="differ from those of version 1") as caught:
        shop.publish(other_answers(package), probe=Canned(5.0), same_answers=None if by_setting else True)
    assert len(caught.value.violations) == 1
    assert (shop.numbers(), len(shop.stored)) == ([1], 1)


def test_a_version_that_came_meanwhile_is_compared_with_as_well(shop, tmp_path):
    package, other = write_score(tmp_path / "score"), write_score(tmp_path / "other")
    edit(other, "title: Score", "title: Meanwhile")
    slow = Canned()
    slow.before = lambda: shop.publish(other, probe=Canned()) if slow.runs == 1 else None
    found = shop.publish(package, probe=slow)
    assert slow.runs == 2
    assert (found.version.number, found.version.lineage.parent) == (2, 1)


def test_a_model_that_streams_is_registered_without_a_verdict(shop, tmp_path):
    shop.trust = type(shop.trust)(code=True)
    found = shop.publish(write_countdown(tmp_path / "countdown"))
    evidence = shop.registry.evidence("countdown", 1, EvidenceKind.GOLDEN)
    assert (found.version.needs_trust, evidence[0].verdict) == (True, Verdict.INCONCLUSIVE)


def test_code_runs_where_it_is_trusted_and_without_the_network(shop, tmp_path):
    shop.trust = type(shop.trust)(code=True)
    shop.publish(write_trouble(tmp_path / "trouble"))
    [scan] = shop.registry.evidence("trouble", 1, EvidenceKind.SCAN)
    assert "no-network" in scan.body["isolation"]


def test_who_signed_is_kept(shop, tmp_path):
    signer = write_key(tmp_path)
    key = private_key(signer.private.read_bytes())
    package = write_score(tmp_path / "score")
    signature_path(package).write_bytes(sign(content_of(package), key))
    shop.trust = type(shop.trust)(signatures="required", keys=(str(signer.public),))
    version = shop.publish(package).version
    assert version.signer == public_half(key)
    assert kinds(shop)[EvidenceKind.SIGNATURE] is Verdict.PASS
    kept = shop.registry.archive_of("score", 1)
    shop.blobs.fetch(kept.signature, tmp_path / "fetched.sig")
    assert (tmp_path / "fetched.sig").read_bytes() == signature_path(package).read_bytes()
