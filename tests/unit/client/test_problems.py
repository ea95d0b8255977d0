"""Errors come back as what they were: through the real gateways' encoders and this client's decoders."""

import math

import grpc
import msgspec
import pytest

from limen.client.problems import from_event, from_grpc, from_http
from limen.contracts import errors
from limen.contracts.errors import CallerError, LimenError, PlatformError, Reason, Violation
from limen.contracts.management import Problem
from limen.gateway.engine.errors import Refused, error_response, status_of
from limen.gateway.grpc.status import failure

OTHER_REASONS = [
    (errors.InvalidArgument, Reason.SHAPE_MISMATCH),
    (errors.InvalidArgument, Reason.UNSUPPORTED),
    (errors.InvalidArgument, Reason.ELEMENT_TOO_LARGE),
    (errors.InvalidArgument, Reason.READ_ONLY),
    (errors.InvalidPackage, Reason.UNSAFE_ARCHIVE),
    (errors.InvalidPackage, Reason.SIGNATURE),
    (errors.InvalidPackage, Reason.REJECTED),
    (errors.ModelFailed, Reason.MODEL_CRASH),
    (errors.NotAllowedNow, Reason.RETIRED),
    (errors.NotAllowedNow, Reason.IDEMPOTENCY),
    (errors.Unavailable, Reason.STORAGE),
]


def leaves(root: type[LimenError]) -> list[type[LimenError]]:
    own = [c for c in root.__subclasses__() if c.__module__ == errors.__name__]
    return [leaf for child in own for leaf in leaves(child)] or [root]


ERRORS = [*((kind, kind.default_reason) for kind in leaves(LimenError)), *OTHER_REASONS]
by_name = pytest.mark.parametrize(("kind", "reason"), ERRORS, ids=[f"{k.__name__}-{r}" for k, r in ERRORS])


def made(kind: type[LimenError], reason: Reason) -> LimenError:
    found = [Violation("inputs[0].x", "must be ≥ 0"), Violation("id", "is required")]
    return kind("what happened", reason=reason, violations=found, retry_after_s=1.5)


def same(got: LimenError, sent: LimenError, request_id: str) -> bool:
    said = (type(got), got.reason, got.message, got.violations, got.request_id)
    return said == (type(sent), sent.reason, sent.message, sent.violations, request_id)


@by_name
def test_an_error_of_the_http_gateway_is_the_same_error_again(kind, reason):
    sent = made(kind, reason)
    answer = error_response(sent, "r-1")
    headers = {"retry-after": "2"} if b"retry-after" in answer.head else {}
    got = from_http(answer.status, headers, answer.body)
    assert same(got, sent, "r-1"), (type(got), got.reason)
    assert got.retry_after_s == math.ceil(1.5)


@by_name
def test_an_error_of_the_grpc_gateway_is_the_same_error_again(kind, reason):
    sent = made(kind, reason)
    failed = failure(sent, "r-1")
    got = from_grpc(failed.code.name, failed.text, failed.metadata)
    assert same(got, sent, "r-1"), (type(got), got.reason)
    assert got.retry_after_s == 1.5


@by_name
def test_a_problem_of_the_management_api_is_the_same_error_again(kind, reason):
    sent = made(kind, reason)
    status = status_of(sent)
    body = Problem(
        title="Words", status=status, detail=sent.message, code=reason, request_id="r-1", errors=sent.violations
    )
    assert same(from_http(status, {}, msgspec.json.encode(body)), sent, "r-1")


@pytest.mark.parametrize("kind", leaves(LimenError), ids=lambda k: k.__name__)
def test_the_last_event_of_a_broken_stream_is_the_same_error_again(kind):
    """An event has no status: the reason alone tells the class."""
    sent = made(kind, kind.default_reason)
    assert same(from_event(error_response(sent, "r-1").body, "other"), sent, "r-1")
    assert type(from_event(b"?", "r-1")) is errors.Internal


@pytest.mark.parametrize(
    ("status", "code"), [(405, "METHOD_NOT_ALLOWED"), (415, "UNSUPPORTED_TYPE"), (421, "MISDIRECTED"), (418, "NEW")]
)
def test_what_only_http_knows_is_the_callers_fault(status, code):
    answer = error_response(Refused(status, code, "not like this"), "r-1")
    got = from_http(answer.status, {}, answer.body)
    assert type(got) is CallerError
    assert (got.message, got.request_id, got.retryable) == ("not like this", "r-1", False)


def test_an_answer_of_a_proxy_has_the_branch_of_its_status():
    bad_gateway = from_http(502, {"retry-after": "7", "x-request-id": "p"}, b"<html>oh</html>")
    assert (type(bad_gateway), bad_gateway.retry_after_s, bad_gateway.request_id) == (errors.Unavailable, 7.0, "p")
    assert "html" not in bad_gateway.message
    assert type(from_http(599, {}, b"\xff")) is PlatformError
    assert from_http(503, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, b"").retry_after_s is None


def test_a_status_of_a_foreign_server_has_its_class_and_its_text():
    got = from_grpc("NOT_FOUND", "no such model", ())
    assert (type(got), got.message, got.violations) == (errors.NotFound, "no such model", ())
    assert type(from_grpc("DATA_LOSS", "", ())) is errors.Internal
    assert type(from_grpc("UNAVAILABLE", "", (("grpc-status-details-bin", b"\xff\xff"),))) is errors.Unavailable


def test_every_status_of_grpc_is_an_error():
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            assert isinstance(from_grpc(code.name, "", ()), LimenError)
