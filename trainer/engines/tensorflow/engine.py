"""One model, mirrored on every device of a strategy. See convoy.trainer.engines.protocol.Engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from convoy.data.arrays import ClassCounts
from convoy.data.parallel import untuned
from convoy.data.sources.examples import Examples
from convoy.trainer.engines import hidden, normalization, patches
from convoy.trainer.engines.base import BaseEngine, Evaluated
from convoy.trainer.engines.lost import lost_peer
from convoy.trainer.engines.memory import StepMemory
from convoy.trainer.engines.parts import build_parts
from convoy.trainer.engines.protocol import LoopResult
from convoy.trainer.engines.runtime import Runtime, compute_dtype
from convoy.trainer.engines.stages import Stage
from convoy.trainer.engines.tensorflow import convolutions, devices, graph, kernels, probe, relu, updates
from convoy.trainer.engines.tensorflow.average import Average
from convoy.trainer.engines.tensorflow.evaluation import evaluation_loop
from convoy.trainer.engines.tensorflow.forward import forward
from convoy.trainer.engines.tensorflow.loops import Loop, training_loop
from convoy.trainer.engines.tensorflow.processes import ProcessSum
from convoy.trainer.engines.tensorflow.scaling import LossScale
from convoy.trainer.engines.tensorflow.step import TrainingStep, all_sum
from convoy.trainer.models import halves


class TensorFlowEngine(BaseEngine):
    """Graphs, and the state in variables of a strategy. The arguments are those of `build_parts`."""

    warms_up = True  # kernels are made, and with --xla=on the step is compiled
    tries_steps = True

    def __init__(self, runtime: Runtime, image_shape: tuple[int, int, int], draws: ClassCounts):
        config, self._strategy = runtime.config, runtime.strategy_or_mesh
        on_cpu = config.devices_spec.platform == "cpu"
        generation = config.generation
        with self._strategy.scope():
            parts = build_parts(
                runtime,
                image_shape,
                draws,
                all_sum,
                lambda: tf.distribute.get_replica_context().replica_id_in_sync_group,
                kernels.normalized if generation >= 2 else None,
                updates.operations if on_cpu and generation >= 3 else None,
            )
            if on_cpu and generation >= 2:
                convolutions.install(parts.model, runtime.cluster.processes > 1, generation)
            # With --xla=on all of a step is compiled.
            joins = on_cpu and generation >= 4 and config.xla != "on"
            self._relu = relu.relu if joins else tf.nn.relu
            self._average = Average(parts.averaged_variables) if parts.averaged_variables else None
            self._scale = LossScale() if config.precision == "mixed_float16" else None
        super().__init__(runtime, devices.describe(runtime), parts, "")
        if self.replicas > 1:
            patches.apply_gradients_as_they_are(self.optimizer)
        for index in parts.merged:
            patches.assign_without_aggregation(self.model.non_trainable_variables[index])
        self._loops: dict[Stage, Loop] = {}
        self._evaluation = evaluation_loop(self._strategy, self.model, parts.classes)
        self._sum = ProcessSum(self._strategy, self.cluster.processes)
        self._stream: tf.data.Iterator | None = None
        self._outside = graph.Outside(config.model, [variable.value for variable in self._variables().values()])
        self._attributes = hidden.Attributes(self.model, config.model)
        self._compiled: set[Stage] = set()
        self._writes_in_evaluation = False
        self.fails_softly = config.devices_spec.platform != "cpu"

    def compile(self) -> None:
        self._compile(self._stream)

    def step_memory(self) -> StepMemory:
        self.compile()  # whose memory does not grow with a microbatch
        return devices.step_memory(self.config, lambda: self.train(1))

    def train(self, steps: int) -> LoopResult:
        self.compile()
        with self._sentences(self._examples):
            outcome = tf.nest.map_structure(lambda x: x.numpy(), self._loop(self._stream, tf.constant(steps)))
        losses, norms, *squares = (
            array.astype(np.float64) for array in (outcome.losses, outcome.norms, *outcome.squares)
        )
        waited = None if devices.deterministic else float(outcome.waited)
        correct, noise = int(outcome.correct), self._noise(norms, squares)
        return LoopResult(int(outcome.steps), losses, norms, correct, waited, bool(outcome.going), noise)

    def start_trace(self, folder: str) -> None:
        # Without Python's own calls, which would fill a trace.
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
        tf.profiler.experimental.start(folder, options)

    def stop_trace(self) -> None:
        tf.profiler.experimental.stop()

    def products(self, side: int) -> Callable[[int], None]:
        return probe.products(self.runtime, side, compute_dtype(self.config.precision))

    def operations(self) -> Mapping[str, str]:
        return {}

    def compiler_flops(self) -> float | None:
        return None

    def check_layers(self) -> None:
        local_results = self._strategy.experimental_local_results
        if self.replicas > 1:
            self._check_replicas(
                (name, [_view(copy) for copy in local_results(variable.value)])
                for name, variable in self._model_variables().items()
            )
        self._outside.check()

    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        return {
            name: (tuple(variable.shape), np.dtype(keras.backend.standardize_dtype(variable.dtype)))
            for name, variable in self._variables().items()
        }

    def stream_state(self) -> Iterator[tuple[str, np.ndarray]]:
        for name, variable in self._variables().items():
            yield name, _view(variable.value)

    def restore(self, state: Mapping[str, np.ndarray] | None) -> None:
        if state is not None:
            self.check(state)
        for name, variable in self._variables().items():
            own = np.zeros(variable.shape, variable.dtype) if state is None else state[name]
            variable.assign(self._broadcast(own))

    def _take(self, stream: tf.data.Dataset) -> None:
        self._stream = self._spread(stream)

    def _compile_for(self, stream: tf.data.Dataset) -> None:
        self._compile(self._spread(stream))

    def _compile(self, batches: tf.data.Iterator) -> None:
        """Traces and optimizes the graph of this stage, once, for batches like those of an iterator; takes none of them."""
        if self._stage in self._compiled:
            return
        one_step = tf.constant(1)
        with self._sentences(None):
            with patches.relu_by(self._relu):
                with self._attributes.explaining(), _created(self.config.model):
                    concrete = self._loop.get_concrete_function(batches, one_step)
                self._outside.watch(concrete)
                self._attributes.check(lambda: self._training_loop().get_concrete_function(batches, one_step))
            # No step: TensorFlow optimizes a graph when it is first called.
            self._loop(batches, tf.constant(0))
        self._compiled.add(self._stage)

    @contextlib.contextmanager
    def _evaluating(self, stream: tf.data.Dataset) -> Iterator[Callable[[int], Iterable[Evaluated]]]:
        if self.cluster.processes > 1:
            # Without this, tf.distribute runs a collective before each fetch to ask whether every process has another
            # batch. The number of batches is known.
            stream = stream.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        with self._average.in_place() if self._average else contextlib.nullcontext():
            batches = self._spread(stream)
            self._compile_evaluation(batches)
            yield lambda number: [self._evaluation(batches, tf.constant(number))]

    def _all_logits(self, logits: tf.Tensor) -> np.ndarray:
        own = logits.numpy()
        if self.cluster.processes > 1:  # in a round each process has the examples after those of the one before it
            rounds, examples, classes = own.shape
            every = np.zeros((rounds, self.cluster.processes, examples, classes), own.dtype)
            every[:, self.cluster.index] = own
            own = self._sum(every)
        return own.reshape(-1, own.shape[-1])

    def _backbone(self) -> Callable[[np.ndarray], np.ndarray]:
        return forward(halves.backbone(self.model.whole, self.config.model))

    def _any_process(self, flag: bool) -> bool:
        return bool(self._sum(np.array([flag], np.int32))[0])

    def _from_leader(self, array: np.ndarray) -> np.ndarray:
        return self._sum(array if self.cluster.is_leader else np.zeros_like(array))

    @property
    def _loop(self) -> Loop:
        """Of this stage; the same once it was made."""
        if self._stage not in self._loops:
            self._loops[self._stage] = self._training_loop()
        return self._loops[self._stage]

    def _training_step(self) -> TrainingStep:
        """Of this stage."""
        stage = self._stage
        # The layers of the first generation sum in every mode.
        sums = self.config.batchnorm_spec.mode == "sync" or self.config.generation == 1
        has_normalization = normalization.has_batch_normalization(self.model, stage.frozen)
        has_cross_replica_layers = self.replicas > 1 and sums and has_normalization
        sizes = self.runtime.sharding(stage.batch_size).microbatch_sizes
        return TrainingStep(self.parts, self.config, stage, sizes, self._average, self._scale, has_cross_replica_layers)

    def _training_loop(self) -> Loop:
        """Of this stage; traced anew by its first call."""
        step: Callable[..., tf.Tensor] = self._training_step().__call__
        if self.config.xla == "on" and self.config.strategy != "tpu":  # TPUStrategy compiles what it runs by itself
            step = tf.function(step, autograph=False, jit_compile=True)
        return training_loop(step, self._strategy, timed=not devices.deterministic, noise_scale=self.config.noise_scale)

    def _compile_evaluation(self, batches: tf.data.Iterator) -> None:
        """Traces an evaluation's loop, in which a model that writes variables of its own begins every batch with the same."""
        concrete = self._evaluation.get_concrete_function(batches, tf.constant(1))
        if self._outside.watch(concrete) and not self._writes_in_evaluation:
            self._writes_in_evaluation = True
            kept = [variable.value for variable in self.model.variables]
            self._evaluation = evaluation_loop(self._strategy, self.model, self.parts.classes, kept)

    def _spread(self, stream: tf.data.Dataset) -> tf.data.Iterator:
        """An iterator whose next element is one batch of `stream` for each replica of this process, in their order."""
        if self.replicas == 1:
            return iter(stream)
        with patches.device_datasets(untuned):
            return iter(self._strategy.distribute_datasets_from_function(lambda context: stream))

    def _model_variables(self) -> dict[str, keras.Variable]:
        return {f"model/{variable.path}": variable for variable in self.model.variables}

    def _variables(self) -> dict[str, keras.Variable]:
        """Checkpoint name -> variable."""
        named = self._model_variables()
        named |= {f"optimizer/{variable.path}": variable for variable in self.optimizer.variables}
        if self._average:
            pairs = zip(self._average.weights, self._average.variables, strict=True)
            named |= {f"ema/{weight.path}": average for weight, average in pairs}
        if self._scale:
            named |= {f"loss_scale/{name}": variable for name, variable in self._scale.variables.items()}
        return named

    @contextlib.contextmanager
    def _sentences(self, examples: Examples | None) -> Iterator[None]:
        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            raise self._out_of_memory() from error
        except tf.errors.OpError as error:
            self._refuse_examples(examples, error)
            if self.cluster.processes > 1 and not isinstance(error, tf.errors.InvalidArgumentError):
                raise lost_peer(self.cluster.processes, error.message.splitlines()[0][:200]) from error
            raise


def _view(variable: tf.Variable) -> np.ndarray:
    """Its value, read where it lies: `numpy()` would copy. TensorFlow writes elsewhere as long as somebody reads."""
    return np.asarray(variable.read_value()._numpy())


@contextlib.contextmanager
def _created(model: str) -> Iterator[None]:
    """Turns TensorFlow's errors about variables that are made while a function is traced into a sentence."""
    try:
        yield
    except Exception as error:
        liftable = "tf.function only supports singleton tf.Variables" not in str(error)
        if type(error).__name__ == "UnliftableError" or not liftable:
            hidden.refuse_creation(model, error)
        raise
