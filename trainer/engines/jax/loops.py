"""Several steps: in one dispatch, or with a dispatch for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, Mesh

from convoy.data.pipeline import Batch
from convoy.trainer.engines.jax.devices import CHUNK, REPLICATED
from convoy.trainer.engines.jax.step import Outcome, State

Step: TypeAlias = Callable[[State, Batch], tuple[State, Outcome]]


class LoopOutcome(NamedTuple):
    """Of several steps. Losses, norms and squares may be longer than `steps`; the rest says nothing."""

    steps: jax.Array
    losses: jax.Array  # floats [n], of each step
    norms: jax.Array
    squares: list[jax.Array]  # with --noise_scale floats [n], else none
    correct: jax.Array


# (state, whether to go on, chunk of batches, the first to use, how many) -> (state, whether to go on, outcome)
Loop: TypeAlias = Callable[[State, jax.Array, Batch, np.int32, np.int32], tuple[State, "jax.Array | bool", LoopOutcome]]


def training_loop(step: Step, mesh: Mesh | AbstractMesh, chunk: int, noise_scale: bool) -> jax.stages.Wrapped:
    """A jitted `Loop` over a chunk of batches, [chunk, ...] each, in one dispatch.

    The first batch and their number live on the device: no length is compiled twice. A step after which not to go on ends the
    loop, and a loop that may not go on makes no step, so that chunks are dispatched without waiting for one another.
    """

    def loop(
        state: State, going: jax.Array, batches: Batch, first: jax.Array, count: jax.Array
    ) -> tuple[State, jax.Array, LoopOutcome]:
        def body(carry: tuple[State, jax.Array, LoopOutcome]) -> tuple[State, jax.Array, LoopOutcome]:
            state, _, (index, losses, norms, squares, correct) = carry
            batch = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, first + index, keepdims=False), batches)
            state, outcome = step(state, batch)
            losses, norms = losses.at[index].set(outcome.loss), norms.at[index].set(outcome.norm)
            squares = [array.at[index].set(square) for array, square in zip(squares, outcome.squares, strict=True)]
            return state, outcome.going, LoopOutcome(index + 1, losses, norms, squares, correct + outcome.correct)

        floats = jnp.zeros(chunk, keras.config.floatx())
        zero = jnp.zeros((), jnp.int32)
        nothing = LoopOutcome(zero, floats, floats, [floats] if noise_scale else [], zero)
        return lax.while_loop(lambda carry: (carry[2].steps < count) & carry[1], body, (state, going, nothing))

    specs = (REPLICATED, REPLICATED, CHUNK, REPLICATED, REPLICATED)
    sharded = jax.shard_map(loop, mesh=mesh, in_specs=specs, out_specs=REPLICATED, check_vma=False)
    return jax.jit(sharded, donate_argnums=(0, 1))


def single_step(step: Step, mesh: Mesh | AbstractMesh) -> jax.stages.Wrapped:
    """A jitted step with one batch of a chunk: (state, chunk of batches, which) -> (state, outcome)."""

    def indexed(state: State, batches: Batch, index: jax.Array) -> tuple[State, Outcome]:
        return step(state, jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, index, keepdims=False), batches))

    specs = (REPLICATED, CHUNK, REPLICATED)
    sharded = jax.shard_map(indexed, mesh=mesh, in_specs=specs, out_specs=REPLICATED, check_vma=False)
    return jax.jit(sharded, donate_argnums=0)


def dispatch_each_step(step: jax.stages.Compiled, noise_scale: bool) -> Loop:
    """A `Loop` that calls a compiled `single_step` for each step.

    XLA's CPU backend computes a large step more slowly inside a loop, by more than dispatching it takes.
    """

    def loop(
        state: State, going: jax.Array, batches: Batch, first: np.int32, count: np.int32
    ) -> tuple[State, bool, LoopOutcome]:
        outcomes: list[Outcome] = []
        goes = bool(going)
        # Whether there is a next step is known only when this one is over.
        while goes and len(outcomes) < count:
            state, outcome = step(state, batches, first + np.int32(len(outcomes)))
            outcomes.append(outcome)
            goes = bool(outcome.going)
        losses = np.array([float(outcome.loss) for outcome in outcomes])
        norms = np.array([float(outcome.norm) for outcome in outcomes])
        squares = [np.array([float(outcome.squares[0]) for outcome in outcomes])] if noise_scale else []
        correct = sum(int(outcome.correct) for outcome in outcomes)
        return state, goes, LoopOutcome(len(outcomes), losses, norms, squares, correct)

    return loop
