"""A signature holds for exactly the files, the name and the key it was made for (B97, D8)."""

import base64
import builtins
import json
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from limen.contracts.catalogue import Verdict
from limen.contracts.errors import ErrorCode, InvalidArgument, PermissionDenied, Reason, Unsupported
from limen.packaging.archive.index import FileEntry
from limen.packaging.archive.package import build
from limen.packaging.archive.statement import check_statement
from limen.packaging.paths import signature_path
from limen.packaging.signing import signatures
from limen.packaging.signing.config import TrustConfig
from limen.packaging.signing.keys import private_key, public_half, public_keys
from limen.packaging.signing.signatures import Content, content_of, sign, verify
from limen.packaging.signing.trust import Trust
from tests.services.packages import write_score
from tests.services.signers import write_holder, write_key

FILES = (FileEntry("model.onnx", "1" * 64, 3), FileEntry("model.yaml", "2" * 64, 4))
CONTENT = Content("credit", FILES)


@pytest.fixture
def signer(tmp_path):
    return write_key(tmp_path)


@pytest.fixture
def signature(signer):
    return sign(CONTENT, private_key(signer.private.read_bytes()))


def trusting(*keys, **more):
    return Trust.of(TrustConfig(keys=tuple(map(str, keys)), **more))


def refusal(content, signature, trust):
    with pytest.raises(PermissionDenied) as caught:
        trust.judge(content, signature)
    assert (caught.value.code, caught.value.reason) == (ErrorCode.PERMISSION_DENIED, Reason.SIGNATURE)
    return caught.value.message


def changed(signature, **parts):
    """Return a signature whose statement says something else; it is no longer genuine, but that is looked at later."""
    bundle = json.loads(signature)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["predicate"]["serialization"] |= parts
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(bundle).encode()


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_the_signer_is_named_by_the_fingerprint_of_the_key(tmp_path, curve):
    signer = write_key(tmp_path, curve=curve)
    key = private_key(signer.private.read_bytes())
    judgement = trusting(signer.public).judge(CONTENT, sign(CONTENT, key))
    assert (judgement.verdict, judgement.signer) == (Verdict.PASS, public_half(key))


def test_b97_an_unsigned_package_is_refused_where_signatures_are_required_and_told_elsewhere():
    assert "not signed" in refusal(CONTENT, None, Trust(is_required=True))
    judgement = Trust().judge(CONTENT, None)
    assert (judgement.verdict, judgement.signer) == (Verdict.INCONCLUSIVE, "")


def test_b97_a_signature_of_another_key_is_refused_also_where_it_is_optional(tmp_path, signature):
    other = write_key(tmp_path, "other")
    assert "not trusted" in refusal(CONTENT, signature, trusting(other.public))
    assert "not trusted" in refusal(CONTENT, signature, Trust(is_required=True))


def test_a_signature_that_nobody_can_verify_proves_nothing_but_must_be_about_these_files(signature):
    assert Trust().judge(CONTENT, signature).verdict is Verdict.INCONCLUSIVE
    assert "other files" in refusal(Content("credit", FILES[:1]), signature, Trust())


def test_b97_a_revoked_key_is_refused_though_it_is_trusted(signer, signature):
    by_file = trusting(signer.public, revoked=(str(signer.public),))
    assert "revoked" in refusal(CONTENT, signature, by_file)
    by_print = trusting(signer.public, revoked=(by_file.keys[0].fingerprint,))
    assert "revoked" in refusal(CONTENT, signature, by_print)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ((*FILES, FileEntry("extra.txt", "3" * 64, 1)), "extra.txt: was not signed"),
        ((*FILES, FileEntry(".git/x", "3" * 64, 1)), ".git/x: was not signed"),
        ((*FILES, FileEntry(".gitattributes", "3" * 64, 1)), ".gitattributes: was not signed"),
        (FILES[:1], "model.yaml: was signed and is missing"),
        ((FILES[0], FileEntry("model.yaml", "3" * 64, 4)), "model.yaml: is not what was signed"),
    ],
    ids=["extra file", ".git", ".gitattributes", "missing file", "older version"],
)
def test_b97_a_signature_of_other_files_is_refused(signer, signature, files, text):
    assert text in refusal(Content("credit", files), signature, trusting(signer.public))


def test_b97_a_signature_of_another_name_is_refused(signer, signature):
    assert "another name" in refusal(Content("other", FILES), signature, trusting(signer.public))


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"ignore_paths": [".git"]}, "ignore_paths"),
        ({"allow_symlinks": True}, "allow_symlinks"),
        ({"hash_type": "blake2"}, "SHA-256"),
        ({"method": "shards", "hash_type": "sha256"}, "SHA-256"),
        ({"surprise": 1}, "not made by `limen sign`"),
    ],
)
def test_b97_a_signature_that_ignores_files_or_follows_links_is_refused(signature, part, text):
    with pytest.raises(PermissionDenied, match=text):
        check_statement(changed(signature, **part), CONTENT.name, CONTENT.files)


def test_b97_the_library_itself_accepts_the_file_that_we_refuse(tmp_path):
    """D8: signed as the library does it, an extra file under .git is taken along; our own comparison is what sees it."""
    import model_signing

    package = write_score(tmp_path / "score")
    signer = write_key(tmp_path)
    (package / ".git").mkdir()
    (package / ".git" / "x").write_text("signed by nobody")
    target = tmp_path / "library.sig"
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=signer.private)
    config.sign(package, target)
    (package / ".git" / "x").write_text("changed")
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=signer.public).verify(package, target)
    assert "ignore_paths" in refusal(content_of(package), target.read_bytes(), trusting(signer.public))


def test_every_changed_byte_of_a_signature_is_noticed(signer, signature):
    trust = trusting(signer.public)
    assert trust.judge(CONTENT, signature).verdict is Verdict.PASS
    bundle = json.loads(signature)
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    genuine = base64.b64decode(envelope["signatures"][0]["sig"])
    for i in range(8, len(genuine), 7):
        envelope["signatures"][0]["sig"] = base64.b64encode(
            genuine[:i] + bytes([genuine[i] ^ 1]) + genuine[i + 1 :]
        ).decode()
        assert "not genuine" in refusal(CONTENT, json.dumps(bundle).encode(), trust)
    envelope["signatures"][0]["sig"] = base64.b64encode(genuine).decode()
    # The statement says the same, but these are not the bytes that were signed.
    envelope["payload"] = base64.b64encode(payload + b" ").decode()
    assert "not genuine" in refusal(CONTENT, json.dumps(bundle).encode(), trust)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 100_000, b'{"mediaType": 1}', b"null"])
def test_what_is_no_signature_is_refused(signer, data):
    assert "not made by `limen sign`" in refusal(CONTENT, data, trusting(signer.public))


def test_a_second_payload_beside_the_verified_one_is_refused(signer, signature):
    bundle = json.loads(signature)
    trust = trusting(signer.public)
    twice = bundle | {"dsse_envelope": bundle["dsseEnvelope"]}
    assert "not made by `limen sign`" in refusal(CONTENT, json.dumps(twice).encode(), trust)
    head, _, rest = signature.partition(b'"payload":')
    repeated = head + b'"payload":"AAAA","payload":' + rest
    assert "repeats a key" in refusal(CONTENT, repeated, trust)


def test_a_signature_that_is_too_large_is_refused(signer, monkeypatch, signature):
    monkeypatch.setattr("limen.packaging.archive.statement.MAX_SIGNATURE_BYTES", 100)
    assert "more than 100 bytes" in refusal(CONTENT, signature, trusting(signer.public))


def test_certificates_are_judged_by_their_authority(tmp_path):
    holder, stranger = write_holder(tmp_path), write_holder(tmp_path, "stranger")
    key = private_key(holder.private.read_bytes())
    signature = sign(CONTENT, key, [holder.certificate.read_bytes()])
    judgement = trusting(holder.authority).judge(CONTENT, signature)
    assert (judgement.verdict, judgement.signer) == (Verdict.PASS, public_half(key))
    assert "not genuine" in refusal(CONTENT, signature, trusting(stranger.authority))
    assert "no authority" in refusal(CONTENT, signature, trusting(write_key(tmp_path).public))
    revoked = trusting(holder.authority, revoked=(str(holder.certificate),))
    assert "revoked" in refusal(CONTENT, signature, revoked)


def test_a_certificate_of_another_key_is_refused_when_signing(tmp_path):
    holder, signer = write_holder(tmp_path), write_key(tmp_path)
    with pytest.raises(InvalidArgument, match="certificates: must be PEM"):
        sign(CONTENT, private_key(signer.private.read_bytes()), [holder.certificate.read_bytes()])


def test_a_protected_key_opens_with_its_passphrase_only(tmp_path):
    signer = write_key(tmp_path, passphrase="open sesame")
    pem = signer.private.read_bytes()
    with pytest.raises(InvalidArgument, match="key: is encrypted: give its passphrase"):
        private_key(pem)
    with pytest.raises(InvalidArgument, match="key: cannot be decrypted with this passphrase"):
        private_key(pem, b"wrong")
    with pytest.raises(InvalidArgument, match="key: is not encrypted"):
        private_key(write_key(tmp_path, "plain").private.read_bytes(), b"any")
    signature = sign(CONTENT, private_key(pem, b"open sesame"))
    assert trusting(signer.public).judge(CONTENT, signature).verdict is Verdict.PASS


def test_an_opened_key_is_never_a_file():
    """The library wants a path; what it gets is a pipe, so that no copy of the key stays on a disk."""
    with signatures._piped(b"an opened key") as path:
        assert Path(path).is_fifo()
        assert Path(path).read_bytes() == b"an opened key"


def test_only_keys_on_known_curves_are_used(tmp_path):
    strange = rsa.generate_private_key(65537, 2048)
    private = strange.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = strange.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(InvalidArgument, match="key: must be a key on one of the curves"):
        private_key(private)
    with pytest.raises(InvalidArgument, match=r"trust.keys\[0\]: must be a key on one of the curves"):
        public_keys(public, "trust.keys[0]")
    with pytest.raises(InvalidArgument, match="must be a public key or certificates in PEM"):
        public_keys(b"no key", "k")


def test_keys_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InvalidArgument, match=r"trust.keys\[1\]: .*absent cannot be read"):
        trusting(write_key(tmp_path).public, tmp_path / "absent")
    with pytest.raises(InvalidArgument, match=r"trust.keys\[0\]: .*a fingerprint alone cannot verify"):
        trusting("a" * 64)


def test_without_the_extra_people_are_told_what_to_install(monkeypatch, signature):
    imported = builtins.__import__

    def absent(name, *arguments, **options):
        if name.partition(".")[0] == "model_signing":
            raise ModuleNotFoundError(name=name)
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(Unsupported, match=r"limen\[signing\]") as caught:
        verify(CONTENT, signature, [])
    assert caught.value.reason is Reason.MISSING_DEPENDENCY


def test_the_signature_is_beside_the_content_and_not_in_it(tmp_path):
    package = write_score(tmp_path / "score")
    before = content_of(package)
    signer = write_key(tmp_path)
    signature_path(package).write_bytes(sign(before, private_key(signer.private.read_bytes())))
    assert content_of(package) == before
    built = build(package, tmp_path / "dist")
    assert built.is_signed
    beside = signature_path(built.path)
    assert beside == tmp_path / "dist" / f"{built.path.name}.sig"
    assert trusting(signer.public).judge(content_of(built.path), beside.read_bytes()).verdict is Verdict.PASS
    inner = package / "inner"
    inner.mkdir()
    (inner / "model.sig").write_text("not the signature")
    assert "inner/model.sig" in [file.path for file in content_of(package).files]


def test_an_archive_is_not_built_with_the_signature_of_other_files(tmp_path):
    package = write_score(tmp_path / "score")
    signer = write_key(tmp_path)
    signature_path(package).write_bytes(sign(content_of(package), private_key(signer.private.read_bytes())))
    (package / "notes.txt").write_text("later")
    with pytest.raises(PermissionDenied, match=r"notes\.txt: was not signed"):
        build(package, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_an_unsigned_build_has_no_signature(tmp_path):
    built = build(write_score(tmp_path / "score"), tmp_path / "dist")
    assert not built.is_signed
    assert [path.name for path in (tmp_path / "dist").iterdir()] == [built.path.name]


def test_a_version_is_served_as_long_as_its_signer_is_believed(signer):
    mine = public_half(private_key(signer.private.read_bytes()))
    assert Trust().still_believes("")
    assert not Trust(revoked=frozenset({mine})).still_believes(mine)
    required = msgspec.structs.replace(trusting(signer.public), is_required=True)
    assert required.still_believes(mine)
    assert not required.still_believes("")
    assert not required.still_believes("e" * 64)
