"""A network that rescales images itself gets values from 0 to 1 already: a note says so, and only then."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convoy.trainer.config import RunConfig
from convoy.trainer.models import rescaling
from convoy.trainer.models.build import build_model
from convoy.trainer.run import run

SHAPE = (32, 32, 3)


def classifier(*first, name="classifier"):
    """First layers, then those of any classifier."""
    layers = (*first, keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2))
    return keras.Sequential([keras.Input(SHAPE), *layers], name=name)


def application(name, **options):
    """A network of keras.applications."""
    build = getattr(keras.applications, name)
    return build(weights=None, include_top=False, input_shape=SHAPE, pooling="avg", **options)


def with_head(network, *first):
    """A user's functional model around a network, as in Keras' guides."""
    image = x = keras.Input(SHAPE)
    for layer in (*first, network, keras.layers.Dense(2)):
        x = layer(x)
    return keras.Model(image, x)


def noted(model):
    return "".join(rescaling.note(model, "net:build"))


def adapted(mean, deviation):
    """A Normalization adapted to pixels."""
    layer = keras.layers.Normalization()
    generator = np.random.default_rng(0)
    layer.adapt(generator.normal(mean, deviation, (64, *SHAPE)).astype(np.float32))
    return layer


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("EfficientNetB0", "rescales by 0.0039", marks=pytest.mark.thorough),
        pytest.param("EfficientNetV2B0", "rescales by 0.0039", marks=pytest.mark.thorough),
        ("MobileNetV3Small", "rescales by 0.0078"),
        pytest.param("ConvNeXtTiny", "subtracts 114 and divides by 57.6", marks=pytest.mark.thorough),
    ],
)
def test_a_network_that_rescales_images_is_noted(name, words):
    network = application(name)
    assert words in noted(with_head(network))
    assert noted(with_head(network, keras.layers.Rescaling(255.0))) == ""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MobileNetV3Small", {"include_preprocessing": False}),
        pytest.param("ResNet50", {}, marks=pytest.mark.thorough),
    ],
)
def test_a_network_that_does_not_rescale_is_not_noted(name, options):
    assert noted(with_head(application(name, **options))) == ""


# Functions, so that collecting builds no layer.
FOR_255 = {
    "Rescaling": lambda: [keras.layers.Rescaling(1 / 255)],
    "to -1..1": lambda: [keras.layers.Rescaling(1 / 127.5, offset=-1)],
    "by channel": lambda: [keras.layers.Rescaling([1 / 255] * 3, offset=[-0.485, -0.456, -0.406])],
    "behind a flip": lambda: [
        keras.layers.RandomFlip(),
        keras.layers.ZeroPadding2D(2),
        keras.layers.Rescaling(1 / 255),
    ],
    "nested": lambda: [keras.layers.Resizing(40, 40), keras.Sequential([keras.layers.Rescaling(1 / 255)])],
    "behind another": lambda: [keras.layers.Rescaling(2.0, offset=-1), keras.layers.Rescaling(1 / 255)],
    "Normalization": lambda: [
        keras.layers.Normalization(mean=[123.7, 116.3, 103.5], variance=[3411.0, 3262.0, 3291.0])
    ],
    "adapted": lambda: [adapted(120, 60)],
    "adapted to light ones": lambda: [adapted(200, 20)],
}
FOR_1 = {
    "nothing": lambda: [],
    "to 255": lambda: [keras.layers.Rescaling(255.0)],
    "to -1..1": lambda: [keras.layers.Rescaling(2.0, offset=-1)],
    "there and back": lambda: [keras.layers.Rescaling(255.0), keras.layers.Rescaling(1 / 255)],
    "nested": lambda: [keras.Sequential([keras.layers.Rescaling(255.0)]), keras.layers.Rescaling(1 / 127.5, offset=-1)],
    "Normalization": lambda: [
        keras.layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.0524, 0.0502, 0.0506])
    ],
    "not adapted": lambda: [keras.layers.Normalization()],
    "adapted": lambda: [adapted(0.5, 0.2)],
    "adapted to 255": lambda: [keras.layers.Rescaling(255.0), adapted(120, 60)],
    "Lambda": lambda: [keras.layers.Lambda(lambda x: 255 * x), keras.layers.Rescaling(1 / 255)],
    "behind weights": lambda: [keras.layers.Conv2D(3, 3), keras.layers.Rescaling(1 / 255)],
    "behind statistics": lambda: [keras.layers.BatchNormalization(), keras.layers.Rescaling(1 / 255)],
}


@pytest.mark.parametrize("first", FOR_255)
def test_first_layers_for_values_up_to_255_are_noted(first):
    assert "from 0 to 255" in noted(classifier(*FOR_255[first]()))


@pytest.mark.parametrize("first", FOR_1)
def test_first_layers_for_values_up_to_1_are_not_noted(first):
    assert noted(classifier(*FOR_1[first]())) == ""


def test_the_graph_is_followed_through_operations_and_branches():
    image = keras.Input((32, 32, 1))
    colours = keras.ops.repeat(image, 3, axis=-1)
    for factor, words in ((1.0, "rescales by"), (255.0, "")):
        x = keras.layers.Concatenate()([keras.layers.Rescaling(factor)(colours), keras.layers.Rescaling(factor)(image)])
        x = keras.layers.Rescaling(1 / 255, name=f"again_{factor:.0f}")(x)
        assert words in (said := noted(keras.Model(image, classifier_of(x))))
        assert bool(said) == bool(words)
    assert noted(keras.Model(image, classifier_of(keras.layers.Rescaling(1 / 255)(colours * 255.0)))) == ""


def classifier_of(x):
    return keras.layers.Dense(2)(keras.layers.Flatten()(x))


def test_subclassed_models_and_our_own_are_not_noted():
    class Users(keras.Model):
        def __init__(self):
            super().__init__()
            self.network = classifier(keras.layers.Rescaling(1 / 255))

        def call(self, x):
            return self.network(255 * x)

    users = Users()
    users(np.zeros((2, *SHAPE)))
    assert noted(users) == ""
    for name in ("article_cnn", "resnet18"):
        assert noted(build_model(name, SHAPE, 10)) == ""


MODULE = """
import keras
def build(input_shape, num_classes):
    image = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 255, name="again")(image)
    return keras.Model(image, keras.layers.Dense(num_classes)(keras.layers.Flatten()(x)))
"""
SAID = "Note: images come as numbers from 0 to 1, and rescaling_net:build's layer again rescales by 0.0039"


def test_a_run_shows_the_note_before_its_first_step(tmp_path, monkeypatch, capsys):
    (tmp_path / "rescaling_net.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run(RunConfig(model="rescaling_net:build", duration="1st", run_dir="run"))
    said = " ".join(capsys.readouterr().out.split())
    assert SAID in said
    assert said.index(SAID) < said.index("epoch 0.1")


@pytest.mark.thorough
def test_a_run_on_jax_shows_the_note_too(convoy, tmp_path):
    (tmp_path / "rescaling_net.py").write_text(MODULE)
    flags = ["--model=rescaling_net:build", "--duration=1st", "--run_dir=run", "--backend=jax"]
    assert SAID in " ".join(convoy("train", *flags).out.split())
