"""Frames: cut the same wherever the stream is torn, and never trusted."""

import contextlib
import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.errors import (
    DeadlineExceeded,
    InvalidArgument,
    LimenError,
    ModelFailed,
    ResourceExhausted,
    Violation,
)
from limen.runtime.placement.process.wire.frames import (
    CANCEL,
    FAILURE,
    HEADER,
    LAYOUT,
    MAX_FRAME,
    BrokenFrame,
    Cutter,
    Outbox,
    decode_error,
    encode_error,
    frame,
    text_frame,
)

FRAMES = [frame(CANCEL, 7), text_frame(LAYOUT, b"[1,2,3]"), text_frame(FAILURE, b"x" * 5000, call=3), frame(CANCEL, 8)]


@given(st.lists(st.integers(0, sum(map(len, FRAMES))), max_size=8))
def test_frames_are_the_same_wherever_the_stream_is_torn(places):
    stream = b"".join(FRAMES)
    cuts = sorted({0, len(stream), *places})
    cutter = Cutter()
    found = []
    for start, stop in itertools.pairwise(cuts):
        for data, begin, end in cutter.feed(stream[start:stop]):
            assert begin % 8 == 0
            found.append(data[begin:end])
    assert found == FRAMES


@given(st.binary(max_size=200))
def test_any_bytes_are_cut_or_refused(data):
    with contextlib.suppress(BrokenFrame):
        for buffer, start, end in Cutter().feed(data):
            assert 0 <= start < end <= len(buffer)


@pytest.mark.parametrize("length", [0, 31, 33, 36, MAX_FRAME + 8])
def test_impossible_lengths_are_refused_at_once(length):
    with pytest.raises(BrokenFrame):
        Cutter().feed(HEADER.pack(length, CANCEL, 0, 0, 0, 0, 0, 0, 0.0))


def test_a_large_frame_is_asked_for_in_large_pieces():
    cutter = Cutter()
    whole = text_frame(FAILURE, b"x" * (1 << 22))
    assert cutter.feed(whole[:1000]) == []
    assert cutter.wanted == 1 << 20
    ((data, start, end),) = cutter.feed(whole[1000:])
    assert data[start:end] == whole


@pytest.mark.parametrize(
    "error",
    [
        ModelFailed(),
        DeadlineExceeded("later"),
        ResourceExhausted(retry_after_s=1.5),
        InvalidArgument.of([Violation("inputs[0]", "must be 1")]),
    ],
)
def test_errors_arrive_as_they_were(error):
    found = decode_error(text_frame(FAILURE, encode_error(error))[HEADER.size :])
    assert type(found) is type(error)
    assert (found.message, found.reason, found.violations) == (error.message, error.reason, error.violations)
    assert found.retry_after_s == error.retry_after_s


def test_an_error_that_no_text_can_carry_is_still_an_error():
    assert isinstance(decode_error(encode_error(ModelFailed("\ud800"))), ModelFailed)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_text_is_an_error_or_refused(text):
    with contextlib.suppress(BrokenFrame):
        assert isinstance(decode_error(text), LimenError)


def test_what_a_socket_does_not_take_waits_and_keeps_its_order():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        sent = [bytes([n]) * 300_000 for n in range(4)]
        outbox = Outbox()
        assert not all([outbox.send(ours, data) for data in sent])  # noqa: C419 - each is to be sent
        assert outbox.size > 0
        received = bytearray()
        while len(received) < 1_200_000:
            with contextlib.suppress(BlockingIOError):
                received += theirs.recv(1 << 20)
            outbox.send(ours)
        assert bytes(received) == b"".join(sent)
        assert outbox.send(ours)
        assert outbox.size == 0
