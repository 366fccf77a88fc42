"""One model, mirrored on every device of a strategy. See trainer.engines.protocol.Engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from convoy import exits
from data.pipeline import Slice, evaluation_batches, training_stream
from data.sources.examples import Examples
from trainer.config import RunConfig
from trainer.engines.pace import Pace
from trainer.engines.protocol import LoopResult
from trainer.engines.tensorflow import devices
from trainer.engines.tensorflow.average import Average
from trainer.engines.tensorflow.normalization import synchronize
from trainer.engines.tensorflow.step import evaluation_loop, gradients_of, training_loop
from trainer.metrics import EvaluationSums
from trainer.models import build_model
from trainer.optimizers import build_optimizer
from trainer.optimizers.schedules import build_schedule


class TensorFlowEngine:
    """The global batch on one device, or shared by several that hold the same weights.

    Args:
      config: the run, from `prepare`.
      image_shape: (height, width, channels).
      num_classes: how many logits.
      examples: size of the training set, which turns epochs of the schedule into steps.
    """

    def __init__(self, config: RunConfig, image_shape: tuple[int, int, int], num_classes: int, examples: int):
        self.description = devices.describe(config.devices)
        self.config, self.classes, self.pixels = config, num_classes, image_shape[0] * image_shape[1]
        self._strategy = devices.build_strategy(config)
        self.replicas = self._strategy.num_replicas_in_sync
        with self._strategy.scope():
            self.model = build_model(config.model, image_shape, num_classes, config.stochastic_depth)
            self.schedule = build_schedule(config, examples)
            self.optimizer = build_optimizer(config, self.schedule, self.model)
            self.average = Average(self.model, config.ema) if config.ema else None
        self._check_variables()
        if self.replicas > 1:
            self._check_layers()
            # Keras' optimizer sums gradients over replicas inside `apply`, one collective per variable, after clipping.
            # They have been summed by then, in one, so this part of it must pass them on as they are.
            self.optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
        self.parameters = sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)
        self._gradients = gradients_of(
            self.model, config.label_smoothing, config.clip_norm, config.batch_size, config.accumulate
        )
        self._train = training_loop(self._spread_step, timed=not devices.deterministic)
        self._evaluate = evaluation_loop(self._strategy, self.model, num_classes)
        self._stream: Any = None
        self._examples: Examples | None = None

    def feed(self, examples: Examples, first_step: int) -> None:
        part = Slice.whole(self.config.batch_size)
        self._examples = examples
        stream = training_stream(
            examples, part, self.config.data.augment, self.config.seed, first_step, replicas=self.replicas
        )
        self._stream = self._spread(stream)

    def train(self, steps: int) -> LoopResult:
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

    def evaluate(self, examples: Examples, stop: Callable[[], bool]) -> EvaluationSums | None:
        # Without gradients small images go in larger batches than they train in, which saves calls: as many pixels as 512
        # images of CIFAR-10 have. The last batch is padded, never dropped.
        small = 512 * 32 * 32 // self.pixels
        per_replica = -(-self.config.batch_size // (self.config.accumulate * self.replicas))
        batch_size = min(max(per_replica, min(small, 512)), len(examples))
        batches = self._spread(evaluation_batches(examples, batch_size, replicas=self.replicas))
        left, pace, total = -(-len(examples) // (batch_size * self.replicas)), Pace(), EvaluationSums.zero(self.classes)
        with self.average.in_place() if self.average else contextlib.nullcontext(), self._sentences(examples):
            while left:
                if stop():
                    return None
                begun, some = time.perf_counter(), pace.steps(left)
                loss, *sums = (tensor.numpy() for tensor in self._evaluate(batches, tf.constant(some)))
                count, right, top5, *per_class = sums
                total.add(EvaluationSums(float(loss), int(count), int(right), int(top5), *per_class))
                pace.took(some, time.perf_counter() - begun)
                left -= some
        if total.examples != len(examples) or int(total.count.sum()) != len(examples):
            raise RuntimeError(f"evaluation counted {total.examples} of {len(examples)} examples")
        return total

    def state(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(variable.numpy()) for name, variable in self._variables().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        variables = self._variables()
        if odd := sorted(set(variables) ^ set(state)):
            where = "the checkpoint lacks" if odd[0] in variables else "the model lacks"
            raise ValueError(f"{where} the tensor {odd[0]}")
        for name, variable in variables.items():
            if tuple(variable.shape) != state[name].shape:
                raise ValueError(
                    f"the tensor {name} has shape {state[name].shape}, the model needs {tuple(variable.shape)}"
                )
        for name, variable in variables.items():
            variable.assign(state[name])

    def agree(self, flag: bool) -> bool:
        return flag

    def learning_rate(self, step: int) -> float:
        return float(self.schedule(step))

    def _spread(self, stream: tf.data.Dataset) -> Any:
        """An iterator whose next element is one batch of `stream` for each replica, in their order."""
        if self.replicas == 1:
            return iter(stream)
        return iter(self._strategy.distribute_datasets_from_function(lambda context: stream))

    def _spread_step(self, images: Any, labels: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        outcome = self._strategy.run(self._step, args=(images, labels))
        # Summed over all replicas already, so every one of them says the same.
        loss, correct, norm = (self._strategy.experimental_local_results(one)[0] for one in outcome)
        return loss, correct, norm

    def _step(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        outcome = self._gradients(images, labels)
        step = tf.identity(self.optimizer.iterations.value)
        self.optimizer.apply(outcome.gradients, self.model.trainable_variables)
        if self.average:
            self.average.update(step)
        return outcome.loss, outcome.correct, outcome.norm

    def _check_layers(self) -> None:
        """CannotRun for layers that would silently mean something else on several replicas; synchronizes the statistics."""
        for layer in self.model._flatten_layers(include_self=False):
            if isinstance(layer, keras.layers.BatchNormalization):
                synchronize(layer)
        if random := [v.path for v in self.model.variables if "seed_generator" in v.path]:
            raise exits.CannotRun(
                f"--model={self.config.model} draws random numbers ({random[0]}), and Keras would draw the same on every"
                " device; use --devices=cpu:1 or gpu:1 for such a model until Convoy has layers of its own for it."
            )

    def _check_variables(self) -> None:
        """A checkpoint knows variables by their paths, and NumPy's types; CannotRun for a model that it could not hold."""
        paths = [f"model/{v.path}" for v in self.model.variables] + [
            f"optimizer/{v.path}" for v in self.optimizer.variables
        ]
        if twice := sorted({path for path in paths if paths.count(path) > 1}):
            raise exits.CannotRun(
                f"--model={self.config.model}: two variables are called {twice[0]}, so a checkpoint could not tell them"
                " apart; give its layers different names."
            )
        for name, variable in self._variables().items():
            if np.asarray(variable.numpy()).dtype.kind not in "biuf":
                raise exits.CannotRun(
                    f"--model={self.config.model}: the variable {name} is of type {variable.dtype}, which NumPy cannot write;"
                    " keep variables in float32, as --precision=mixed_bfloat16 does."
                )

    def _variables(self) -> dict[str, keras.Variable]:
        """Checkpoint name -> variable."""
        named = {f"model/{variable.path}": variable for variable in self.model.variables}
        named |= {f"optimizer/{variable.path}": variable for variable in self.optimizer.variables}
        if self.average:
            pairs = zip(self.average.weights, self.average.variables, strict=True)
            named |= {f"ema/{weight.path}": average for weight, average in pairs}
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
        except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.DataLossError) as error:
            if sentence := examples.explain() if examples else "":
                raise exits.BadData(sentence) from error
            raise
