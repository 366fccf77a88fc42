"""The streams that feed a step: training batches by position, evaluation batches in order."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Array, Images, LabelPairs, Labels, LabelWeights, PositionWords, Scalar
from convoy.data.augment.augmenter import augmenter
from convoy.data.augment.mix import Mixed, mix
from convoy.data.blocked import BlockedOrder
from convoy.data.config import DataConfig
from convoy.data.order import PositionRanges
from convoy.data.parallel import in_parallel, untuned
from convoy.data.sampler import Sampler
from convoy.data.schedule import Schedule
from convoy.data.sources.examples import Examples, Streamed


class Batch(NamedTuple):
    """What one replica gets of a step."""

    images: Images  # uint8 [n, h, w, c]
    labels: LabelPairs  # int32 [n, 2]: an example's own, and its partner's in a mix
    label_weights: LabelWeights  # float32 [n, 2]: together 1, or less where an image could not be read
    positions: PositionWords  # uint32 [n, 2]: low and high word of each


@dataclasses.dataclass(frozen=True)
class BatchSharding:
    """How every global batch is divided among replicas, and which replicas this process has.

    The batch is cut into `microbatches`, one after the other in the order of positions, and each of them into contiguous
    slices, one per replica. So the examples of a microbatch do not depend on the number of replicas, as long as it divides
    them. The last microbatch may be shorter.
    """

    batch_size: int
    microbatches: int = 1
    replicas: int = 1
    first_replica: int = 0
    local_replicas: int = 1

    @property
    def per_replica(self) -> int:
        """Examples of one replica in one step."""
        return self.batch_size // self.replicas

    @property
    def microbatch_sizes(self) -> list[int]:
        """Examples of one replica in each microbatch."""
        size = -(-self.per_replica // self.microbatches)
        full, tail = divmod(self.per_replica, size)
        return [size] * full + [tail] * (tail > 0)

    @property
    def part_sizes(self) -> list[int]:
        """Examples of every slice of every microbatch: of what a replica differentiates at once."""
        return self.microbatch_sizes * self.replicas

    def runs(self, local_replica: Scalar) -> list[tuple[Array, int]]:
        """(offset in the batch, length) of the consecutive positions of a replica of this process, in order."""
        offset, runs = 0, []
        for size in self.microbatch_sizes:
            runs.append((offset + (self.first_replica + local_replica) * size, size))
            offset += size * self.replicas
        return runs


def training_stream(
    examples: Examples,
    sharding: BatchSharding,
    data: DataConfig,
    seed: int,
    first_position: int,
    cached: int = 0,
    full_batch: int = 0,
    steps: int = 0,
) -> tf.data.Dataset:
    """Endless `Batch`es from `first_position` on, of static shape, each for one replica of this process in turn.

    Step i of the stream has the positions [first_position + i * B, first_position + (i + 1) * B). They straddle epochs and
    are never padded. What a position shows is a function of (seed, position) alone: to start anywhere costs nothing, and
    neither the batch size, parallel calls, replicas nor processes change it. With --order=blocked:N it is a function of
    `full_batch` too.

    Args:
      examples: the split to train on.
      sharding: which slices of a batch this process reads.
      data: the augmentation, balance and order.
      seed: the run's.
      first_position: any integer, 0 or above.
      cached: if above 0, the batches of so many steps over and over, from memory.
      full_batch: the run's --batch_size, where that of a step is smaller (--batch_ramp); 0: that of `sharding`.
      steps: how many are likely to be taken, so that no more is read ahead; 0: unknown.
    """
    blocks = blocked_order(examples, data, seed, full_batch or sharding.batch_size)
    recipe, sampler = data.recipe, Sampler(examples.labels, data.balance_spec, seed, blocks)
    # Partners of a mix may belong to different replicas, or to different steps: then each reads both.
    starts = (first_position, sharding.batch_size, *sharding.microbatch_sizes)
    aligned = not recipe.mixes or all(start % 2 == 0 for start in starts)
    if blocks and isinstance(examples, Streamed):
        runs = [run for replica in range(sharding.local_replicas) for run in sharding.runs(replica)]
        ranges = tuple((int(offset), length) for offset, length in runs)
        examples = examples.along(
            Schedule(blocks, first_position, sharding.batch_size, ranges, aligned, cached or steps)
        )
    fetch, change, labels = examples.fetcher(recipe.min_area), augmenter(recipe), _on_host(examples.labels)

    def batch(element: Scalar) -> Batch:
        step, replica = element // sharding.local_replicas, element % sharding.local_replicas
        start = first_position + step * sharding.batch_size
        own = PositionRanges([(start + offset, length) for offset, length in sharding.runs(replica)], seed)
        read = own.padded_to_pairs(aligned)
        sample = sampler.sample(read.positions)
        images, valid, shown = fetch(sample.indices, read)
        images = change(images, read, sample)
        mixed = mix(images, tf.gather(labels, shown), valid, read, recipe)
        if (rows := own.rows_after_padding(aligned)) is not None:
            mixed = Mixed(*(tf.gather(array, rows) for array in mixed))
        return Batch(mixed.images, mixed.labels, mixed.label_weights, tf.bitcast(own.positions, tf.uint32))

    size = sharding.per_replica * _floats_of(examples)
    stream = in_parallel(tf.data.Dataset.counter(), batch, size)
    return untuned(stream.take(cached * sharding.local_replicas).cache().repeat().prefetch(2)) if cached else stream


def blocked_order(examples: Examples, data: DataConfig, seed: int, batch_size: int) -> BlockedOrder | None:
    """The order of --order=blocked:N, of a run with this --batch_size; None for the full shuffle."""
    block = data.order_spec.block
    return BlockedOrder(len(examples), block, batch_size, seed) if block else None


def evaluation_batches(
    examples: Examples, batch_size: int, replicas: int = 1, first_replica: int = 0, local_replicas: int = 1
) -> tf.data.Dataset:
    """Every example once, in order: (images uint8 [B, h, w, c], labels int32 [B], weights float32 [B]).

    Batches go to `replicas` in rounds, ceil(examples / (B * replicas)) of them; this process gets those of replicas
    [first_replica, first_replica + local_replicas). They are filled up with repetitions of the first example, of weight 0, so
    that every replica has one in every round. An image that cannot be read has weight 0 too, where --bad_images allows it.
    """
    fetch, total, labels = examples.fetcher(), len(examples), _on_host(examples.labels)
    rounds = -(-total // (batch_size * replicas))

    def batch(element: Scalar) -> tuple[Array, Array, Array]:
        index = element // local_replicas * replicas + first_replica + element % local_replicas
        positions = index * batch_size + tf.range(batch_size, dtype=tf.int64)
        inside = positions < total
        chosen = tf.where(inside, positions, 0)
        images, valid, _ = fetch(chosen, None)
        return images, tf.gather(labels, chosen), tf.cast(inside, tf.float32) * valid

    return in_parallel(tf.data.Dataset.range(rounds * local_replicas), batch, batch_size * _floats_of(examples))


def _floats_of(examples: Examples) -> int:
    """Bytes of one image as float32, which it is while it is augmented."""
    return 4 * math.prod(examples.shape)


def _on_host(labels: np.ndarray) -> Labels:
    with tf.device("CPU:0"):
        return tf.constant(labels)
