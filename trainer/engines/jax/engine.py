"""One model, the same on every device of a mesh. See convoy.trainer.engines.protocol.Engine."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from convoy import exits
from convoy.data.pipeline import evaluation_batches, training_stream
from convoy.data.sources.examples import Examples
from convoy.trainer.engines import copies, hidden, loss_scale, normalization, randomness, variables
from convoy.trainer.engines.jax import devices, kernels
from convoy.trainer.engines.jax.feed import Feed, chunk_length
from convoy.trainer.engines.jax.step import (
    SHARED,
    WHOLE,
    State,
    all_sum,
    evaluation_step,
    training_loop,
    training_step,
    training_steps,
)
from convoy.trainer.engines.lost import lost_peer
from convoy.trainer.engines.pace import StepsPerLoop, evaluation_batch_size
from convoy.trainer.engines.protocol import LoopResult
from convoy.trainer.engines.runtime import Runtime, check_parts
from convoy.trainer.metrics import EvaluationSums
from convoy.trainer.losses.build import build_loss
from convoy.trainer.models import rescaling
from convoy.trainer.models.build import build_model
from convoy.trainer.optimizers.build import build_optimizer
from convoy.trainer.schedules.schedule import build_schedule

_STATUS = re.compile(r"(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): ")
LARGE = 1_000_000  # parameters; on CPUs a step of a model of that size takes a tenth of a second and more


class JaxEngine:
    """The global batch on one device, or shared by several, of one process or many, that hold the same weights.

    Args:
      setting: from `prepare`.
      image_shape: (height, width, channels).
      draws: int64 [classes], how often an epoch of the training stream shows each class: there are as many logits, the sum
        turns epochs of the schedule into steps, and --loss corrects for them.
    """

    def __init__(self, runtime: Runtime, image_shape: tuple[int, int, int], draws: np.ndarray):
        config = runtime.config
        self.runtime, self.config, self.cluster, self.replicas = runtime, config, runtime.cluster, runtime.replicas
        self.description = devices.describe(runtime)
        self.loss = build_loss(config.loss_spec, config.label_smoothing, draws)
        self.classes, self.pixels, self._mesh = len(draws), image_shape[0] * image_shape[1], runtime.place
        self.model = build_model(config.model, image_shape, self.classes, **config.model_options)
        self.schedule = build_schedule(config, int(draws.sum()))
        self.optimizer = build_optimizer(config, self.schedule, self.model)
        variables.check(self.model, self.optimizer, config.model)
        check_parts(config, self.model, self.replicas)
        self.notes = rescaling.note(self.model, config.model)
        normalization.install(self.model, config.batchnorm_spec, all_sum, self.replicas)
        if self.replicas > 1:
            self.notes += randomness.note(self.model, config.model)
            randomness.decorrelate_replicas(self.model, lambda: jax.lax.axis_index(devices.AXIS))
        if config.devices_spec.platform == "cpu":
            kernels.install(self.model)
        self.parameters = variables.trainable_numbers(self.model)
        self._names = self._named()
        self._state = self._place(self._initial())
        batch_sharding = runtime.batch_sharding
        self._chunk = chunk_length(
            batch_sharding.per_replica * batch_sharding.local_replicas * int(np.prod(image_shape))
        )
        merging = copies.merging(self.model, self.replicas)
        step = training_step(
            self.model, self.loss, self.optimizer, self._averaged, config, batch_sharding.microbatch_sizes, merging
        )
        alone = config.devices_spec.platform == "cpu" and self.parameters >= LARGE
        self._train = training_steps(step, self._mesh) if alone else training_loop(step, self._mesh, self._chunk)
        self._train_again = lambda: training_loop(step, self._mesh, self._chunk)
        self._evaluate = evaluation_step(self.model, self._mesh, self.classes)
        self._feed: Feed | None = None
        self._examples: Examples | None = None
        self._attributes = hidden.Attributes(self.model, config.model)
        self._traced = False

    def feed(self, examples: Examples, first_position: int, cached: int = 0) -> None:
        if self._feed:
            self._feed.close()
        self._examples = examples
        config = self.config
        stream = training_stream(
            examples, self.runtime.batch_sharding, config.data, config.seed, first_position, cached
        )
        self._feed = Feed(stream, self.runtime.local, self._chunk, self._mesh)

    def compile(self) -> None:
        return  # the first `train` still compiles

    def train(self, steps: int) -> LoopResult:
        assert self._feed is not None, "feed comes first"
        outcomes, waited, left = [], 0.0, steps
        with self._sentences(self._examples):
            going = self._place(jnp.ones((), bool))
            while left:
                batches, first, count, seconds = self._feed.next(left, self._state)
                with contextlib.nullcontext() if self._traced else self._tracing(batches):
                    self._state, going, *outcome = self._train(
                        self._state, going, batches, np.int32(first), np.int32(count)
                    )
                outcomes.append(outcome)
                waited, left = waited + seconds, left - count
            fetched = [[np.asarray(one) for one in outcome] for outcome in outcomes]
            finite = bool(np.asarray(going))
        made = [int(outcome[0]) for outcome in fetched]
        losses, norms = (
            np.concatenate([outcome[k][:n] for n, outcome in zip(made, fetched, strict=True)]).astype(np.float64)
            for k in (1, 2)
        )
        return LoopResult(sum(made), losses, norms, sum(int(outcome[3]) for outcome in fetched), waited, finite)

    def check_layers(self) -> None:
        if self.replicas == 1:
            return
        names = self._named()
        values = [*self._state.trainable, *self._state.other]
        with self._sentences(None):
            found = (
                (name, [np.asarray(shard.data) for shard in value.addressable_shards])
                for name, value in zip(names, values, strict=False)
            )
            name = copies.compare(found, self)
        if name:
            raise exits.CannotRun(copies.sentence(self, name))

    def evaluate(self, examples: Examples, stop: Callable[[], bool]) -> EvaluationSums | None:
        batch_sharding, pace, total = self.runtime.batch_sharding, StepsPerLoop(), EvaluationSums.zero(self.classes)
        batch_size = evaluation_batch_size(max(batch_sharding.microbatch_sizes), self.pixels, len(examples))
        expected = len(examples) - len(examples.unreadable())
        stream = evaluation_batches(
            examples, batch_size, batch_sharding.replicas, batch_sharding.first_replica, batch_sharding.local_replicas
        )
        batches = iter(stream.batch(batch_sharding.local_replicas, drop_remainder=True).as_numpy_iterator())
        sharding = NamedSharding(self._mesh, SHARED)
        trainable, other = self._for_evaluation()
        left = -(-len(examples) // (batch_size * self.replicas))
        with self._sentences(examples):
            while left:
                if stop():
                    return None
                begun, some, outcomes = time.perf_counter(), self.broadcast_int(pace.steps(left)), []
                for _ in range(some):
                    own = [one.reshape(-1, *one.shape[2:]) for one in next(batches)]
                    sent = (jax.make_array_from_process_local_data(sharding, one) for one in own)
                    outcomes.append(self._evaluate(trainable, other, *sent))
                for outcome in outcomes:
                    loss, *sums = (np.asarray(one) for one in outcome)
                    count, right, top5, *per_class = sums
                    found = (one.astype(np.int64) for one in per_class)
                    total.add(EvaluationSums(float(loss), int(count), int(right), int(top5), *found))
                pace.record(some, time.perf_counter() - begun)
                left -= some
        if total.examples != expected or int(total.count.sum()) != expected:
            raise RuntimeError(f"evaluation counted {total.examples} of {expected} examples")
        return total

    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        leaves = zip(self._names, jax.tree.leaves(self._state), strict=True)
        return {name: (value.shape, value.dtype) for name, value in leaves}

    def stream_state(self) -> Iterator[tuple[str, np.ndarray]]:
        for name, value in zip(self._names, jax.tree.leaves(self._state), strict=True):
            # The first device's, as an array of its own: `value` itself would keep what NumPy has seen of it.
            yield name, np.asarray(value.addressable_data(0))

    def state(self) -> dict[str, np.ndarray]:
        return {name: np.array(value) for name, value in self.stream_state()}

    def check(self, state: Mapping[str, np.ndarray]) -> None:
        variables.compare(self.shapes(), state)

    def restore(self, state: Mapping[str, np.ndarray] | None) -> None:
        if state is not None:
            self.check(state)
        own = [
            np.zeros(value.shape, value.dtype) if state is None else np.asarray(state[name]).astype(value.dtype)
            for name, value in zip(self._names, jax.tree.leaves(self._state), strict=True)
        ]
        with self._sentences(None):
            if self.cluster.processes > 1:
                own = [np.asarray(one) for one in multihost_utils.broadcast_one_to_all(own)]
            self._state = self._place(jax.tree.unflatten(jax.tree.structure(self._state), own))

    def any(self, flag: bool) -> bool:
        if self.cluster.processes == 1:
            return flag
        with self._sentences(None):
            return bool(multihost_utils.process_allgather(np.array(flag, np.int32)).any())

    def barrier(self) -> None:
        self.any(False)

    def broadcast_int(self, number: int) -> int:
        return int(self.broadcast(str(number).encode()))

    def broadcast(self, text: bytes) -> bytes:
        if self.cluster.processes == 1:
            return text
        with self._sentences(None):
            size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
            own = np.frombuffer(text, np.uint8) if self.cluster.is_leader else np.zeros(size, np.uint8)
            return np.asarray(multihost_utils.broadcast_one_to_all(own.astype(np.int32))).astype(np.uint8).tobytes()

    def learning_rate(self, step: int) -> float:
        return float(self.schedule(step))

    @contextlib.contextmanager
    def _tracing(self, batches: Any) -> Iterator[None]:
        """Around the first step, which is compiled."""
        with self._attributes.explaining():
            yield
        self._traced = True
        some = jax.tree.map(lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=one.sharding), batches)
        number = np.int32(0)
        self._attributes.check(lambda: jax.eval_shape(self._train_again(), self._state, np.True_, some, number, number))

    def _initial(self) -> State:
        averages = [v.value for v in variables.averaged_variables(self.model)] if self.config.ema else []
        scaled = self.config.precision == "mixed_float16"
        return State(
            [v.value for v in self.model.trainable_variables],
            [v.value for v in self.model.non_trainable_variables],
            [v.value for v in self.optimizer.variables],
            averages,
            [np.float32(loss_scale.INITIAL), np.int32(0)] if scaled else [],
        )

    def _named(self) -> list[str]:
        """The checkpoint name of every leaf of the state, in order."""
        names = [f"model/{v.path}" for v in (*self.model.trainable_variables, *self.model.non_trainable_variables)]
        names += [f"optimizer/{v.path}" for v in self.optimizer.variables]
        if self.config.ema:
            names += [f"ema/{v.path}" for v in variables.averaged_variables(self.model)]
        if self.config.precision == "mixed_float16":
            names += ["loss_scale/scale", "loss_scale/good_steps"]
        return names

    def _place(self, tree: Any) -> Any:
        """Every leaf of a tree, whole on every device."""
        sharding = NamedSharding(self._mesh, WHOLE)

        def put(leaf: Any) -> Any:
            # A copy: what is put is given away at the next step, and Keras' variables still hold the original.
            value = np.array(leaf)
            return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

        return jax.tree.map(put, tree)

    def _averaged(self, state: State) -> list[Any]:
        """The weights that are averaged, in the order of their averages."""
        found = self._locations()
        return [getattr(state, kind)[index] for kind, index in found]

    def _locations(self) -> list[tuple[str, int]]:
        places = {id(v): ("trainable", i) for i, v in enumerate(self.model.trainable_variables)}
        places |= {id(v): ("other", i) for i, v in enumerate(self.model.non_trainable_variables)}
        return [places[id(v)] for v in variables.averaged_variables(self.model)]

    def _for_evaluation(self) -> tuple[list[Any], list[Any]]:
        """(trainable, other) with the averaged weights in place of the last ones."""
        lists = {"trainable": list(self._state.trainable), "other": list(self._state.other)}
        if self.config.ema:
            for (kind, index), average in zip(self._locations(), self._state.average, strict=True):
                lists[kind][index] = average
        return lists["trainable"], lists["other"]

    @contextlib.contextmanager
    def _sentences(self, examples: Examples | None) -> Iterator[None]:
        """Turns errors of JAX, and of the pipeline, that a person can act on into sentences."""
        try:
            yield
        except tf.errors.OpError as error:
            if sentence := examples.explain() if examples else "":
                raise exits.BadData(sentence) from error
            raise
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            text = (str(error).splitlines() or [""])[0][:200]
            # Some collectives end in a ValueError that has the status of a runtime error.
            if isinstance(error, ValueError) and not _STATUS.match(text):
                raise
            if text.startswith("RESOURCE_EXHAUSTED"):
                raise exits.CannotRun(
                    f"out of memory on {self.description} with --batch_size={self.config.batch_size}; raise --accumulate"
                    f" (now {self.config.accumulate}), which needs less at once for the same result, or lower --batch_size."
                ) from error
            if self.cluster.processes > 1:
                raise lost_peer(self.cluster.processes, text) from error
            raise
