"""The version policy as a table: what is, what is wanted, what to do next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.runtime.versions.lifecycle import State, VersionStatus
from limen.runtime.versions.policy import Action, Verb, next_action

LOAD, UNLOAD = Verb.LOAD, Verb.UNLOAD
TABLE = {
    "nothing is there and nothing wanted": ({}, "", None),
    "a wanted version is loaded": ({}, "1", (LOAD, "1")),
    "versions are loaded from the oldest": ({}, "3 1 2", (LOAD, "1")),
    "versions are numbers and not text": ({}, "10 9", (LOAD, "9")),
    "what is there stays": ({"1": State.READY}, "1", None),
    "a new version is loaded beside the old one": ({"1": State.READY}, "2", (LOAD, "2")),
    "the old one stays while the new one loads": ({"1": State.READY, "2": State.LOADING}, "2", None),
    "the old one stays while the new one warms up": ({"1": State.READY, "2": State.WARMING}, "2", None),
    "the old one stays when the new one failed": ({"1": State.READY, "2": State.FAILED}, "2", None),
    "the old one goes once the new one is ready": ({"1": State.READY, "2": State.READY}, "2", (UNLOAD, "1")),
    "two wanted versions stay together": ({"1": State.READY, "2": State.READY}, "1 2", None),
    "one that is wanted no more goes": ({"1": State.READY}, "", (UNLOAD, "1")),
    "a failed one that is wanted is not tried again": ({"1": State.FAILED}, "1", None),
    "a failed one that is wanted no more is forgotten": ({"1": State.FAILED}, "", (UNLOAD, "1")),
    "a draining one is left to drain": ({"1": State.DRAINING}, "", None),
    "loading comes before unloading": ({"1": State.READY, "2": State.READY}, "2 3", (LOAD, "3")),
}


@pytest.mark.parametrize(("known", "wanted", "action"), TABLE.values(), ids=TABLE.keys())
def test_the_next_action(known, wanted, action):
    expected = None if action is None else Action(*action)
    assert next_action([VersionStatus("m", v, s) for v, s in known.items()], wanted.split()) == expected


versions = st.integers(1, 5).map(str)


@given(st.dictionaries(versions, st.sampled_from(State)), st.sets(versions, min_size=1))
def test_the_last_ready_version_is_never_unloaded_while_something_is_wanted(known, wanted):
    action = next_action([VersionStatus("m", v, s) for v, s in known.items()], wanted)
    ready = {v for v, s in known.items() if s is State.READY}
    if action is not None and action.verb is UNLOAD and action.version in ready:
        assert ready & wanted


@given(st.dictionaries(versions, st.sampled_from([State.READY, State.FAILED])), st.sets(versions))
def test_doing_what_it_says_comes_to_an_end_with_what_is_wanted(known, wanted):
    """Loads succeed here; a version that failed before is not tried again."""
    steps = 0
    while action := next_action([VersionStatus("m", v, s) for v, s in known.items()], wanted):
        if action.verb is LOAD:
            known[action.version] = State.READY
        else:
            del known[action.version]
        steps += 1
        assert steps <= 20
    ready = {v for v, s in known.items() if s is State.READY}
    assert {v for v in wanted if known[v] is State.READY} <= ready
    assert set(known) == wanted or not ready & wanted
