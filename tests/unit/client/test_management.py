"""The management client says on the wire what docs/reference/management-api.md says, and reads what comes back."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import pytest

from limen.client import Management, RetryPolicy
from limen.contracts.catalogue import Alias, Evidence, EvidenceKind, Lineage, Model, ModelVersion, Verdict
from limen.contracts.compatibility.findings import Change
from limen.contracts.contract import Contract, Field
from limen.contracts.endpoint import Endpoint, EndpointSpec
from limen.contracts.errors import (
    Incompatible,
    Internal,
    InvalidArgument,
    NotAllowedNow,
    Stale,
    Unavailable,
    Violation,
)
from limen.contracts.management import (
    HEAD_LENGTH,
    EndpointPreview,
    EndpointRevision,
    Page,
    Problem,
    Published,
    PublishHead,
    ServerStatus,
    SettingChange,
    VersionDiff,
)

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
CONTRACT = Contract(name="credit", inputs=(Field(name="x", type="float32"),), outputs=(Field(name="y", type="string"),))
MODEL = Model(name="credit", created_at=NOW, latest=2, versions=2, aliases={"champion": 2})
VERSION = ModelVersion(
    model="credit", number=2, digest="d" * 64, size=9, major=1, contract=CONTRACT, backend="onnx", created_at=NOW
)
ALIAS = Alias(model="credit", alias="champion", version=2, revision=4, updated_at=NOW)
EVIDENCE = Evidence(model="credit", version=2, kind=EvidenceKind.SCAN, verdict=Verdict.PASS, created_at=NOW)
SPEC = EndpointSpec(name="credit", model="credit", traffic={"champion": 100})
ENDPOINT = Endpoint(spec=SPEC, created_at=NOW, updated_at=NOW, revision=3)
REVISION = EndpointRevision(revision=3, spec=None, changed_at=NOW)
PREVIEW = EndpointPreview(
    name="credit", is_new=False, revision=3, changes=(SettingChange(path="major", before=1, after=2),)
)
DIFF = VersionDiff(model="credit", before=1, after=2, old_major=1, new_major=1, verdict=Change.COMPATIBLE, findings=())
PUBLISHED = Published(version=VERSION, is_new=True, evidence=(EVIDENCE,))
STATUS = ServerStatus(release="1", revision=9, models=1, endpoints=1)
DOCUMENT = {"openapi": "3.1.0"}
ROOT = "/api/v1"


def page(item: object) -> Page:
    return Page(items=(item,), next="c-2")


CALLS = {
    "models": (lambda m: m.models(limit=3, cursor="c-1", tags={"team": "a=b"}), "GET", "/models", page(MODEL)),
    "model": (lambda m: m.model("credit"), "GET", "/models/{m}", MODEL),
    "tag_model": (lambda m: m.tag_model("credit", {"a": "b", "c": None}, expected=5), "PATCH", "/models/{m}", MODEL),
    "versions": (
        lambda m: m.versions("credit", include_retired=True),
        "GET",
        "/models/{m}/versions",
        page(VERSION),
    ),
    "publish": (
        lambda m: m.publish("credit", ARCHIVE[0], alias="challenger", tags={"a": "b"}),
        "POST",
        "/models/{m}/versions",
        PUBLISHED,
    ),
    "version": (lambda m: m.version("credit", 2), "GET", "/models/{m}/versions/{n}", VERSION),
    "tag_version": (lambda m: m.tag_version("credit", 2, {}), "PATCH", "/models/{m}/versions/{n}", VERSION),
    "retire": (
        lambda m: m.retire("credit", 2, "old", expected=1),
        "POST",
        "/models/{m}/versions/{n}/retire",
        VERSION,
    ),
    "restore": (lambda m: m.restore("credit", 2), "POST", "/models/{m}/versions/{n}/restore", VERSION),
    "evidence": (
        lambda m: m.evidence("credit", 2, kind=EvidenceKind.SCAN),
        "GET",
        "/models/{m}/versions/{n}/evidence",
        page(EVIDENCE),
    ),
    "archive": (
        lambda m: m.archive("credit", 2, ARCHIVE[0].with_name("copy")).read_bytes(),
        "GET",
        "/models/{m}/versions/{n}/archive",
        b"bytes",
    ),
    "signature": (lambda m: m.signature("credit", 2), "GET", "/models/{m}/versions/{n}/signature", b"{}"),
    "contract": (lambda m: m.contract("credit", 2), "GET", "/models/{m}/versions/{n}/contract", CONTRACT),
    "openapi": (lambda m: m.openapi("credit", 2), "GET", "/models/{m}/versions/{n}/openapi", DOCUMENT),
    "proto": (
        lambda m: m.proto("credit", 2).encode(),
        "GET",
        "/models/{m}/versions/{n}/proto",
        b'syntax = "proto3"; // \xc3\xa9',
    ),
    "diff": (lambda m: m.diff("credit", "champion", 2), "GET", "/models/{m}/diff", DIFF),
    "aliases": (lambda m: m.aliases("credit"), "GET", "/models/{m}/aliases", page(ALIAS)),
    "set_alias": (lambda m: m.set_alias("credit", "champion", 2, expected=0), "PUT", "/models/{m}/aliases/{a}", ALIAS),
    "remove_alias": (
        lambda m: m.remove_alias("credit", "champion", expected=4),
        "DELETE",
        "/models/{m}/aliases/{a}",
        None,
    ),
    "endpoints": (lambda m: m.endpoints(), "GET", "/endpoints", page(ENDPOINT)),
    "endpoint": (lambda m: m.endpoint("credit"), "GET", "/endpoints/{e}", ENDPOINT),
    "apply_endpoint": (lambda m: m.apply_endpoint(SPEC, expected=3), "PUT", "/endpoints/{e}", ENDPOINT),
    "remove_endpoint": (lambda m: m.remove_endpoint("credit"), "DELETE", "/endpoints/{e}", None),
    "endpoint_history": (lambda m: m.endpoint_history("credit"), "GET", "/endpoints/{e}/history", page(REVISION)),
    "preview_endpoint": (lambda m: m.preview_endpoint(SPEC), "POST", "/endpoints/{e}/preview", PREVIEW),
    "status": (lambda m: m.status(), "GET", "/status", STATUS),
    "reload": (lambda m: m.reload(), "POST", "/reload", STATUS),
    "api": (lambda m: m.api(), "GET", "/openapi.json", DOCUMENT),
}
"""Method of the client to a call of it, what goes over the wire, and what comes back."""
ARCHIVE: list[Path] = []


@pytest.fixture(autouse=True)
def archive(tmp_path):
    ARCHIVE[:] = [tmp_path / "credit.limen"]
    ARCHIVE[0].write_bytes(b"package")
    return ARCHIVE[0]


class Server:
    """Answers one thing, and keeps what it was asked."""

    def __init__(self, answer: object, *first: httpx.Response | Exception, **headers: str) -> None:
        self._answer = answer
        self._first = list(first)
        self._headers = headers
        self.asked: list[httpx.Request] = []
        self.bodies: list[bytes] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(await request.aread())
        self.asked.append(request)
        if self._first:
            first = self._first.pop(0)
            if isinstance(first, Exception):
                raise first
            return first
        if self._answer is None:
            return httpx.Response(204)
        body = self._answer if isinstance(self._answer, bytes) else msgspec.json.encode(self._answer)
        return httpx.Response(200, content=body, headers=self._headers)

    def client(self, **options: object) -> Management:
        return Management(transport=httpx.MockTransport(self), **options)  # type: ignore[arg-type]


def path_of(template: str) -> str:
    names = {"m": "credit", "n": "2", "a": "champion", "e": "credit"}
    return ROOT + re.sub(r"\{(\w)\}", lambda found: names[found[1]], template)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_asks_for_its_path_and_gives_what_is_answered(name):
    call, method, template, answer = CALLS[name]
    server = Server(answer)
    with server.client() as management:
        assert call(management) == answer
    (asked,) = server.asked
    assert (asked.method, asked.url.path) == (method, path_of(template))
    assert ("idempotency-key" in asked.headers) == (method != "GET")


def test_every_method_has_a_call_here_and_every_call_is_in_the_reference(repository):
    methods = {n for n in vars(Management) if not n.startswith("_")}
    assert methods == set(CALLS)
    page_ = (repository / "docs/reference/management-api.md").read_text()
    listed = re.findall(r"^\| ([A-Z]+) \| `([^`]+)` \|", page_, re.MULTILINE)
    assert sorted(listed) == sorted((method, path) for _, method, path, _ in CALLS.values())


def test_parts_of_lists_are_asked_for_as_the_reference_says():
    asked = []
    for call, answer in (
        (lambda m: m.models(limit=3, cursor="c-1", tags={"team": "a=b", "x": "y"}), page(MODEL)),
        (lambda m: m.versions("credit", include_retired=True), page(VERSION)),
        (lambda m: m.evidence("credit", 2, kind="scan"), page(EVIDENCE)),
        (lambda m: m.diff("credit", 1, "champion"), DIFF),
    ):
        server = Server(answer)
        with server.client() as management:
            call(management)
        asked.append(server.asked[0].url.params.multi_items())
    assert asked == [
        [("limit", "3"), ("cursor", "c-1"), ("tag", "team=a=b"), ("tag", "x=y")],
        [("retired", "true")],
        [("kind", "scan")],
        [("from", "1"), ("to", "champion")],
    ]


def test_a_change_names_the_revision_that_was_seen():
    server = Server(ALIAS)
    with server.client() as management:
        for expected in (None, 0, 7):
            management.set_alias("credit", "champion", 2, expected=expected)
    conditions = [(a.headers.get("if-match"), a.headers.get("if-none-match")) for a in server.asked]
    assert conditions == [(None, None), (None, "*"), ('"7"', None)]
    assert server.bodies == [b'{"version":2}'] * 3
    keys = [a.headers["idempotency-key"] for a in server.asked]
    assert len(set(keys)) == 3


def test_names_are_parts_of_the_path_and_nothing_else():
    server = Server(MODEL)
    with server.client() as management:
        management.model("../x?y#z")
    assert server.asked[0].url.raw_path == b"/api/v1/models/..%2Fx%3Fy%23z"


def test_a_change_whose_answer_got_lost_is_sent_again_with_the_same_key():
    server = Server(ALIAS, httpx.ReadError("lost"), httpx.Response(503))
    with server.client(retry=RetryPolicy(first_wait_s=0.0)) as management:
        management.set_alias("credit", "champion", 2)
    assert len(server.asked) == 3
    assert len({a.headers["idempotency-key"] for a in server.asked}) == 1


# -- publishing -----------------------------------------------------------------------------------------------------------


def read(server: Server, i: int = 0) -> tuple[PublishHead, bytes]:
    length = int(server.asked[i].headers[HEAD_LENGTH])
    return msgspec.json.decode(server.bodies[i][:length], type=PublishHead), server.bodies[i][length:]


def test_an_archive_is_sent_with_all_that_is_said_about_it(archive):
    server = Server(PUBLISHED)
    lineage = Lineage(source="mlflow:models:/credit/3")
    with server.client() as management:
        management.publish("credit", archive, signature=b"sig", number=4, alias="a", lineage=lineage, tags={"t": "1"})
    head, body = read(server)
    sha256 = hashlib.sha256(b"package").hexdigest()
    assert head == PublishHead(sha256=sha256, signature=b"sig", number=4, alias="a", lineage=lineage, tags={"t": "1"})
    assert body == b"package"
    asked = server.asked[0]
    assert asked.headers["content-type"] == "application/vnd.limen.package"
    assert int(asked.headers["content-length"]) == len(server.bodies[0])
    assert "transfer-encoding" not in asked.headers


def test_the_signature_beside_an_archive_goes_with_it(archive):
    archive.with_name("credit.limen.sig").write_bytes(b"beside")
    server = Server(PUBLISHED)
    with server.client() as management:
        management.publish("credit", archive)
        management.publish("credit", archive, signature=b"")
        management.publish("credit", archive, signature=archive)
    assert [read(server, i)[0].signature for i in range(3)] == [b"beside", b"", b"package"]


def test_publishing_is_tried_again_from_the_first_byte_with_the_same_key(archive):
    running = Problem(title="Conflict", status=409, detail="…", code="IDEMPOTENCY", request_id="r")
    answer = httpx.Response(409, content=msgspec.json.encode(running), headers={"retry-after": "0"})
    server = Server(PUBLISHED, httpx.ReadError("lost"), answer)
    with server.client(retry=RetryPolicy(first_wait_s=0.0)) as management:
        assert management.publish("credit", archive) == PUBLISHED
    assert len(set(server.bodies)) == 1
    assert len({a.headers["idempotency-key"] for a in server.asked}) == 1


def test_an_own_key_repeats_a_publication(archive):
    server = Server(PUBLISHED)
    with server.client() as management:
        management.publish("credit", archive, idempotency_key="mine")
    assert server.asked[0].headers["idempotency-key"] == "mine"


def test_a_large_archive_is_sent_in_pieces(archive):
    with archive.open("wb") as file:
        file.truncate(3 << 20)
    sizes: list[int] = []

    class Counting(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            sizes.extend([len(piece) async for piece in request.stream])  # type: ignore[union-attr]
            return httpx.Response(200, content=msgspec.json.encode(PUBLISHED))

    with Management(transport=Counting()) as management:
        management.publish("credit", archive)
    assert max(sizes) == 1 << 18


def test_a_file_that_is_not_there_is_the_callers_mistake(archive):
    with Server(PUBLISHED).client() as management:
        with pytest.raises(InvalidArgument, match="archive"):
            management.publish("credit", archive.with_name("none"))
        with pytest.raises(InvalidArgument, match="archive"):
            management.publish("credit", archive, signature=archive.with_name("none"))


def test_a_refused_package_says_where_and_why(archive):
    errors = (Violation("inputs.x", "is new and required"),)
    said = Problem(title="Conflict", status=409, detail="no", code="INCOMPATIBLE", request_id="r-1", errors=errors)
    server = Server(None, httpx.Response(409, content=msgspec.json.encode(said)))
    with server.client() as management, pytest.raises(Incompatible) as found:
        management.publish("credit", archive)
    assert (found.value.violations, found.value.request_id) == (errors, "r-1")


# -- fetching -------------------------------------------------------------------------------------------------------------


def digest_of(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def test_an_archive_that_is_not_what_the_registry_says_leaves_nothing_behind(tmp_path):
    target = tmp_path / "out" / "copy.limen"
    target.parent.mkdir()
    other = Server(b"bytes", **{"content-digest": digest_of(b"others")})
    with other.client() as management, pytest.raises(Internal):
        management.archive("credit", 2, target)
    assert list(target.parent.iterdir()) == []
    with Server(b"bytes", **{"content-digest": digest_of(b"bytes")}).client() as management:
        assert management.archive("credit", 2, target) == target
    assert target.read_bytes() == b"bytes"


def test_a_place_that_cannot_be_written_is_the_callers_mistake(tmp_path):
    with Server(b"bytes").client() as management, pytest.raises(InvalidArgument, match="target"):
        management.archive("credit", 2, tmp_path / "none" / "copy.limen")


def test_a_transfer_that_breaks_off_begins_anew(tmp_path):
    server = Server(b"bytes", httpx.ReadError("lost"))
    with server.client(retry=RetryPolicy(first_wait_s=0.0)) as management:
        assert management.archive("credit", 2, tmp_path / "copy").read_bytes() == b"bytes"


# -- what goes wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (412, "STALE", Stale),
        (409, "IN_USE", NotAllowedNow),
        (400, "INVALID_FIELD", InvalidArgument),
        (503, "STORAGE", Unavailable),
    ],
    ids=["412", "409", "400", "503"],
)
def test_a_problem_is_an_error_of_its_class(status, code, kind):
    said = {"type": "about:blank", "title": "x", "status": status, "detail": "no", "code": code, "request_id": "r"}
    server = Server(None, *(httpx.Response(status, content=json.dumps(said)) for _ in range(9)))
    with server.client(retry=RetryPolicy(attempts=1)) as management, pytest.raises(kind, match="no"):
        management.apply_endpoint(SPEC)


def test_an_answer_of_something_else_is_an_error_of_ours_and_new_keys_are_none():
    with Server({"items": 3}).client() as management, pytest.raises(Internal):
        management.models()
    with Server({**msgspec.to_builtins(STATUS), "weather": "fine"}).client() as management:
        assert management.status() == STATUS


def test_an_application_in_this_process_answers_without_a_network():
    async def application(scope, receive, send) -> None:
        assert scope["path"] == "/api/v1/status"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": msgspec.json.encode(STATUS)})

    with Management(transport=httpx.ASGITransport(application)) as management:
        assert management.status() == STATUS
