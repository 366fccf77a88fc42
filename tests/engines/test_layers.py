"""Random layers: masks that depend on seed, layer and position and on nothing else, and what Keras' own draw on replicas."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from convoy.trainer.engines.randomness import draw_by_position, note
from convoy.trainer.layers import Dropout, StochasticDepth, drawing, positional, stock_generators, without
from support import environment, once_on_both

PROGRAM = Path(__file__).with_name("layer_cases.py")
FIRST = np.array([[0, 0], [1, 0]], np.uint32)
X = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """backend/case/way -> what it came to there."""
    values = once_on_both(tmp_path_factory, PROGRAM)
    return {f"{backend}/{name}": value for backend, cases in values.items() for name, value in cases.items()}


def output(layer, positions=FIRST, seed=0, x=None):
    with drawing(seed, np.asarray(positions, np.uint32)):
        return np.asarray(layer(np.ones((len(positions), 64), np.float32) if x is None else x, training=True))


def test_threefry_gives_the_known_answers_of_13_rounds(cases):
    expected = [[0x9D1C5EC6, 0x8BD50731], [0xFD36D048, 0x2D17272C], [0xBA3E4725, 0xF27D669E]]
    ways = [value for name, value in cases.items() if "/threefry/" in name]
    np.testing.assert_array_equal(ways, [expected] * 5)


@pytest.mark.parametrize(("case", "count"), [("odd", 9), ("even", 5), ("one", 5), ("dtype", 15), ("depth", 7)])
def test_masks_are_the_same_on_both_backends_compiled_or_not_and_for_any_shares_of_a_batch(cases, case, count):
    masks = [value != 0 for name, value in cases.items() if f"/{case}/" in name and "gradient" not in name]
    assert 0 < masks[0].mean() < 1
    np.testing.assert_array_equal(masks, [masks[0]] * count)


@pytest.mark.parametrize("case", ["odd", "even", "depth"])
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_gradients_pass_where_inputs_were_kept_and_nowhere_else(cases, backend, case):
    # The inputs are ones, so the gradient of the sum of the outputs is the outputs.
    np.testing.assert_array_equal(cases[f"{backend}/gradient/{case}"], cases[f"{backend}/{case}/eager"])


def test_a_mask_differs_for_another_seed_another_layer_and_another_position():
    positions, seeds = [[0, 0], [1, 0], [2**32 - 1, 0], [0, 1], [1, 1], [0, 2**31]], [0, 1, 2**32, -1]
    drawn = [output(Dropout(0.5, name=name), positions, seed) for name in ("one", "other") for seed in seeds]
    assert len({mask.tobytes() for masks in drawn for mask in masks}) == 2 * len(seeds) * len(positions)


def test_a_mask_is_the_same_in_every_version():
    kept = np.packbits(output(Dropout(0.5, name="dropout"), [[0, 0], [5, 1]], seed=3) != 0)
    assert kept.tobytes().hex() == "22aa636a1307e9da3a01dce0d92304c8"


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_numbers_are_kept_at_the_rate_and_independently_of_one_another(rate):
    positions = np.stack([np.arange(4096), np.zeros(4096)], 1)
    some = Dropout(rate, name="a"), Dropout(rate, name="b"), StochasticDepth(rate, name="c")
    a, b, c = (((output(one, positions) != 0) - (1 - rate)) / np.sqrt(rate * (1 - rate)) for one in some)
    assert (c == c[:, :1]).all()  # whole examples
    c = c[:, 0]
    # Beside the rates: neighbours, the two words of a block of Threefry, two layers.
    pairs = [(a, 1), (c, 1), (a[1:], a[:-1]), (c[1:], c[:-1]), (a[:, 1:], a[:, :-1]), (a[:, 32:], a[:, :32]), (a, b)]
    for one, other in pairs:
        assert abs((one * other).mean()) * np.sqrt(one.size) < 5


@pytest.mark.parametrize("make", [Dropout, StochasticDepth])
def test_kept_numbers_are_scaled_exactly_and_all_are_as_they_were_without_training_or_rate(make):
    layer, x = make(0.3, name="drop"), np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
    np.testing.assert_array_equal(output(layer, x=x), np.where(output(layer) != 0, x / np.float32(1 - 0.3), 0))
    np.testing.assert_array_equal(output(make(0.0), x=x), x)
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_a_rate_of_almost_1_drops_everything():
    assert not output(Dropout(1 - 1e-12, name="drop")).any()


def test_training_outside_a_run_and_an_impossible_rate_are_sentences():
    with pytest.raises(
        ValueError, match=r"late draws .* only a run .* knows; .* or within convoy.trainer.layers.drawing.*\."
    ):
        Dropout(0.5, name="late")(X, training=True)
    for rate in (1.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"^rate={rate} of drop is not possible: give a number from 0 .* 1\.$"):
            StochasticDepth(rate, name="drop")


def test_a_first_dimension_that_is_not_the_batch_is_a_sentence():
    for layer in (Dropout(0.5, name="drop"), StochasticDepth(0.5, name="drop")):
        with drawing(0, FIRST), pytest.raises(ValueError, match=rf"drop gets 1 examples of a batch of {len(FIRST)}: "):
            layer(np.ones((1, 4), np.float32), training=True)


def test_drawing_nests_and_ends_with_an_error():
    layer, x = Dropout(0.5, name="drop"), np.ones((2, 64), np.float32)
    with drawing(0, FIRST):
        with pytest.raises(KeyError), drawing(1, FIRST + np.uint32(7)):
            raise KeyError
        after = np.asarray(layer(x, training=True))
    np.testing.assert_array_equal(after, output(layer))
    with pytest.raises(ValueError, match="drop draws"):
        layer(x, training=True)


def test_every_thread_draws_for_its_own_positions():
    layer, both = Dropout(0.5, name="drop"), threading.Barrier(2, timeout=60)
    expected = [output(layer, FIRST + np.uint32(first)) for first in (10, 20)]

    def draw(first: int) -> np.ndarray:
        with drawing(0, FIRST + np.uint32(first)):
            both.wait()
            return np.asarray(layer(np.ones((2, 64), np.float32), training=True))

    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(list(pool.map(draw, (10, 20))), expected)


def sequence(*some: layers.Layer, shape: tuple[int, ...] = (6,)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *some])


def functional() -> keras.Model:
    inputs = keras.Input((6,))
    x = layers.BatchNormalization(name="norm", moving_mean_initializer="ones", trainable=False)(inputs)
    x = Dropout(0.3, name="drop")(layers.Dense(32, name="dense")(x))
    y = StochasticDepth(0.5, name="depth")(layers.Dense(32, name="branch")(x))
    return keras.Model(inputs, layers.Add()([x, y]))


@pytest.mark.parametrize("make", [functional, lambda: sequence(Dropout(0.3, name="drop"))])
def test_a_loaded_model_keeps_rates_and_masks(tmp_path, make):
    model = make()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [layer.rate for layer in positional(loaded)] == [layer.rate for layer in positional(model)] != []
    np.testing.assert_array_equal(output(loaded, x=X), output(model, x=X))


FOREIGN = """
import sys
sys.modules.update(dict.fromkeys(["convoy", "data", "launch", "trainer"]))  # there are no such modules
import keras, numpy
numpy.save("outputs.npy", keras.saving.load_model("without.keras")(numpy.load("inputs.npy"), training=False))
keras.saving.load_model("with.keras")
"""


def test_a_copy_without_our_layers_predicts_the_same_where_convoy_is_not_installed(tmp_path):
    model = functional()
    copy, expected = without(model), np.asarray(model(X, training=False))
    assert [w.path for w in copy.trainable_weights] == [w.path for w in model.trainable_weights]
    np.testing.assert_array_equal(copy(X, training=True), expected)  # in training too: nothing is left to draw
    copy.save(tmp_path / "without.keras")
    model.save(tmp_path / "with.keras")
    np.save(tmp_path / "inputs.npy", X)
    argv, env = [sys.executable, "-P", "-c", FOREIGN], environment(KERAS_BACKEND="numpy")
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "TypeError: Could not locate class 'Dropout'" in done.stderr  # of the other file
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), expected, rtol=1e-5, atol=1e-6)


ODD_PLACES = {
    "functional": lambda: sequence(functional(), layers.Dense(2)),
    "sequential": lambda: sequence(sequence(layers.Dense(6), sequence(Dropout(0.3))), layers.Dense(2)),
    "wrapper": lambda: sequence(layers.Reshape((2, 3)), layers.TimeDistributed(Dropout(0.3)), layers.Dense(2)),
    "precision": lambda: sequence(Dropout(0.3, dtype="float16")),
}


@pytest.mark.parametrize("make", ODD_PLACES.values(), ids=ODD_PLACES.keys())
def test_a_copy_is_without_our_layers_wherever_they_are(make):
    model = make()
    copy = without(model)
    np.testing.assert_array_equal(copy(X, training=False), model(X, training=False))
    assert not positional(copy)


def test_nested_layers_and_generators_are_found_once_each():
    ours, stock = [Dropout(0.5), StochasticDepth(0.5)], [layers.Dropout(0.5), layers.GaussianNoise(0.1)]
    flip, shape = layers.RandomFlip(), (6, 6, 3)
    inner = sequence(ours[1], stock[0], flip, sequence(stock[1], shape=shape), shape=shape)
    model = sequence(ours[0], stock[0], inner, layers.Dropout(0.0), shape=shape)
    assert sorted(map(id, positional(model))) == sorted(map(id, ours))
    generators = [flip.generator, *(layer.seed_generator for layer in stock)]
    assert sorted(map(id, stock_generators(model))) == sorted(map(id, generators))


STOCK = ["chain", "attention", "twice", "windows"]


@pytest.mark.parametrize("case", STOCK)
def test_keras_own_layers_draw_by_position_on_both_backends_compiled_or_not_and_for_any_shares(cases, case):
    drawn = [value for name, value in cases.items() if f"/by position/{case}/" in name]
    assert len(drawn) == 6  # at once, compiled and in halves, of both backends
    assert len({example.tobytes() for example in np.round(drawn[0], 4)}) > 4, "examples draw alike"
    for other in drawn[1:]:
        np.testing.assert_allclose(other, drawn[0], rtol=1e-5, atol=1e-6)


def test_layers_that_draw_by_position_leave_their_generators_as_they_are(cases):
    states = [value for name, value in cases.items() if "/drawn/" in name]
    assert len(states) == 2 * len(STOCK)
    for state in states:
        assert (state.reshape(-1, 2)[:, 1] == 0).all()


def test_noise_has_the_mean_and_deviation_it_was_asked_for():
    positions = np.stack([np.arange(4096), np.zeros(4096)], 1)
    noise, both = layers.GaussianNoise(0.5), sequence(layers.GaussianNoise(0.5), layers.GaussianNoise(0.5))
    draw_by_position(both)
    draw_by_position(sequence(noise, shape=(64,)))
    drawn = output(noise, positions) - 1
    assert abs(drawn.mean()) < 5 * 0.5 / np.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(0.5, rel=0.01)
    assert np.mean(np.abs(drawn) < 0.5) == pytest.approx(0.6827, abs=0.005)
    first, second = (np.asarray(output(layer, x=X)) - X for layer in both.layers)
    assert not np.allclose(first, second), "two layers draw alike"


def test_layers_of_one_name_draw_differently_and_outside_a_step_keras_draws():
    model = sequence(sequence(layers.Dropout(0.5, name="drop")), layers.Dropout(0.5, name="drop"))
    draw_by_position(model)
    one, other = (layer for layer in model._flatten_layers() if layer.name == "drop")
    assert not np.array_equal(output(one), output(other))
    counted = one.seed_generator.state.numpy()[1]
    one(X, training=True)
    assert one.seed_generator.state.numpy()[1] == counted + 1


def test_a_mask_of_the_whole_batch_is_left_to_keras():
    model = sequence(layers.Dropout(0.5, noise_shape=(1, 6)))
    draw_by_position(model)
    output(model, x=X)
    assert model.layers[0].seed_generator.state.numpy()[1] > 0


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_replicas_draw_different_masks_in_keras_own_layers_and_keep_equal_states(cases, backend):
    masks = np.concatenate([cases[f"{backend}/stock/drawn {step}"] for step in (1, 2)]) != 0
    assert len({mask.tobytes() for mask in masks}) == 4
    np.testing.assert_allclose(masks.mean(1), 0.5, atol=5 * 0.5 / np.sqrt(1000))
    for step in (1, 2):
        np.testing.assert_array_equal(cases[f"{backend}/stock/states {step}"], [[1, step], [1, step]])


def test_a_note_names_the_model_and_what_to_do_and_is_not_about_our_layers():
    (sentence,) = note(sequence(layers.Dropout(0.5)), "my:model")
    assert re.fullmatch(
        r"my:model draws random .* ends elsewhere on one device\. .* convoy\.trainer\.layers .*\.", sentence
    )
    (sentence,) = note(sequence(layers.Dropout(0.5), Twice()), "my:model")
    assert re.fullmatch(r"my:model draws .* \(.*twice\): .* on another number of devices\. .*\.", sentence)
    assert note(functional(), "my:model") == note(sequence(layers.Dropout(0.5)), "keras:ResNet50") == []


class Twice(layers.Layer):
    """A user's own, which draws from a generator in whatever way."""

    def __init__(self):
        super().__init__(name="twice")
        self.generator = keras.random.SeedGenerator(1)


def test_a_note_names_the_layer():
    assert "theirs" in note(sequence(layers.Dropout(0.5, name="theirs")), "my:model")[0]
    assert "shared" in note(sequence(layers.Dropout(0.5, noise_shape=(1, 6), name="shared")), "keras:VGG16")[0]
