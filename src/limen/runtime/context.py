"""Request context for Python classes: passed as parameters that callers cannot set.

A class that asks for a context is run one request at a time, because a run has one context. Called by the sinks, which know the
request, and by `backends.python`, which knows the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from limen.contracts.inference import InferenceRequest, Parameter

_REQUEST_ID: Final = "limen_request_id"
_VERSION: Final = "limen_version"
NAME: Final = "context"
"""What a class calls the parameter that asks for it."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The request that a model is answering."""

    request_id: str
    """What the answer and the logs call it."""
    model: str
    """The name in the package's manifest."""
    version: str
    """The number of the version that answers; of a package that was never published, 1."""
    parameters: Mapping[str, Parameter]
    """What the caller sent beside the inputs."""


def with_context(request: InferenceRequest, version: str) -> dict[str, Parameter]:
    """Return a request's parameters with what a context is made of."""
    return {**request.parameters, _REQUEST_ID: request.id or request.log_id, _VERSION: version}


def context_of(model: str, parameters: Mapping[str, Parameter]) -> Context:
    """Return the context that travelled as parameters."""
    own = {name: value for name, value in parameters.items() if name not in (_REQUEST_ID, _VERSION)}
    request_id, version = (str(parameters.get(name, "")) for name in (_REQUEST_ID, _VERSION))
    return Context(request_id=request_id, model=model, version=version, parameters=own)
