"""A network with the outline of models/outline.py, in two halves: the backbone gives features, the head logits of them."""

from __future__ import annotations

import keras

from convoy import exits
from convoy.data.arrays import Array, Logits


def backbone(model: keras.Model, name: str) -> keras.Model:
    """Images in [0, 1], [n, h, w, c] -> features, [n, d], by the layers and variables of a network.

    Raises:
      exits.CannotRun: the network `name` has no such halves.
    """
    stem, _ = _halves(model, name)
    image = keras.Input(model.input_shape[1:])
    return keras.Model(image, _through(stem, image))


class InHalves(keras.Model):
    """A network that takes images, or in their place their features. Its variables are those of the network, in their order.

    Args:
      model: the network.
      name: of the network, for a sentence.

    Raises:
      exits.CannotRun: it has no such halves.
    """

    def __init__(self, model: keras.Model, name: str):
        super().__init__(name=model.name, autocast=False)
        stem, head = _halves(model, name)
        self.features = int(stem[-1].output_shape[1])  # of an image
        features = keras.Input((self.features,))
        second = keras.Model(features, _through(head, features))
        self.whole = model
        # Behind a function, where Keras does not look for layers: it would find the head's a second time.
        self._second = lambda inputs, training: second(inputs, training=training)
        self.built = True

    @property
    def backbone(self) -> keras.Model:
        return self.whole.get_layer("backbone")

    def call(self, inputs: Array, training: bool = False) -> Logits:
        if len(inputs.shape) == 2:
            return self._second(inputs, training)
        return self.whole(inputs, training=training)


def _halves(model: keras.Model, name: str) -> tuple[list[keras.layers.Layer], list[keras.layers.Layer]]:
    """The layers up to the backbone, and those behind it."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    names = [layer.name for layer in layers]
    if names[:2] != ["preprocess", "backbone"] or len(layers[1].output_shape) != 2:
        raise exits.CannotRun(
            f"--cache_features needs a network with a backbone, and --model={name} has none; leave it out, or take a network"
            " of keras:NAME, hub:NAME or efficientnet_lite0."
        )
    return layers[:2], layers[2:]


def _through(layers: list[keras.layers.Layer], tensor: keras.KerasTensor) -> keras.KerasTensor:
    for layer in layers:
        tensor = layer(tensor)
    return tensor
