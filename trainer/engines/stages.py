"""Stages of a run: which variables train when, what the layers of the others do meanwhile, and how large a batch is.

A frozen layer is called as in evaluation, so that BatchNormalization uses its moving statistics, and dropout keeps everything.
Without --groups, --unfreeze and --batch_ramp a run is one stage, in which all of Keras' trainable variables train.
"""

from __future__ import annotations

import bisect
import contextlib
import contextvars
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator

import keras

from convoy import exits
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import patches
from convoy.trainer.engines.depths import path_of
from convoy.trainer.flags.clock import Clock
from convoy.trainer.optimizers.groups import Treatments


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """A part of a run that has one program: the same variables train, in batches of one size.

    Attributes:
      first_step: where it begins.
      batch_size: examples of its steps.
      number: how many borders of --unfreeze were passed before it.
      trained: the variables that train, in the order of `model.trainable_variables`.
      indices: their indices there.
      still: of the other variables, those that no step changes, by `id`.
      frozen: the layers that are called as in evaluation, by `id`.
    """

    first_step: int
    batch_size: int
    number: int
    trained: list[keras.Variable]
    indices: list[int]
    still: frozenset[int]
    frozen: frozenset[int]


_current: contextvars.ContextVar[Stage | None] = contextvars.ContextVar("stage", default=None)


@contextlib.contextmanager
def stepping(stage: Stage) -> Iterator[None]:
    """Within, a model is called for a step of this stage."""
    token = _current.set(stage)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Stage | None:
    """The stage for a step of which a model is being called."""
    return _current.get()


def build_stages(config: RunConfig, model: keras.Model, treatments: Treatments, examples: int) -> list[Stage]:
    """The stages of a run. Variables that never train become non-trainable in Keras' sense: without gradient and slots.

    Args:
      examples: positions of an epoch.

    Raises:
      exits.CannotRun: no variable trains in the first stage.
    """
    excluded = {id(v) for v in model.trainable_variables if treatments(v.path).stage is None}
    for variable in model.variables:
        if id(variable) in excluded:
            variable.trainable = False
    borders, clock = config.unfreeze_borders(examples), config.clock(examples)
    stages = [
        _stage(model, treatments, bisect.bisect_right(borders, first_step), first_step, clock, excluded)
        for first_step in sorted({0, *borders, *clock.borders})
    ]
    if (config.groups or config.unfreeze) and not stages[0].trained:
        until = f" before step {borders[0]:,}" if borders and stages[-1].trained else ""
        raise exits.CannotRun(
            f"--groups={config.groups} freezes all that would train{until}; leave the head, or another part, out of it."
        )
    return stages


def note(model: keras.Model, stages: list[Stage]) -> list[str]:
    """What the start-up block has to say about what trains when; nothing if all does, always."""
    rest = _numbers([variable for variable in model.weights if id(variable) in stages[-1].still])
    stages = [stage for index, stage in enumerate(stages) if not index or stage.number > stages[index - 1].number]
    if len(stages) == 1 and not rest:
        return []
    first, *later = (f"{_numbers(stage.trained):,}" for stage in stages)
    steps = (stage.first_step for stage in stages[1:])
    text = ", ".join(
        [f"{first} parameters train", *(f"{n} from step {s:,} on" for n, s in zip(later, steps, strict=True))]
    )
    return [f"{text}; {rest:,} are frozen." if rest else f"{text}."]


def stage_at(stages: list[Stage], step: int) -> Stage:
    """The stage that a step belongs to."""
    return next(stage for stage in reversed(stages) if stage.first_step <= step)


def install(model: keras.Model, stages: list[Stage]) -> None:
    """Has layers do in a step what the step's stage says; after every other change of their `call`."""
    for layer in model._flatten_layers(include_self=False):
        is_frozen_once = any(id(layer) in stage.frozen for stage in stages)
        if is_frozen_once and "training" in inspect.signature(layer.call).parameters:
            patches.call_as_in_evaluation(layer, _is_frozen(layer))


def _is_frozen(layer: keras.layers.Layer) -> Callable[[], bool]:
    def is_frozen() -> bool:
        stage = current()
        return stage is not None and id(layer) in stage.frozen

    return is_frozen


def _stage(
    model: keras.Model, treatments: Treatments, number: int, first_step: int, clock: Clock, excluded: set[int]
) -> Stage:
    def rests(path: str) -> bool:
        return not treatments(path).trains_in(number)

    frozen, variables = list(_frozen_layers(model, rests)), model.trainable_variables
    indices = [index for index, variable in enumerate(variables) if not rests(variable.path)]
    trained = [variables[index] for index in indices]
    still = excluded | {id(variable) for layer in frozen for variable in layer.variables}
    still |= {id(variable) for variable in variables} - {id(variable) for variable in trained}
    batch_size = clock.batch_size(first_step)
    return Stage(first_step, batch_size, number, trained, indices, frozenset(still), frozenset(map(id, frozen)))


def _frozen_layers(model: keras.Model, rests: Callable[[str], bool]) -> Iterator[keras.layers.Layer]:
    """The layers all of whose variables rest, and those within them; a layer without variables goes by its own path."""
    within: set[int] = set()
    # A layer comes before those within it.
    for layer in model._flatten_layers(include_self=False):
        paths = [variable.path for variable in layer.weights] or [path_of(layer)]
        if id(layer) in within or all(map(rests, paths)):
            within |= {id(part) for part in layer._flatten_layers()}
            yield layer


def _numbers(variables: list[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
