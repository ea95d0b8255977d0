"""The statistics extension over what is served: which versions there are is the data plane's to say, their numbers are counted.

Made by `app` and given to both gateways, which call it for every request of the extension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from limen.contracts.errors import NotFound, Unavailable
from limen.contracts.oip.statistics import ModelStatistics
from limen.serving.dataplane.plane import DataPlane
from limen.telemetry.metrics.statistics import model_statistics
from limen.telemetry.metrics.totals import Totals


class Statistics:
    """The numbers of the versions of one data plane, over all processes."""

    def __init__(self, plane: DataPlane, read: Callable[[], Totals]) -> None:
        """Speak about the versions of `plane`; `read` gives the totals as they are now."""
        self._plane = plane
        self._read = read

    def __call__(self, name: str = "", version: str = "") -> list[ModelStatistics]:
        """Return the statistics of one version, of every version of a model, or of everything.

        Raises:
            NotFound: there is no such model or version.
            InvalidArgument: the version is not a number.
        """
        served = list(self._versions(name, version))
        return model_statistics(self._read(), served)

    def _versions(self, name: str, version: str) -> Iterator[tuple[str, str]]:
        if name:
            yield from ((s.model, s.version) for s in self._plane.statuses(name, version))
            return
        for model in self._plane.models():
            try:
                statuses = self._plane.statuses(model)
            except (NotFound, Unavailable):  # known, but without a version
                continue
            yield from ((s.model, s.version) for s in statuses)
