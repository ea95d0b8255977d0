"""A gateway's questions to control: every error of control is the same error again, and silence is one of its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from limen.contracts.errors import (
    ErrorCode,
    Incompatible,
    Internal,
    InvalidArgument,
    InvalidPackage,
    NotAllowedNow,
    NotFound,
    Reason,
    Stale,
    Unavailable,
    Violation,
)
from limen.contracts.oip.repository_index import IndexEntry, IndexState
from limen.serving.link import operations
from limen.serving.link.operations import Operations
from limen.serving.messages.lines import AskLoad, AskUnload, Denied, Done, Failure, Index, Operation, line


class Control:
    """Answers every question with the same bytes."""

    def __init__(self) -> None:
        self.answer = line(Done())
        self.asked: list[Operation] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(msgspec.json.decode(await reader.readline(), type=Operation))
        writer.write(self.answer)
        writer.close()


@pytest.fixture
async def control(tmp_path) -> AsyncIterator[Control]:
    control = Control()
    async with await asyncio.start_unix_server(control.serve, str(tmp_path / "control")):
        yield control


@pytest.fixture
def asks(tmp_path: Path) -> Operations:
    return Operations(str(tmp_path / "control"), is_explicit=True)


async def test_questions_arrive(control, asks):
    await asks.load("m", {})
    await asks.unload("m", {"unload_dependents": True})
    assert control.asked == [AskLoad("m"), AskUnload("m")]


async def test_the_index_may_be_of_what_answers(control, asks):
    ready = IndexEntry("m", "1", IndexState.READY)
    control.answer = line(Index((ready, IndexEntry("m", "2", IndexState.LOADING))))
    assert len(await asks.index()) == 2
    assert await asks.index(is_ready=True) == (ready,)


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (ErrorCode.NOT_FOUND, Reason.NOT_FOUND, NotFound),
        (ErrorCode.INVALID_ARGUMENT, Reason.INVALID_FIELD, InvalidArgument),
        (ErrorCode.ABORTED, Reason.STALE, Stale),
        (ErrorCode.UNAVAILABLE, Reason.STORAGE, Unavailable),
        (ErrorCode.FAILED_PRECONDITION, Reason.INVALID_PACKAGE, InvalidPackage),
        (ErrorCode.FAILED_PRECONDITION, Reason.UNSAFE_FORMAT, InvalidPackage),
        (ErrorCode.FAILED_PRECONDITION, Reason.INCOMPATIBLE, Incompatible),
        (ErrorCode.FAILED_PRECONDITION, Reason.RETIRED, NotAllowedNow),
        (ErrorCode.INTERNAL, Reason.INTERNAL, Internal),
    ],
)
async def test_an_error_of_control_is_the_same_error_here(control, asks, code, reason, kind):
    control.answer = line(Denied(code, Failure("no", reason.value, (Violation("a", "b"),))))
    with pytest.raises(kind) as caught:
        await asks.load("m", {})
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason, caught.value.message) == (code, reason, "no")
    assert caught.value.violations == (Violation("a", "b"),)


@pytest.mark.parametrize("said", [b"", b"{}\n", b"nonsense\n", b'{"type":"denied"'])
async def test_control_that_says_nothing_or_nonsense_is_away(control, asks, said):
    control.answer = said
    with pytest.raises(Unavailable) as caught:
        await asks.index()
    assert caught.value.retry_after_s == 1.0


async def test_an_answer_to_another_question_is_our_fault(control, asks):
    with pytest.raises(Internal):
        await asks.index()


async def test_control_that_is_not_there_or_too_slow_is_away(asks, tmp_path, monkeypatch):
    with pytest.raises(Unavailable):
        await asks.index()
    monkeypatch.setattr(operations, "ANSWER_S", 0.01)
    silent = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async with await asyncio.start_unix_server(say_nothing, str(tmp_path / "control")):
        with pytest.raises(Unavailable):
            await asks.index()
        silent.set()
