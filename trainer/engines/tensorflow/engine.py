"""One model, mirrored on every device of a strategy. See convoy.trainer.engines.protocol.Engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops

from convoy import exits
from convoy.data.parallel import untuned
from convoy.data.pipeline import Batch, evaluation_batches, training_stream
from convoy.data.sources.examples import Examples
from convoy.trainer.engines import copies, hidden, normalization, randomness, variables
from convoy.trainer.engines.lost import lost_peer
from convoy.trainer.engines.pace import StepsPerLoop, evaluation_batch_size
from convoy.trainer.engines.protocol import LoopResult
from convoy.trainer.engines.runtime import Runtime, check_parts
from convoy.trainer.engines.tensorflow import devices, graph, undo
from convoy.trainer.engines.tensorflow.average import Average
from convoy.trainer.engines.tensorflow.host import Host
from convoy.trainer.engines.tensorflow.scaling import LossScale
from convoy.trainer.engines.tensorflow.step import all_sum, evaluation_loop, gradients_of, training_loop
from convoy.trainer.metrics import EvaluationSums
from convoy.trainer.losses.build import build_loss
from convoy.trainer.models import rescaling
from convoy.trainer.models.build import build_model
from convoy.trainer.optimizers.build import build_optimizer
from convoy.trainer.schedules.schedule import build_schedule


class TensorFlowEngine:
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
        self.classes, self.pixels = len(draws), image_shape[0] * image_shape[1]
        self._strategy: tf.distribute.Strategy = runtime.place
        with self._strategy.scope():
            self.model = build_model(config.model, image_shape, self.classes, **config.model_options)
            self.schedule = build_schedule(config, int(draws.sum()))
            self.optimizer = build_optimizer(config, self.schedule, self.model)
            self.average = Average(variables.averaged_variables(self.model), config.ema) if config.ema else None
            self.scale = LossScale() if config.precision == "mixed_float16" else None
        variables.check(self.model, self.optimizer, config.model)
        check_parts(config, self.model, self.replicas)
        self.notes = rescaling.note(self.model, config.model)
        normalization.install(self.model, config.batchnorm_spec, all_sum, self.replicas)
        if self.replicas > 1:
            self.notes += randomness.note(self.model, config.model)
            randomness.decorrelate_replicas(
                self.model, lambda: tf.distribute.get_replica_context().replica_id_in_sync_group
            )
            # Keras' optimizer sums gradients over replicas inside `apply`, one collective per variable, after clipping.
            # They have been summed by then, in one, so this part of it must pass them on as they are.
            self.optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
        self.parameters = variables.trainable_numbers(self.model)
        speaks = self.replicas > 1 and normalization.has_batch_normalization(self.model)
        self._merging = [self.model.non_trainable_variables[i] for i in copies.merging(self.model, self.replicas)]
        for variable in self._merging:
            # Else an assignment would ask the other replicas on the spot, which no loop over parts of a batch can.
            variable.value._aggregation = tf.VariableAggregation.NONE
        self._revocable = self._undone()
        self._gradients = gradients_of(self.model, self.loss, config, runtime.batch_sharding.microbatch_sizes, speaks)
        compiled = config.xla == "on" and config.strategy != "tpu"  # TPUStrategy compiles what it runs by itself
        step = tf.function(self._step, autograph=False, jit_compile=True) if compiled else self._step
        self._train = training_loop(self._spread_step(step), timed=not devices.deterministic)
        self._train_again = lambda: training_loop(self._spread_step(self._step), timed=False)
        self._evaluate = evaluation_loop(self._strategy, self.model, self.classes)
        self._host = Host(self._strategy, runtime)
        self._stream: Any = None
        self._examples: Examples | None = None
        self._outside = graph.Outside(config.model, [variable.value for variable in self._variables().values()])
        self._attributes = hidden.Attributes(self.model, config.model)
        self._traced = self._writes_in_evaluation = False

    def feed(self, examples: Examples, first_position: int, cached: int = 0) -> None:
        self._examples, config = examples, self.config
        stream = training_stream(
            examples, self.runtime.batch_sharding, config.data, config.seed, first_position, cached
        )
        self._stream = self._spread(stream)

    def compile(self) -> None:
        if self._traced:
            return
        with self._sentences(None):
            with self._attributes.explaining(), _created(self.config.model):
                concrete = self._train.get_concrete_function(self._stream, tf.constant(1))
            self._traced = True
            self._outside.watch(concrete)
            self._attributes.check(lambda: self._train_again().get_concrete_function(self._stream, tf.constant(1)))
            self._train(self._stream, tf.constant(0))  # no step: TensorFlow optimizes a graph when it is first called

    def train(self, steps: int) -> LoopResult:
        self.compile()
        with self._sentences(self._examples):
            outcome = self._train(self._stream, tf.constant(steps))
            made, losses, norms, correct, wait, finite = (tensor.numpy() for tensor in outcome)
        return LoopResult(
            int(made),
            losses.astype(np.float64),
            norms.astype(np.float64),
            int(correct),
            None if devices.deterministic else float(wait),
            bool(finite),
        )

    def check_layers(self) -> None:
        local = self._strategy.experimental_local_results
        if self.replicas > 1:
            found = (
                (name, [_view(one) for one in local(variable.value)])
                for name, variable in self._variables("model").items()
            )
            if name := copies.compare(found, self):
                raise exits.CannotRun(copies.sentence(self, name))
        self._outside.check()

    def evaluate(self, examples: Examples, stop: Callable[[], bool]) -> EvaluationSums | None:
        batch_size = evaluation_batch_size(
            max(self.runtime.batch_sharding.microbatch_sizes), self.pixels, len(examples)
        )
        batch_sharding, pace, total = self.runtime.batch_sharding, StepsPerLoop(), EvaluationSums.zero(self.classes)
        expected = len(examples) - len(examples.unreadable())
        stream = evaluation_batches(
            examples, batch_size, batch_sharding.replicas, batch_sharding.first_replica, batch_sharding.local_replicas
        )
        if self.cluster.processes > 1:
            # Else every fetch would ask all processes whether they have one more. They have: the count is exact.
            stream = stream.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        left = -(-len(examples) // (batch_size * self.replicas))
        with self.average.in_place() if self.average else contextlib.nullcontext(), self._sentences(examples):
            batches = self._spread(stream)
            self._trace_evaluation(batches)
            while left:
                if stop():
                    return None
                begun, some = time.perf_counter(), self.broadcast_int(pace.steps(left))
                loss, *sums = (tensor.numpy() for tensor in self._evaluate(batches, tf.constant(some)))
                count, right, top5, *per_class = sums
                total.add(EvaluationSums(float(loss), int(count), int(right), int(top5), *per_class))
                pace.record(some, time.perf_counter() - begun)
                left -= some
        if total.examples != expected or int(total.count.sum()) != expected:
            raise RuntimeError(f"evaluation counted {total.examples} of {expected} examples")
        return total

    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        return {
            name: (tuple(variable.shape), np.dtype(keras.backend.standardize_dtype(variable.dtype)))
            for name, variable in self._variables().items()
        }

    def stream_state(self) -> Iterator[tuple[str, np.ndarray]]:
        for name, variable in self._variables().items():
            yield name, _view(variable.value)

    def state(self) -> dict[str, np.ndarray]:
        return {name: np.array(value) for name, value in self.stream_state()}

    def check(self, state: Mapping[str, np.ndarray]) -> None:
        variables.compare(self.shapes(), state)

    def restore(self, state: Mapping[str, np.ndarray] | None) -> None:
        if state is not None:
            self.check(state)
        for name, variable in self._variables().items():
            if self.cluster.processes > 1:
                own = np.zeros(variable.shape, variable.dtype) if state is None else state[name]
                variable.assign(self._host.broadcast_array(own))
            else:
                assert state is not None, "one process gives the state itself"
                variable.assign(state[name])

    def any(self, flag: bool) -> bool:
        with self._sentences(None):
            return self._host.any(flag)

    def barrier(self) -> None:
        self.any(False)

    def broadcast_int(self, number: int) -> int:
        with self._sentences(None):
            return self._host.broadcast_int(number)

    def broadcast(self, text: bytes) -> bytes:
        with self._sentences(None):
            return self._host.broadcast(text)

    def learning_rate(self, step: int) -> float:
        return float(self.schedule(step))

    def _spread(self, stream: tf.data.Dataset) -> Any:
        """An iterator whose next element is one batch of `stream` for each replica of this process, in their order."""
        if self.replicas == 1:
            return iter(stream)
        with _untuned_devices():
            return iter(self._strategy.distribute_datasets_from_function(lambda context: stream))

    def _spread_step(self, step: Callable[..., Any]) -> Callable[..., tuple[tf.Tensor, ...]]:
        def run(batch: Any) -> tuple[tf.Tensor, ...]:
            # Summed over all replicas already, so every one of them says the same.
            return tuple(
                self._strategy.experimental_local_results(one)[0] for one in self._strategy.run(step, (batch,))
            )

        return run

    def _step(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        before, old = undo.snapshot(self._revocable), undo.snapshot([variable.value for variable in self._merging])
        loss, correct, gradients, norm = self._gradients(batch, self.scale.value if self.scale else None)
        self._merge(old)
        step = tf.identity(self.optimizer.iterations.value)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        if self.average:
            self.average.update(step)
        sound, finite = tf.math.is_finite(loss), tf.math.is_finite(norm)
        undo.restore_unless(self._revocable, before, unless=finite & sound)
        skips = self.config.on_nan == "skip"
        with tf.control_dependencies([finite, sound]):  # the loop takes `going` for the end of the step
            going = tf.constant(True) if skips else finite & sound
        if self.scale:
            going = ~self.scale.advance(loss, norm) & (skips | sound)
        return loss, correct, norm, going

    def _merge(self, old: list[tf.Tensor]) -> None:
        """Makes one what layers wrote on each replica."""
        if not self._merging:
            return
        first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
        new = undo.snapshot([variable.value for variable in self._merging])
        kinds = [variable.aggregation for variable in self._merging]
        for variable, value in zip(
            self._merging, copies.merge(kinds, old, new, all_sum, self.replicas, first), strict=True
        ):
            variable.assign(value)

    def _trace_evaluation(self, batches: Any) -> None:
        """Compiles an evaluation's loop, in which a model that writes variables of its own begins every batch with the same."""
        concrete = self._evaluate.get_concrete_function(batches, tf.constant(1))
        if self._outside.watch(concrete) and not self._writes_in_evaluation:
            self._writes_in_evaluation = True
            kept = [variable.value for variable in self.model.variables]
            self._evaluate = evaluation_loop(self._strategy, self.model, self.classes, kept)

    def _undone(self) -> list[tf.Variable]:
        """What a step that is skipped leaves as it was: all of the state but the count of steps, which is over, and the loss
        scale, which has its own way. Empty where no step is ever skipped."""
        if self.config.on_nan != "skip" and not self.scale:
            return []
        kept = [*self.model.variables, *self.optimizer.variables, *(self.average.variables if self.average else [])]
        return [variable.value for variable in kept if variable is not self.optimizer.iterations]

    def _variables(self, kind: str = "") -> dict[str, keras.Variable]:
        """Checkpoint name -> variable, of all or of the model's."""
        named = {f"model/{variable.path}": variable for variable in self.model.variables}
        if kind == "model":
            return named
        named |= {f"optimizer/{variable.path}": variable for variable in self.optimizer.variables}
        if self.average:
            pairs = zip(self.average.weights, self.average.variables, strict=True)
            named |= {f"ema/{weight.path}": average for weight, average in pairs}
        if self.scale:
            named |= {f"loss_scale/{name}": variable for name, variable in self.scale.variables.items()}
        return named

    @contextlib.contextmanager
    def _sentences(self, examples: Examples | None) -> Iterator[None]:
        """Turns TensorFlow's errors that a person can act on into sentences."""
        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            raise exits.CannotRun(
                f"out of memory on {self.description} with --batch_size={self.config.batch_size}; raise --accumulate"
                f" (now {self.config.accumulate}), which needs less at once for the same result, or lower --batch_size."
            ) from error
        except tf.errors.OpError as error:
            if sentence := examples.explain() if examples else "":
                raise exits.BadData(sentence) from error
            if self.cluster.processes > 1 and not isinstance(error, tf.errors.InvalidArgumentError):
                raise lost_peer(self.cluster.processes, error.message.splitlines()[0][:200]) from error
            raise


@contextlib.contextmanager
def _untuned_devices() -> Iterator[None]:
    """Within, iterators over several devices are made without autotuning on the devices' side, which has no option for it
    (convoy.data.parallel says why)."""
    original = multi_device_iterator_ops._create_device_dataset
    multi_device_iterator_ops._create_device_dataset = lambda *values: untuned(original(*values))
    try:
        yield
    finally:
        multi_device_iterator_ops._create_device_dataset = original


def _view(variable: tf.Variable) -> np.ndarray:
    """Its value, read where it lies: `numpy()` would copy. TensorFlow writes elsewhere as long as somebody reads."""
    return np.asarray(variable.read_value()._numpy())


@contextlib.contextmanager
def _created(model: str) -> Iterator[None]:
    """Turns TensorFlow's errors about variables that are made while a function is traced into a sentence."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ == "UnliftableError" or "tf.function only supports singleton tf.Variables" in str(
            error
        ):
            hidden.refuse_creation(model, error)
        raise
