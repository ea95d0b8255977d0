"""What an S3 store refuses, and why it cannot be had, in words; none of them says where it is or what it said."""

from typing import Any

import pytest

pytest.importorskip("botocore")
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from limen.cli.words import next_step
from limen.contracts.errors import NotFound, Reason, Unavailable
from limen.storage import causes
from limen.storage.blobs import open_blobs

SECRET = "http://user:hunter2@store:9000"


def said(code: str, kind: type[OSError] = OSError) -> OSError:
    """Return what s3fs makes of an answer of the service."""
    error = kind(SECRET)
    error.__cause__ = ClientError({"Error": {"Code": code, "Message": SECRET}}, "GetObject")
    return error


def behind(cause: Exception) -> OSError:
    error = OSError(SECRET)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (said("AccessDenied", PermissionError), causes.REFUSED),
        (said("403", PermissionError), causes.REFUSED),
        (said("InvalidAccessKeyId", PermissionError), causes.REFUSED),
        (said("NoSuchBucket", FileNotFoundError), causes.NO_BUCKET),
        (said("RequestTimeTooSkewed", PermissionError), causes.WRONG_CLOCK),
        (said("SlowDown"), causes.OVERLOADED),
        (said("SomethingNew"), causes.UNUSABLE),
        (EndpointConnectionError(endpoint_url=SECRET), causes.UNREACHABLE),
        (ConnectTimeoutError(endpoint_url=SECRET), causes.UNREACHABLE),
        (behind(ReadTimeoutError(endpoint_url=SECRET)), causes.SILENT),
    ],
    ids=["denied", "403", "key", "bucket", "clock", "slow", "new", "endpoint", "connecting", "reading"],
)
def test_a_store_that_cannot_be_used_says_why(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch):
    blobs: Any = open_blobs("s3://bucket/prefix")

    def fail(*_: object, **__: object) -> None:
        raise error

    for name in ("info", "get_file"):
        monkeypatch.setattr(blobs._files, name, fail)
    with pytest.raises(Unavailable) as refused:
        blobs.has("0" * 64)
    assert refused.value.message == f"the blob store {words}"
    assert "hunter2" not in refused.value.message
    assert next_step(Reason.STORAGE, message=refused.value.message)


def test_an_object_that_is_not_there_is_not_found(monkeypatch: pytest.MonkeyPatch, tmp_path):
    blobs: Any = open_blobs("s3://bucket/prefix")

    def fail(*_: object, **__: object) -> None:
        raise said("404", FileNotFoundError)

    for name in ("info", "get_file"):
        monkeypatch.setattr(blobs._files, name, fail)
    assert not blobs.has("0" * 64)
    with pytest.raises(NotFound):
        blobs.fetch("0" * 64, tmp_path / "target")
