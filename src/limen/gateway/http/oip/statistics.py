"""The statistics extension of the Open Inference Protocol over REST.

Source: Triton, "Statistics Extension". No model is called `stats` (`contracts.names`), so that its path is free for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from limen.contracts.oip.statistics import ModelStatistics, StatisticsDocument
from limen.gateway.engine.message import Request, Response
from limen.gateway.engine.routes import Route, Table

Source = Callable[[str, str], list[ModelStatistics]]
"""Gives the statistics of a model and version, each empty for all of them."""


class StatisticsApi:
    """The handlers of the statistics paths."""

    def __init__(self, source: Source | None) -> None:
        """Answer from a source; without one there are no such paths."""
        self._source = source

    def fixed_routes(self) -> Table:
        """Return the paths that name no model."""
        return {} if self._source is None else {"/v2/models/stats": {b"GET": partial(_all, self._source)}}

    def model_routes(self) -> Table:
        """Return what may follow a model; the version part is understood."""
        return {} if self._source is None else {"/v2/models/{m}/stats": {b"GET": partial(_model, self._source)}}


def _all(source: Source, _: Request) -> Response:
    return _answer(source("", ""))


def _model(source: Source, request: Request) -> Response:
    route: Route = request.head.route
    return _answer(source(route.model, route.version))


def _answer(found: list[ModelStatistics]) -> Response:
    return Response(msgspec.json.encode(StatisticsDocument(found)))
