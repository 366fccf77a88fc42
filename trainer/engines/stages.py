"""Stages of a run: which variables train when, and what the layers of the others do meanwhile.

A frozen layer is called as in evaluation, so that BatchNormalization uses its moving statistics, and dropout keeps everything.
Without --groups and --unfreeze a run is one stage, in which all of Keras' trainable variables train.
"""

from __future__ import annotations

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
from convoy.trainer.optimizers.groups import Treatments


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """A part of a run in which the same variables train.

    Attributes:
      first_step: where it begins.
      trained: the variables that train, in the order of `model.trainable_variables`.
      indices: their indices there.
      still: of the other variables, those that no step changes, by `id`.
      frozen: the layers that are called as in evaluation, by `id`.
    """

    first_step: int
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
    borders = (0, *config.stage_borders(examples))
    stages = [_stage(model, treatments, number, first_step, excluded) for number, first_step in enumerate(borders)]
    if (config.groups or config.unfreeze) and not stages[0].trained:
        until = f" before step {borders[1]:,}" if len(borders) > 1 and stages[-1].trained else ""
        raise exits.CannotRun(
            f"--groups={config.groups} freezes all that would train{until}; leave the head, or another part, out of it."
        )
    return stages


def note(model: keras.Model, stages: list[Stage]) -> list[str]:
    """What the start-up block has to say about what trains when; nothing if all does, always."""
    rest = _numbers([variable for variable in model.weights if id(variable) in stages[-1].still])
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
        stage = _current.get()
        return stage is not None and id(layer) in stage.frozen

    return is_frozen


def _stage(model: keras.Model, treatments: Treatments, number: int, first_step: int, excluded: set[int]) -> Stage:
    def rests(path: str) -> bool:
        return not treatments(path).trains_in(number)

    frozen, variables = list(_frozen_layers(model, rests)), model.trainable_variables
    indices = [index for index, variable in enumerate(variables) if not rests(variable.path)]
    trained = [variables[index] for index in indices]
    still = excluded | {id(variable) for layer in frozen for variable in layer.variables}
    still |= {id(variable) for variable in variables} - {id(variable) for variable in trained}
    return Stage(first_step, trained, indices, frozenset(still), frozenset(map(id, frozen)))


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
