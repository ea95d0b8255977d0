"""Whatever the door and whatever the form: the model's own answer, the server's own error."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from limen.contracts.errors import (
    DeadlineExceeded,
    InvalidArgument,
    LimenError,
    ModelFailed,
    NotFound,
    Reason,
    Refused,
    Unsupported,
)
from limen.contracts.tensors import TYPES, Kind
from tests.conformance.client.conftest import Door
from tests.conformance.serving.gates import CLOSED, MADE, OPEN, STEP, WAITING
from tests.conformance.serving.models import LEAK

A, B = [[1.0, 2.0], [5.0, 6.0]], [[3.0, 4.0], [7.0, 8.0]]
SUM, DIFFERENCE = [[4.0, 6.0], [12.0, 14.0]], [[-2.0, -2.0], [-2.0, -2.0]]
RECORDS = [{"a": a, "b": b} for a, b in zip(A, B, strict=True)]
ANSWERS = [{"sum": s, "difference": d} for s, d in zip(SUM, DIFFERENCE, strict=True)]
TYPED = {"amount": 1.5, "count": 2, "grade": "A", "code": "AB12", "note": "é", "years": None}
TYPED |= {"place": [1, 2.5], "photo": "YWJj", "flag": True}


def drained(semaphore) -> int:
    """Take everything that was released so far."""
    count = 0
    while semaphore.acquire(blocking=False):
        count += 1
    return count


def test_a_record_is_answered_by_a_record(door: Door):
    answer = door.predict("pair", RECORDS[0])
    assert (answer.outputs, answer.model, answer.version) == (ANSWERS[0], "pair", "1")
    assert not answer.is_fallback


def test_records_are_answered_by_records(door: Door):
    assert door.predict("pair", RECORDS).outputs == ANSWERS


def test_arrays_are_answered_by_arrays(door: Door):
    outputs = door.predict("pair", {"a": np.array(A, np.float32), "b": np.array(B, np.float32)}).outputs
    assert {name: (array.dtype, array.tolist()) for name, array in outputs.items()} == {
        "sum": (np.float32, SUM),
        "difference": (np.float32, DIFFERENCE),
    }


def test_a_frame_is_answered_by_a_frame_with_its_index(door: Door):
    frame = pd.DataFrame({"a": A, "b": B}, index=["first", "second"])
    outputs = door.predict("pair", frame).outputs
    assert list(outputs.index) == ["first", "second"]
    assert [list(row) for row in outputs["sum"]] == SUM


def test_every_form_can_be_had_of_every_answer(door: Door):
    answer = door.predict("pair", RECORDS)
    assert answer.as_arrays()["sum"].tolist() == SUM
    assert [list(row) for row in answer.as_frame()["difference"]] == DIFFERENCE
    assert door.predict("pair", {"a": np.array(A, np.float32), "b": np.array(B, np.float32)}).as_records() == ANSWERS


def test_text_bytes_missing_values_and_flags_arrive_as_they_were_sent(door: Door):
    answer = door.predict("typed", TYPED).record
    assert answer == {"total": 6.5, "words": "A AB12 é nan True", "photo": "YWJj"}


def test_fields_with_a_default_may_be_left_out(door: Door):
    record = {k: v for k, v in TYPED.items() if k not in ("note", "photo", "flag")}
    assert door.predict("typed", [record, record]).as_records()[1]["words"] == "A AB12 none nan False"


@pytest.mark.parametrize("element", TYPES, ids=lambda t: t.name)
def test_arrays_of_every_type_come_back_as_they_went(door: Door, element):
    values = {Kind.BOOL: [True, False], Kind.TEXT: ["a", "é"], Kind.BINARY: [b"a", b"\xff"]}.get(element.kind, [1, 2])
    values = ['{"a": [1]}', "2"] if element.name == "json" else values
    array = np.array([values], element.dtype)
    outputs = door.predict(f"echo-{element.name}", {"x": array}).outputs
    assert (outputs["x"].dtype, outputs["x"].tolist()) == (array.dtype, array.tolist())


def test_many_records_are_answered_like_few(door: Door):
    few = [door.predict("greedy", {"x": float(i)}).record for i in range(3)]
    many = door.predict("greedy", [{"x": float(i)} for i in range(300)]).as_records()
    assert many[:3] == few
    assert len(many) == 300


def test_parameters_go_to_the_model_and_outputs_can_be_chosen(door: Door):
    answer = door.predict("greedy", {"x": 1.0}, parameters={"a": 1, "b": "x", "c": 0.5, "d": True})
    assert answer.record == {"y": 4}
    assert door.predict("pair", RECORDS[0], outputs=["sum"]).record == {"sum": SUM[0]}


def test_a_request_has_the_id_it_was_given_or_one_of_its_own(door: Door):
    assert door.predict("pair", RECORDS[0], request_id="mine-1").request_id == "mine-1"
    assert len(door.predict("pair", RECORDS[0]).request_id) == 32


def test_readiness_is_told(door: Door):
    assert (door.is_ready("pair"), door.is_ready("pair", 1), door.is_ready()) == (True, True, True)


ERRORS = {
    "no such model": ("nobody", {"x": np.zeros(1)}, {}, NotFound, Reason.NOT_FOUND),
    "no such version": ("pair", RECORDS[0], {"version": 9}, NotFound, Reason.NOT_FOUND),
    "a version that is none": ("pair", RECORDS[0], {"version": "x"}, InvalidArgument, Reason.INVALID_VERSION),
    "an input is missing": ("pair", {"a": [1, 2]}, {}, InvalidArgument, Reason.INPUT_SET),
    "an input is unknown": ("pair", {**RECORDS[0], "c": 1}, {}, InvalidArgument, Reason.UNKNOWN_FIELD),
    "text for numbers": ("pair", {"a": [1, 2], "b": ["x", "y"]}, {}, InvalidArgument, Reason.VALUE),
    "another type": ("pair", {"a": np.zeros((1, 2)), "b": np.zeros((1, 2))}, {}, InvalidArgument, Reason.DTYPE),
    "a reserved parameter": (
        "pair",
        RECORDS[0],
        {"parameters": {"headers": "x"}},
        InvalidArgument,
        Reason.INVALID_PARAMETER,
    ),
    "an unknown output": ("pair", RECORDS[0], {"outputs": ["z"]}, InvalidArgument, Reason.OUTPUT_SET),
    "too many rows": ("pair", [RECORDS[0]] * 65, {}, InvalidArgument, Reason.BATCH_LIMIT),
    "the model fails": ("moody", {"x": -3.0}, {}, ModelFailed, Reason.MODEL_FAILED),
    "the answer breaks its contract": ("moody", {"x": -1.0}, {}, LimenError, Reason.INVALID_OUTPUT),
    "an answer has a label that is none": (
        "promises",
        {"say": "grade", "score": 0.0},
        {},
        LimenError,
        Reason.INVALID_OUTPUT,
    ),
    "the model refuses": ("promises", {"say": "refuse", "score": 0.0}, {}, Refused, Reason.REFUSED),
    "a stream is needed": ("countdown", {"n": 1}, {}, Unsupported, Reason.UNSUPPORTED),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_the_servers_own(door: Door, case):
    model, inputs, options, kind, reason = ERRORS[case]
    with pytest.raises(kind) as found:
        door.predict(model, inputs, request_id="mine-2", **options)
    assert (found.value.reason, found.value.request_id) == (reason, "mine-2")
    assert LEAK not in str(found.value)


def test_a_late_answer_is_not_waited_for(door: Door):
    drained(WAITING)
    OPEN.clear()
    started = time.monotonic()
    try:
        with pytest.raises(DeadlineExceeded):
            door.predict("patient", {"x": -1.0}, timeout=0.2)
    finally:
        OPEN.set()
    assert time.monotonic() - started < 20
    assert door.predict("patient", {"x": 2.0}).record == {"y": 2.0}


# -- streams ------------------------------------------------------------------------------------------------------------


def test_parts_come_in_the_form_that_was_asked_in(door: Door):
    assert [p.record for p in door.stream("countdown", {"n": 3})] == [{"y": 3}, {"y": 2}, {"y": 1}]
    parts = door.stream("countdown", {"n": np.array([2], np.int32)})
    assert [(p.as_arrays()["y"].dtype, p.as_arrays()["y"].tolist()) for p in parts] == [
        (np.int32, [2]),
        (np.int32, [1]),
    ]
    assert {(p.model, p.version) for p in parts} == {("countdown", "1")}


def test_a_model_that_does_not_stream_gives_one_part(door: Door):
    assert [p.outputs for p in door.stream("pair", RECORDS)] == [ANSWERS]


@pytest.fixture
def closed() -> Iterator[Callable[[], bool]]:
    """Give what lets the stepwise model go on until its stream has ended."""
    for semaphore in (CLOSED, MADE, STEP):
        drained(semaphore)

    def until_closed() -> bool:
        for _ in range(9):
            STEP.release()  # the model looks up from its waiting
        return CLOSED.acquire(timeout=30)

    yield until_closed
    drained(STEP)


def test_closing_a_stream_ends_it_in_the_model(door: Door, closed):
    STEP.release()
    parts = door.stream("steps", {"n": 1000}, at_most=2)
    assert [p.record["y"] for p in parts] == [0, 1]
    assert closed()
    assert drained(MADE) < 12


def test_an_error_before_the_first_part_is_the_servers_own(door: Door):
    with pytest.raises(InvalidArgument):
        door.stream("steps", {"n": 1, "m": 2})


def test_an_error_after_the_first_part_is_the_servers_own(door: Door, closed):
    STEP.release()
    with pytest.raises(ModelFailed) as found:
        door.stream("steps", {"n": -2}, request_id="mine-3")
    assert (found.value.request_id, LEAK in str(found.value)) == ("mine-3", False)
    assert closed()


def test_a_stream_has_a_time_limit_as_a_whole(door: Door, closed):
    with pytest.raises(DeadlineExceeded):
        door.stream("steps", {"n": 1000}, timeout=0.3)
    assert closed()
