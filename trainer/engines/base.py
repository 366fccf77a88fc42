"""What both engines do alike. convoy.trainer.engines.protocol.Engine says what each method promises."""

from __future__ import annotations

import abc
import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from convoy import exits
from convoy.data.arrays import Array, Scalar
from convoy.data.pipeline import evaluation_batches, training_stream
from convoy.data.sources.examples import Examples
from convoy.trainer import noise_scale
from convoy.trainer.engines import copies, normalization, variables
from convoy.trainer.engines.memory import OutOfMemory
from convoy.trainer.engines.parts import Parts
from convoy.trainer.engines.protocol import Engine
from convoy.trainer.engines.runtime import Runtime, named
from convoy.trainer.engines.stages import stage_at
from convoy.trainer.engines.steps_per_loop import StepsPerLoop
from convoy.trainer.metrics import EvaluationSums


class EvaluationCounts(NamedTuple):
    """What a program counts in evaluation batches, as EvaluationSums has it."""

    loss: Scalar
    examples: Scalar
    correct: Scalar
    top5: Scalar
    class_examples: Array  # integers [classes]
    class_predicted: Array
    class_hit: Array

    def sums(self) -> EvaluationSums:
        """The same on the host; waits for the devices."""
        loss, examples, correct, top5, *per_class = (np.asarray(tensor) for tensor in self)
        return EvaluationSums(
            float(loss), int(examples), int(correct), int(top5), *(array.astype(np.int64) for array in per_class)
        )


class Evaluated(NamedTuple):
    """What a program makes of evaluation batches."""

    counts: EvaluationCounts
    logits: Array  # as `_all_logits` takes them


class BaseEngine(Engine):
    """The global batch on one device, or shared by several, of one process or many, that hold the same weights."""

    def __init__(self, runtime: Runtime, description: str, parts: Parts, device_name: str):
        self.runtime, self.config = runtime, runtime.config
        self.cluster, self.replicas = runtime.cluster, runtime.replicas
        self.part_sizes = {size: runtime.sharding(size).part_sizes for size in runtime.config.batch_sizes}
        self.description, self.device_name, self.parts = description, device_name, parts
        self.model, self.optimizer, self.notes = parts.model, parts.optimizer, parts.notes
        self.pretrained = parts.loaded.record if parts.loaded else None
        self.parameters = variables.trainable_numbers(parts.model)
        self.normalization_momentum = normalization.largest_momentum(parts.model)
        self.features_until = parts.features_until
        self.feature_bytes = parts.features * np.dtype(keras.config.floatx()).itemsize
        self._stage = parts.stages[0]
        self._examples: Examples | None = None  # of the training stream

    def feed(self, examples: Examples, first_position: int, cached: int = 0) -> None:
        self._examples = examples
        self._take(self._training_stream(examples, first_position, cached))

    def enter_stage(self, step: int) -> None:
        self._stage = stage_at(self.parts.stages, step)

    def compile_ahead(self, step: int, examples: Examples) -> None:
        here = self._stage
        self.enter_stage(step)
        try:
            self._compile_for(self._training_stream(examples, 0))
        finally:
            self._stage = here

    def _training_stream(self, examples: Examples, first_position: int, cached: int = 0) -> tf.data.Dataset:
        config, sharding = self.config, self.runtime.sharding(self._stage.batch_size)
        how = config.data, config.seed, first_position, cached, config.batch_size
        return training_stream(examples, sharding, *how, self._steps_from(first_position, len(examples)))

    def _steps_from(self, position: int, examples: int) -> int:
        """The steps of the stream that begins there, until the batch grows or the run ends; 0 where nobody reads ahead."""
        config = self.config
        if not config.data.order_spec.block:
            return 0
        clock = config.clock(examples)
        ends = [*(segment.position for segment in clock.segments), clock.position(config.total_steps(examples))]
        return min((-(-(end - position) // self._stage.batch_size) for end in ends if end > position), default=0)

    def evaluate(
        self, examples: Examples, stop: Callable[[], bool], keep: Callable[[np.ndarray, np.ndarray], None] | None = None
    ) -> EvaluationSums | None:
        sharding, pace, total = self.runtime.batch_sharding, StepsPerLoop(), EvaluationSums.zero(self.parts.classes)
        batch_size = self._evaluation_batch_size(examples)
        readable = np.setdiff1d(np.arange(len(examples)), examples.unreadable())
        batches_left, first = -(-len(examples) // (batch_size * self.replicas)), 0
        stream = evaluation_batches(
            examples, batch_size, sharding.replicas, sharding.first_replica, sharding.local_replicas
        )
        with self._sentences(examples), self._evaluating(stream) as evaluate:
            while batches_left:
                if stop():
                    return None
                begun, batches = time.perf_counter(), self.broadcast_int(pace.steps(batches_left))
                for counts, logits in evaluate(batches):
                    total.add(counts.sums())
                    if keep:
                        rows = self._all_logits(logits)  # those that fill the last batches up are none of `readable`
                        indices = readable[
                            np.searchsorted(readable, first) : np.searchsorted(readable, first + len(rows))
                        ]
                        keep(indices, rows[indices - first])
                        first += len(rows)
                pace.record(batches, time.perf_counter() - begun)
                batches_left -= batches
        if total.examples != len(readable) or int(total.count.sum()) != len(readable):
            raise RuntimeError(f"evaluation counted {total.examples} of {len(readable)} examples")
        return total

    def features(self, parts: Sequence[Examples]) -> list[np.ndarray]:
        forward = self._backbone()
        every = []
        for examples in parts:
            features, first = np.zeros((len(examples), self.parts.features), keras.config.floatx()), 0
            with self._sentences(examples):
                batches = evaluation_batches(examples, self._evaluation_batch_size(examples))
                for images, *_ in batches.as_numpy_iterator():
                    rows = features[first : first + len(images)]
                    rows[:] = forward(images)[: len(rows)]
                    first += len(images)
            every.append(features)
        return every

    def backbone_digest(self) -> str:
        config, layers = self.config, [self.model.whole.get_layer(name) for name in ("preprocess", "backbone")]
        of_backbone = {f"model/{variable.path}" for layer in layers for variable in layer.variables}
        how = [config.model, config.precision, config.backend, *(version(name) for name in (config.backend, "keras"))]
        digest = hashlib.blake2b("\0".join(how).encode(), digest_size=16)
        for name, tensor in self.stream_state():
            if name in of_backbone:
                digest.update(f"\0{name}\0{tensor.dtype}".encode())
                digest.update(tensor.tobytes())
        return digest.hexdigest()

    def state(self) -> dict[str, np.ndarray]:
        return {name: np.array(value) for name, value in self.stream_state()}

    def check(self, state: Mapping[str, np.ndarray]) -> None:
        variables.compare(self.shapes(), state)

    def _noise(self, norms: np.ndarray, squares: list[np.ndarray]) -> noise_scale.Estimates | None:
        """What steps say of the noise of their gradients, from their norms and, with --noise_scale, those of their parts."""
        return noise_scale.estimate(norms, squares[0], self.part_sizes[self._stage.batch_size]) if squares else None

    def _evaluation_batch_size(self, examples: Examples) -> int:
        microbatch = max(self.runtime.batch_sharding.microbatch_sizes)
        return evaluation_batch_size(microbatch, math.prod(examples.shape[:2]), len(examples))

    def _check_replicas(self, copies_of: Iterable[tuple[str, list[np.ndarray]]]) -> None:
        """Raises CannotRun if a variable of the model differs between replicas; see copies.first_difference."""
        if name := copies.first_difference(copies_of, self):
            copies.refuse(self.model, self.config.model, name.removeprefix("model/"), self.replicas)

    def any(self, flag: bool) -> bool:
        if self.cluster.processes == 1:
            return flag
        with self._sentences(None):
            return self._any_process(flag)

    def barrier(self) -> None:
        self.any(False)

    def broadcast_int(self, number: int) -> int:
        return int(self._broadcast(np.array([number], np.int32))[0])

    def broadcast(self, text: bytes) -> bytes:
        size = self.broadcast_int(len(text))
        own = np.frombuffer(text, np.uint8) if self.cluster.is_leader else np.zeros(size, np.uint8)
        # As integers that every collective knows.
        return self._broadcast(own.astype(np.int32)).astype(np.uint8).tobytes()

    def learning_rate(self, step: int) -> float:
        return float(self.parts.schedule(step))

    def _broadcast(self, array: np.ndarray) -> np.ndarray:
        """The leading process's array; the others give one of the same shape and type."""
        if self.cluster.processes == 1 or not array.size:
            return array
        with self._sentences(None):
            return self._from_leader(array)

    def _refuse_examples(self, examples: Examples | None, error: Exception) -> None:
        """BadData where the examples know why TensorFlow could not read them."""
        if sentence := examples.explain() if examples else "":
            raise exits.BadData(sentence) from error

    def _out_of_memory(self) -> OutOfMemory:
        return OutOfMemory(
            f"out of memory on {self.description} with {named(self.config, self._stage.batch_size)}; raise --accumulate"
            f" (now {self.config.accumulate}), which needs less at once for the same result, or lower --batch_size."
        )

    @abc.abstractmethod
    def _take(self, stream: tf.data.Dataset) -> None:
        """Feeds `train` from a training stream from now on."""

    @abc.abstractmethod
    def _compile_for(self, stream: tf.data.Dataset) -> None:
        """Builds the program of `_stage` for batches like those of a training stream, of which it takes none."""

    @abc.abstractmethod
    def _evaluating(self, stream: tf.data.Dataset) -> AbstractContextManager[Callable[[int], Iterable[Evaluated]]]:
        """Within, the averaged weights are those that count. Gives a function that takes the next batches of `stream`."""

    @abc.abstractmethod
    def _all_logits(self, logits: Array) -> np.ndarray:
        """Those of all replicas, [n, classes], in the order of their examples; every process calls it."""

    @abc.abstractmethod
    def _backbone(self) -> Callable[[np.ndarray], np.ndarray]:
        """images, uint8 [n, h, w, c] -> their features, [n, d], with the engine's weights, of a network in two halves."""

    @abc.abstractmethod
    def _any_process(self, flag: bool) -> bool:
        """Whether any of several processes raised its flag."""

    @abc.abstractmethod
    def _from_leader(self, array: np.ndarray) -> np.ndarray:
        """The array of the leading of several processes."""

    @abc.abstractmethod
    def _sentences(self, examples: Examples | None) -> contextlib.AbstractContextManager[None]:
        """Turns errors that a person can act on into sentences, those of reading `examples` too."""


def evaluation_batch_size(microbatch_size: int, pixels: int, examples: int) -> int:
    """Examples of an evaluation batch on one replica, at most `examples`.

    Without gradients, small images go in larger batches than those that a replica differentiates at once, which saves calls:
    as many pixels as 512 images of CIFAR-10 have.
    """
    return min(max(microbatch_size, min(512 * 32 * 32 // pixels, 512)), examples)
