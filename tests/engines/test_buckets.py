"""Which gradients travel together."""

from __future__ import annotations

import pytest

from convoy.trainer.engines.buckets import buckets


@pytest.mark.parametrize("count", [1, 2, 3, 8, 100])
def test_every_tensor_is_in_one_bucket_the_last_first(count):
    sizes = [27, 9, 100, 3, 400, 1, 250]
    groups = buckets(sizes, count)
    assert [index for group in groups for index in group] == [6, 5, 4, 3, 2, 1, 0]
    assert len(groups) <= count
    assert all(groups)


def test_buckets_are_of_about_the_same_size():
    assert buckets([10] * 8, 4) == [[7, 6], [5, 4], [3, 2], [1, 0]]
    assert buckets([1, 1, 1, 97], 4) == [[3], [2, 1, 0]]  # one tensor is never cut
    assert buckets([5], 4) == [[0]]
