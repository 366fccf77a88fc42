"""A run's model, optimizer and functions, names and shapes: all that needs no device.

With a Mesh of devices a JaxEngine compiles and runs them. With an AbstractMesh they can still be lowered, for devices that are
not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding

from convoy.data.arrays import Array, ClassCounts
from convoy.data.pipeline import Batch
from convoy.trainer.engines import loss_scale, variables
from convoy.trainer.engines.jax import convolutions, depthwise, kernels
from convoy.trainer.engines.jax.devices import AXIS, CHUNK, REPLICATED
from convoy.trainer.engines.jax.evaluation import evaluation_step
from convoy.trainer.engines.jax.feed import chunk_length
from convoy.trainer.engines.jax.loops import single_step, training_loop
from convoy.trainer.engines.jax.step import State, TrainingStep, all_sum
from convoy.trainer.engines.parts import build_parts
from convoy.trainer.engines.runtime import Runtime
from convoy.trainer.engines.stages import Stage

LARGE = 1_000_000  # parameters; on CPUs a step of a model of that size takes a tenth of a second and more


class Images(NamedTuple):
    """What a program takes for an example's image: that, or its features."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Programs:
    """What a run computes, on whatever devices. The arguments are those of `build_parts`."""

    def __init__(self, runtime: Runtime, image_shape: tuple[int, int, int], draws: ClassCounts):
        self.runtime, self.mesh = runtime, runtime.strategy_or_mesh
        on_cpu = runtime.config.devices_spec.platform == "cpu"
        generation = runtime.config.generation
        self.parts = build_parts(runtime, image_shape, draws, all_sum, lambda: lax.axis_index(AXIS))
        if on_cpu:
            kernels.install(self.parts.model)
        if on_cpu and generation >= 2:
            convolutions.install(self.parts.model, winograds=generation >= 3)
            depthwise.install(self.parts.model)
        # XLA's CPU backend would make one sum of all, which begins when the last gradient is there.
        apart = on_cpu and runtime.config.gradient_buckets > 1
        self.compiler_options = {"xla_disable_hlo_passes": "cpu-all-reduce-combiner"} if apart else {}
        self.parameters = variables.trainable_numbers(self.parts.model)
        # A step is large by what it computes with, whether it trains that or not.
        still = self.parts.stages[-1].still
        frozen = sum(int(np.prod(v.shape)) for v in self.parts.model.weights if id(v) in still)
        self.dispatches_each_step = on_cpu and self.parameters + frozen >= LARGE
        self.images = Images(image_shape, np.dtype(np.uint8))
        self.evaluate = evaluation_step(self.parts.model, self.mesh, self.parts.classes)

    def chunk(self, stage: Stage, images: Images) -> int:
        """How many batches of a stage travel in one go."""
        sharding = self.runtime.sharding(stage.batch_size)
        return chunk_length(sharding.per_replica * sharding.local_replicas * images.bytes)

    def step(self, stage: Stage) -> TrainingStep:
        sizes = self.runtime.sharding(stage.batch_size).microbatch_sizes
        return TrainingStep(self.parts, self.runtime.config, stage, sizes)

    def lower(
        self, platforms: Sequence[str] | None = None, stage: Stage | None = None, images: Images | None = None
    ) -> jax.stages.Lowered:
        """The program of a loop of steps, or of one where each is dispatched, traced anew.

        Args:
          platforms: what to lower for, ("tpu",) for one; those of the mesh's devices if None.
          stage: that the steps belong to; the first if None.
          images: what they train on; the run's images if None.
        """
        stage, images = stage or self.parts.stages[0], images or self.images
        step, batches = self.step(stage), self.chunk_shapes(stage, images)
        number = jax.ShapeDtypeStruct((), np.int32, sharding=NamedSharding(self.mesh, REPLICATED))
        if self.dispatches_each_step:
            traced = single_step(step, self.mesh).trace(self.state_shapes(), batches, number)
        else:
            going = jax.ShapeDtypeStruct((), bool, sharding=NamedSharding(self.mesh, REPLICATED))
            loop = training_loop(step, self.mesh, self.chunk(stage, images), self.runtime.config.noise_scale)
            traced = loop.trace(self.state_shapes(), going, batches, number, number)
        return traced.lower(lowering_platforms=tuple(platforms) if platforms else None)

    def chunk_shapes(self, stage: Stage, images: Images) -> Batch:
        """Shapes, types and sharding of a chunk of batches."""
        sharding, chunk = NamedSharding(self.mesh, CHUNK), self.chunk(stage, images)

        def batches(dtype: type | np.dtype, *shape: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((chunk, stage.batch_size, *shape), dtype, sharding=sharding)

        return Batch(
            batches(images.dtype, *images.shape),
            labels=batches(np.int32, 2),
            label_weights=batches(np.float32, 2),
            positions=batches(np.uint32, 2),
        )

    def state_shapes(self) -> State:
        """Shapes, types and sharding of the state."""
        sharding = NamedSharding(self.mesh, REPLICATED)
        return jax.tree.map(
            lambda value: jax.ShapeDtypeStruct(jnp.shape(value), value.dtype, sharding=sharding), self.first_state()
        )

    def first_state(self) -> State:
        """The state before the first step, where Keras made it."""
        model, config = self.parts.model, self.runtime.config
        averages = [variable.value for variable in self.parts.averaged_variables]
        scaled = config.precision == "mixed_float16"
        return State(
            [variable.value for variable in model.trainable_variables],
            [variable.value for variable in model.non_trainable_variables],
            [variable.value for variable in self.parts.optimizer.variables],
            averages,
            [np.float32(loss_scale.INITIAL), np.int32(0)] if scaled else [],
        )

    def names(self) -> list[str]:
        """The checkpoint name of every leaf of the state, in order."""
        model, config = self.parts.model, self.runtime.config
        names = [f"model/{v.path}" for v in (*model.trainable_variables, *model.non_trainable_variables)]
        names += [f"optimizer/{v.path}" for v in self.parts.optimizer.variables]
        names += [f"ema/{v.path}" for v in self.parts.averaged_variables]
        if config.precision == "mixed_float16":
            names += ["loss_scale/scale", "loss_scale/good_steps"]
        return names

    def for_evaluation(self, state: State) -> tuple[list[Array], list[Array]]:
        """(trainable, other) with the averaged weights in place of the last ones."""
        lists = {"trainable": list(state.trainable), "other": list(state.other)}
        if state.average:
            for (kind, index), average in zip(self._averaged_places(), state.average, strict=True):
                lists[kind][index] = average
        return lists["trainable"], lists["other"]

    def _averaged_places(self) -> list[tuple[str, int]]:
        model = self.parts.model
        places = {id(v): ("trainable", index) for index, v in enumerate(model.trainable_variables)}
        places |= {id(v): ("other", index) for index, v in enumerate(model.non_trainable_variables)}
        return [places[id(v)] for v in self.parts.averaged_variables]
