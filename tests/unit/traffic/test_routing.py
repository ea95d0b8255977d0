"""Which version answers a request that names none."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.endpoint import Route
from limen.traffic.routing import Split

UNITS = [f"unit-{i}" for i in range(20_000)]


def test_shares_are_what_they_say():
    split = Split("credit", [Route(7, 90), Route(8, 10)])
    counts = Counter(split.route(unit) for unit in UNITS)
    assert set(counts) == {"7", "8"}
    assert abs(counts["8"] / len(UNITS) - 0.10) < 0.01


def test_a_larger_share_keeps_the_units_it_had():
    small, large = Split("credit", [Route(8, 10), Route(7, 90)]), Split("credit", [Route(8, 30), Route(7, 70)])
    kept = [unit for unit in UNITS if small.route(unit) == "8"]
    assert kept
    assert {large.route(unit) for unit in kept} == {"8"}


def test_endpoints_choose_independently():
    one, other = (Split(name, [Route(1, 50), Route(2, 50)]) for name in ("a", "b"))
    same = sum(one.route(unit) == other.route(unit) for unit in UNITS)
    assert abs(same / len(UNITS) - 0.5) < 0.02


@given(st.text(), st.lists(st.integers(0, 100), min_size=1, max_size=5))
def test_every_unit_gets_the_same_version_every_time_and_none_gets_one_without_a_share(unit, weights):
    weights = [*weights, max(0, 100 - sum(weights))]
    left, routes = 100, []
    for number, weight in enumerate(weights, 1):
        routes.append(Route(number, min(weight, left)))
        left -= routes[-1].weight
    split = Split("credit", routes)
    chosen = split.route(unit)
    assert chosen == split.route(unit)
    assert next(r for r in routes if str(r.version) == chosen).weight > 0


def test_what_is_left_of_shares_takes_everything_between_them():
    """At the start of a server, when one version of an endpoint cannot be loaded."""
    split = Split("credit", [Route(7, 50), Route(8, 25)])
    counts = Counter(split.route(unit) for unit in UNITS)
    assert abs(counts["7"] / len(UNITS) - 2 / 3) < 0.01
    assert counts["7"] + counts["8"] == len(UNITS)
