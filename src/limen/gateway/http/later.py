"""Deferred answers: sends the HTTP answer to a request that waits for the model. Used by `http.oip` and `http.records`."""

from __future__ import annotations

from collections.abc import Callable

from limen.contracts.errors import LimenError
from limen.contracts.inference import InferenceResponse, Outcome
from limen.gateway.engine.message import Pending, Response
from limen.serving.dataplane.call import Call


class Later(Pending):
    """What a call's outcome becomes: an encoded response, or its error."""

    __slots__ = ("_encode",)

    def __init__(self, call: Call, encode: Callable[[InferenceResponse], Response]) -> None:
        """Be told by the call, and cancel it when the caller leaves."""
        super().__init__(call.cancel)
        self._encode = encode
        call.done = self._take

    def _take(self, outcome: Outcome) -> None:
        if isinstance(outcome, LimenError):
            self.deliver(outcome)
            return
        try:
            response = self._encode(outcome)
        except Exception as exc:  # noqa: BLE001  the application tells them apart
            self.deliver(exc)
        else:
            self.deliver(response)
