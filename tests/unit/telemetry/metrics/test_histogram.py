"""Buckets and percentiles, held against numpy's."""

from bisect import bisect_left
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.telemetry.metrics.histogram import ROWS, SECONDS, SHOWN_SECONDS, Histogram, cumulative, empty, percentile

SHARES = (0.01, 0.5, 0.9, 0.95, 0.99, 1.0)


def counted(numbers: list[float], bounds: tuple[float, ...] = SECONDS) -> Histogram:
    counts = [0] * (len(bounds) + 1)
    for number in numbers:
        counts[bisect_left(bounds, number)] += 1
    return Histogram(bounds, tuple(counts), sum(numbers))


def test_bounds_ascend_and_are_never_far_apart():
    assert SECONDS[0] == 1e-5
    assert SECONDS[-1] == 63.0
    assert all(1.1 < b / a < 1.15 for a, b in pairwise(SECONDS))


def test_what_prometheus_is_told_is_a_part_with_the_limits_that_objectives_use():
    assert set(SECONDS) >= SHOWN_SECONDS >= {0.001, 0.002, 0.005, 0.01, 0.1, 0.5, 1.0, 10.0}
    assert all(b / a < 1.5 for a, b in pairwise(sorted(SHOWN_SECONDS)))


@given(st.lists(st.floats(0, 70), min_size=1, max_size=300), st.sampled_from(SHARES))
def test_a_percentile_is_in_the_bucket_of_numpys(numbers: list[float], share: float):
    found = counted(numbers).percentile(share)
    assert found is not None
    bucket = bisect_left(SECONDS, float(np.quantile(numbers, share, method="inverted_cdf")))
    bounds = (0.0, *SECONDS, SECONDS[-1])
    # The share times the count is rounded, here and there; the neighbour in rank is as right.
    neighbours = [
        bisect_left(SECONDS, float(np.quantile(numbers, s, method="inverted_cdf"))) for s in (share - 1e-9, share)
    ]
    assert any(bounds[b] <= found <= bounds[b + 1] for b in {bucket, *neighbours})


@given(st.lists(st.floats(0, 70), min_size=1, max_size=100))
def test_percentiles_ascend_with_the_share(numbers: list[float]):
    found = [counted(numbers).percentile(share) for share in SHARES]
    assert found == sorted(found)


@given(st.lists(st.floats(0, 70)), st.lists(st.floats(0, 70)))
def test_adding_two_histograms_is_counting_both(first: list[float], second: list[float]):
    both = counted(first).plus(counted(second))
    assert both.counts == counted(first + second).counts
    assert both.sum == pytest.approx(sum(first) + sum(second))


def test_a_percentile_is_interpolated_within_its_bucket():
    assert percentile((1.0, 2.0, 3.0), (0, 10, 0, 0), 0.5) == 1.5
    assert percentile((1.0, 2.0, 3.0), (4, 0, 4, 0), 0.5) == 1.0
    assert percentile((1.0, 2.0, 3.0), (4, 0, 4, 0), 0.75) == 2.5


def test_nothing_counted_is_no_number():
    assert empty(SECONDS).percentile(0.5) is None
    assert empty(SECONDS).mean is None


def test_what_lies_beyond_the_last_bound_is_taken_to_be_there():
    assert counted([600.0]).percentile(0.99) == SECONDS[-1]


def test_a_bound_belongs_to_its_own_bucket():
    assert counted([8.0], tuple(float(b) for b in ROWS)).percentile(1.0) == 8.0
    assert dict(cumulative(counted([0.005]), SHOWN_SECONDS))[0.005] == 1


def test_cumulative_counts_end_with_everything():
    found = cumulative(counted([0.001, 0.003, 100.0]), SHOWN_SECONDS)
    assert found[-1] == (float("inf"), 3)
    assert [n for _, n in found] == sorted(n for _, n in found)
