"""State that layers keep where no checkpoint finds it: numbers and tensors in attributes, variables that Keras does not know.

Python runs when a step is compiled, not when it is made. A number that `call` counts up is a constant of the program, which is
another one where the program is compiled once more; so such a layer is refused, with what to write instead.
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
    """Numbers and tensors in the attributes of a user's own layers, as they are before a step is compiled."""

    def __init__(self, model: keras.Model, name: str):
        self._name = name
        self._keras = set(vars(keras.layers.Layer()))
        self._layers = [layer for layer in model._flatten_layers() if not _stock(type(layer))]
        self._before = self._look()

    def check(self, compile_again: Callable[[], object]) -> None:
        """CannotRun if what a step is made of is another one each time it is compiled.

        What only notes something, the shape of its input or its last output, notes the same again. To tell, the step is
        compiled once more, where an attribute has changed.
        """
        now = self._look()
        changed = [key for key, value in now.items() if self._before.get(key, value)[0] != value[0]]
        new = [key for key in now if key not in self._before]
        if not changed and not new:
            return
        # Nothing can be computed with these, whereas JAX may compute with a tensor of another program and notice it later.
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
            # The layers' own complaints; the traceback stays, since it is the user's code.
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
        """(layer, attribute) -> (what can be compared, the value itself, so that nothing else gets its id)."""
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
    """Around a call of a model without state, as JAX's are: CannotRun for an assignment that would be lost, because only the
    model's variables that are not trained come back from such a call."""
    assigned: dict[int, keras.Variable] = {}
    with patches.observed_updates(lambda variable: assigned.update({id(variable): variable})):
        yield
    known = {id(variable) for variable in model.non_trainable_variables}
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
    """CannotRun for a variable that a step writes and that is none of the model's."""
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
    """Whether a tensor is one of a program that is or was compiled, and has no value."""
    return not {"KerasTensor", "SymbolicTensor", "Tracer"}.isdisjoint(base.__name__ for base in type(value).__mro__)
