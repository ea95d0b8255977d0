"""When a replica hangs, and when it only takes its time."""

from types import SimpleNamespace

import pytest

from limen.runtime.placement.process.pool.watchdog import Watchdog


class Replica:
    """A link and a status page whose words the test chooses."""

    def __init__(self):
        self.pid, self.number, self.times, self.streams = 1, 5, [], {}
        self.works = {1: SimpleNamespace(sent_at=0.0)}
        self.now = (0, 0, 0)
        self.status = self

    def read(self):
        return self.now


@pytest.fixture
def replica():
    return Replica()


def seconds_until_hanging(watchdog, replica, start=0.0, step=0.5, limit=200.0):
    """Return when the watchdog bites, looking every half second."""
    now = start
    while now < limit:
        if watchdog.is_hanging(replica, now):
            return now - start
        now += step
    return None


def test_the_same_thing_in_hand_for_longer_than_the_floor_is_a_hang(replica):
    watchdog = Watchdog(10.0)
    replica.now = (5, 1, 1)
    assert 10 <= seconds_until_hanging(watchdog, replica) <= 11
    # Once is enough.
    assert not watchdog.is_hanging(replica, 100.0)


def test_slow_batches_are_given_three_times_what_they_take(replica):
    replica.times = [1.0] * 98 + [8.0, 9.0]
    replica.now = (5, 1, 1)
    assert 24 <= seconds_until_hanging(Watchdog(10.0), replica) <= 25


def test_what_the_warm_up_took_is_allowed_three_times_and_never_lowers_the_floor(replica):
    """The first run of a model pays for its set-up; a replica that is started later pays again, on a real request."""
    watchdog = Watchdog(10.0)
    replica.times = [0.1] * 100
    replica.now = (5, 1, 1)
    watchdog.allow(0.2)
    assert watchdog.limit_s(replica) == 10
    watchdog.allow(12.0)
    assert 36 <= seconds_until_hanging(watchdog, replica) <= 37


def test_a_batch_that_is_not_begun_is_a_hang_too_but_not_before_it_was_sent(replica):
    watchdog = Watchdog(10.0)
    replica.works[1].sent_at = 50.0
    assert not watchdog.is_hanging(replica, 0.0)
    assert not watchdog.is_hanging(replica, 59.0)
    assert watchdog.is_hanging(replica, 60.5)


def test_what_another_gateway_gave_it_is_waited_for_longer(replica):
    replica.now = (9, 1, 1)
    assert 30 <= seconds_until_hanging(Watchdog(10.0), replica) <= 31


def test_a_replica_that_goes_on_does_not_hang(replica):
    watchdog = Watchdog(10.0)
    for now in range(100):
        replica.now = (5, 1, now)
        assert not watchdog.is_hanging(replica, float(now))


def test_a_replica_with_nothing_to_do_does_not_hang(replica):
    replica.works.clear()
    assert seconds_until_hanging(Watchdog(10.0), replica) is None


def test_without_a_status_page_the_oldest_batch_counts(replica):
    replica.status = None
    assert 10 <= seconds_until_hanging(Watchdog(10.0), replica) <= 11
