"""The management API in memory, over a registry of its own, with a client that speaks plain HTTP to it."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

import httpx
import msgspec

from limen.admin.app import management_api
from limen.admin.services import Services
from limen.admin.workers import Workers
from limen.contracts.conditions import Condition
from limen.contracts.contract import Contract, Field
from limen.contracts.endpoint import EndpointStatus
from limen.contracts.management import HEAD_LENGTH, PACKAGE_TYPE
from limen.contracts.trial import Answer, Loaded, Probed
from limen.management.catalogue import Catalogue
from limen.management.stores import Stores, open_registry, utc_now
from limen.packaging.archive.package import build
from limen.packaging.signing.config import TrustConfig
from limen.packaging.signing.trust import Trust
from limen.publishing.config import PublishConfig
from limen.publishing.publisher import Publisher
from limen.publishing.verification import Verification
from limen.registry.values import NewVersion
from limen.runtime.sandbox.exchange import Stop
from limen.storage.config import StorageConfig
from tests.conformance.registry.making import digest, put_text
from tests.services.packages import write_score

ROOT = "/api/v1"
HOST = "127.0.0.1:8002"


class Canned:
    """Stands for the process that tries packages out."""

    def __init__(self) -> None:
        self.score = 2.0
        self.before = lambda: None
        self.stop: Stop | None = None

    def run(self, package, examples, *, trust_code, stop=None):
        self.stop = stop
        self.before()
        return Probed(Loaded(0.1, False, ()), tuple(Answer({"score": self.score}) for _ in examples))


class Office:
    """A registry and its management API."""

    def __init__(self, home: Path, database_url: str = "") -> None:
        self.home = home
        self.stores = open_registry(StorageConfig(home=home, database_url=database_url))
        self.probe = Canned()
        self.trust = TrustConfig()
        self.max_archive_bytes = 1 << 20
        self.workers = Workers(2, "publish", "other packages are being tested")
        self.changes = 0
        self.reloads = 0
        self.conditions: tuple[Condition, ...] = ()
        self.statuses: dict[str, EndpointStatus] = {}
        self.app = management_api(self._services(), frozenset({"127.0.0.1", "localhost", "::1"}))
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        """Send a request; a body that is no bytes is JSON, and headers are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if content is not None:
            named.setdefault("content-type", "application/json")
        answer = await self.http.request(method, ROOT + path, content=content, headers=named)
        self.check(answer)
        return answer

    def check(self, answer: httpx.Response) -> None:
        """See that an answer is as every answer has to be."""
        assert answer.headers["x-request-id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert str(self.home) not in answer.text
        assert "Traceback" not in answer.text
        if answer.status_code >= 400 and answer.request.method != "HEAD":
            problem = answer.json()
            assert answer.headers["content-type"] == "application/problem+json"
            assert problem["status"] == answer.status_code
            assert problem["request_id"] == answer.headers["x-request-id"]
            assert all(problem[key] for key in ("code", "detail", "title"))

    async def publish(
        self,
        archive: bytes,
        model: str = "score",
        head: Mapping[str, object] | None = None,
        **headers: str,
    ) -> httpx.Response:
        body = archive
        headers.setdefault("idempotency_key", uuid.uuid4().hex)
        headers.setdefault("content_type", PACKAGE_TYPE)
        if head is not None:
            text = json.dumps(head).encode()
            body, headers[HEAD_LENGTH] = text + body, str(len(text))
        return await self.ask("POST", f"/models/{model}/versions", body, **headers)

    def archive(self, name: str = "score", title: str = "Score", **more: str) -> bytes:
        """Build a package."""
        folder = self.home.parent / f"package-{uuid.uuid4().hex}"
        manifest = write_score(folder, name) / "model.yaml"
        manifest.write_text(manifest.read_text().replace("title: Score", f"title: {json.dumps(title)}"))
        for old, new in more.items():
            manifest.write_text(manifest.read_text().replace(old, new))
        return build(folder, folder / "dist").path.read_bytes()

    def add(self, model: str = "credit", count: int = 1, *, minimum: float = 0, major: int = 1, **more: object) -> int:
        """Register versions without a package, and return the number of the last."""
        for _ in range(count):
            content = uuid.uuid4().hex
            put_text(self.stores.blobs, self.home, content)
            contract = Contract(
                name=model,
                inputs=(Field(name="amount", type="float32", minimum=minimum),),
                outputs=(Field(name="risk", type="float64"),),
                major=major,
                title="Credit",
            )
            facts = {"archive": digest(content), "size": 9, "backend": "onnx"}
            with self.stores.database.transaction() as connection:
                new = NewVersion(contract=contract, digest=digest(content), **(facts | more))
                number = self.stores.registry.add_version(connection, new).number
        return number

    @property
    def leftovers(self) -> list[str]:
        staging = self.home / "staging"
        return [path.name for path in staging.iterdir() if path.name != ".lock"] if staging.is_dir() else []

    def _services(self) -> Services:
        async def reload() -> None:
            self.reloads += 1

        def changed() -> None:
            self.changes += 1

        return Services(
            stores=self._opened,
            publisher=self._publisher,
            staging=self.home / "staging",
            max_archive_bytes=lambda: self.max_archive_bytes,
            publishing=self.workers,
            changed=changed,
            statuses=lambda: self.statuses,
            server=lambda: {"workers": 2},
            conditions=lambda: self.conditions,
            reload=reload,
        )

    def _opened(self) -> Stores:
        return self.stores

    def _publisher(self, stores: Stores) -> Publisher:
        config = PublishConfig()
        return Publisher(
            stores.registry,
            stores.database,
            stores.blobs,
            Verification(self.probe, Trust.of(self.trust), config),
            Catalogue(stores).point,
            staging=self.home / "staging",
            clock=utc_now,
        )


def as_json(value: object) -> object:
    """Return a value as it travels."""
    return msgspec.to_builtins(value)
