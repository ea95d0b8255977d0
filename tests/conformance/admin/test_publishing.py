"""Publishing over HTTP: what arrives, what becomes of it, and that nothing stays of what does not become a version."""

import asyncio
import base64
import hashlib
import io
import threading
import zipfile

import pytest

from limen.contracts.management import HEAD_LENGTH, PACKAGE_TYPE
from limen.packaging.signing.config import TrustConfig
from tests.conformance.admin.office import HOST, ROOT, Office
from tests.conformance.admin.test_changes import code_of, paths_of

PATH = "/models/score/versions"


@pytest.fixture
async def clean(office: Office):
    """See at the end that what was sent left nothing."""
    yield
    assert office.leftovers == []
    assert (await office.ask("GET", "/models")).json()["items"] == []
    blobs = office.home / "blobs"
    assert not blobs.exists() or [path for path in blobs.rglob("*") if path.is_file()] == []
    assert office.changes == 0


async def test_a_package_becomes_a_version_with_all_that_is_said_of_it(office: Office):
    archive = office.archive()
    head = {
        "sha256": hashlib.sha256(archive).hexdigest(),
        "number": 7,
        "alias": "champion",
        "lineage": {"source": "run 7", "data": "d", "code": "c"},
        "tags": {"team": "risk"},
    }
    answer = await office.publish(archive, head=head)
    found = answer.json()
    version = found["version"]
    assert (answer.status_code, found["is_new"], version["number"]) == (201, True, 7)
    assert (version["aliases"], version["tags"], version["lineage"]["source"]) == (
        ["champion"],
        {"team": "risk"},
        "run 7",
    )
    assert {e["kind"] for e in found["evidence"]} == {"scan", "signature", "golden"}
    assert office.leftovers == []
    assert office.changes == 1
    shown = await office.ask("GET", f"{PATH}/champion")
    assert shown.json() == version

    sent = await office.ask("GET", f"{PATH}/7/archive")
    assert sent.content == archive
    assert sent.headers["content-type"] == PACKAGE_TYPE
    assert sent.headers["content-length"] == str(len(archive))
    digest = base64.b64encode(hashlib.sha256(archive).digest()).decode()
    assert sent.headers["content-digest"] == f"sha-256=:{digest}:"
    assert office.leftovers == []
    assert code_of(await office.ask("GET", f"{PATH}/7/signature")) == (404, "NOT_FOUND")
    assert "amount" in (await office.ask("GET", f"{PATH}/7/proto")).text
    assert (await office.ask("GET", f"{PATH}/7/openapi")).json()["openapi"].startswith("3.1")
    assert (await office.ask("GET", f"{PATH}/7/contract")).json()["name"] == "score"


async def test_b98_the_same_bytes_are_the_same_version_and_other_bytes_another(office: Office):
    archive = office.archive()
    assert (await office.publish(archive)).status_code == 201
    again = await office.publish(archive, head={"alias": "champion"})
    assert (again.status_code, again.json()["is_new"], again.json()["version"]["aliases"]) == (200, False, ["champion"])
    other = office.archive(title="Other")
    assert code_of(await office.publish(other, head={"number": 1})) == (409, "ALREADY_EXISTS")
    assert code_of(await office.publish(archive, head={"number": 2})) == (409, "ALREADY_EXISTS")
    assert (await office.publish(other)).json()["version"]["number"] == 2
    assert office.leftovers == []


async def test_b88_publishing_needs_a_key_and_is_done_once(office: Office):
    archive = office.archive()
    answer = await office.ask("POST", PATH, archive, content_type=PACKAGE_TYPE)
    assert code_of(answer) == (400, "IDEMPOTENCY")
    first = await office.publish(archive, idempotency_key="k")
    again = await office.publish(archive, idempotency_key="k")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert office.changes == 1
    assert code_of(await office.publish(office.archive(title="Other"), idempotency_key="k")) == (422, "KEY_REUSED")
    assert code_of(await office.publish(archive, idempotency_key="k", head={"alias": "a"})) == (422, "KEY_REUSED")


async def test_b99_of_two_uploads_of_one_package_at_once_there_is_one_version(office: Office):
    archive = office.archive()
    meeting = threading.Barrier(2)
    office.probe.before = lambda: meeting.wait(60)
    answers = await asyncio.gather(office.publish(archive), office.publish(archive))
    assert sorted(a.status_code for a in answers) == [200, 201]
    assert {a.json()["version"]["number"] for a in answers} == {1}
    assert len((await office.ask("GET", PATH)).json()["items"]) == 1


async def test_b88_while_a_package_is_tried_its_key_waits(office: Office):
    archive = office.archive()
    inside, goes_on = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        goes_on.wait(60)

    office.probe.before = wait
    first = asyncio.create_task(office.publish(archive, idempotency_key="k"))
    await asyncio.to_thread(inside.wait, 60)
    answer = await office.publish(archive, idempotency_key="k")
    assert code_of(answer) == (409, "IDEMPOTENCY")
    assert int(answer.headers["retry-after"]) >= 1
    goes_on.set()
    assert (await first).status_code == 201
    assert (await office.publish(archive, idempotency_key="k")).headers["idempotency-replayed"] == "true"


async def test_what_is_no_archive_of_this_model_is_refused(office: Office, clean: None):
    archive = office.archive()
    assert code_of(await office.publish(archive, model="other")) == (400, "INVALID_NAME")
    for kind in ("application/octet-stream", "application/json", "application/zip", ""):
        assert code_of(await office.publish(archive, content_type=kind)) == (415, "UNSUPPORTED_TYPE")
    assert code_of(await office.publish(b"")) == (400, "EMPTY_BODY")
    for junk in (b"x", b"PK\x03\x04", archive[:-100], archive[100:], b"\x80\x04K\x01."):
        status, code = code_of(await office.publish(junk))
        assert (status, code) in {(409, "UNSAFE_ARCHIVE"), (409, "INVALID_PACKAGE")}
    evil = io.BytesIO()
    with zipfile.ZipFile(evil, "w") as packed:
        packed.writestr("../../evil", "x")
    assert code_of(await office.publish(evil.getvalue())) == (409, "UNSAFE_ARCHIVE")


async def test_b102_a_model_that_answers_otherwise_is_refused(office: Office, clean: None):
    office.probe.score = 9.0
    answer = await office.publish(office.archive())
    assert code_of(answer) == (409, "REJECTED")
    assert paths_of(answer) == ["golden.score"]


async def test_a_version_that_would_break_callers_is_refused_with_each_finding(office: Office):
    assert (await office.publish(office.archive())).status_code == 201
    narrower = office.archive(**{"minimum: 0, maximum: 1000": "minimum: 1, maximum: 900"})
    answer = await office.publish(narrower)
    assert code_of(answer) == (409, "INCOMPATIBLE")
    assert set(paths_of(answer)) == {"inputs.amount.minimum", "inputs.amount.maximum"}
    assert len((await office.ask("GET", PATH)).json()["items"]) == 1


async def test_b97_what_nobody_whom_we_trust_has_signed_is_refused(office: Office, clean: None):
    office.trust = TrustConfig(signatures="required")
    assert code_of(await office.publish(office.archive())) == (403, "SIGNATURE")
    junk = base64.b64encode(b"{}").decode()
    assert code_of(await office.publish(office.archive(), head={"signature": junk})) == (403, "SIGNATURE")


async def test_b99_what_arrives_must_be_what_was_said(office: Office, clean: None):
    archive = office.archive()
    for wrong in ("0" * 64, "x", hashlib.sha256(archive + b" ").hexdigest()):
        answer = await office.publish(archive, head={"sha256": wrong})
        assert (code_of(answer), paths_of(answer)) == ((400, "DATA_SIZE"), ["sha256"])


async def test_a_head_that_is_none_is_refused(office: Office, clean: None):
    archive = office.archive()
    for length in ("0", "-1", "01", "x", "1.5", "", str((4 << 20) + 1), "9" * 30):
        assert code_of(await office.publish(archive, **{HEAD_LENGTH: length})) == (400, "INVALID_HEADER"), length
    assert code_of(await office.publish(archive, **{HEAD_LENGTH: str(len(archive) + 1)})) == (400, "INVALID_HEADER")
    assert code_of(await office.publish(b"{}", **{HEAD_LENGTH: "2"})) == (400, "EMPTY_BODY")
    for head, code, path in [
        ({"lineage": {"parent": 1}}, "READ_ONLY", "lineage.parent"),
        ({"created_by": "me"}, "READ_ONLY", "created_by"),
        ({"digest": "x"}, "READ_ONLY", "digest"),
        ({"colour": "x"}, "UNKNOWN_FIELD", "colour"),
        ({"lineage": {"colour": "x"}}, "UNKNOWN_FIELD", "lineage.colour"),
        ({"number": 0}, "INVALID_FIELD", "number"),
        ({"number": 10**10}, "INVALID_FIELD", "number"),
        ({"number": "1"}, "INVALID_FIELD", "number"),
        ({"alias": "latest"}, "INVALID_NAME", "alias"),
        ({"alias": "<b>"}, "INVALID_NAME", "alias"),
        ({"signature": "$$"}, "INVALID_FIELD", "signature"),
        ({"tags": {"a": 1}}, "INVALID_FIELD", "tags[...]"),
        ({"tags": {"<b>": "x"}}, "INVALID_FIELD", "tags.?"),
        ({"lineage": {"source": "a\x00"}}, "INVALID_FIELD", "lineage.source"),
        ({"lineage": {"data": "x" * 1001}}, "INVALID_FIELD", "lineage.data"),
    ]:
        answer = await office.publish(archive, head=head)
        assert (*code_of(answer), *paths_of(answer)) == (400, code, path), head
        assert "<b>" not in answer.text
    for text in (b"{", b"[]", b'{"alias":"a","alias":"b"}', b"\xef\xbb\xbf{}", b'{"number":NaN}', b"\xff\xff"):
        answer = await office.publish(text + archive, **{HEAD_LENGTH: str(len(text))})
        assert answer.status_code == 400, text


async def test_a_head_may_come_in_any_pieces(office: Office):
    archive, head = office.archive(), b'{"alias": "champion"}'

    async def drops():
        for byte in head + archive:
            yield bytes([byte])

    headers = {"content-type": PACKAGE_TYPE, "idempotency-key": "k", HEAD_LENGTH: str(len(head))}
    answer = await office.http.post(ROOT + PATH, content=drops(), headers=headers)
    assert (answer.status_code, answer.json()["version"]["aliases"]) == (201, ["champion"])


async def test_an_archive_over_the_limit_is_refused_while_it_comes(office: Office, clean: None):
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b"x" * (1 << 18)

    headers = {"content-type": PACKAGE_TYPE, "idempotency-key": "k"}
    answer = await office.http.post(ROOT + PATH, content=endless(), headers=headers)
    assert code_of(answer) == (413, "BODY_TOO_LARGE")
    assert sent == 5
    assert code_of(await office.publish(b"x" * (1 << 20) + b"x")) == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
async def test_b99_a_connection_that_is_cut_leaves_nothing(office: Office, clean: None, share: float):
    archive = office.archive()
    messages = [
        {"type": "http.request", "body": archive[: int(len(archive) * share)], "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": ROOT + PATH,
        "raw_path": (ROOT + PATH).encode(),
        "query_string": b"",
        "root_path": "",
        "server": ("127.0.0.1", 8002),
        "client": ("127.0.0.1", 9),
        "headers": [
            (b"host", HOST.encode()),
            (b"content-type", PACKAGE_TYPE.encode()),
            (b"idempotency-key", b"k"),
            (b"content-length", str(len(archive)).encode()),
        ],
    }

    async def receive():
        return messages.pop(0)

    async def send(message):
        pass

    await office.app(scope, receive, send)
    assert messages == []


async def test_f08_a_disk_that_is_full_is_507_and_the_same_key_works_later(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    archive = office.archive()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for where in (
        "limen.admin.resources.publishing._take",
        "limen.admin.resources.publishing.staging_folder",
        "limen.publishing.publisher.staging_folder",
    ):
        with monkeypatch.context() as patched:
            patched.setattr(where, full)
            answer = await office.publish(archive, idempotency_key="k")
            assert code_of(answer) == (507, "STORAGE_FULL"), where
        assert office.leftovers == []
        assert (await office.ask("GET", "/models")).json()["items"] == []
    assert (await office.publish(archive, idempotency_key="k")).status_code == 201


async def test_a_package_that_takes_too_long_to_try_is_not_registered(office: Office, clean: None):
    ready = threading.Event()
    office.probe.before = lambda: ready.wait(0.05)
    answer = await office.publish(office.archive(), x_request_timeout_ms="20")
    assert code_of(answer) == (504, "DEADLINE_EXCEEDED")


async def test_b100_what_authors_write_is_stored_as_it_is_and_never_run(office: Office):
    title = "<script>alert(1)</script> ${HOME} {{7*7}}"
    version = (await office.publish(office.archive(title=title))).json()["version"]
    assert version["contract"]["title"] == title
    for path in ("/models/score", f"{PATH}/1", f"{PATH}/1/openapi", f"{PATH}/1/contract"):
        answer = await office.ask("GET", path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert (await office.ask("GET", "/models/score")).json()["title"] == title


async def test_f18_an_archive_that_was_damaged_or_lost_is_not_sent(office: Office):
    await office.publish(office.archive())
    [blob] = [path for path in (office.home / "blobs").rglob("*") if path.is_file()]
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    assert code_of(await office.ask("GET", f"{PATH}/1/archive")) == (503, "STORAGE")
    blob.unlink()
    assert code_of(await office.ask("GET", f"{PATH}/1/archive")) == (503, "STORAGE")
    assert office.leftovers == []
