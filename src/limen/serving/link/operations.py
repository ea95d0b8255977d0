"""Requests that a gateway sends to control on behalf of callers of the protocol's management extensions.

Every question has a connection of its own over the control socket, as those of commands have: it may take as long as a model loads, and
what gateways and control tell each other all the time does not wait for it. Made by `app`; called by both gateways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from limen.contracts.contract import Json
from limen.contracts.errors import (
    ErrorCode,
    Incompatible,
    Internal,
    InvalidArgument,
    InvalidPackage,
    LimenError,
    NotAllowedNow,
    NotFound,
    Reason,
    Stale,
    Unavailable,
)
from limen.contracts.names import parse_model_name
from limen.contracts.oip.repository_index import UNLOADED, IndexEntry, IndexState
from limen.serving.link.rules import check_load, check_unload, log_change, log_settings
from limen.serving.messages.lines import (
    MAX_LINE_BYTES,
    AskIndex,
    AskLoad,
    AskUnload,
    Denied,
    Done,
    Index,
    Logging,
    Operation,
    ToOperation,
    line,
)

CONNECT_S = 2.0
ANSWER_S = 10.0
"""How long control may take for what needs no model."""
LOAD_S = 900.0
"""How long a load may take, above control's own limits for its steps."""
RETRY_AFTER_S = 1.0
_BY_CODE: dict[ErrorCode, type[LimenError]] = {
    ErrorCode.INVALID_ARGUMENT: InvalidArgument,
    ErrorCode.NOT_FOUND: NotFound,
    ErrorCode.ABORTED: Stale,
    ErrorCode.FAILED_PRECONDITION: InvalidPackage,
    ErrorCode.UNAVAILABLE: Unavailable,
}
_BY_REASON: dict[Reason, type[LimenError]] = {
    Reason.INCOMPATIBLE: Incompatible,
    Reason.IN_USE: NotAllowedNow,
    Reason.RETIRED: NotAllowedNow,
}
_Answer = TypeVar("_Answer", bound=msgspec.Struct)


class Operations:
    """The management of one server, as far as gateways offer it."""

    def __init__(self, control: str, *, is_explicit: bool) -> None:
        """Ask control by its socket.

        Args:
            control: path of the control socket.
            is_explicit: whether callers may change what is loaded and logged, and not only see it.
        """
        self._control = control
        self.is_explicit = is_explicit

    async def index(self, *, is_ready: bool = False) -> tuple[IndexEntry, ...]:
        """Return every version of every endpoint, or those that answer.

        Why a version failed is for those who look after the server; who may only look is not told.

        Raises:
            Unavailable: control is away.
        """
        entries = (await self._ask(AskIndex(), Index, ANSWER_S)).entries
        if is_ready:
            return tuple(e for e in entries if e.state is IndexState.READY)
        return entries if self.is_explicit else tuple(map(_discreet, entries))

    async def load(self, name: str, parameters: Mapping[str, Json], repository: str = "") -> None:
        """Have an endpoint loaded, again if it is; return when it answers.

        Raises:
            InvalidArgument: models are not loaded by callers here, or a parameter is not one.
            Unsupported: a parameter or a repository that is not taken.
            NotFound: no such endpoint.
            LimenError: it cannot be loaded, or control is away.
        """
        self._ensure_explicit("loading and unloading models over this protocol is disabled")
        check_load(repository, parameters)
        await self._ask(AskLoad(parse_model_name(name)), Done, LOAD_S)

    async def unload(self, name: str, parameters: Mapping[str, Json], repository: str = "") -> None:
        """Have an endpoint let go; requests in hand are answered. The index tells when it is gone.

        Raises:
            InvalidArgument: models are not unloaded by callers here, or a parameter is not one.
            Unsupported: a repository is named.
            NotFound: no such endpoint.
            LimenError: it cannot be unloaded, or control is away.
        """
        self._ensure_explicit("loading and unloading models over this protocol is disabled")
        check_unload(repository, parameters)
        await self._ask(AskUnload(parse_model_name(name)), Done, LOAD_S)

    async def log(self, settings: Mapping[str, Json]) -> dict[str, bool | int | str]:
        """Change what all gateways log, and return all settings then; without a setting, only that.

        Raises:
            InvalidArgument: callers may not change it here, or a setting is not one.
            Unsupported: a setting that callers never change.
            Unavailable: control is away.
        """
        if settings:
            self._ensure_explicit("changing log settings over this protocol is disabled")
        return log_settings((await self._ask(log_change(settings), Logging, ANSWER_S)).levels)

    def _ensure_explicit(self, text: str) -> None:
        if not self.is_explicit:
            message = f"{text} unless the server was started with --model-control explicit"
            raise InvalidArgument(message, reason=Reason.UNSUPPORTED)

    async def _ask(self, question: Operation, kind: type[_Answer], timeout_s: float) -> _Answer:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_unix_connection(self._control, limit=MAX_LINE_BYTES)
            try:
                writer.write(line(question))
                async with asyncio.timeout(timeout_s):
                    said = await reader.readline()
            finally:
                writer.close()
            # Control may have ended before it had an answer.
            answer = msgspec.json.decode(said, type=ToOperation)
        except (OSError, TimeoutError, ValueError) as exc:  # msgspec's errors are ValueErrors
            text = "the control process of this server does not answer"
            raise Unavailable(text, retry_after_s=RETRY_AFTER_S) from exc
        if isinstance(answer, Denied):
            raise _error_of(answer)
        if not isinstance(answer, kind):
            raise Internal
        return answer


def _discreet(entry: IndexEntry) -> IndexEntry:
    """Return an entry without the reason of a failure."""
    if entry.reason in ("", UNLOADED):
        return entry
    return msgspec.structs.replace(entry, reason="not loaded; `limen status` shows why")


def _error_of(denied: Denied) -> LimenError:
    """Return the error that control met."""
    failure = denied.failure
    reason = Reason(failure.reason)
    kind = _BY_REASON.get(reason) or _BY_CODE.get(denied.code, Internal)
    return kind(failure.message, reason=reason, violations=failure.violations)
