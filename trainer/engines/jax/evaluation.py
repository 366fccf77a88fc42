"""What a network says of evaluation batches."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import keras
from jax.sharding import AbstractMesh, Mesh

from convoy.trainer.engines.base import Evaluated, EvaluationCounts
from convoy.trainer.engines.jax.devices import REPLICATED, SHARDED
from convoy.trainer.engines.jax.step import all_sum, to_floats
from convoy.trainer.losses.cross_entropy import cross_entropy


def evaluation_step(model: keras.Model, mesh: Mesh | AbstractMesh, classes: int) -> Callable[..., Evaluated]:
    """A jitted function (trainable, other, images, labels, weights) -> counts over all replicas, and each one's logits."""

    def evaluate(
        trainable: list[jax.Array],
        other: list[jax.Array],
        images: jax.Array,
        labels: jax.Array,
        weights: jax.Array,
    ) -> Evaluated:
        logits, _ = model.stateless_call(trainable, other, to_floats(images), training=False)
        logits = logits.astype(keras.config.floatx())
        inside = weights.astype(jnp.int32)
        guesses = jnp.argmax(logits, axis=-1)
        hits = inside * (guesses == labels)
        own = jnp.take_along_axis(logits, labels[:, None], axis=1)
        top5 = inside * ((jnp.sum(logits > own, axis=1) < min(5, classes)) & jnp.isfinite(own[:, 0]))

        def per_class(values: jax.Array, labels: jax.Array) -> jax.Array:
            return jnp.zeros(classes, jnp.int32).at[labels].add(values)

        counts = EvaluationCounts(
            jnp.sum(cross_entropy(logits, labels) * weights.astype(logits.dtype)),
            jnp.sum(inside, dtype=jnp.int32),
            jnp.sum(hits, dtype=jnp.int32),
            jnp.sum(top5, dtype=jnp.int32),
            per_class(inside, labels),
            per_class(inside, guesses),
            per_class(hits, labels),
        )
        return Evaluated(jax.tree.map(all_sum, counts), logits)

    specs = (REPLICATED, REPLICATED, SHARDED, SHARDED, SHARDED)
    outputs = Evaluated(REPLICATED, SHARDED)
    return jax.jit(jax.shard_map(evaluate, mesh=mesh, in_specs=specs, out_specs=outputs, check_vma=False))
