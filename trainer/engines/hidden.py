"""State that layers keep where no checkpoint finds it: numbers and tensors in attributes, variables that Keras does not know.

A layer's Python runs when a step is compiled, not at every step. A number that `call` counts up is therefore a constant of the
program, and another one when the program is compiled again. Such a layer is refused with a sentence that says what to write.
"""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

import keras
import numpy as np

from convoy import exits
from convoy.trainer.engines import patches

_STATUS = re.compile(r"[A-Z_]+: ")  # of a collective that failed
INSTEAD = "make it a variable, self.add_weight(..., trainable=False), in build, and assign to that"


class Attributes:
    """Numbers and tensors in the attributes of a user's layers, as they were before a step was compiled."""

    def __init__(self, model: keras.Model, name: str):
        self._name = name
        self._keras = set(vars(keras.layers.Layer()))
        self._layers = [layer for layer in model._flatten_layers() if not _stock(type(layer))]
        self._before = self._look()

    def check(self, compile_again: Callable[[], object]) -> None:
        """Raises CannotRun for a layer whose attributes change with every compilation of a step.

        A layer may note something, such as the shape of its input or its last output: it notes the same again. Where an
        attribute has changed, the step is compiled again to tell the two apart.
        """
        now = self._look()
        changed = [key for key, value in now.items() if self._before.get(key, value)[0] != value[0]]
        new = [key for key in now if key not in self._before]
        if not changed and not new:
            return
        # With a plain object in its place, a layer that computes with such a tensor fails at once; JAX may fail later.
        old = {(index, name): value for (index, name), (_, value) in now.items() if _symbolic(value)}
        for index, name in old:
            vars(self._layers[index])[name] = object()
        try:
            compile_again()
        except Exception as error:
            self.refuse(next(iter(old), (changed or new)[0]), error)
        again = self._look()
        for key in (*changed, *new):
            if key not in old and again.get(key, now[key])[0] != now[key][0]:
                self.refuse(key)

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Turns errors of compiling a step into a sentence where a layer holds a tensor of another program."""
        try:
            yield
        except exits.ConvoyError:
            raise
        except Exception as error:
            for key, (_, value) in self._look().items():
                if _symbolic(value):
                    self.refuse(key, error)
            if ":" not in self._name or not isinstance(error, ValueError | TypeError) or _STATUS.match(str(error)):
                raise
            # The layers' own errors; the traceback stays, since the code is the user's.
            traceback.print_exc()
            raise exits.CannotRun(f"--model={self._name} cannot be trained; its error is above.") from error

    def refuse(self, key: tuple[int, str], error: Exception | None = None) -> NoReturn:
        layer, attribute = self._layers[key[0]], key[1]
        raise exits.CannotRun(
            f"--model={self._name}: the layer {layer.name} ({type(layer).__name__}) keeps something in its attribute"
            f" {attribute} that call changes, but call runs when a step is compiled, not when it is made, and no checkpoint"
            f" holds it; {INSTEAD}."
        ) from error

    def _look(self) -> dict[tuple[int, str], tuple[object, object]]:
        """(layer, attribute) -> (something to compare, the value itself, so that no other object gets its id)."""
        values: dict[tuple[int, str], tuple[object, object]] = {}
        for index, layer in enumerate(self._layers):
            for attribute, value in vars(layer).items():
                if attribute in self._keras or isinstance(value, keras.Variable):
                    continue
                if isinstance(value, np.ndarray | np.generic):
                    values[index, attribute] = value.tobytes(), value
                elif isinstance(value, int | float | complex):
                    values[index, attribute] = repr(value), value
                elif _tensor(value):
                    values[index, attribute] = id(value), value
        return values


@contextlib.contextmanager
def watching(model: keras.Model, name: str) -> Iterator[None]:
    """Around a stateless call of a model: raises CannotRun for an assignment that would be lost.

    Such a call returns the values of variables that are not trained, and of no others.
    """
    known = {id(variable) for variable in model.non_trainable_variables}
    assigned: dict[int, keras.Variable] = {}
    with patches.observed_updates(lambda variable: assigned.update({id(variable): variable})):
        yield
    trained = {id(variable) for variable in model.trainable_variables}
    for key, variable in assigned.items():
        if key in trained:
            raise exits.CannotRun(
                f"--model={name} assigns to the variable {variable.path} in call, although it is trained, and JAX would lose"
                " that; use --backend=tensorflow, or give add_weight trainable=False."
            )
        if key not in known:
            refuse_variable(name, variable.path)


def refuse_variable(model: str, path: str) -> NoReturn:
    """Raises CannotRun for a variable that a step writes although the model does not have it."""
    raise exits.CannotRun(
        f"--model={model} writes a variable {path} that is none of the model's own, so no checkpoint holds it; {INSTEAD}."
        " Numbers are drawn with a keras.random.SeedGenerator that is an attribute of the layer."
    )


def refuse_creation(model: str, error: Exception) -> NoReturn:
    raise exits.CannotRun(
        f"--model={model} makes a variable while a step is compiled ({str(error).splitlines()[0][:160]}); make it in build,"
        " with self.add_weight."
    ) from error


def _stock(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "keras" or kind.__module__.startswith("convoy.")


def _tensor(value: object) -> bool:
    return keras.ops.is_tensor(value) or _symbolic(value)


def _symbolic(value: object) -> bool:
    """Whether a tensor belongs to a program that is or was compiled, and so has no value."""
    return not {"KerasTensor", "SymbolicTensor", "Tracer"}.isdisjoint(base.__name__ for base in type(value).__mro__)
