"""Which gradients travel together."""

from __future__ import annotations

import pytest

from convoy.trainer.engines.buckets import buckets


@pytest.mark.parametrize("generation", [3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 100])
def test_every_tensor_is_in_one_bucket_the_last_first(count, generation):
    sizes = [27, 9, 100, 3, 400, 1, 250]
    groups = buckets(sizes, count, generation)
    assert sorted(index for group in groups for index in group) == [0, 1, 2, 3, 4, 5, 6]
    assert [min(group) for group in groups] == sorted((min(group) for group in groups), reverse=True)
    assert len(groups) <= count
    assert all(groups)


def test_buckets_are_of_about_the_same_size():
    assert buckets([10] * 8, 4, generation=3) == [[7, 6], [5, 4], [3, 2], [1, 0]]
    assert buckets([1, 1, 1, 97], 4, generation=3) == [[3], [2, 1, 0]]  # one tensor is never cut
    assert buckets([5], 4, generation=3) == [[0]]


def test_buckets_that_taper_have_half_of_what_is_left():
    assert buckets([10] * 13, 5, generation=4) == [[12, 11, 10, 9, 8, 7, 6], [5, 4, 3], [2, 1], [0]]
    assert buckets([2, 3], 1, generation=4) == [[1, 0]]


def test_a_large_tensor_travels_by_itself():
    sizes = [10, 200, 1, 10, 300, 1, 400, 1]
    assert buckets(sizes, 8, generation=4) == [[6], [4], [7, 5, 3], [1], [2, 0]]
    assert buckets(sizes, 4, generation=4) == [[6], [4], [7, 5, 3, 2, 1], [0]]  # of four buckets two at most
    assert buckets(sizes, 4, generation=3) == [[7, 6], [5, 4], [3, 2, 1, 0]]
