"""Bad packages are refused for the right reason, and nothing becomes of them (B90 to B102)."""

import asyncio
import io
import pickle
import tarfile
import zipfile
from hashlib import sha256

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from limen.authoring.check import check_package
from limen.contracts.errors import ErrorCode, InvalidPackage, LimenError, PermissionDenied, Reason
from limen.packaging.archive.index import FileEntry, encode_index
from limen.packaging.archive.package import build
from limen.packaging.archive.tarball import END, encode_header, padding
from limen.packaging.paths import INDEX_NAME, signature_path
from limen.packaging.signing.config import TrustConfig
from limen.packaging.signing.keys import private_key
from limen.packaging.signing.signatures import Content, content_of, sign
from limen.publishing.config import PublishConfig
from tests.services.broken_safetensors import BROKEN
from tests.services.packages import write_code, write_score, write_trouble
from tests.services.signers import write_key

pytestmark = pytest.mark.usefixtures("nothing_came_of_it")


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def forge(path, files, name="score"):
    """Write an archive as `limen build` lays it out, of files that it would not take."""
    entries = [FileEntry(n, sha256(content).hexdigest(), len(content)) for n, content in sorted(files.items())]
    index = encode_index(name, entries)
    members = [(INDEX_NAME, index), *sorted(files.items())]
    path.write_bytes(b"".join(encode_header(n, len(c)) + c + bytes(padding(len(c))) for n, c in members) + END)
    return path


def refusal(shop, package, **more):
    with pytest.raises(LimenError) as caught:
        shop.publish(package, **more)
    return caught.value


# -- B90, B91: the archive ---------------------------------------------------------------------------------------------------


def member(name, **facts):
    info = tarfile.TarInfo(name)
    for key, value in facts.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "info",
    [
        member("../x"),
        member("/abs"),
        member("C:\\x"),
        member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("link", type=tarfile.LNKTYPE, linkname="model.yaml"),
        member("device", type=tarfile.CHRTYPE),
        member("pipe", type=tarfile.FIFOTYPE),
        member("setuid", mode=0o4755),
        member("x" * 256),
    ],
    ids=lambda info: f"{info.name[:8]}-{info.type.decode()}-{info.mode:o}",
)
def test_b90_entries_that_are_no_plain_files_are_refused(shop, tmp_path, info):
    path = tmp_path / "bad.limen"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as out:
        out.addfile(info)
    assert refusal(shop, path).reason is Reason.UNSAFE_ARCHIVE


@pytest.mark.parametrize("name", ["../x", "/abs", "C:\\x", "a/../../x", "model.sig", ".git/x"])
def test_b90_an_index_with_such_names_is_refused(shop, tmp_path, name):
    files = files_of(write_score(tmp_path / "score")) | {name: b"x"}
    assert refusal(shop, forge(tmp_path / "bad.limen", files)).reason is Reason.UNSAFE_ARCHIVE


def test_b91_names_that_differ_in_case_only_are_refused(shop, tmp_path):
    files = files_of(write_score(tmp_path / "score")) | {"MODEL.onnx": b"x"}
    assert refusal(shop, forge(tmp_path / "bad.limen", files)).reason is Reason.UNSAFE_ARCHIVE


def test_b91_an_archive_that_is_too_large_is_refused_before_it_is_read(shop, tmp_path):
    shop.config = PublishConfig(max_archive_mb=1)
    path = tmp_path / "large.limen"
    with path.open("wb") as out:
        out.truncate((1 << 20) + 1)
    error = refusal(shop, path)
    assert (error.reason, error.message) == (Reason.UNSAFE_ARCHIVE, "the archive has more than 1 MiB")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_b99_an_archive_that_was_cut_off_is_refused(shop, tmp_path, share):
    whole = build(write_score(tmp_path / "score"), tmp_path / "dist").path
    data = whole.read_bytes()
    whole.write_bytes(data[: int(len(data) * share)])
    assert refusal(shop, whole).code is ErrorCode.FAILED_PRECONDITION


# -- B92, B96: what the files are --------------------------------------------------------------------------------------------


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (print, ("unpickled",))


def object_array():
    out = io.BytesIO()
    np.save(out, np.array([Payload()], object), allow_pickle=True)
    return out.getvalue()


def zipped(content, *, is_broken=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data.pkl", content)
    data = bytearray(out.getvalue())
    if is_broken:
        data[data.index(content)] ^= 1
    return bytes(data)


PICKLE = pickle.dumps(Payload())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.pkl", PICKLE),
        ("weights.onnx", PICKLE),
        ("weights", PICKLE),
        ("old", pickle.dumps(Payload(), 0)),
        ("inside.zip", zipped(PICKLE)),
        ("broken.zip", zipped(PICKLE, is_broken=True)),
        ("array.npy", object_array()),
    ],
)
def test_b92_a_pickle_in_any_disguise_is_refused(shop, tmp_path, capfd, name, content):
    files = files_of(write_score(tmp_path / "score")) | {name: content}
    assert refusal(shop, forge(tmp_path / "bad.limen", files)).reason is Reason.UNSAFE_FORMAT
    assert "unpickled" not in capfd.readouterr().out


@pytest.mark.parametrize("name", BROKEN)
def test_b93_broken_safetensors_are_refused_by_publish_and_check(shop, tmp_path, name):
    files = files_of(write_score(tmp_path / "score")) | {"extra/model.safetensors": BROKEN[name][0]}
    archive = forge(tmp_path / "bad.limen", files)
    error = refusal(shop, archive)
    assert error.reason is Reason.UNSAFE_FORMAT
    assert BROKEN[name][1] in error.message
    report = asyncio.run(check_package(archive, tmp_path / "home", trust_code=False))
    assert report.refusal is Reason.UNSAFE_FORMAT


@pytest.mark.parametrize("name", ["helper.py", "requirements.txt", "native.so", "site.pth", "conftest.py"])
def test_b96_code_in_a_package_without_code_is_refused(shop, tmp_path, name):
    files = files_of(write_score(tmp_path / "score")) | {name: b"print('imported')\n"}
    assert refusal(shop, forge(tmp_path / "bad.limen", files)).reason is Reason.UNSAFE_FORMAT


def test_b96_a_package_of_code_needs_trust(shop, tmp_path):
    error = refusal(shop, write_trouble(tmp_path / "trouble"))
    assert (error.reason, error.message) == (
        Reason.UNTRUSTED_CODE,
        (
            "the package contains code (model.py), which runs only if it is trusted: set `code = true` under [trust] in the server's "
            "settings, or use `limen publish --trust-code` while no server is running"
        ),
    )


# -- B94, B101, B102: what the model is and does -----------------------------------------------------------------------------


def onnx(nodes, weights=(), *, domain=""):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def with_model(shop, tmp_path, content):
    files = files_of(write_score(tmp_path / "score")) | {"model.onnx": content}
    return refusal(shop, forge(tmp_path / "bad.limen", files))


def test_b94_external_data_outside_the_package_is_refused(shop, tmp_path):
    weight = numpy_helper.from_array(np.ones((2, 1), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../../../etc/passwd")
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    assert with_model(shop, tmp_path, onnx([product], [weight])).reason is Reason.UNSAFE_ARCHIVE


def test_b94_custom_operators_are_refused(shop, tmp_path):
    node = helper.make_node("Evil", ["x"], ["y"], domain="com.example")
    assert isinstance(with_model(shop, tmp_path, onnx([node], domain="com.example")), InvalidPackage)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("outputs: {score: {tensor: y, column: 0}}", "outputs: {score: {tensor: absent}}"),
        ("outputs: {score: {tensor: y, column: 0}}", "outputs: {score: {tensor: y, column: 3}}"),
        ("inputs: {x: [amount, age]}", "inputs: {x: [amount]}"),
        ("{name: score, type: float32}", "{name: score, type: string}"),
    ],
)
def test_b101_a_contract_that_the_graph_contradicts_is_refused(shop, tmp_path, old, new):
    package = write_score(tmp_path / "score", examples="\n")
    text = (package / "model.yaml").read_text()
    assert old in text
    (package / "model.yaml").write_text(text.replace(old, new))
    error = refusal(shop, package)
    assert isinstance(error, InvalidPackage)
    assert error.reason in (Reason.INVALID_PACKAGE, Reason.REJECTED)


def test_b102_another_answer_than_the_golden_one_is_rejected(shop, tmp_path):
    error = refusal(shop, write_score(tmp_path / "score", golden=3.0))
    assert error.reason is Reason.REJECTED
    assert [(v.path, v.reason) for v in error.violations] == [("golden.score", "expected 3.0, got 2.0 (difference 1)")]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("np.full(rows, np.nan)", "no answer"),
        ("np.ones((rows, 2))", "no answer"),
        ("np.ones(rows + 1)", "no answer"),
        ("1 / 0", "no answer"),
    ],
    ids=["NaN", "other shape", "other rows", "an exception"],
)
def test_b102_answers_outside_the_contract_are_rejected(shop, tmp_path, answer, text):
    shop.trust = TrustConfig(code=True)
    manifest = "inputs: [{name: x, type: float64}]\noutputs: [{name: y, type: float64}]\n"
    code = f"""\
    import numpy as np


    class Model:
        def predict(self, inputs):
            rows = len(inputs["x"])
            return {{"y": {answer}}}
    """
    error = refusal(shop, write_code(tmp_path / "odd", manifest, code))
    assert error.reason is Reason.REJECTED
    assert text in error.message


@pytest.mark.parametrize(
    ("x", "config", "text"),
    [
        (-1, {}, "the model's process ended while answering example 1"),
        (-2, {"probe_time_s": 3}, "the model took more than 3 s"),
        (-3, {"probe_memory_mb": 600}, "no answer"),
    ],
    ids=["it ends its process", "it never ends", "it takes a gigabyte"],
)
def test_b94_a_model_that_misbehaves_takes_nothing_with_it(shop, tmp_path, x, config, text):
    shop.trust = TrustConfig(code=True)
    shop.config = PublishConfig(**config)
    package = write_trouble(tmp_path / "trouble", more=f"examples: [{{inputs: {{x: {x}}}}}]")
    error = refusal(shop, package)
    assert (error.reason, text in error.message) == (Reason.REJECTED, True), error.message


# -- B97: signatures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def signer(tmp_path, shop):
    signer = write_key(tmp_path)
    shop.trust = TrustConfig(signatures="required", keys=(str(signer.public),))
    return signer


def signed(package, signer, content=None):
    key = private_key(signer.private.read_bytes())
    archive = build(package, package.parent / "dist").path
    signature_path(archive).write_bytes(sign(content or content_of(package), key))
    return archive


def test_b97_an_unsigned_package_is_refused(shop, tmp_path, signer):
    error = refusal(shop, write_score(tmp_path / "score"))
    assert isinstance(error, PermissionDenied)
    assert (error.code, error.reason) == (ErrorCode.PERMISSION_DENIED, Reason.SIGNATURE)


def test_b97_a_package_signed_with_another_key_is_refused(shop, tmp_path, signer):
    archive = signed(write_score(tmp_path / "score"), write_key(tmp_path, "other"))
    assert refusal(shop, archive).reason is Reason.SIGNATURE


def test_b97_a_package_signed_with_a_revoked_key_is_refused(shop, tmp_path, signer):
    shop.trust = TrustConfig(signatures="required", keys=shop.trust.keys, revoked=(str(signer.public),))
    archive = signed(write_score(tmp_path / "score"), signer)
    assert "revoked" in refusal(shop, archive).message


@pytest.mark.parametrize("change", ["extra file", "missing file", ".git/x", "another name", "an older version"])
def test_b97_a_signature_of_another_package_is_refused(shop, tmp_path, signer, change):
    package = write_score(tmp_path / "score")
    name, files = content_of(package).name, content_of(package).files
    other = {
        "extra file": Content(name, files[:1]),
        "missing file": Content(name, (*files, FileEntry("z.txt", "0" * 64, 1))),
        ".git/x": Content(name, (FileEntry(".git/x", "0" * 64, 1), *files)),
        "another name": Content("other", files),
        "an older version": Content(name, (files[0], FileEntry(files[1].path, "0" * 64, 1))),
    }[change]
    assert refusal(shop, signed(package, signer, other)).reason is Reason.SIGNATURE


# -- B100: the manifest ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        "title: !!python/object/apply:os.system [id]\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\ndescription: *c\n",
        "name: again\n",
    ],
    ids=["python object", "alias bomb", "repeated key"],
)
def test_b100_a_manifest_that_is_more_than_data_is_refused(shop, tmp_path, head):
    files = files_of(write_score(tmp_path / "score"))
    files["model.yaml"] = head.encode() + files["model.yaml"]
    assert isinstance(refusal(shop, forge(tmp_path / "bad.limen", files)), InvalidPackage)
