"""Fetches a registered model from an MLflow tracking server through MLflow's REST API.

Only the configured server is asked, and only for artifacts that it hands out itself (`mlflow-artifacts:`): nothing that a registry
says can send the download anywhere else, redirects included. Names the server lists are checked before they become paths. Not here:
reading the folder (`importers.mlflow`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from limen.contracts.errors import InvalidPackage, NotFound, Unavailable
from limen.packaging.paths import path_problem, shown

if TYPE_CHECKING:
    import httpx

TIMEOUT_S: Final = 60.0
MAX_FILES: Final = 1000
MAX_BYTES: Final = 8 << 30
MAX_DEPTH: Final = 8
_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>[1-9][0-9]{0,8})|@(?P<alias>[\w.-]+))", re.ASCII)
_INSTEAD: Final = "fetch it with `mlflow artifacts download -u models:/NAME/VERSION -d FOLDER` and import the folder"


class TrackingServer(msgspec.Struct, frozen=True, kw_only=True):
    """The server that may be asked, and who asks."""

    uri: str
    token: str = ""
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"TrackingServer({self.uri!r})"


class Registered(msgspec.Struct, frozen=True):
    """One version of a registered model."""

    name: str
    version: str

    @property
    def reference(self) -> str:
        """The version as people write it."""
        return f"mlflow:models:/{self.name}/{self.version}"


def fetch(reference: str, server: TrackingServer, folder: Path) -> Registered:
    """Download the files of a registered version into an empty folder and return which version it is.

    Args:
        reference: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        server: the tracking server.
        folder: where the files go.

    Raises:
        InvalidPackage: the reference or the server's address is not one, or the files cannot be had from the server itself.
        NotFound: the server has no such version.
        Unavailable: the server does not answer.
    """
    import httpx

    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InvalidPackage("an MLflow model is named mlflow:models:/NAME/VERSION or mlflow:models:/NAME@ALIAS")
    if urlsplit(server.uri).scheme not in ("http", "https"):
        text = "the tracking URI must be the http or https address of an MLflow server (MLFLOW_TRACKING_URI or --tracking-uri)"
        raise InvalidPackage(f"{text}; without a server, {_INSTEAD}")
    headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
    auth = (server.username, server.password) if server.username else None
    with httpx.Client(base_url=server.uri.rstrip("/"), headers=headers, auth=auth, timeout=TIMEOUT_S) as client:
        try:
            return _Download(client).run(match, folder)
        except httpx.HTTPError as exc:
            raise Unavailable(f"the MLflow server at {server.uri} does not answer: {type(exc).__name__}") from exc


class _Download:
    """One download; counts what it has taken."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._files = 0
        self._bytes = 0

    def run(self, match: re.Match[str], folder: Path) -> Registered:
        name, version, alias = match["name"], match["version"], match["alias"]
        if alias:
            found = self._ask("mlflow/registered-models/alias", name=name, alias=alias)
        else:
            found = self._ask("mlflow/model-versions/get", name=name, version=version)
        facts = found.get("model_version") or {}
        version = str(facts.get("version", version))
        uri = self._ask("mlflow/model-versions/get-download-uri", name=name, version=version).get("artifact_uri", "")
        for path, target in self._list(self._root(str(uri)), folder, 0):
            self._save(path, target)
        return Registered(name, version)

    def _root(self, uri: str) -> str:
        """Return the path of a model's files on the server."""
        if logged := re.fullmatch(r"models:/(m-[0-9a-f]+)", uri):
            model = self._ask(f"mlflow/logged-models/{logged[1]}").get("model") or {}
            uri = str((model.get("info") or {}).get("artifact_uri", ""))
        parts = urlsplit(uri)
        is_own = parts.netloc in ("", urlsplit(str(self._client.base_url)).netloc)
        if parts.scheme != "mlflow-artifacts" or not is_own:
            where = f"in {parts.scheme}: storage" if parts.scheme else "in a folder of the server"
            raise InvalidPackage(f"the server keeps the model's files {where} and does not serve them; {_INSTEAD}")
        path = parts.path.strip("/")
        if problem := path_problem(path):
            raise InvalidPackage(f"the server gives an unusable path: it {problem}")
        return path

    def _list(self, path: str, folder: Path, depth: int) -> Iterator[tuple[str, Path]]:
        """Yield the path on the server and the target of every file below a path."""
        if depth > MAX_DEPTH:
            raise InvalidPackage(f"the model's folder is more than {MAX_DEPTH} levels deep")
        for entry in self._ask("mlflow-artifacts/artifacts", path=path).get("files", []):
            name = str(entry.get("path", ""))
            if "/" in name or path_problem(name):
                raise InvalidPackage(f"the server lists a file with an unusable name: {shown(name)}")
            self._files += 1
            if self._files > MAX_FILES:
                raise InvalidPackage(f"the model has more than {MAX_FILES} files")
            if entry.get("is_dir"):
                yield from self._list(f"{path}/{name}", folder / name, depth + 1)
            else:
                yield f"{path}/{name}", folder / name

    def _save(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        url = f"/api/2.0/mlflow-artifacts/artifacts/{quote(path)}"
        with self._client.stream("GET", url) as answer, target.open("xb") as file:
            if answer.status_code != 200:
                raise InvalidPackage(
                    f"the server does not give the file {shown(target.name)} (HTTP {answer.status_code})"
                )
            for piece in answer.iter_bytes():
                self._bytes += len(piece)
                if self._bytes > MAX_BYTES:
                    raise InvalidPackage(f"the model is larger than {MAX_BYTES >> 30} GiB")
                file.write(piece)

    def _ask(self, what: str, **parameters: str) -> dict[str, Any]:
        answer = self._client.get(f"/api/2.0/{what}", params=parameters)
        if answer.status_code == 404 or _is_unknown(answer):
            asked = ", ".join(
                f"{key} {value}" for key, value in parameters.items() if key in ("name", "version", "alias")
            )
            raise NotFound(f"the MLflow server has no such model, version or alias{asked and f': {asked}'}")
        if answer.status_code in (401, 403):
            text = "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            raise InvalidPackage(f"the MLflow server does not let you in (HTTP {answer.status_code}); {text}")
        try:
            found = msgspec.json.decode(answer.content, type=dict[str, Any]) if answer.status_code == 200 else None
        except msgspec.DecodeError:
            found = None
        if found is None:
            raise Unavailable(f"the MLflow server's answer cannot be read (HTTP {answer.status_code})")
        return found


def _is_unknown(answer: httpx.Response) -> bool:
    """Return whether an answer says that something is not there; MLflow calls an unknown alias an invalid parameter."""
    try:
        code = msgspec.json.decode(answer.content, type=dict[str, Any]).get("error_code")
    except msgspec.DecodeError:
        return False
    return answer.status_code == 400 and code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
