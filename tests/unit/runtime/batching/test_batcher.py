"""The batcher, sentence by sentence. `test_batching_properties` says what holds whatever happens."""

import asyncio

import numpy as np
import pytest

from limen.contracts.contract import Batching
from limen.contracts.errors import DeadlineExceeded, Internal, ModelFailed, Unavailable
from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest, InferenceResponse
from limen.runtime.batching.batcher import APART_WINDOW, Batcher
from limen.runtime.batching.queue import group_of
from tests.unit.runtime.batching.fakes import FakeSink, Scene, answer, request


def test_what_arrives_in_one_turn_of_the_loop_leaves_together():
    scene = Scene()
    for name in "abc":
        scene.submit(name)
    assert scene.sink.sent == []
    assert len(scene.loop.soon) == 1
    scene.loop.turn()
    assert scene.sink.ids == [["a", "b", "c"]]
    assert scene.seen.batches == [("idle", 3, 3, 0.0)]


def test_what_arrives_while_the_sink_is_busy_leaves_together_when_it_is_free():
    scene = Scene()
    scene.occupy()
    scene.submit("a", 2)
    scene.loop.advance(0.25)
    scene.submit("b")
    assert scene.loop.soon == []
    scene.sink.finish()
    assert scene.sink.ids == [["busy"], ["a", "b"]]
    assert scene.seen.batches[1] == ("busy", 3, 2, 0.25)


def test_each_caller_gets_its_own_answer():
    scene = Scene()
    scene.submit("a", 1)
    scene.submit("b", 2)
    scene.loop.turn()
    scene.sink.finish()
    assert [(scene.answer(name).id, len(scene.answer(name).outputs["y"])) for name in "ab"] == [("a", 1), ("b", 2)]
    assert scene.counts == (0, 0, 0, 0)


def test_one_bad_request_fails_alone():
    scene = Scene()
    scene.submit("a")
    scene.submit("b")
    scene.loop.turn()
    scene.sink.finish(outcomes=[ModelFailed(), answer(request("b"))])
    assert isinstance(scene.answer("a"), ModelFailed)
    assert scene.answer("b").id == "b"


def test_a_batch_has_at_most_max_rows_and_nobody_overtakes_one_that_does_not_fit():
    scene = Scene(max_rows=4, capacity=3)
    for name, rows in (("a", 3), ("b", 2), ("c", 1), ("d", 1), ("e", 1)):
        scene.submit(name, rows)
    scene.loop.turn()
    assert scene.sink.ids == [["a"], ["b", "c", "d"], ["e"]]
    assert scene.seen.reasons == ["full", "full", "idle"]


def test_a_request_larger_than_max_rows_leaves_alone_and_whole():
    scene = Scene(max_rows=4, capacity=3)
    for name, rows in (("a", 1), ("b", 9), ("c", 1)):
        scene.submit(name, rows)
    scene.loop.turn()
    assert scene.sink.ids == [["a"], ["b"], ["c"]]
    assert scene.sink.sent[1].batch[0].rows == 9


def test_the_sink_gets_as_many_batches_as_it_is_free_for():
    scene = Scene(max_rows=2, capacity=2)
    for name in "abcde":
        scene.submit(name)
    scene.loop.turn()
    assert scene.sink.ids == [["a", "b"], ["c", "d"]]
    assert scene.counts == (1, 1, 4, 4)


# -- groups and priorities -----------------------------------------------------------------------------------------------


def test_a_batch_holds_one_group_and_the_group_of_the_oldest_goes_first():
    scene = Scene()
    scene.occupy()
    for name, width in (("a", 2), ("b", 1), ("c", 2), ("d", 1)):
        scene.submit(name, width=width)
    for _ in range(2):
        scene.sink.finish()
    assert scene.sink.ids == [["busy"], ["a", "c"], ["b", "d"]]


def test_a_busy_group_does_not_starve_another():
    scene = Scene(max_rows=2)
    scene.occupy()
    for name in ("a", "b", "c"):
        scene.submit(name, width=2)
    scene.submit("other")
    scene.submit("d", width=2)
    for _ in range(3):
        scene.sink.finish()
    assert scene.sink.ids[1:] == [["a", "b"], ["c", "d"], ["other"]]


def test_a_group_has_no_turn_because_of_one_that_is_late():
    scene = Scene()
    scene.occupy()
    scene.submit("late", width=2, within=0.0)
    scene.submit("a")
    scene.submit("b", width=2)
    scene.sink.finish()
    assert scene.sink.ids[1:] == [["a"]]
    assert isinstance(scene.answer("late"), DeadlineExceeded)


def test_higher_priorities_leave_first_and_the_default_ranks_in_the_middle():
    scene = Scene(max_rows=2)
    scene.occupy()
    for name, priority in (("low", 200), ("a", 0), ("b", 100), ("c", 0), ("high", 1), ("next", 2)):
        scene.submit(name, priority=priority)
    for _ in range(3):
        scene.sink.finish()
    assert scene.sink.ids[1:] == [["high", "next"], ["a", "b"], ["c", "low"]]


def test_one_urgent_request_takes_its_group_to_the_front_until_it_is_cancelled():
    scene = Scene()
    scene.occupy()
    scene.submit("a", width=2)
    scene.submit("b")
    scene.submit("urgent", priority=1)
    scene.submit("c", width=2)
    scene.cancels["urgent"]()
    scene.sink.finish()
    assert scene.sink.ids[1:] == [["a", "c"]]
    scene.submit("d", width=2)
    scene.submit("e", width=3)
    scene.submit("urgent", width=3, priority=1)
    for _ in range(3):
        scene.sink.finish()
    assert scene.sink.ids[2:] == [["urgent", "e"], ["b"], ["d"]]


def test_the_age_of_a_batch_is_that_of_its_oldest_whatever_its_priority():
    scene = Scene()
    scene.occupy()
    scene.submit("old")
    scene.loop.advance(0.5)
    scene.submit("urgent", priority=1)
    scene.sink.finish()
    assert scene.seen.batches[1] == ("busy", 2, 2, 0.5)


def test_the_group_is_names_types_inner_shapes_and_parameters():
    def key(parameters=None, **inputs):
        return group_of(InferenceRequest("m", inputs, parameters=parameters or {}))

    a, b = np.zeros((1, 2), np.float32), np.zeros((3, 2), np.float32)
    assert key(x=a) == key(x=b)
    assert key(x=a, y=b) == key(y=a, x=b)
    assert key({"p": 1, "q": 2}, x=a) == key({"q": 2, "p": 1}, x=b)
    different = [
        key(x=a),
        key(y=a),
        key(x=a.astype(np.float64)),
        key(x=np.zeros((1, 3), np.float32)),
        key(x=a, y=a),
        key({"p": 1}, x=a),
        key({"p": True}, x=a),
        key({"p": 1.0}, x=a),
        key({"p": "1"}, x=a),
        key({"q": 1}, x=a),
    ]
    assert len(set(different)) == len(different)


def test_requests_of_a_uniform_contract_go_together_and_those_with_parameters_apart():
    scene = Scene(is_uniform=True, capacity=2)
    # The widths are a lie to this contract, and show that nobody looks at them.
    scene.submit("a", width=1)
    scene.submit("p", parameters={"p": 1})
    scene.submit("b", width=2)
    scene.loop.turn()
    assert scene.sink.ids == [["a", "b"], ["p"]]


# -- the window ----------------------------------------------------------------------------------------------------------


def test_rows_wait_for_company_until_the_window_since_the_oldest_ends():
    scene = Scene(wait_ms=10)
    scene.submit("a")
    scene.loop.advance(0.006)
    scene.submit("b")
    scene.loop.advance(0.003)
    assert scene.sink.sent == []
    assert len(scene.loop.timers) == 1
    scene.loop.advance(0.002)
    assert scene.sink.ids == [["a", "b"]]
    assert scene.seen.batches == [("window", 2, 2, 0.011)]


def test_a_full_batch_does_not_wait_and_neither_does_one_behind_a_group_that_does():
    scene = Scene(wait_ms=10, max_rows=2, capacity=2)
    scene.submit("a", width=2)
    scene.loop.turn()
    scene.submit("b")
    scene.submit("c")
    scene.loop.turn()
    assert scene.sink.ids == [["b", "c"]]
    scene.loop.advance(0.011)
    assert scene.sink.ids == [["b", "c"], ["a"]]
    assert scene.seen.reasons == ["full", "window"]


def test_what_is_left_of_a_full_batch_waits_for_its_own_window():
    scene = Scene(wait_ms=10, max_rows=2, capacity=2)
    scene.submit("a")
    scene.loop.advance(0.005)
    scene.submit("b")
    scene.submit("c")
    scene.loop.advance(0.007)
    assert scene.sink.ids == [["a", "b"]]
    scene.loop.advance(0.004)
    assert scene.sink.ids == [["a", "b"], ["c"]]


def test_what_waited_for_a_busy_sink_does_not_wait_again():
    scene = Scene(wait_ms=10)
    scene.submit("first")
    scene.loop.advance(0.011)
    scene.submit("a")
    scene.loop.turn()
    scene.sink.finish()
    assert scene.sink.ids == [["first"], ["a"]]
    assert scene.seen.reasons == ["window", "busy"]


def test_a_deadline_cuts_the_window_short_by_what_a_run_takes():
    scene = Scene(wait_ms=100)
    scene.submit("learn", 4)
    scene.loop.turn()
    scene.loop.advance(0.02)
    scene.sink.finish()
    scene.submit("a", within=0.05)
    scene.submit("b")
    scene.loop.advance(0.027)
    assert scene.sink.ids == [["learn"]]
    scene.loop.advance(0.003)
    assert scene.sink.ids == [["learn"], ["a", "b"]]
    assert scene.seen.reasons == ["full", "deadline"]


def test_a_deadline_is_not_made_to_wait_before_a_run_was_measured():
    scene = Scene(wait_ms=100)
    scene.submit("a", within=10)
    scene.loop.turn()
    assert scene.sink.ids == [["a"]]
    assert scene.seen.reasons == ["deadline"]


def test_a_cancelled_deadline_no_longer_cuts_the_window():
    scene = Scene(wait_ms=100)
    scene.submit("learn", 4)
    scene.loop.advance(0.001)
    scene.sink.finish()
    scene.submit("a", within=0.05)
    scene.submit("b")
    scene.loop.turn()
    scene.cancels["a"]()
    scene.loop.advance(0.09)
    assert scene.sink.ids == [["learn"]]
    scene.loop.advance(0.02)
    assert scene.sink.ids == [["learn"], ["b"]]
    assert scene.seen.reasons == ["full", "window"]


def test_groups_whose_windows_have_ended_leave_oldest_first():
    scene = Scene(wait_ms=10)
    scene.submit("a", width=1)
    scene.submit("b", width=2)
    scene.loop.advance(0.02)
    scene.sink.finish()
    assert scene.sink.ids == [["a"], ["b"]]


# -- deadlines -----------------------------------------------------------------------------------------------------------


def test_expired_work_is_never_run():
    scene = Scene()
    scene.submit("late", within=0.0)
    scene.submit("a")
    scene.loop.turn()
    assert scene.sink.ids == [["a"]]
    assert isinstance(scene.answer("late"), DeadlineExceeded)
    assert scene.counts == (0, 0, 1, 1)


def test_a_batch_of_expired_requests_only_is_not_sent():
    scene = Scene()
    scene.submit("late", within=-1.0)
    scene.loop.turn()
    assert scene.sink.sent == []
    assert isinstance(scene.answer("late"), DeadlineExceeded)


def test_a_waiting_request_is_answered_when_its_deadline_passes_and_not_sent_later():
    scene = Scene()
    scene.occupy()
    scene.submit("a", within=0.05)
    scene.submit("b")
    scene.loop.advance(0.049)
    assert scene.answer("a") is None
    scene.loop.advance(0.003)
    assert isinstance(scene.answer("a"), DeadlineExceeded)
    assert scene.counts == (1, 1, 1, 1)
    scene.sink.finish()
    assert scene.sink.ids == [["busy"], ["b"]]


def test_a_request_in_flight_is_answered_when_its_deadline_passes_and_its_outcome_dropped():
    scene = Scene()
    scene.submit("a", within=0.05)
    scene.submit("b")
    scene.loop.advance(0.06)
    assert isinstance(scene.answer("a"), DeadlineExceeded)
    scene.sink.finish()
    assert isinstance(scene.answer("a"), DeadlineExceeded)
    assert scene.answer("b").id == "b"


def test_a_batch_that_expired_as_a_whole_is_cancelled():
    scene = Scene()
    scene.submit("a", within=0.05)
    scene.submit("b", within=0.07)
    scene.loop.advance(0.06)
    assert scene.sink.sent[0].cancels == 0
    scene.loop.advance(0.02)
    assert scene.sink.sent[0].cancels == 1
    scene.sink.finish()
    assert [len(scene.answers[name]) for name in "ab"] == [1, 1]


def test_the_sink_gets_the_latest_deadline_of_the_batch():
    scene = Scene(capacity=2)
    scene.submit("a", within=3)
    scene.submit("b", within=5)
    scene.submit("c", within=4)
    scene.submit("d", width=2, within=3)
    scene.submit("e", width=2)
    scene.loop.turn()
    assert [sent.deadline.at for sent in scene.sink.sent] == [1005.0, NO_DEADLINE.at]


def test_there_is_one_timer_for_the_earliest_deadline_and_none_without():
    scene = Scene()
    scene.occupy()
    scene.submit("never")
    assert scene.loop.timers == []
    for n in range(50):
        scene.submit(f"r{n}", within=1 + (n * 7) % 50)
        assert len(scene.loop.timers) == 1
    assert scene.loop.timers[0].at == pytest.approx(1001, abs=0.01)
    scene.loop.advance(10.1)
    assert sum(bool(answers) for answers in scene.answers.values()) == 10
    assert len(scene.loop.timers) == 1


def test_a_deadline_of_somebody_answered_long_ago_costs_one_look():
    scene = Scene()
    for name in "ab":
        scene.submit(name, within=1)
        scene.loop.turn()
        scene.sink.finish()
    scene.loop.advance(2)
    assert scene.loop.timers == []


# -- cancelling ----------------------------------------------------------------------------------------------------------


def test_a_cancelled_request_that_waits_is_never_sent_and_never_answered():
    scene = Scene()
    scene.occupy()
    for name in "abc":
        scene.submit(name, 1)
    for _ in range(2):
        scene.cancels["b"]()
    assert scene.counts == (2, 2, 1, 1)
    scene.sink.finish()
    scene.sink.finish()
    assert scene.sink.ids == [["busy"], ["a", "c"]]
    assert scene.answers["b"] == []
    assert scene.counts == (0, 0, 0, 0)


def test_cancelling_one_caller_of_a_batch_leaves_the_others():
    scene = Scene()
    for name in "abc":
        scene.submit(name)
    scene.loop.turn()
    scene.cancels["b"]()
    scene.sink.finish()
    assert (scene.answer("a").id, scene.answers["b"], scene.answer("c").id) == ("a", [], "c")
    assert scene.sink.sent[0].cancels == 0


def test_a_batch_whose_callers_have_all_left_is_cancelled_once():
    scene = Scene()
    for name in "ab":
        scene.submit(name)
    scene.loop.turn()
    for name in "abab":
        scene.cancels[name]()
    assert scene.sink.sent[0].cancels == 1
    assert scene.counts == (0, 0, 0, 0)
    scene.sink.finish()
    assert scene.answers == {"a": [], "b": []}
    assert scene.counts == (0, 0, 0, 0)


def test_cancelling_after_the_answer_is_harmless():
    scene = Scene()
    scene.submit("a")
    scene.loop.turn()
    scene.sink.finish()
    scene.cancels["a"]()
    assert scene.answer("a").id == "a"
    assert scene.counts == (0, 0, 0, 0)


def test_one_callers_answer_may_cancel_another_of_its_batch():
    scene = Scene()

    def leave_together():
        scene.cancels["b"]()

    scene.submit("a", then=leave_together)
    scene.submit("b")
    scene.submit("c")
    scene.loop.turn()
    scene.sink.finish()
    assert (scene.answer("a").id, scene.answers["b"], scene.answer("c").id) == ("a", [], "c")


def test_callers_who_all_leave_while_the_sink_takes_their_batch_cancel_it():
    scene = Scene()
    scene.sink.during_send = lambda sent: [scene.cancels[name]() for name in sent.ids]
    scene.submit("a")
    scene.submit("b")
    scene.loop.turn()
    assert scene.sink.sent[0].cancels == 1
    assert scene.counts == (0, 0, 0, 0)


def test_an_expired_request_that_is_cancelled_before_it_was_told_hears_nothing():
    scene = Scene()
    scene.sink.during_send = lambda sent: scene.cancels["late"]()
    scene.submit("late", within=0.0)
    scene.submit("a")
    scene.loop.turn()
    assert scene.answers["late"] == []


def test_a_caller_who_keeps_its_cancel_does_not_keep_its_request():
    scene = Scene()
    scene.submit("a")
    scene.submit("b")
    scene.cancels["a"]()
    scene.loop.turn()
    scene.sink.finish()
    assert all(not cancel.__self__.request.inputs for cancel in scene.cancels.values())


def test_those_who_left_do_not_pile_up_while_the_sink_is_busy():
    scene = Scene()
    scene.occupy()
    scene.submit("stays")
    for n in range(1000):
        for priority, width in ((0, 1), (1, 1), (0, 2 + n)):
            scene.submit("leaves", priority=priority, width=width)
            scene.cancels["leaves"]()
    line = scene.batcher._line
    assert len(line.groups) == 1
    (group,) = line.groups.values()
    assert len(group.plain) + len(group.ranked) + len(line._heads) < 200
    scene.sink.finish()
    assert scene.sink.ids == [["busy"], ["stays"]]


# -- what goes wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_sink_with_a_wrong_number_of_outcomes_is_at_fault_for_all(count, caplog):
    scene = Scene()
    for name in "ab":
        scene.submit(name)
    scene.loop.turn()
    scene.sink.finish(outcomes=[answer(request("a"))] * count)
    assert [type(scene.answer(name)) for name in "ab"] == [Internal, Internal]
    assert scene.answer("a") is not scene.answer("b")
    assert f"a batch of 2 requests came back with {count} answers" in caplog.text


def test_a_send_that_raises_answers_everybody_and_the_batcher_goes_on(caplog):
    scene = Scene(max_rows=2)
    for name in "abc":
        scene.submit(name)
    scene.sink.failure = RuntimeError("the secret of the placement")
    scene.loop.turn()
    assert [type(scene.answer(name)) for name in "abc"] == [Internal] * 3
    assert "secret" not in str(scene.answer("a"))
    assert "the secret of the placement" in caplog.text
    assert scene.counts == (0, 0, 0, 0)
    scene.sink.failure = None
    scene.submit("d")
    scene.loop.turn()
    assert scene.sink.ids == [["d"]]


def test_a_caller_that_cannot_take_its_answer_does_not_harm_the_others(caplog):
    scene = Scene()
    scene.occupy()
    for name, within in (("late", 0.01), ("also late", 0.01), ("a", 9), ("b", 9)):
        scene.submit(name, within=within, then=lambda: 1 / 0)
    scene.loop.advance(0.02)
    scene.sink.finish()
    scene.sink.finish()
    assert all(len(answers) == 1 for answers in scene.answers.values())
    assert caplog.text.count("a callback for an answer failed") == 4


def test_an_observer_or_a_cancel_that_raises_stops_nothing(caplog):
    scene = Scene()
    scene.seen.batch = scene.seen.ran = lambda *_: 1 / 0
    scene.submit("a")
    scene.loop.turn()
    scene.sink.finish()
    assert scene.answer("a").id == "a"
    scene.submit("b")
    scene.sink.during_send = lambda sent: setattr(sent, "cancel", lambda: 1 / 0)
    scene.loop.turn()
    scene.cancels["b"]()
    assert scene.counts == (0, 0, 0, 0)
    assert "a placement failed to cancel a batch" in caplog.text


def test_a_sink_that_answers_twice_is_heard_once():
    scene = Scene()
    scene.submit("a")
    scene.loop.turn()
    done = scene.sink.sent[0].done
    scene.sink.finish()
    done([Internal()])
    assert scene.answer("a").id == "a"


def test_a_sink_that_becomes_free_while_it_takes_a_batch_gets_the_next_after_it():
    scene = Scene(max_rows=1)
    inside: list[int] = []
    depths: list[int] = []

    def free_at_once(sent):
        inside.append(1)
        depths.append(len(inside))
        if len(scene.sink.sent) < 3:
            scene.sink.release()
        inside.pop()

    scene.sink.during_send = free_at_once
    for name in "abc":
        scene.submit(name)
    scene.loop.turn()
    assert scene.sink.ids == [["a"], ["b"], ["c"]]
    assert depths == [1, 1, 1]


def test_an_answer_may_submit_the_next_request():
    scene = Scene()
    scene.submit("a", then=lambda: scene.submit("b"))
    scene.loop.turn()
    scene.sink.finish()
    scene.loop.turn()
    assert scene.sink.ids == [["a"], ["b"]]


# -- the other ways in ---------------------------------------------------------------------------------------------------


def test_predict_now_asks_the_sink_only_while_nobody_waits():
    scene = Scene()
    scene.sink.now = answer(request("now"))
    assert scene.batcher.predict_now(request("now"), NO_DEADLINE).id == "now"
    scene.submit("a")
    assert scene.batcher.predict_now(request("now"), NO_DEADLINE) is None
    scene.loop.turn()
    assert scene.batcher.predict_now(request("now"), NO_DEADLINE).id == "now"


async def test_predict_returns_the_answer_or_the_error_on_a_real_loop():
    sink = FakeSink()
    batcher = Batcher(sink, Batching())
    sink.during_send = lambda sent: asyncio.get_running_loop().call_soon(sink.finish)
    both = await asyncio.gather(*(batcher.predict(request(name), Deadline.after(60)) for name in "ab"))
    assert [outcome.id for outcome in both] == ["a", "b"]
    assert sink.ids == [["a", "b"]]
    sink.during_send = lambda sent: None
    assert isinstance(await batcher.predict(request("c"), Deadline.after(0.005)), DeadlineExceeded)
    assert sink.sent[1].cancels == 1
    await batcher.close()


async def test_cancelling_predict_cancels_the_request_and_a_late_answer_is_harmless():
    sink = FakeSink()
    entered = asyncio.Event()
    sink.during_send = lambda sent: entered.set()
    batcher = Batcher(sink, Batching())
    for finish, cancels in ((True, 0), (False, 1)):
        task = asyncio.create_task(batcher.predict(request("a"), NO_DEADLINE))
        await entered.wait()
        entered.clear()
        task.cancel()
        if finish:
            # Its future is cancelled now, and it has had no turn to say so.
            sink.finish()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sink.sent[-1].cancels == cancels
        assert batcher.in_flight == 0


async def test_streams_go_past_the_line():
    scene = Scene()
    assert [part.id async for part in scene.batcher.stream(request("s"), NO_DEADLINE)] == ["s"]


async def test_close_turns_away_who_waits_and_closes_the_sink():
    scene = Scene()
    scene.occupy()
    scene.submit("a", within=5)
    scene.submit("b", width=2)
    scene.sink.during_close = scene.sink.finish
    await scene.batcher.close()
    assert [type(scene.answer(name)) for name in "ab"] == [Unavailable, Unavailable]
    assert isinstance(scene.answer("busy"), InferenceResponse)
    assert (scene.counts, scene.sink.closed, scene.loop.timers) == ((0, 0, 0, 0), 1, [])
    scene.sink.during_close = lambda: None
    await scene.batcher.close()
    assert scene.sink.ids == [["busy"]]


async def test_who_is_in_flight_when_the_sink_closes_without_a_word_is_told():
    scene = Scene()
    scene.occupy()

    def break_off():
        raise RuntimeError("could not close")

    scene.sink.during_close = break_off
    with pytest.raises(RuntimeError):
        await scene.batcher.close()
    assert isinstance(scene.answer("busy"), Unavailable)
    assert scene.counts == (0, 0, 0, 0)


async def test_a_closed_batcher_turns_everybody_away_and_never_before_submit_has_returned():
    scene = Scene()
    await scene.batcher.close()
    scene.submit("a")
    scene.submit("b")
    assert scene.answer("a") is None
    scene.cancels["b"]()
    scene.loop.turn()
    assert isinstance(scene.answer("a"), Unavailable)
    assert scene.answers["b"] == []
    scene.sink.now = answer(request("now"))
    assert scene.batcher.predict_now(request("now"), NO_DEADLINE) is None


# -- what others read ----------------------------------------------------------------------------------------------------


def test_runs_are_measured_and_reported():
    scene = Scene(max_rows=8)
    assert (scene.batcher.seconds_per_row, scene.batcher.expected_wait_s()) == (0.0, 0.0)
    scene.submit("a", 4)
    scene.loop.turn()
    scene.loop.advance(0.02)
    scene.sink.finish()
    assert scene.batcher.seconds_per_row == pytest.approx(0.005)
    assert scene.seen.runs == [(4, 0.02, 1)]


def test_a_failed_run_is_reported_and_teaches_nothing():
    scene = Scene()
    scene.submit("a", 4)
    scene.loop.turn()
    scene.loop.advance(0.02)
    scene.sink.finish()
    scene.submit("b", 4)
    scene.loop.turn()
    scene.sink.finish(outcomes=[Unavailable()])
    assert scene.seen.runs == [(4, 0.02, 1), (4, 0.0, 1)]
    assert scene.batcher.seconds_per_row == pytest.approx(0.005)


def test_the_expected_wait_is_the_rows_ahead_over_the_batches_that_run_side_by_side():
    scene = Scene(max_rows=4, capacity=2)
    scene.submit("learn", 4)
    scene.loop.turn()
    scene.loop.advance(0.04)
    scene.sink.finish()
    scene.submit("a", 4)
    scene.loop.turn()
    assert scene.batcher.expected_wait_s() == 0.0
    scene.submit("b", 4)
    scene.submit("c", 3)
    scene.loop.turn()
    assert scene.counts == (1, 3, 2, 8)
    assert scene.batcher.expected_wait_s() == pytest.approx((3 + 4) * 0.01 / 2)


def test_requests_that_are_kept_apart_leave_one_by_one_with_all_their_rows():
    scene = Scene(max_rows=4, capacity=3, wait_ms=50)
    scene.batcher.keep_apart()
    scene.submit("a", 3)
    scene.submit("b")
    scene.submit("c")
    scene.loop.turn()
    assert scene.sink.ids == [["a"], ["b"], ["c"]]
    assert [reason for reason, *_ in scene.seen.batches] == ["idle"] * 3
    assert not scene.batcher.merges
    assert scene.sink.window == APART_WINDOW, "otherwise the model would be idle between two of them"


def test_a_contract_that_forbids_it_keeps_requests_apart_from_the_start():
    assert Batcher(FakeSink(), Batching(merge=True), loop=Scene().loop).merges
    assert not Batcher(FakeSink(), Batching(merge=False), loop=Scene().loop).merges
