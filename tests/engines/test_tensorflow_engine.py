"""The TensorFlow engine on one device: the arithmetic of a step, in float64, against the same done by hand."""

from __future__ import annotations

import random
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.pipeline import BatchSharding, training_stream
from convoy.data.sources.in_memory import InMemory
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.base import evaluation_batch_size
from convoy.trainer.engines.steps_per_loop import StepsPerLoop
from convoy.trainer.engines.tensorflow import Engine, prepare
from convoy.trainer.losses.build import build_loss
from convoy.trainer.losses.names import LossSpec

SHAPE, CLASSES, N = (8, 8, 1), 10, 53
RNG = np.random.default_rng(0)
EXAMPLES = InMemory(RNG.integers(0, 256, (N, *SHAPE)), RNG.integers(0, CLASSES, N))


def engine(meanwhile: Callable[[], object] = lambda: None, **values) -> Engine:
    settings = {
        "model": "article_cnn",
        "precision": "float64",
        "batch_size": 14,
        "optimizer": "sgd",
        "duration": "20st",
        "seed": 5,
        **values,
    }
    runtime = prepare(RunConfig(**settings))
    meanwhile()
    built = Engine(runtime, SHAPE, np.bincount(EXAMPLES.labels, minlength=CLASSES))
    built.feed(EXAMPLES, 0)
    return built


def weights(built: Engine) -> dict[str, np.ndarray]:
    return {name: value for name, value in built.state().items() if name.startswith("model/")}


def assert_close(first: dict[str, np.ndarray], second: dict[str, np.ndarray], relative: float = 1e-9) -> None:
    """Equality in the sense of docs/architecture.md: relative to the largest entry of a tensor, or 1e-3."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        scale = max(np.abs(value).max(), 1e-3)
        assert np.abs(value - second[name]).max() <= relative * scale, name


def test_a_step_is_the_mean_gradient_of_the_batch():
    ours = engine(learning_rate=0.1, label_smoothing=0.1)
    before = {v.path: v.numpy() for v in ours.model.trainable_variables}
    batch = next(iter(training_stream(EXAMPLES, BatchSharding(14), DataConfig(), 5, 0)))
    with tf.GradientTape() as tape:
        logits = ours.model(tf.cast(batch.images, tf.float64) / 255, training=True)
        target = tf.one_hot(batch.labels[:, 0], CLASSES, dtype=tf.float64) * 0.9 + 0.1 / CLASSES
        loss = tf.reduce_mean(keras.losses.categorical_crossentropy(target, logits, from_logits=True))
    gradients = tape.gradient(loss, [v.value for v in ours.model.trainable_variables])
    result = ours.train(1)
    assert result.steps == 1
    assert result.losses[0] == pytest.approx(float(loss), rel=1e-12)
    assert result.gradient_norms[0] == pytest.approx(float(tf.linalg.global_norm(gradients)), rel=1e-12)
    for variable, gradient in zip(ours.model.trainable_variables, gradients, strict=True):
        # Nesterov's first step from rest: lr * (1 + momentum) * gradient. Keras rounds its momentum to float32.
        expected = before[variable.path] - 0.1 * (1 + float(np.float32(0.9))) * gradient.numpy()
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_first_weights_are_the_same_whoever_draws_random_numbers_meanwhile():
    # A thread that tries a request again does, to choose its pause.
    alone, beside = weights(engine()), weights(engine(meanwhile=random.random))
    assert {name: value.tobytes() for name, value in alone.items()} == {
        name: value.tobytes() for name, value in beside.items()
    }


@pytest.mark.parametrize("loss", ["focal", "weighted", "logit_adjusted:2"])
def test_a_step_has_the_loss_that_was_asked_for_and_an_evaluation_cross_entropy(loss):
    ours, plain = engine(loss=loss), engine()
    batch = next(iter(training_stream(EXAMPLES, BatchSharding(14), DataConfig(), 5, 0)))
    logits = ours.model(tf.cast(batch.images, tf.float64) / 255, training=True)
    of = build_loss(LossSpec.parse(loss), 0.0, np.bincount(EXAMPLES.labels, minlength=CLASSES))
    expected = float(tf.reduce_mean(of(logits, batch.labels, batch.label_weights)))
    assert ours.evaluate(EXAMPLES, lambda: False).loss == plain.evaluate(EXAMPLES, lambda: False).loss
    assert ours.train(1).losses[0] == pytest.approx(expected, rel=1e-12)
    assert abs(expected - plain.train(1).losses[0]) > 1e-3


@pytest.mark.parametrize("microbatches", [2, 3, 4, 5, 14])
def test_accumulation_is_the_same_step_whatever_the_tail(microbatches):
    whole, cut = engine(), engine(accumulate=microbatches)
    first, second = whole.train(12), cut.train(12)
    np.testing.assert_allclose(first.losses, second.losses, atol=1e-10, rtol=0)
    assert first.correct == second.correct
    assert_close(weights(whole), weights(cut))


def test_penalties_of_layers_count_once_a_batch(monkeypatch):
    def penalized(input_shape, num_classes):
        regularizer = keras.regularizers.L2(0.05)
        return keras.Sequential(
            [
                keras.Input(input_shape),
                keras.layers.Flatten(),
                keras.layers.Dense(num_classes, kernel_regularizer=regularizer),
            ]
        )

    import sys
    import types

    monkeypatch.setitem(sys.modules, "penal", types.SimpleNamespace(penalized=penalized))
    built = {number: engine(model="penal:penalized", accumulate=number) for number in (1, 4)}
    kernel = built[1].model.trainable_variables[0].numpy()
    losses = {number: penalized.train(1).losses[0] for number, penalized in built.items()}
    plain = engine(model="penal:penalized")
    plain.model.trainable_variables[0].regularizer = None
    assert losses[1] == pytest.approx(plain.train(1).losses[0] + float(np.float32(0.05)) * (kernel**2).sum(), rel=1e-9)
    assert losses[4] == pytest.approx(losses[1], rel=1e-9)
    assert_close(weights(built[1]), weights(built[4]))


def test_clipping_bounds_the_norm_of_the_whole_gradient():
    free = engine(learning_rate=0.1)
    before = weights(free)
    norm = free.train(1).gradient_norms[0]
    clipped = engine(learning_rate=0.1, clip_norm=norm / 4)
    assert clipped.train(1).gradient_norms[0] == pytest.approx(norm), "the norm is told before clipping"
    for name, value in weights(free).items():
        np.testing.assert_allclose(
            weights(clipped)[name] - before[name], (value - before[name]) / 4, rtol=1e-6, atol=1e-12
        )
    loose = engine(learning_rate=0.1, clip_norm=norm * 4)
    loose.train(1)
    assert_close(weights(free), weights(loose))


def test_the_average_follows_its_formula_and_is_used_for_evaluation():
    built, plain = engine(ema=0.9), engine()
    average = weights(plain)
    for step in range(8):
        built.train(1)
        plain.train(1)
        decay = min(0.9, (1 + step) / (10 + step))
        average = {name: decay * value + (1 - decay) * weights(plain)[name] for name, value in average.items()}
    state = built.state()
    assert_close({f"ema/{name[6:]}": value for name, value in average.items()},
                 {name: value for name, value in state.items() if name.startswith("ema/")})  # fmt: skip
    measured = built.evaluate(EXAMPLES, lambda: False).metrics()
    assert_close(built.state(), state, 0.0)
    for variable in plain.model.variables:
        variable.assign(average[f"model/{variable.path}"])
    by_average = plain.evaluate(EXAMPLES, lambda: False).metrics()
    assert measured["loss"] == pytest.approx(by_average["loss"], rel=1e-9)
    assert measured["accuracy"] == by_average["accuracy"]


def test_evaluation_counts_every_example_once():
    built = engine()
    sums = built.evaluate(EXAMPLES, lambda: False)
    logits = built.model(EXAMPLES.images.astype(np.float64) / 255, training=False).numpy()
    guesses = logits.argmax(1)
    assert sums.examples == N
    assert sums.correct == (guesses == EXAMPLES.labels).sum()
    assert sums.count.tolist() == np.bincount(EXAMPLES.labels, minlength=CLASSES).tolist()
    assert sums.predicted.tolist() == np.bincount(guesses, minlength=CLASSES).tolist()
    assert sums.top5 == sum(label in row.argsort()[-5:] for label, row in zip(EXAMPLES.labels, logits, strict=True))


def test_evaluation_larger_than_a_batch_and_not_divisible_by_it():
    many = InMemory(RNG.integers(0, 256, (1300, *SHAPE)), RNG.integers(0, CLASSES, 1300))
    sums = engine().evaluate(many, lambda: False)
    assert sums.examples == 1300
    assert sums.count.tolist() == np.bincount(many.labels, minlength=CLASSES).tolist()


@pytest.mark.parametrize(("side", "largest"), [(8, 512), (32, 512), (64, 128), (224, 14)])
def test_large_images_are_evaluated_in_small_batches(side, largest):
    assert evaluation_batch_size(14, side * side, 1000) == largest


def users_model(monkeypatch, function) -> str:
    import sys
    import types

    monkeypatch.setitem(sys.modules, "users", types.SimpleNamespace(function=function, __file__="users.py"))
    return "users:function"


def test_variables_that_a_checkpoint_could_not_tell_apart_are_refused(monkeypatch):
    def twins(input_shape, num_classes):
        image = keras.Input(input_shape)
        x = keras.layers.Dense(3, name="res_conv")(keras.layers.Flatten()(image))
        inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(num_classes, name="conv")], name="res")
        return keras.Model(image, inner(x))

    with pytest.raises(exits.CannotRun, match="two variables are called optimizer/"):
        engine(model=users_model(monkeypatch, twins))


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
def test_variables_that_checkpoints_do_not_hold_are_refused(monkeypatch, dtype):
    class Odd(keras.layers.Layer):
        def build(self, input_shape):
            self.odd = self.add_weight(shape=(2,), dtype=dtype, initializer="zeros", trainable=False)

        def call(self, inputs):
            return inputs

    def build(input_shape, num_classes):
        layers = [keras.Input(input_shape), keras.layers.Flatten(), Odd(), keras.layers.Dense(num_classes)]
        return keras.Sequential(layers)

    with pytest.raises(exits.CannotRun, match=f"is of type {dtype}"):
        engine(model=users_model(monkeypatch, build), precision="float32")


def test_evaluation_stops_when_asked():
    assert engine().evaluate(EXAMPLES, lambda: True) is None


def test_how_loops_are_cut_changes_nothing():
    once, often = engine(ema=0.9, optimizer="adam"), engine(ema=0.9, optimizer="adam")
    loop = once.train(9)
    loops = [often.train(steps) for steps in (1, 3, 5)]
    assert loop.losses.tolist() == [loss for shorter in loops for loss in shorter.losses]
    assert loop.correct == sum(shorter.correct for shorter in loops)
    assert_close(once.state(), often.state(), 0.0)


def test_a_restored_engine_goes_on_with_the_same_bits():
    straight = engine(optimizer="adam", ema=0.99, clip_norm=1.0, schedule="cosine", data=DataConfig(augment="standard"))
    straight.train(5)
    state = straight.state()
    straight.train(7)
    resumed = engine(optimizer="adam", ema=0.99, clip_norm=1.0, schedule="cosine", data=DataConfig(augment="standard"),
                     )  # fmt: skip
    resumed.restore(state)
    resumed.feed(EXAMPLES, 5 * 14)
    resumed.train(7)
    assert_close(straight.state(), resumed.state(), 0.0)


def test_a_state_of_another_model_is_refused_by_name():
    built = engine()
    state = built.state()
    with pytest.raises(ValueError, match="the checkpoint lacks the tensor model/article_cnn/conv/bias"):
        built.restore({name: value for name, value in state.items() if name != "model/article_cnn/conv/bias"})
    with pytest.raises(ValueError, match="the model lacks the tensor ema/x"):
        built.restore({**state, "ema/x": np.zeros(1)})
    with pytest.raises(ValueError, match=r"model/article_cnn/conv/bias has shape \(3,\)"):
        built.restore({**state, "model/article_cnn/conv/bias": np.zeros(3)})
    with pytest.raises(ValueError, match="model/article_cnn/dense/bias is of type float16"):
        built.restore(
            {**state, "model/article_cnn/dense/bias": state["model/article_cnn/dense/bias"].astype(np.float16)}
        )


def test_the_loop_ends_at_the_step_whose_loss_is_not_finite():
    built = engine(learning_rate=1e30)
    result = built.train(10)
    assert not result.finite
    assert result.steps == len(result.losses) < 10
    assert np.isfinite(result.losses[:-1]).all()
    assert not (np.isfinite(result.losses[-1]) and np.isfinite(result.gradient_norms[-1]))


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
    built = engine(precision="mixed_bfloat16", learning_rate=0.05)
    assert {layer.compute_dtype for layer in built.model.layers} == {"bfloat16"}
    assert {variable.dtype for variable in built.model.trainable_variables} == {"float32"}
    losses = built.train(30).losses
    assert losses[-5:].mean() < losses[:5].mean()


def test_xla_computes_the_same_steps():
    plain, compiled = (
        engine(ema=0.9, clip_norm=1.0, accumulate=3),
        engine(ema=0.9, clip_norm=1.0, accumulate=3, xla="on"),
    )
    np.testing.assert_allclose(plain.train(10).losses, compiled.train(10).losses, rtol=1e-10)
    assert_close(plain.state(), compiled.state())


def test_float32_agrees_with_float64_for_a_step():
    exact, single = engine(), engine(precision="float32")
    for variable, value in zip(single.model.variables, exact.model.variables, strict=True):
        variable.assign(value.numpy().astype(np.float32))
    assert single.train(1).losses[0] == pytest.approx(exact.train(1).losses[0], rel=1e-5)


def test_names_do_not_depend_on_what_was_built_before():
    assert engine().state().keys() == engine().state().keys()


def test_a_gpu_that_is_not_there_is_a_sentence():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(exits.CannotRun, match="--devices=gpu:1.*no GPU"):
        engine(devices="gpu:1")


def test_the_wait_for_input_is_what_passes_between_a_step_and_the_next_batch(monkeypatch):
    seconds = [0.0]

    def passing(images, duration):
        """The same images, after so long."""

        def wait(images):
            seconds[0] += duration
            return images

        return tf.ensure_shape(tf.py_function(wait, [images], images.dtype), images.shape)

    class Slow(keras.layers.Layer):
        def call(self, x):
            return passing(x, 100.0)

    def slow_model(input_shape, num_classes):
        image = keras.Input(input_shape)
        return keras.Model(image, keras.layers.Dense(num_classes)(keras.layers.Flatten()(Slow()(image))))

    monkeypatch.setattr(
        tf, "timestamp", lambda: tf.ensure_shape(tf.py_function(lambda: seconds[0], [], tf.float64), [])
    )
    built = engine(model=users_model(monkeypatch, slow_model))
    stream = training_stream(EXAMPLES, BatchSharding(14), DataConfig(), 5, 0)
    built._stream = iter(stream.map(lambda batch: batch._replace(images=passing(batch.images, 0.5))))
    assert built.train(6).input_wait_seconds == 6 * 0.5
    assert seconds[0] >= 6 * 100.5


def test_the_pace_aims_at_half_a_second_and_never_leaps():
    pace = StepsPerLoop()
    assert pace.steps(100) == 1
    pace.record(1, 30.0)  # tracing
    assert pace.steps(100) == 1
    pace.record(1, 0.001)
    assert pace.steps(100) == 10
    pace.record(10, 0.01)
    assert pace.steps(1000) == 100
    pace.record(100, 0.1)
    assert pace.steps(10**6) == 500
    pace.record(500, 5.0)
    assert pace.steps(10**6) == 50
    assert StepsPerLoop(7).steps(100) == 7
    assert StepsPerLoop(7).steps(3) == 3
