"""The streams that feed a step: training batches by position, evaluation batches in order."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from convoy.data.augment.augmenter import augmenter
from convoy.data.augment.mix import mix
from convoy.data.augment.recipe import Recipe
from convoy.data.balance import Sampler
from convoy.data.config import DataConfig
from convoy.data.order import PositionRanges
from convoy.data.parallel import in_parallel, untuned
from convoy.data.sources.examples import Examples


class Batch(NamedTuple):
    """What one replica gets of a step."""

    images: Any  # uint8 [n, height, width, channels]
    labels: Any  # int32 [n, 2]: an example's own, and that of the one it is mixed with
    shares: Any  # float32 [n, 2]: how much of the target each is; together 1, or less where an image could not be read
    positions: Any  # uint32 [n, 2]: low and high word of each example's position; JAX has no 64-bit integers by default


@dataclasses.dataclass(frozen=True)
class BatchSharding:
    """How each global batch is dealt, and which hands this process holds.

    The batch is cut into `parts`, one after the other in the order of positions, and each part into contiguous slices, one
    for each of the `replicas`. So what a part consists of does not depend on the number of replicas, as long as they divide
    it. The last part may be shorter. This process holds replicas [first, first + local).
    """

    batch_size: int
    parts: int = 1
    replicas: int = 1
    first: int = 0
    local: int = 1

    @property
    def per_replica(self) -> int:
        """Examples of one replica in one step."""
        return self.batch_size // self.replicas

    @property
    def sizes(self) -> list[int]:
        """Examples of one replica in each part."""
        size = -(-self.per_replica // self.parts)
        whole, tail = divmod(self.per_replica, size)
        return [size] * whole + [tail] * (tail > 0)

    def runs(self, replica: tf.Tensor) -> list[tuple[tf.Tensor, int]]:
        """(offset in the batch, length) of the consecutive positions that a replica of this process holds, in order."""
        offset, runs = 0, []
        for size in self.sizes:
            runs.append((offset + (self.first + replica) * size, size))
            offset += size * self.replicas
        return runs


def training_stream(
    examples: Examples, batch_sharding: BatchSharding, data: DataConfig, seed: int, first_step: int, cached: int = 0
) -> tf.data.Dataset:
    """Endless `Batch`es from step `first_step` on, of static shape, each for one replica of this process in turn.

    The batch of step s holds positions [s * B, (s + 1) * B) of the order, straddling epochs, never padded. What it
    contains is a function of (seed, s) alone: starting at any step costs nothing, and neither parallel calls, replicas nor
    processes change what a position shows. With `cached`, the batches of so many steps over and over, from memory.
    """
    recipe, order = Recipe.parse(data.augment), Sampler(examples.labels, data.balance, seed)
    fetch, change, labels = examples.fetcher(recipe.least_area), augmenter(recipe), _on_host(examples.labels)
    # Partners of a mix may be dealt to different replicas: then each replica reads both.
    aligned = not recipe.mixes or all(number % 2 == 0 for number in (batch_sharding.batch_size, *batch_sharding.sizes))

    def batch(element: tf.Tensor) -> Batch:
        step, replica = element // batch_sharding.local, element % batch_sharding.local
        asked = PositionRanges(
            [(step * batch_sharding.batch_size + at, length) for at, length in batch_sharding.runs(replica)], seed
        )
        stretches = asked.padded_to_pairs(aligned)
        drawn = order.draw(stretches.positions)
        images, counts, *others = fetch(drawn.indices, stretches)
        images = change(images, stretches, drawn)
        shown = others[0] if others else drawn.indices
        made = mix(images, tf.gather(labels, shown), counts, stretches, recipe)
        if (rows := asked.rows_after_padding(aligned)) is not None:
            made = [tf.gather(one, rows) for one in made]
        images, own, shares = made
        return Batch(images, own, shares, tf.bitcast(asked.positions, tf.uint32))

    size = batch_sharding.per_replica * _floats_of(examples)
    stream = in_parallel(tf.data.Dataset.counter(first_step * batch_sharding.local), batch, size)
    return untuned(stream.take(cached * batch_sharding.local).cache().repeat().prefetch(2)) if cached else stream


def evaluation_batches(
    examples: Examples, batch_size: int, replicas: int = 1, first: int = 0, local: int = 1
) -> tf.data.Dataset:
    """Every example once, in order: (images uint8 [B, h, w, c], labels int32 [B], weights float32 [B]).

    Batches go to `replicas` in rounds, ceil(examples / (B * replicas)) of them; this process gets those of replicas
    [first, first + local). They are filled up with repetitions of the first example, of weight 0, so that every replica has
    one in every round. An image that cannot be read has weight 0 too, where --bad_images allows it.
    """
    fetch, total, labels = examples.fetcher(), len(examples), _on_host(examples.labels)
    rounds = -(-total // (batch_size * replicas))

    def batch(element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        index = element // local * replicas + first + element % local
        positions = index * batch_size + tf.range(batch_size, dtype=tf.int64)
        inside = positions < total
        chosen = tf.where(inside, positions, 0)
        images, counts, *_ = fetch(chosen, None)
        return images, tf.gather(labels, chosen), tf.cast(inside, tf.float32) * counts

    return in_parallel(tf.data.Dataset.range(rounds * local), batch, batch_size * _floats_of(examples))


def _floats_of(examples: Examples) -> int:
    """Bytes of one image as float32, which it is while it is augmented."""
    return 4 * math.prod(examples.shape)


def _on_host(labels: np.ndarray) -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.constant(labels)
