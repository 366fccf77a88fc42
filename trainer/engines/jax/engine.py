"""One model, the same on every device of a mesh. See convoy.trainer.engines.protocol.Engine."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from convoy.data.arrays import Array, ClassCounts
from convoy.data.sources.examples import Examples
from convoy.trainer.engines import hidden
from convoy.trainer.engines.base import BaseEngine, Evaluated
from convoy.trainer.engines.jax import devices, probe
from convoy.trainer.engines.jax.devices import REPLICATED, SHARDED
from convoy.trainer.engines.jax.feed import Feed
from convoy.trainer.engines.jax.forward import forward
from convoy.trainer.engines.jax.loops import Loop, LoopOutcome, dispatch_each_step
from convoy.trainer.engines.jax.programs import Images, Programs
from convoy.trainer.engines.lost import lost_peer
from convoy.trainer.engines.memory import StepMemory
from convoy.trainer.engines.protocol import LoopResult
from convoy.trainer.engines.runtime import Runtime, compute_dtype
from convoy.trainer.engines.stages import Stage
from convoy.trainer.models import halves

_STATUS = re.compile(r"(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): ")

_REMAT_WORKS_ON_CPU = (0, 11, 1)  # findings/jax_checkpoint_saves_nothing_on_cpu.sh
_MERGED = (
    f"JAX {jax.__version__} merges on CPUs what --remat computes again, so a step may need as much memory as without it;"
    " --accumulate needs less."
)
Tree = TypeVar("Tree")


class Compiled(NamedTuple):
    """The program of a stage, and what it needs of a device's memory, where JAX can say that."""

    loop: Loop
    program: jax.stages.Compiled
    usage: jax.stages.CompiledMemoryStats | None


class JaxEngine(BaseEngine):
    """Programs, compiled, and the state on the devices that they run on. The arguments are those of `build_parts`."""

    warms_up, tries_steps, fails_softly = False, False, True

    def __init__(self, runtime: Runtime, image_shape: tuple[int, int, int], draws: ClassCounts):
        self.programs = Programs(runtime, image_shape, draws)
        super().__init__(runtime, devices.describe(runtime), self.programs.parts, devices.name(runtime))
        if (
            self.config.remat
            and self.config.devices_spec.platform == "cpu"
            and jax.__version_info__ < _REMAT_WORKS_ON_CPU
        ):
            self.notes.append(_MERGED)
        self._mesh, self._names = self.programs.mesh, self.programs.names()
        self._state = self._place(self.programs.first_state())
        self._feed: Feed | None = None
        self._images = self.programs.images  # of what is fed
        self._compiled: dict[tuple[Stage, Images], Compiled] = {}
        self._attributes = hidden.Attributes(self.model, self.config.model)

    def compile(self) -> None:
        self._program(self._images)

    def step_memory(self) -> StepMemory:
        return devices.step_memory(self._program(self._images).usage, self.runtime)

    def train(self, steps: int) -> LoopResult:
        assert self._feed is not None, "feed comes first"
        loop = self._program(self._images).loop
        outcomes: list[LoopOutcome] = []
        waited, steps_left = 0.0, steps
        with self._sentences(self._examples):
            going = self._place(jnp.ones((), bool))
            while steps_left:
                chunk = self._feed.next(steps_left, self._state)
                self._state, going, outcome = loop(
                    self._state, going, chunk.batches, np.int32(chunk.first), np.int32(chunk.steps)
                )
                outcomes.append(outcome)
                waited += chunk.waited
                steps_left -= chunk.steps
            outcomes = [jax.tree.map(np.asarray, outcome) for outcome in outcomes]
            finite = bool(np.asarray(going))
        steps_made = [int(outcome.steps) for outcome in outcomes]
        figures = zip(*([outcome.losses, outcome.norms, *outcome.squares] for outcome in outcomes), strict=True)
        losses, norms, *squares = (
            np.concatenate([array[:n] for n, array in zip(steps_made, arrays, strict=True)]).astype(np.float64)
            for arrays in figures
        )
        correct, noise = sum(int(outcome.correct) for outcome in outcomes), self._noise(norms, squares)
        return LoopResult(sum(steps_made), losses, norms, correct, waited, finite, noise)

    def start_trace(self, folder: str) -> None:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # Python's own calls would fill a trace
        jax.profiler.start_trace(folder, profiler_options=options)

    def stop_trace(self) -> None:
        jax.profiler.stop_trace()

    def products(self, side: int) -> Callable[[int], None]:
        return probe.products(self.runtime, side, compute_dtype(self.config.precision))

    def operations(self) -> Mapping[str, str]:
        return probe.operations(self._program(self._images).program.as_text())

    def compiler_flops(self) -> float | None:
        return probe.flops(self._program(self._images).program)

    def check_layers(self) -> None:
        if self.replicas == 1:
            return
        tensors = zip(self._names, [*self._state.trainable, *self._state.other], strict=False)
        with self._sentences(None):
            self._check_replicas(
                (name, [np.asarray(shard.data) for shard in tensor.addressable_shards]) for name, tensor in tensors
            )

    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        leaves = zip(self._names, jax.tree.leaves(self._state), strict=True)
        return {name: (tensor.shape, tensor.dtype) for name, tensor in leaves}

    def stream_state(self) -> Iterator[tuple[str, np.ndarray]]:
        for name, tensor in zip(self._names, jax.tree.leaves(self._state), strict=True):
            # The first device's, as an array of its own: `tensor` itself would keep what NumPy has seen of it.
            yield name, np.asarray(tensor.addressable_data(0))

    def restore(self, state: Mapping[str, np.ndarray] | None) -> None:
        if state is not None:
            self.check(state)
        leaves = [
            np.zeros(tensor.shape, tensor.dtype)
            if state is None
            else np.asarray(state[name]).astype(tensor.dtype, copy=False)
            for name, tensor in zip(self._names, jax.tree.leaves(self._state), strict=True)
        ]
        with self._sentences(None):
            if self.cluster.processes > 1:
                leaves = [np.asarray(tensor) for tensor in multihost_utils.broadcast_one_to_all(leaves)]
            self._state = self._place(jax.tree.unflatten(jax.tree.structure(self._state), leaves))

    def _take(self, stream: tf.data.Dataset) -> None:
        if self._feed:
            self._feed.close()
        self._images = _images_of(stream)
        chunk = self.programs.chunk(self._stage, self._images)
        self._feed = Feed(stream, self.runtime.local_replicas, chunk, self._mesh)

    def _compile_for(self, stream: tf.data.Dataset) -> None:
        self._program(_images_of(stream))

    def _program(self, images: Images) -> Compiled:
        """What trains in this stage on images, or features, of this form; kept once it is compiled."""
        if (key := (self._stage, images)) not in self._compiled:
            lower = functools.partial(self.programs.lower, stage=self._stage, images=images)
            with self._sentences(None):
                with self._attributes.explaining():
                    compiled = lower().compile(self.programs.compiler_options)
                self._attributes.check(lower)
            each = self.programs.dispatches_each_step
            loop = dispatch_each_step(compiled, self.config.noise_scale) if each else compiled
            self._compiled[key] = Compiled(loop, compiled, compiled.memory_analysis())
        return self._compiled[key]

    @contextlib.contextmanager
    def _evaluating(self, stream: tf.data.Dataset) -> Iterator[Callable[[int], Iterable[Evaluated]]]:
        rounds = iter(stream.batch(self.runtime.local_replicas, drop_remainder=True).as_numpy_iterator())
        sharding = NamedSharding(self._mesh, SHARDED)
        weights = self.programs.for_evaluation(self._state)

        def evaluate(batches: int) -> list[Evaluated]:
            evaluated = []
            for _ in range(batches):
                own = (array.reshape(-1, *array.shape[2:]) for array in next(rounds))
                batch = (jax.make_array_from_process_local_data(sharding, array) for array in own)
                evaluated.append(self.programs.evaluate(*weights, *batch))
            return evaluated

        yield evaluate

    def _all_logits(self, logits: jax.Array) -> np.ndarray:
        # Shards lie in the order of the replicas, as the batches do.
        return np.asarray(
            logits if self.cluster.processes == 1 else multihost_utils.process_allgather(logits, tiled=True)
        )

    def _backbone(self) -> Callable[[np.ndarray], np.ndarray]:
        network = halves.backbone(self.model.whole, self.config.model)
        tensors = zip(self._names, [*self._state.trainable, *self._state.other], strict=False)
        values = {name: np.asarray(tensor.addressable_data(0)) for name, tensor in tensors}
        for variable in network.variables:
            variable.assign(values[f"model/{variable.path}"])
        return forward(network)

    def _any_process(self, flag: bool) -> bool:
        return bool(multihost_utils.process_allgather(np.array(flag, np.int32)).any())

    def _from_leader(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(multihost_utils.broadcast_one_to_all(array))

    def _place(self, tree: Tree) -> Tree:
        """Every leaf of a tree, whole on every device."""
        sharding = NamedSharding(self._mesh, REPLICATED)

        def put(leaf: Array) -> jax.Array:
            # A copy: what is put is donated to the next step, and Keras' variables still hold the original.
            value = np.array(leaf)
            return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

        return jax.tree.map(put, tree)

    @contextlib.contextmanager
    def _sentences(self, examples: Examples | None) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            self._refuse_examples(examples, error)
            raise
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            text = (str(error).splitlines() or [""])[0][:200]
            # Some collectives end in a ValueError that has the status of a runtime error.
            if isinstance(error, ValueError) and not _STATUS.match(text):
                raise
            if text.startswith("RESOURCE_EXHAUSTED"):
                raise self._out_of_memory() from error
            if self.cluster.processes > 1:
                raise lost_peer(self.cluster.processes, text) from error
            raise


def _images_of(stream: tf.data.Dataset) -> Images:
    """What a training stream has for an image."""
    images = stream.element_spec.images
    return Images(tuple(images.shape[1:]), np.dtype(images.dtype.as_numpy_dtype))
