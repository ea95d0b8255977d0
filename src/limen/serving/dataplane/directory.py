"""What there is to be asked: readiness, metadata, documents and statistics. Nothing here answers an inference request."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from limen.contracts.contract import Contract
from limen.contracts.errors import NotFound, Unavailable
from limen.contracts.names import parse_version
from limen.contracts.oip.platform import platform_of
from limen.contracts.oip.statistics import ModelStatistics
from limen.contracts.openapi.model import ServedContract
from limen.runtime.versions.lifecycle import State, VersionStatus
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.metadata import ModelMetadata, ServerMetadata, model_metadata, server_metadata
from limen.serving.dataplane.model_config import ModelConfig, model_config
from limen.telemetry.metrics.statistics import model_statistics
from limen.telemetry.metrics.totals import Totals


class Directory:
    """Tells callers about the versions that a `VersionManager` holds."""

    def __init__(
        self, versions: VersionManager, read_totals: Callable[[], Totals] | None = None, *, is_explicit: bool = False
    ) -> None:
        """Speak about `versions`.

        Args:
            versions: what is served.
            read_totals: gives what all processes have counted; without it there are no statistics.
            is_explicit: whether callers may load and unload models.
        """
        self._versions = versions
        self._read_totals = read_totals
        self._is_explicit = is_explicit
        self._needs_all = True
        self._is_draining = False

    @property
    def changes(self) -> int:
        """Grows with every change of what is shown here."""
        return self._versions.changes

    # -- readiness ---------------------------------------------------------------------------------------------------------

    def require_all(self, needs_all: bool) -> None:
        """Say whether one model without a version that answers makes the whole server not ready."""
        self._needs_all = needs_all

    def drain(self) -> None:
        """Be ready no more: the server is about to stop."""
        self._is_draining = True

    @property
    def is_draining(self) -> bool:
        """Whether the server is about to stop."""
        return self._is_draining

    def is_live(self) -> bool:
        """Return whether the process works at all."""
        return True

    def is_ready(self) -> bool:
        """Return whether what should be ready is, and the server is not about to stop."""
        versions = self._versions
        wanted = [model for model in versions.models() if model not in versions.paused]
        needed = all if self._needs_all else any
        return not self._is_draining and (not wanted or needed(map(versions.has_answer, wanted)))

    def is_model_ready(self, name: str, version: str = "") -> bool:
        """Return whether a model can be used now.

        Raises:
            NotFound: there is no such model or version.
            InvalidArgument: the version is not a number.
        """
        try:
            with self._versions.acquire(name, version) as handle:
                return not self._is_draining and not handle.predictor.down
        except Unavailable:
            return False

    # -- names and states --------------------------------------------------------------------------------------------------

    def is_known(self, called: str) -> bool:
        """Return whether there is a model, or a model with an alias, that callers call so."""
        return self._versions.is_known(called)

    def is_served(self, model: str, version: str) -> bool:
        """Return whether a model, and a version of it unless that is empty, have a place here, ready or not."""
        if not version:
            return model in self._versions.models()
        return any(status.version == version for status in self._versions.statuses(model))

    def models(self) -> tuple[str, ...]:
        """Return the names of all models, ready or not."""
        return self._versions.models()

    def statuses(self, name: str, version: str = "") -> list[VersionStatus]:
        """Return the state of a model's versions, or of the one named.

        Raises:
            NotFound, Unavailable: there is no such model or version, or the model has none.
            InvalidArgument: the version is not a number.
        """
        if version:
            parse_version(version)
        name, number = self._versions.meant(name)
        asked = {version, number} - {""}
        found = [s for s in self._versions.statuses(name) if asked <= {s.version} and s.state is not State.UNLOADED]
        if not found:
            self._versions.acquire(name, version or number).release()  # says why
            raise NotFound("there is no such model or version")
        return found

    # -- documents ---------------------------------------------------------------------------------------------------------

    def contract(self, name: str, version: str = "") -> Contract:
        """Return the contract of a ready version."""
        with self._versions.acquire(name, version) as handle:
            return handle.contract

    def can_stream(self, name: str, version: str = "") -> bool:
        """Return whether a model answers in several parts."""
        with self._versions.acquire(name, version) as handle:
            return handle.predictor.can_stream

    def served(self, name: str = "") -> list[ServedContract]:
        """Return every ready version with its contract, for documents; of one model when named.

        Raises:
            NotFound: there is no such model.
            Unavailable: it has no ready version.
        """
        versions = self._versions
        if name:
            versions.acquire(name).release()
        found = []
        for model in (versions.meant(name)[0],) if name else versions.models():
            default = versions.default(model)
            for version in versions.versions(model):
                with versions.acquire(model, version) as handle:
                    platform = platform_of(handle.package.manifest.backend)
                    can_stream = handle.predictor.can_stream
                    found.append(ServedContract(handle.contract, version, platform, can_stream, version == default))
        return found

    def server_metadata(self) -> ServerMetadata:
        """Return the server's name, version and extensions."""
        return server_metadata(has_statistics=self.has_statistics, is_explicit=self._is_explicit)

    def model_metadata(self, name: str, version: str = "") -> ModelMetadata:
        """Return a model's tensors as the protocol describes them."""
        with self._versions.acquire(name, version) as handle:
            return model_metadata(handle, self._versions.versions(handle.model))

    def model_config(self, name: str, version: str = "") -> ModelConfig:
        """Return how a model is run, as the protocol describes it."""
        with self._versions.acquire(name, version) as handle:
            return model_config(handle, self._versions.versions(handle.model))

    # -- statistics --------------------------------------------------------------------------------------------------------

    @property
    def has_statistics(self) -> bool:
        """Whether requests are counted where it can be asked for."""
        return self._read_totals is not None

    def statistics(self, name: str = "", version: str = "") -> list[ModelStatistics]:
        """Return the statistics of one version, of every version of a model, or of everything.

        Raises:
            NotFound: there is no such model or version.
            InvalidArgument: the version is not a number.
        """
        if self._read_totals is None:
            raise NotFound("requests are not counted here")
        served = list(self._counted(name, version))
        return model_statistics(self._read_totals(), served)

    def _counted(self, name: str, version: str) -> Iterator[tuple[str, str]]:
        if name:
            yield from ((s.model, s.version) for s in self.statuses(name, version))
            return
        for model in self.models():
            try:
                statuses = self.statuses(model)
            except (NotFound, Unavailable):  # known, but without a version
                continue
            yield from ((s.model, s.version) for s in statuses)
