"""A loop over rows hands on arrays alone, and what is no array as it is."""

from __future__ import annotations

import tensorflow as tf

from convoy.data.rows import map_rows


def test_what_is_no_array_is_that_of_every_row():
    seen = []

    def joined(row):
        numbers, (word, nothing) = row
        seen.append((word, nothing))
        return numbers["first"] + numbers["second"][0] * word

    rows = ({"first": tf.constant([1, 2]), "second": tf.constant([[10], [20]])}, (3, None))
    together = tf.function(lambda: map_rows(joined, rows, tf.TensorSpec([], tf.int32)), autograph=False)
    assert together().numpy().tolist() == [31, 62]
    assert set(seen) == {(3, None)}
