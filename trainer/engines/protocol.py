"""What the loop asks of an engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from convoy.data.sources.examples import Examples
from convoy.trainer.engines.memory import StepMemory
from convoy.trainer.metrics import EvaluationSums
from convoy.trainer.noise_scale import Estimates
from convoy.trainer.processes.cluster import Cluster


@dataclasses.dataclass(frozen=True)
class LoopResult:
    """A loop of optimizer steps.

    A step whose loss or gradient norm is not finite ends it. Then `finite` is False, and the state must not be used. With
    --on_nan=skip such a step counts but changes nothing else, and `finite` stays True. Loss scaling skips likewise, whatever
    --on_nan says, when the loss is finite and the norm is not. If that happens at a scale of 1, the loop always ends.
    """

    steps: int
    losses: np.ndarray  # float64 [steps], the loss of each global batch
    gradient_norms: np.ndarray  # float64 [steps], before clipping
    correct: int
    input_wait_seconds: float | None  # None where it cannot be measured
    finite: bool
    noise: Estimates | None = None  # of the gradient, with --noise_scale


class Engine(Protocol):
    """One model on some devices. State leaves and enters as NumPy arrays keyed by Keras variable paths.

    Where several processes share a run, each has an engine, and all call the same methods in the same order. Only `shapes`,
    `stream_state`, `state`, `check` and `learning_rate` may be called by one process alone.
    """

    description: str  # the devices for a person
    device_name: str  # of one device, as JAX names it; "" of a CPU, and on TensorFlow
    replicas: int  # of all processes
    part_sizes: Mapping[int, list[int]]  # batch size -> examples of each part that a replica differentiates at once
    parameters: int  # trainable numbers
    notes: list[str]  # what a person should know before the run begins
    pretrained: Mapping[str, object] | None  # what --pretrained gave the model, where it was loaded
    tries_steps: bool  # whether `step_memory` makes a step, which changes the state
    fails_softly: bool  # whether a step that needs too much memory ends with an error, not with the process
    features_until: (
        int | None
    )  # with --cache_features, the first step at which the backbone trains; None: it never does
    feature_bytes: int  # of an example, with --cache_features
    warms_up: bool  # whether the first `train` takes longer than others although `compile` was called
    normalization_momentum: float | None  # the largest of the network's BatchNormalization layers; None without one
    cluster: Cluster

    def feed(self, examples: Examples, first_position: int, cached: int = 0) -> None:
        """Prepares the training stream of this stage from position `first_position` on; each process reads its share of every
        batch only.

        With `cached`, so many steps' batches over and over, from memory: to measure steps without their input.
        """

    def enter_stage(self, step: int) -> None:
        """Makes the stage that `step` belongs to (--unfreeze, --batch_ramp) the one that is fed, compiled and trained next; the
        first is entered already. No `train` may go beyond the end of a stage. Where batches have another size, feed anew.
        """

    def compile(self) -> None:
        """Builds the program that `train` runs in this stage. Called after `feed`; a second call returns at once.

        JAX compiles here all that `train` runs. TensorFlow traces and optimizes the graph here; its first `train` still makes
        the kernels, and compiles the step with --xla=on. The first `evaluate` builds the program of evaluations.
        """

    def compile_ahead(self, step: int, examples: Examples) -> None:
        """Builds the program of the stage that `step` belongs to and that trains on these examples, without entering it. It is
        kept, as are those of all stages.
        """

    def step_memory(self) -> StepMemory:
        """What a step of this stage needs, and what there is for it. Called after `feed`."""

    def train(self, steps: int) -> LoopResult:
        """Runs `steps` optimizer steps, fewer if one is not finite."""

    def start_trace(self, folder: str) -> None:
        """Begins to record what the devices do, which stop_trace writes below a folder, for TensorBoard."""

    def stop_trace(self) -> None:
        """Ends the record and writes it. Called after start_trace."""

    def products(self, side: int) -> Callable[[int], None]:
        """A function that multiplies matrices [side, side] so many times, in the run's precision, on every device of this
        process, and waits for them: what the devices can do at best."""

    def operations(self) -> Mapping[str, str]:
        """What a trace calls an operation of this stage's program -> the scopes in which it was traced; empty where a trace
        has those scopes themselves. Called after `compile`."""

    def compiler_flops(self) -> float | None:
        """FLOPs of a step of this stage by the compiler's own account, of one device; None where it gives none."""

    def check_layers(self) -> None:
        """Raises CannotRun, in every process, for a layer that keeps state where no checkpoint finds it, or whose variables
        differ between replicas. To be called once steps were made."""

    def evaluate(
        self, examples: Examples, stop: Callable[[], bool], keep: Callable[[np.ndarray, np.ndarray], None] | None = None
    ) -> EvaluationSums | None:
        """Every example once, with the averaged weights if there are any; None if `stop` came true between batches.

        `keep` is given the indices of the examples that were counted, int64 [n], and their logits, floats [n, classes], in
        their order, some batches at a time. All processes give it, or none.
        """

    def features(self, parts: Sequence[Examples]) -> list[np.ndarray]:
        """What the backbone makes of the examples of each part, floats [N, d], as in an evaluation; with --cache_features only.

        Every process computes all of them.
        """

    def backbone_digest(self) -> str:
        """A digest of what features depend on, besides the images: weights, network, precision, versions."""

    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """(shape, type) of every tensor of the state, in the order of `stream_state`; reads none."""

    def stream_state(self) -> Iterator[tuple[str, np.ndarray]]:
        """The state, one (name, tensor) at a time, for callers that have no room for a second copy.

        A tensor may be a view of the engine's own memory, valid until the next one is asked for. No step may be made while the
        iterator is in use.
        """

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next step depends on, besides the position: model, optimizer and average. Copies."""

    def check(self, state: Mapping[str, np.ndarray]) -> None:
        """ValueError names a tensor of a state that is missing, left over or of another shape than this engine's."""

    def restore(self, state: Mapping[str, np.ndarray] | None) -> None:
        """Takes the state that the leading process gives; the others give None."""

    def any(self, flag: bool) -> bool:
        """Whether any process raised its flag."""

    def barrier(self) -> None:
        """Returns once every process has called it."""

    def broadcast_int(self, number: int) -> int:
        """The leading process's number (32 bits), in every process."""

    def broadcast(self, text: bytes) -> bytes:
        """The text of the leading process; those of the others are ignored."""

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
