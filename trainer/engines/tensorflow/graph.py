"""State that the graph of a loop touches beside the variables that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from convoy import exits
from convoy.trainer.engines import hidden

ConcreteFunction: TypeAlias = "tf.types.experimental.ConcreteFunction"

# Operations that keep a stream of random numbers, or a table, inside TensorFlow, where nothing can read it.
_DRAWS = {
    "Multinomial", "ParameterizedTruncatedNormal", "RandomGamma", "RandomPoisson", "RandomPoissonV2", "RandomShuffle",
    "RandomStandardNormal", "RandomUniform", "RandomUniformInt", "TruncatedNormal",
}  # fmt: skip
_TABLES = {"LookupTableImportV2", "LookupTableInsertV2", "LookupTableRemoveV2", "MutableDenseHashTableV2"}
_WRITES = ("Assign", "ResourceApply", "ResourceScatter", "Rng")


class Outside:
    """Variables that graphs touch although they are not among `known`: they may be read, but not written."""

    def __init__(self, model: str, known: Iterable[tf.Variable]):
        self._model, self._known = model, {id(part) for variable in known for part in parts(variable)}
        self._found: list[tuple[tf.Variable, np.ndarray]] = []
        self._seen: dict[ConcreteFunction, bool] = {}

    def watch(self, concrete: ConcreteFunction) -> bool:
        """Notes the variables that a traced function touches, before it runs; returns whether it writes any variable.

        Raises:
          exits.CannotRun: the function keeps state that can never be saved.
        """
        if concrete in self._seen:
            return self._seen[concrete]
        names = operations(concrete)
        if kept := names & (_DRAWS | _TABLES):
            what = "random numbers" if kept & _DRAWS else "a table"
            raise exits.CannotRun(
                f"--model={self._model}: the operation {min(kept)} keeps {what} inside of TensorFlow, where no checkpoint finds"
                " them; draw with keras.random and a keras.random.SeedGenerator that is an attribute of the layer, or take"
                " Dropout and StochasticDepth from convoy.trainer.layers; keep numbers in variables."
            )
        for variable in concrete.graph.variables:
            for part in parts(variable):
                if id(part) not in self._known:
                    self._known.add(id(part))
                    self._found.append((part, part.numpy()))
        self._seen[concrete] = any(name.startswith(_WRITES) for name in names)
        return self._seen[concrete]

    def check(self) -> None:
        """Raises CannotRun if one of the variables has changed."""
        for part, value in self._found:
            if part.numpy().tobytes() != value.tobytes():
                hidden.refuse_variable(self._model, part.name.partition(":")[0])


def parts(variable: tf.Variable) -> tuple[tf.Variable, ...]:
    """The copies of a variable on the devices of this process."""
    return tuple(getattr(variable, "values", None) or (variable,))


def operations(concrete: ConcreteFunction) -> set[str]:
    """The names of all operations of a traced function and of those that it calls."""
    graph = concrete.graph.as_graph_def()
    return {node.op for function in graph.library.function for node in function.node_def} | {n.op for n in graph.node}
