"""Which gradients travel together."""

from __future__ import annotations

import pytest

from convoy.trainer.engines.buckets import buckets


@pytest.mark.parametrize("tapers", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 100])
def test_every_tensor_is_in_one_bucket_the_last_first(count, tapers):
    sizes = [27, 9, 100, 3, 400, 1, 250]
    groups = buckets(sizes, count, tapers)
    assert sorted(index for group in groups for index in group) == [0, 1, 2, 3, 4, 5, 6]
    assert [min(group) for group in groups] == sorted((min(group) for group in groups), reverse=True)
    assert len(groups) <= count
    assert all(groups)


def test_buckets_are_of_about_the_same_size():
    assert buckets([10] * 8, 4, tapers=False) == [[7, 6], [5, 4], [3, 2], [1, 0]]
    assert buckets([1, 1, 1, 97], 4, tapers=False) == [[3], [2, 1, 0]]  # one tensor is never cut
    assert buckets([5], 4, tapers=False) == [[0]]


def test_buckets_that_taper_have_half_of_what_is_left():
    assert buckets([10] * 13, 5, tapers=True) == [[12, 11, 10, 9, 8, 7, 6], [5, 4, 3], [2, 1], [0]]
    assert buckets([2, 3], 1, tapers=True) == [[1, 0]]


def test_a_large_tensor_travels_by_itself():
    sizes = [10, 200, 1, 10, 300, 1, 400, 1]
    assert buckets(sizes, 8, tapers=True) == [[6], [4], [7, 5, 3], [1], [2, 0]]
    assert buckets(sizes, 4, tapers=True) == [[6], [4], [7, 5, 3, 2, 1], [0]]  # of four buckets two at most
    assert buckets(sizes, 4, tapers=False) == [[7, 6], [5, 4], [3, 2, 1, 0]]
