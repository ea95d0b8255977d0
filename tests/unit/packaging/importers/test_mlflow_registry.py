"""Fetching from an MLflow server: what it may say, and what it may not."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from limen.contracts.errors import InvalidPackage, LimenError, NotFound, Unavailable
from limen.packaging.importers.mlflow_registry import Registered, TrackingServer, fetch

API = "/api/2.0/"
VERSION = {"model_version": {"name": "credit", "version": "3", "run_id": "r1"}}
URI = "mlflow/model-versions/get-download-uri"


class Registry:
    """A server that answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, object] = {
            "mlflow/model-versions/get?name=credit&version=3": VERSION,
            "mlflow/registered-models/alias?name=credit&alias=champion": VERSION,
            f"{URI}?name=credit&version=3": {"artifact_uri": "models:/m-0a1b"},
            "mlflow/logged-models/m-0a1b": {"model": {"info": {"artifact_uri": "mlflow-artifacts:/0/models/m-0a1b"}}},
            "mlflow-artifacts/artifacts?path=0/models/m-0a1b": {
                "files": [{"path": "MLmodel", "is_dir": False}, {"path": "data", "is_dir": True}]
            },
            "mlflow-artifacts/artifacts?path=0/models/m-0a1b/data": {
                "files": [{"path": "model.onnx", "is_dir": False}]
            },
            "mlflow-artifacts/artifacts/0/models/m-0a1b/MLmodel": b"flavors:",
            "mlflow-artifacts/artifacts/0/models/m-0a1b/data/model.onnx": b"graph",
        }
        self.status = 200
        self.body = b"{}"
        self.headers: list[str] = []
        self.server = TrackingServer(uri="")

    def answer(self, target: str) -> tuple[int, bytes]:
        parts = urlsplit(target)
        query = "&".join(f"{key}={value[0]}" for key, value in parse_qs(parts.query).items())
        found = self.answers.get(parts.path.removeprefix(API) + (f"?{query}" if query else ""))
        if self.status != 200 or found is None:
            return (self.status if self.status != 200 else 404), self.body
        return 200, found if isinstance(found, bytes) else json.dumps(found).encode()


@pytest.fixture
def registry() -> Iterator[Registry]:
    told = Registry()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.headers.append(self.headers.get("Authorization", ""))
            status, body = told.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        told.server = TrackingServer(uri=f"http://127.0.0.1:{server.server_port}/")
        yield told
        server.shutdown()
        thread.join()


def refusal(registry, tmp_path, reference="models:/credit/3") -> LimenError:
    with pytest.raises(LimenError) as caught:
        fetch(reference, registry.server, tmp_path / "model")
    return caught.value


@pytest.mark.parametrize("reference", ["models:/credit/3", "models:/credit@champion"])
def test_all_files_of_a_version_or_alias_are_fetched(registry, tmp_path, reference):
    found = fetch(reference, registry.server, tmp_path)
    assert found == Registered("credit", "3")
    assert found.reference == "mlflow:models:/credit/3"
    files = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"MLmodel": b"flavors:", "data/model.onnx": b"graph"}


def test_credentials_go_to_the_configured_server_and_are_not_shown(registry, tmp_path):
    server = TrackingServer(uri=registry.server.uri, token="s3cret")
    fetch("models:/credit/3", server, tmp_path)
    assert set(registry.headers) == {"Bearer s3cret"}
    assert "s3cret" not in repr(server)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/model",
        "http://169.254.169.254/latest",
        "file:///etc",
        "/etc",
        "mlflow-artifacts://elsewhere:80/0/m",
        "mlflow-artifacts:/../../etc",
        "mlflow-artifacts:/",
    ],
)
def test_nothing_is_fetched_from_where_the_registry_points(registry, tmp_path, uri):
    registry.answers[f"{URI}?name=credit&version=3"] = {"artifact_uri": uri}
    assert isinstance(refusal(registry, tmp_path), InvalidPackage)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", "", "a\x00b", "C:\\x", "con"])
def test_b90_names_the_server_lists_do_not_become_paths_elsewhere(registry, tmp_path, name):
    registry.answers["mlflow-artifacts/artifacts?path=0/models/m-0a1b"] = {"files": [{"path": name, "is_dir": False}]}
    assert "lists a file with an unusable name" in refusal(registry, tmp_path).message
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def test_redirects_are_not_followed(registry, tmp_path):
    registry.status = 302
    assert isinstance(refusal(registry, tmp_path), Unavailable)


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (404, NotFound, "no such model, version or alias: name credit, version 3"),
        (401, InvalidPackage, "MLFLOW_TRACKING_TOKEN"),
        (500, Unavailable, "HTTP 500"),
    ],
)
def test_what_the_server_refuses_is_said(registry, tmp_path, status, error, text):
    registry.status = status
    found = refusal(registry, tmp_path)
    assert isinstance(found, error)
    assert text in found.message


def test_an_answer_that_is_no_json_is_said(registry, tmp_path):
    registry.answers["mlflow/model-versions/get?name=credit&version=3"] = b"<html>"
    assert "answer cannot be read" in refusal(registry, tmp_path).message


def test_a_server_that_is_not_there_is_said(tmp_path):
    with pytest.raises(Unavailable, match="does not answer: ConnectError"):
        fetch("models:/credit/3", TrackingServer(uri="http://127.0.0.1:9"), tmp_path)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "file:///mlruns", "databricks", "mlruns"])
def test_only_servers_over_http_are_asked(tmp_path, uri):
    with pytest.raises(InvalidPackage, match="mlflow artifacts download"):
        fetch("models:/credit/3", TrackingServer(uri=uri), tmp_path)


@pytest.mark.parametrize(
    "reference", ["credit/3", "models:/credit", "models:/credit/0", "models:/a/b/1", "models:/c@../x"]
)
def test_other_references_are_refused(tmp_path, reference):
    with pytest.raises(InvalidPackage, match="mlflow:models:/NAME/VERSION"):
        fetch(reference, TrackingServer(uri="http://127.0.0.1:9"), tmp_path)


def test_an_alias_that_mlflow_calls_an_invalid_parameter_is_one_that_is_not_there(registry, tmp_path):
    registry.status = 400
    registry.body = b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias best not found."}'
    found = refusal(registry, tmp_path, "models:/credit@best")
    assert isinstance(found, NotFound)
    assert "no such model, version or alias: name credit, alias best" in found.message


def test_another_request_that_the_server_takes_for_bad_is_its_own_failure(registry, tmp_path):
    registry.status = 400
    assert isinstance(refusal(registry, tmp_path), Unavailable)
