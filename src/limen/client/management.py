"""The management API from a program: `AsyncManagement`, and `Management`, its synchronous face.

    with Management("http://127.0.0.1:8002") as management:
        published = management.publish("credit", "dist/credit.limen", alias="challenger")
        management.set_alias("credit", "champion", published.version.number)

Every change carries an idempotency key of its own, so that it may be sent again when its answer got lost. `expected` is the revision
that you saw: a change of what has changed since is refused as `Stale`. The paths are in docs/reference/management-api.md.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict, Unpack
from urllib.parse import quote

from limen.client.portal import Blocking, Face
from limen.client.retries import RetryPolicy

if TYPE_CHECKING:
    import httpx

    from limen.client.exchange import Exchange
    from limen.contracts.catalogue import Alias, Evidence, EvidenceKind, Lineage, Model, ModelVersion
    from limen.contracts.contract import Contract, Json
    from limen.contracts.endpoint import Endpoint, EndpointSpec
    from limen.contracts.management import (
        EndpointPreview,
        EndpointRevision,
        Page,
        Published,
        ServerStatus,
        VersionDiff,
    )

URL: Final = "http://127.0.0.1:8002"
TIMEOUT_S: Final = 60.0
_POLICY: Final = RetryPolicy()


class ListOptions(TypedDict, total=False):
    """Which part of a list is asked for."""

    limit: int
    """Most items of the page, up to 500; 50 when left out."""
    cursor: str
    """`next` of the page before."""
    tags: Mapping[str, str]
    """Only what has all of these tags; models and versions have tags."""


class PublishOptions(TypedDict, total=False):
    """What may be said about a package that is published."""

    signature: Path | str | bytes
    """The detached signature or its file; `ARCHIVE.sig` is taken when it is there and nothing is said."""
    number: int
    """The number that the version must get."""
    alias: str
    """An alias that is to name the version."""
    same_answers: bool
    """Whether other answers to the examples of the version before it are refused; as the server is set up when left out."""
    lineage: Lineage
    tags: Mapping[str, str]
    idempotency_key: str
    """Made up when left out; give your own to repeat a publication from another process."""


class ManagementOptions(TypedDict, total=False):
    """What may be said about a client of the management API."""

    timeout: float | None
    """Seconds for a call with all its attempts, 60 when left out; transfers of packages have an hour."""
    retry: RetryPolicy
    """When calls are tried again."""
    headers: Mapping[str, str]
    """Sent with every request."""
    transport: httpx.AsyncBaseTransport | None
    """What carries the requests in place of the network, such as the application in this process."""


class AsyncManagement:
    """Manages the registry and the endpoints of one server. Use it in one event loop."""

    def __init__(self, url: str = URL, **options: Unpack[ManagementOptions]) -> None:
        """Take the address of a management API."""
        self._url = url
        self._options = options
        self._exchange: Exchange | None = None

    # -- models and versions ----------------------------------------------------------------------------------------

    async def models(self, **options: Unpack[ListOptions]) -> Page[Model]:
        """Return a page of the models, by name."""
        from limen.contracts.catalogue import Model

        return await self._api.page("/models", Model, options)

    async def model(self, name: str) -> Model:
        """Return one model. Raises `NotFound`."""
        from limen.contracts.catalogue import Model

        return await self._api.get(_path("models", name), Model)

    async def tag_model(self, name: str, tags: Mapping[str, str | None], *, expected: int | None = None) -> Model:
        """Set tags of a model, and remove those that are None. Raises `NotFound`, `Stale`."""
        from limen.contracts.catalogue import Model

        return await self._api.change("PATCH", _path("models", name), Model, {"tags": dict(tags)}, expected)

    async def versions(
        self, model: str, *, include_retired: bool = False, **options: Unpack[ListOptions]
    ) -> Page[ModelVersion]:
        """Return a page of a model's versions, the newest first."""
        from limen.contracts.catalogue import ModelVersion

        more = [("retired", "true")] if include_retired else []
        return await self._api.page(_path("models", model, "versions"), ModelVersion, options, more)

    async def version(self, model: str, ref: int | str) -> ModelVersion:
        """Return one version, by its number or an alias. Raises `NotFound`."""
        from limen.contracts.catalogue import ModelVersion

        return await self._api.get(_path("models", model, "versions", ref), ModelVersion)

    async def tag_version(
        self, model: str, number: int, tags: Mapping[str, str | None], *, expected: int | None = None
    ) -> ModelVersion:
        """Set tags of a version, and remove those that are None. Raises `NotFound`, `Stale`."""
        from limen.contracts.catalogue import ModelVersion

        path = _path("models", model, "versions", number)
        return await self._api.change("PATCH", path, ModelVersion, {"tags": dict(tags)}, expected)

    async def retire(self, model: str, number: int, reason: str = "", *, expected: int | None = None) -> ModelVersion:
        """Take a version out of use; it stays in the registry. Raises `NotAllowedNow` while an alias or endpoint needs it."""
        from limen.contracts.catalogue import ModelVersion

        path = _path("models", model, "versions", number, "retire")
        return await self._api.change("POST", path, ModelVersion, {"reason": reason}, expected)

    async def restore(self, model: str, number: int, *, expected: int | None = None) -> ModelVersion:
        """Take a retired version into use again. Raises `NotFound`, `Stale`."""
        from limen.contracts.catalogue import ModelVersion

        path = _path("models", model, "versions", number, "restore")
        return await self._api.change("POST", path, ModelVersion, {}, expected)

    async def publish(self, model: str, archive: Path | str, **options: Unpack[PublishOptions]) -> Published:
        """Send an archive, have it checked, and make it a version; one that is there already is answered as it is.

        Args:
            model: name of the model, which the package must have too.
            archive: the file that `limen build` wrote.
            options: see `PublishOptions`.

        Raises:
            InvalidArgument: there is no such file.
            InvalidPackage: it is not as it must be: archive, content, signature or answers.
            Incompatible: it would break callers of its major; the violations say where.
            AlreadyExists: the number is taken by another version.
        """
        from limen.client.uploads import Upload
        from limen.contracts.management import Published

        upload = await asyncio.to_thread(Upload.of, Path(archive), options)
        headers = {**upload.headers, "idempotency-key": options.get("idempotency_key") or uuid.uuid4().hex}
        return await self._api.upload(_path("models", model, "versions"), Published, upload.body, headers)

    async def evidence(
        self, model: str, number: int, *, kind: EvidenceKind | str = "", **options: Unpack[ListOptions]
    ) -> Page[Evidence]:
        """Return what was found out about a version, the newest first."""
        from limen.contracts.catalogue import Evidence

        more = [("kind", str(kind))] if kind else []
        return await self._api.page(_path("models", model, "versions", number, "evidence"), Evidence, options, more)

    async def archive(self, model: str, number: int, target: Path | str) -> Path:
        """Write the archive of a version to a file and return its path; the file appears when it is whole.

        Raises:
            NotFound: there is no such version.
            Internal: what arrived is not what the registry says it is.
        """
        return await self._api.download(_path("models", model, "versions", number, "archive"), Path(target))

    async def signature(self, model: str, number: int) -> bytes:
        """Return the detached signature of a version. Raises `NotFound` when it has none."""
        return await self._api.raw(_path("models", model, "versions", number, "signature"))

    async def contract(self, model: str, ref: int | str) -> Contract:
        """Return the contract of a version."""
        from limen.contracts.contract import Contract

        return await self._api.get(_path("models", model, "versions", ref, "contract"), Contract)

    async def openapi(self, model: str, ref: int | str) -> dict[str, Json]:
        """Return the OpenAPI document of a version."""
        return await self._api.get(_path("models", model, "versions", ref, "openapi"), dict[str, Any])

    async def proto(self, model: str, ref: int | str) -> str:
        """Return the Protobuf file of a version."""
        return (await self._api.raw(_path("models", model, "versions", ref, "proto"))).decode("utf-8", "replace")

    async def diff(self, model: str, before: int | str, after: int | str) -> VersionDiff:
        """Return what callers of one version would notice of another; numbers or aliases."""
        from limen.contracts.management import VersionDiff

        params = [("from", str(before)), ("to", str(after))]
        return await self._api.get(_path("models", model, "diff"), VersionDiff, params)

    # -- aliases ----------------------------------------------------------------------------------------------------

    async def aliases(self, model: str, **options: Unpack[ListOptions]) -> Page[Alias]:
        """Return the aliases of a model, by name."""
        from limen.contracts.catalogue import Alias

        return await self._api.page(_path("models", model, "aliases"), Alias, options)

    async def set_alias(self, model: str, alias: str, version: int, *, expected: int | None = None) -> Alias:
        """Have an alias name a version.

        Args:
            model: the model.
            alias: the alias.
            version: the number.
            expected: revision of the alias that you saw; 0 when there must be none yet, None for whatever there is.

        Raises:
            Stale: it has changed since.
            NotAllowedNow: the version is retired.
        """
        from limen.contracts.catalogue import Alias

        path = _path("models", model, "aliases", alias)
        return await self._api.change("PUT", path, Alias, {"version": version}, expected)

    async def remove_alias(self, model: str, alias: str, *, expected: int | None = None) -> None:
        """Remove an alias. Raises `NotAllowedNow` while an endpoint needs it, `Stale`."""
        await self._api.delete(_path("models", model, "aliases", alias), expected)

    # -- endpoints --------------------------------------------------------------------------------------------------

    async def endpoints(self, **options: Unpack[ListOptions]) -> Page[Endpoint]:
        """Return a page of the endpoints, by name, each with its status."""
        from limen.contracts.endpoint import Endpoint

        return await self._api.page("/endpoints", Endpoint, options)

    async def endpoint(self, name: str) -> Endpoint:
        """Return one endpoint. Raises `NotFound`."""
        from limen.contracts.endpoint import Endpoint

        return await self._api.get(_path("endpoints", name), Endpoint)

    async def endpoint_history(self, name: str, **options: Unpack[ListOptions]) -> Page[EndpointRevision]:
        """Return what became of an endpoint, the newest change first; also of one that is gone."""
        from limen.contracts.management import EndpointRevision

        return await self._api.page(_path("endpoints", name, "history"), EndpointRevision, options)

    async def preview_endpoint(self, spec: EndpointSpec) -> EndpointPreview:
        """Return what applying a spec would change, after all checks that applying it makes."""
        from limen.contracts.management import EndpointPreview

        return await self._api.change("POST", _path("endpoints", spec.name, "preview"), EndpointPreview, spec)

    async def apply_endpoint(self, spec: EndpointSpec, *, expected: int | None = None) -> Endpoint:
        """Make a spec the one that holds.

        Args:
            spec: what is wanted.
            expected: revision of the endpoint that you saw; 0 when there must be none yet, None for whatever there is.

        Raises:
            InvalidArgument: the spec is not sound; the violations have the paths.
            NotFound: a version or an alias in it does not exist.
            Incompatible: a version in it has another major.
            Stale: it has changed since.
        """
        from limen.contracts.endpoint import Endpoint

        return await self._api.change("PUT", _path("endpoints", spec.name), Endpoint, spec, expected)

    async def remove_endpoint(self, name: str, *, expected: int | None = None) -> None:
        """Take an endpoint away: its callers are told that there is none. Raises `NotFound`, `Stale`."""
        await self._api.delete(_path("endpoints", name), expected)

    # -- the server -------------------------------------------------------------------------------------------------

    async def status(self) -> ServerStatus:
        """Return the state of the registry and of the server."""
        from limen.contracts.management import ServerStatus

        return await self._api.get("/status", ServerStatus)

    async def reload(self) -> ServerStatus:
        """Have the server look at its registry, its packages and its settings again, now."""
        from limen.contracts.management import ServerStatus

        return await self._api.change("POST", "/reload", ServerStatus, {})

    async def api(self) -> dict[str, Json]:
        """Return the OpenAPI document of the management API itself."""
        return await self._api.get("/openapi.json", dict[str, Any])

    async def aclose(self) -> None:
        """Close all connections."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            await exchange.aclose()

    async def __aenter__(self) -> Self:
        """Return the client, which the block's end closes."""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def _api(self) -> Exchange:
        if self._exchange is None:
            from limen.client.exchange import Exchange

            options = self._options
            self._exchange = Exchange(
                self._url,
                options.get("headers", {}),
                options.get("transport"),
                options.get("timeout", TIMEOUT_S),
                options.get("retry", _POLICY),
            )
        return self._exchange


class Management(Face[AsyncManagement]):
    """`AsyncManagement` for programs without an event loop; may be used by many threads. Each method waits for its namesake."""

    def __init__(self, url: str = URL, **options: Unpack[ManagementOptions]) -> None:
        """Take what `AsyncManagement` takes."""
        super().__init__(AsyncManagement(url, **options))

    models = Blocking(AsyncManagement.models)
    model = Blocking(AsyncManagement.model)
    tag_model = Blocking(AsyncManagement.tag_model)
    versions = Blocking(AsyncManagement.versions)
    version = Blocking(AsyncManagement.version)
    tag_version = Blocking(AsyncManagement.tag_version)
    retire = Blocking(AsyncManagement.retire)
    restore = Blocking(AsyncManagement.restore)
    publish = Blocking(AsyncManagement.publish)
    evidence = Blocking(AsyncManagement.evidence)
    archive = Blocking(AsyncManagement.archive)
    signature = Blocking(AsyncManagement.signature)
    contract = Blocking(AsyncManagement.contract)
    openapi = Blocking(AsyncManagement.openapi)
    proto = Blocking(AsyncManagement.proto)
    diff = Blocking(AsyncManagement.diff)
    aliases = Blocking(AsyncManagement.aliases)
    set_alias = Blocking(AsyncManagement.set_alias)
    remove_alias = Blocking(AsyncManagement.remove_alias)
    endpoints = Blocking(AsyncManagement.endpoints)
    endpoint = Blocking(AsyncManagement.endpoint)
    endpoint_history = Blocking(AsyncManagement.endpoint_history)
    preview_endpoint = Blocking(AsyncManagement.preview_endpoint)
    apply_endpoint = Blocking(AsyncManagement.apply_endpoint)
    remove_endpoint = Blocking(AsyncManagement.remove_endpoint)
    status = Blocking(AsyncManagement.status)
    reload = Blocking(AsyncManagement.reload)
    api = Blocking(AsyncManagement.api)


def _path(*parts: object) -> str:
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)
