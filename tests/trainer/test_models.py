"""Models by name, and a sentence for each way in which a user's own can be wrong."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from convoy import exits
from convoy.trainer.models.build import build_model

MODULE = """
import keras
def good(input_shape, num_classes):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(num_classes)])
def softmax(input_shape, num_classes):
    return keras.Sequential([good(input_shape, num_classes), keras.layers.Softmax()])
def activated(input_shape, num_classes):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(num_classes, "softmax")])
def wrong_shape(input_shape, num_classes):
    return good(input_shape, num_classes + 1)
def layer(input_shape, num_classes):
    return keras.layers.Dense(num_classes)
def two_outputs(input_shape, num_classes):
    image = keras.Input(input_shape)
    x = keras.layers.Dense(num_classes)(keras.layers.Flatten()(image))
    return keras.Model(image, [x, x])
def articles(input_shape, num_classes):
    return keras.Sequential([keras.Input((224, 224, 3)), keras.layers.Flatten(), keras.layers.Dense(num_classes)])
class Subclass(keras.Model):
    def __init__(self, classes):
        super().__init__()
        self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(classes)
    def call(self, x):
        return self.dense(self.flatten(x))
def subclass(input_shape, num_classes):
    return Subclass(num_classes)
"""


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("my_models", None)
    return "my_models"


def test_article_cnn_is_the_articles_network():
    model = build_model("article_cnn", (32, 32, 3), 10)
    assert model.count_params() == 923_914
    assert [type(layer).__name__ for layer in model.layers] == ["Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dense"]
    assert model.layers[-1].activation is keras.activations.linear
    assert model(np.zeros((2, 32, 32, 3))).shape == (2, 10)


@pytest.mark.parametrize("name", ["good", "subclass"])
def test_a_users_own_model(users_module, name):
    model = build_model(f"{users_module}:{name}", (8, 8, 1), 10)
    assert model(np.zeros((3, 8, 8, 1))).shape == (3, 10)
    assert len(model.trainable_variables) == 2


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("absent", "defines no function absent"),
        ("softmax", "softmax"),
        ("activated", "softmax"),
        ("wrong_shape", r"'n', 11.*'n', 10"),
        ("layer", "must return a keras.Model"),
        ("two_outputs", "returns a list"),
        ("articles", "cannot be built for images of shape"),
    ],
)
def test_a_users_wrong_model_is_a_sentence(users_module, function, words):
    with pytest.raises(exits.CannotRun, match=words):
        build_model(f"{users_module}:{function}", (8, 8, 1), 10)


def test_a_missing_module_is_a_sentence(users_module):
    with pytest.raises(exits.CannotRun, match="no module nowhere"):
        build_model("nowhere:model", (8, 8, 1), 10)


class Absent:
    """Finds no package `trainer`, whatever stands on the path of these tests."""

    def find_spec(self, name, path=None, target=None):
        if name == "trainer":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_model_that_imports_convoys_layers_by_their_old_name_is_told_the_new_one(tmp_path, monkeypatch):
    """Packages of Convoy were installed as `trainer`, `data` and `launch` once."""
    (tmp_path / "old_model.py").write_text("from trainer.layers import Dropout\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "trainer", raising=False)
    monkeypatch.delitem(sys.modules, "trainer.layers", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(exits.CannotRun, match="imports trainer, .* import it from .*convoy.trainer.layers"):
        build_model("old_model:build", (8, 8, 1), 10)


def test_images_that_are_too_small_are_a_sentence():
    with pytest.raises(exits.CannotRun, match="at least 4x4 pixels, these have 3x3"):
        build_model("article_cnn", (3, 3, 1), 10)
