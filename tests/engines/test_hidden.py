"""State in the attributes of layers: whose layers are looked at, and when a step is compiled again to tell."""

from __future__ import annotations

import keras
import pytest

from convoy import exits
from convoy.trainer.engines import hidden
from convoy.trainer.layers import Dropout


class UsersLayer(keras.layers.Layer):
    """Notes something."""

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(("layer", "compilations"), [(keras.layers.Dense(2), 0), (Dropout(0.5), 0), (UsersLayer(), 1)])
def test_a_new_attribute_has_a_step_compiled_again_for_layers_of_users_alone(layer, compilations):
    attributes = hidden.Attributes(keras.Sequential([keras.Input((4,)), layer]), "mine:model")
    layer.noted = 1
    compiled = []
    attributes.check(lambda: compiled.append(1))
    assert len(compiled) == compilations


def test_an_attribute_that_changes_with_every_compilation_is_refused():
    layer = UsersLayer(name="counting")
    attributes = hidden.Attributes(keras.Sequential([keras.Input((4,)), layer]), "mine:model")
    layer.calls = 1
    with pytest.raises(
        exits.CannotRun, match=r"the layer counting \(UsersLayer\) keeps something in its attribute calls"
    ):
        attributes.check(lambda: setattr(layer, "calls", layer.calls + 1))
