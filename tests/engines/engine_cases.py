"""Small runs of one engine on some CPU devices, all from one process: python engine_cases.py BACKEND DEVICES FILE.

Writes an .npz of what every case came to, as "case:name"; test_engines.py compares.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
import types
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convoy.trainer.config import RunConfig
from convoy.trainer.engines import choose
from convoy.trainer.models.names import MODELS as MODEL_ROWS
from convoy.trainer.models.names import ModelEntry

BACKEND, DEVICES, FILE = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
BATCH = 40
ENGINES = choose(BACKEND)
# No `auto` but the precision, which every case may choose.
RUNTIME = ENGINES.prepare(
    RunConfig(backend=BACKEND, devices=f"cpu:{DEVICES}", precision="float64", batch_size=BATCH, deterministic=True)
)

import keras  # noqa: E402
from keras import layers, ops  # noqa: E402

from convoy.data.sources.in_memory import InMemory  # noqa: E402
from convoy.trainer.engines.runtime import set_up_keras  # noqa: E402
from convoy.trainer.layers import Dropout, drawing  # noqa: E402

SHAPE, CLASSES = (8, 8, 1), 4
RNG = np.random.default_rng(0)
EXAMPLES = InMemory(RNG.integers(0, 256, (53, *SHAPE)), RNG.integers(0, CLASSES, 53))
SHAPES: list[tuple[int | None, ...]] = []


@keras.saving.register_keras_serializable("cases")
class Look(layers.Layer):
    """Notes the shape of what a model is called with."""

    def call(self, x: Any) -> Any:
        SHAPES.append(tuple(x.shape))
        return x


@keras.saving.register_keras_serializable("cases")
class Fragile(layers.Layer):
    """No number for a pixel of 255."""

    def call(self, x: Any) -> Any:
        return ops.log(0.99 - x)


def sequence(*some: Any) -> Any:
    return lambda shape, classes: keras.Sequential([keras.Input(shape), *(one() for one in some)])


# First weights by formula, so that no case depends on what draws them.
def dense(units: int, **options: Any) -> Any:
    kernel = lambda shape, dtype=None: ops.cast(np.cos(np.arange(np.prod(shape)).reshape(shape)) / 8, dtype)  # noqa: E731
    return lambda: layers.Dense(units, kernel_initializer=kernel, **options)


def norm() -> Any:
    return layers.BatchNormalization(momentum=0.5)


def zeros(units: int) -> Any:
    return lambda: layers.Dense(units, kernel_initializer="zeros")


def scaled(by: float) -> Any:
    return lambda: layers.Rescaling(by, dtype="float16")


def stock_dropout() -> Any:
    return layers.Dropout(0.5, seed=1)


def residual(shape: tuple[int, int, int], classes: int) -> Any:
    """Four blocks with all that is hard to compute twice: statistics that move, masks, a penalty."""
    image = keras.Input(shape)
    x = layers.Conv2D(4, 3, padding="same")(image)
    for index in range(4):
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(x))
        y = layers.Conv2D(4, 3, padding="same", kernel_regularizer=keras.regularizers.L2(2**-10))(y)
        x = layers.Add()([x, Dropout(0.3, name=f"residual_drop{index}")(y)])
    backbone = keras.Model(image, layers.GlobalAveragePooling2D()(x), name="backbone")
    image = keras.Input(shape)
    return keras.Model(image, layers.Dense(classes)(backbone(image)))


MODELS = {
    "residual": residual,
    "drawn": sequence(layers.Flatten, lambda: layers.Dense(8, activation="relu"), lambda: layers.Dense(CLASSES)),
    "plain": sequence(Look, layers.Flatten, dense(8, activation="tanh"), dense(CLASSES)),
    "exploding": sequence(layers.Flatten, dense(8), dense(CLASSES)),
    "steep": sequence(layers.Flatten, lambda: layers.Rescaling(30.0), dense(CLASSES)),
    "normalized": sequence(layers.Flatten, dense(8), norm, dense(CLASSES)),
    "normalized_stock": sequence(layers.Flatten, dense(8), norm, stock_dropout, dense(CLASSES)),
    "fragile": sequence(Fragile, layers.Flatten, dense(8), norm, dense(CLASSES)),
    "overflows": sequence(layers.Flatten, scaled(1000.0), zeros(CLASSES)),
    "hopeless": sequence(layers.Flatten, scaled(1000.0), zeros(CLASSES), scaled(60000.0)),
    "normalized_overflows": sequence(layers.Flatten, norm, scaled(1000.0), zeros(CLASSES)),
    "stock": sequence(layers.Flatten, stock_dropout, dense(CLASSES)),
    "convolved": sequence(
        lambda: layers.Conv2D(3, 3), norm, lambda: layers.Conv2D(2, 3), layers.Flatten, dense(CLASSES)
    ),
}
sys.modules["cases"] = types.SimpleNamespace(**MODELS, toy=lambda *arguments: toy(*arguments))  # type: ignore[assignment]


def engine(
    model: str, examples: InMemory = EXAMPLES, first_position: int = 0, of: str = "cases:", **values: Any
) -> Any:
    config = dataclasses.replace(
        RUNTIME.config, model=f"{of}{model}", **{"optimizer": "sgd", "duration": "40st", "seed": 2, **values}
    )
    set_up_keras(config)
    draws = np.bincount(examples.labels, minlength=CLASSES)
    built = ENGINES.Engine(dataclasses.replace(RUNTIME, config=config), SHAPE, draws)
    built.feed(examples, first_position)
    return built


def after(built: Any, steps: int) -> dict[str, np.ndarray]:
    result = built.train(steps)
    return {**built.state(), "losses": result.losses, "norms": result.gradient_norms, "finite": np.array(result.finite)}


def clipping() -> dict[str, np.ndarray]:
    built = engine("steep", learning_rate=1.0, clip_norm=1.0)
    return {"before/" + name: value for name, value in built.state().items()} | after(built, 1)


def accumulation(microbatches: int) -> dict[str, np.ndarray]:
    # 40 examples in 3 microbatches are 14, 14 and 12; on 4 devices 4, 4 and 2 each.
    return after(engine("plain", accumulate=microbatches, clip_norm=1.0, ema=0.9), 12)


def corrected(loss: str) -> dict[str, np.ndarray]:
    return after(engine("plain", loss=loss, label_smoothing=0.1, accumulate=3), 3)


def normalization(mode: str) -> dict[str, np.ndarray]:
    built = engine("normalized", batchnorm=mode, learning_rate=0.01)
    found = after(built, 6)
    return found | {"copies_differ": np.array(copies_differ(built))}


def copies_differ(built: Any) -> bool:
    """Whether any device holds another value of a variable of the model than the first one does."""
    if BACKEND == "jax":
        copies = [[np.asarray(shard.data) for shard in one.addressable_shards] for one in built._state.other]
    else:
        local = RUNTIME.strategy_or_mesh.experimental_local_results
        copies = [[one.numpy() for one in local(v.value)] for v in built.model.variables]
    assert all(len(one) == DEVICES for one in copies)
    return any((one != some[0]).any() for some in copies for one in some)


def moments() -> dict[str, np.ndarray]:
    """What the moving statistics take up of one batch."""
    return after(engine("normalized", batchnorm="local", learning_rate=1e-30), 1)


def one_bright(count: int = 40) -> InMemory:
    """One image of `count` is not black: its gradient is the only one that can overflow, on whatever replica it is."""
    images = np.zeros((count, *SHAPE))
    images[7] = 255
    return InMemory(images, np.zeros(count))


def loss_scale() -> dict[str, np.ndarray]:
    built = engine("overflows", one_bright(), precision="mixed_float16", learning_rate=1e-4)
    kernels, scales, losses, norms = [], [], [], []
    for _ in range(12):
        result = built.train(1)
        state = built.state()
        losses.append(result.losses[0])
        norms.append(result.gradient_norms[0])
        kernels.append(next(value for name, value in state.items() if name.startswith("model/") and "kernel" in name))
        scales.append(state["loss_scale/scale"])
    momentum = [value for name, value in state.items() if "momentum" in name]
    return {
        "losses": np.array(losses),
        "norms": np.array(norms),
        "kernels": np.array(kernels),
        "scales": np.array(scales),
        "good_steps": state["loss_scale/good_steps"],
        "iterations": next(value for name, value in state.items() if "iteration" in name),
        "momentum_is_finite": np.array(all(np.isfinite(one).all() for one in momentum)),
    }


def hopeless() -> dict[str, np.ndarray]:
    result = engine("hopeless", one_bright(), precision="mixed_float16").train(40)
    return {"steps": np.array(result.steps), "finite": np.array(result.finite), "losses": result.losses}


def loops() -> dict[str, np.ndarray]:
    """The same 9 steps in one loop, in three, and after a restart at the fourth."""
    options = {"optimizer": "adam", "ema": 0.9}
    once, often = engine("normalized", **options), engine("normalized", **options)
    whole = once.train(9)
    losses = np.concatenate([often.train(steps).losses for steps in (1, 3, 5)])
    begun = engine("normalized", **options)
    begun.train(4)
    state = begun.state()
    again = engine("normalized", first_position=4 * BATCH, **options)
    again.restore(state)
    again.train(5)
    states = {"once": once.state(), "cut": often.state(), "restored": again.state()}
    states["once"]["losses"], states["cut"]["losses"] = whole.losses, losses
    return labelled(**states)


def labelled(**states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Several states in one: "label/name"."""
    return {f"{label}/{name}": value for label, state in states.items() for name, value in state.items()}


# One image of 200 is no numbers: of five steps of 40, one has it.
BAD = InMemory(RNG.integers(0, 250, (200, *SHAPE)), RNG.integers(0, CLASSES, 200))
BAD.images[7] = 255
MAX = {"optimizer": "adam", "clip_norm": 1.0, "ema": 0.9}


def skipping(**values: Any) -> dict[str, np.ndarray]:
    """12 steps with --on_nan=skip, and the same ones again without those that are not finite."""
    built = engine("fragile", BAD, on_nan="skip", **MAX, **values)
    initial, found = built.state(), after(built, 12)
    bad, losses = ~np.isfinite(found["losses"]), []
    built.restore(initial)
    built.feed(BAD, 0)
    for step in range(12):
        if bad[step]:
            state = built.state()
            count = next(name for name in state if name.startswith("optimizer/") and name.endswith("iteration"))
            state[count] += 1
            built.restore(state)
            built.feed(BAD, (step + 1) * BATCH)
        else:
            losses.append(built.train(1).losses[0])
    return {
        **found,
        "losses": found["losses"][~bad],
        "norms": found["norms"][~bad],
        "bad": bad,
        "bad_norms": ~np.isfinite(found["norms"]),
    } | labelled(
        skipped={name: found[name] for name in built.shapes()} | {"losses": found["losses"][~bad]},
        left_out=built.state() | {"losses": np.array(losses)},
    )


def overflowing() -> dict[str, np.ndarray]:
    """The statistics of BatchNormalization, and their averages, where loss scaling skips: per step, whether they are still the
    initial ones."""
    examples = one_bright()
    examples.labels[7] = 1  # were all alike, the gradient would vanish in BatchNormalization
    built = engine("normalized_overflows", examples, precision="mixed_float16", ema=0.9, learning_rate=1e-4)
    initial, norms, unchanged = built.state(), [], []
    for _ in range(10):
        norms.append(built.train(1).gradient_norms[0])
        unchanged.append([(value == initial[name]).all() for name, value in built.state().items() if "moving" in name])
    return {"norms": np.array(norms), "unchanged": np.array(unchanged)}


def rewound() -> dict[str, np.ndarray]:
    """Steps 4 to 9, and once more after the state of step 4 is restored."""
    built = engine("normalized_stock", precision="mixed_float16", **MAX)
    built.train(4)
    state = built.state()
    saved = {name: value.copy() for name, value in state.items()}
    losses = built.train(6).losses
    first, feed = built.state(), getattr(built, "_feed", None)
    built.restore(state)
    built.feed(EXAMPLES, 4 * BATCH)
    again = built.train(6).losses
    shapes, streamed = built.shapes(), {name: value.copy() for name, value in built.stream_state()}
    return {
        "losses": losses,
        "again_losses": again,
        "feed_is_closed": np.array(feed is None or not feed._thread.is_alive()),
        "shapes": np.array([f"{name} {shape} {dtype}" for name, (shape, dtype) in shapes.items()]),
        "streamed": np.array([f"{name} {value.shape} {value.dtype}" for name, value in streamed.items()]),
    } | labelled(saved=saved, given=state, first=first, again=built.state(), stream=streamed)


STAGED = {
    "unfreeze": "3st",
    "groups": "/dense/bias:freeze;dense_1/bias:lr=0.3;dense_1:wd=0.5",
    "layer_decay": 0.5,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "learning_rate": 0.01,
    "ema": 0.9,
    "clip_norm": 1.0,
}


def stages() -> dict[str, np.ndarray]:
    """Six steps in two stages; and the last three again, from the state at the border."""
    built, states, losses = engine("normalized", **STAGED), [], []
    for step in (0, 3):
        states.append(built.state())
        built.enter_stage(step)
        losses.append(built.train(3).losses)
    states.append(built.state())
    again = engine("normalized", first_position=3 * BATCH, **STAGED)
    again.restore(states[1])
    again.enter_stage(3)
    again.train(3)
    first, border, end = states
    return {
        **end,
        "losses": np.concatenate(losses),
        "names": np.array(list(end)),
        "changed_before": np.array([name for name in end if (first[name] != border[name]).any()]),
        "changed_after": np.array([name for name in end if (border[name] != end[name]).any()]),
    } | labelled(once=end, restored=again.state())


def frozen() -> dict[str, np.ndarray]:
    """What a program has for layers that never train; on one device, what it has where all train too."""
    step, found = importlib.import_module(f"convoy.trainer.engines.{BACKEND}.step"), {}
    for label, groups in (("frozen", "conv2d|batch:freeze"), ("all", ""))[: 2 if DEVICES == 1 else 1]:
        built = engine("convolved", groups=groups, ema=0.9, optimizer="adam")
        sent: list[int] = []
        reduced = step.all_sum
        step.all_sum = lambda tensor, sent=sent, reduced=reduced: sent.append(int(tensor.shape[0])) or reduced(tensor)
        try:
            operations = _operations(built)
        finally:
            step.all_sum = reduced
        found |= {
            f"{label}/gradients": np.array(sum("Conv2DBackprop" in name for name in operations)),
            f"{label}/convolutions": np.array(operations.count("convolution")),
            f"{label}/sent": np.array(sent),
            f"{label}/names": np.array(list(built.shapes())),
            f"{label}/parameters": np.array(built.parameters),
        }
    return found


def _operations(built: Any) -> list[str]:
    """The operations of the program of a step."""
    if BACKEND == "jax":
        return re.findall(r"stablehlo\.(\w+)", built.programs.lower().as_text())
    import tensorflow as tf

    graph = built._loop.get_concrete_function(built._stream, tf.constant(1)).graph.as_graph_def()
    return [node.op for function in graph.library.function for node in function.node_def]


def rematerialized() -> dict[str, np.ndarray]:
    """The same steps with all activations kept, and with most computed again."""
    found = {}
    for label, remat in (("kept", False), ("again", True)):
        built = engine("residual", remat=remat, accumulate=2, ema=0.9, clip_norm=1.0)
        found |= labelled(**{label: after(built, 3)})
        if BACKEND == "jax" and DEVICES == 1:
            found[f"bytes/{label}"] = np.array(bytes_between(built.model))
    return found


def bytes_between(model: Any) -> int:
    """Of what JAX keeps from the forward to the backward pass, besides the weights."""
    import jax

    images, positions = np.zeros((BATCH, *SHAPE)), np.zeros((BATCH, 2), np.uint32)

    def total(trainable: Any) -> Any:
        with drawing(0, positions):
            return ops.sum(model.stateless_call(trainable, other, images, training=True)[0])

    trainable, other = ([v.value for v in part] for part in (model.trainable_variables, model.non_trainable_variables))
    gradient = jax.vjp(total, trainable)[1]
    kept = {id(leaf): leaf.nbytes for leaf in jax.tree.leaves(gradient) if hasattr(leaf, "nbytes")}
    return sum(kept.values()) - sum(value.nbytes for value in trainable)


def diverging() -> dict[str, np.ndarray]:
    result = engine("exploding", learning_rate=1e30).train(10)
    return {"steps": np.array(result.steps), "finite": np.array(result.finite), "losses": result.losses}


def evaluation() -> dict[str, np.ndarray]:
    built = engine("plain")
    SHAPES.clear()  # building calls the model with a symbolic batch
    sums = built.evaluate(EXAMPLES, lambda: False)
    assert built.evaluate(EXAMPLES, lambda: True) is None
    built.train(1)
    known = [side is not None for shape in SHAPES for side in shape]
    return {
        "loss": np.array(sums.loss),
        "counts": np.array([sums.examples, sums.correct, sums.top5]),
        "per_class": np.array([sums.count, sums.predicted, sums.hit]),
        "static": np.array(known),
    }


def compiled() -> dict[str, np.ndarray]:
    """How often the model is called, which it is while a program is traced: by compile, compile again, and two loops."""
    built, calls = engine("plain"), []
    for prepare in (built.compile, built.compile, lambda: built.train(1), lambda: built.train(2)):
        SHAPES.clear()
        prepare()
        calls.append(len(SHAPES))
    return {"calls": np.array(calls)}


def ahead() -> dict[str, np.ndarray]:
    """The program of a run for as many devices as there are, and for eight that are not there."""
    import jax

    from convoy.trainer.engines.jax.devices import AXIS
    from convoy.trainer.engines.jax.programs import Programs

    def lowered(devices: int, platform: str) -> str:
        mesh = jax.sharding.AbstractMesh((devices,), (AXIS,))
        runtime = dataclasses.replace(built.runtime, local_replicas=devices, strategy_or_mesh=mesh)
        set_up_keras(runtime.config)
        return Programs(runtime, SHAPE, np.bincount(EXAMPLES.labels)).lower((platform,)).as_text()

    built = engine("normalized")
    text = lowered(8, "tpu")
    return {
        "same": np.array(lowered(DEVICES, "cpu") == built.programs.lower(("cpu",)).as_text()),
        "eight": np.array("mhlo.num_partitions = 8 " in text),
        "collectives": np.array(text.count("stablehlo.all_reduce")),
    }


def initial() -> dict[str, np.ndarray]:
    config = dataclasses.replace(RUNTIME.config, model="article_cnn", seed=3, ema=0.9)
    set_up_keras(config)
    built = ENGINES.Engine(dataclasses.replace(RUNTIME, config=config), (16, 16, 3), np.full(CLASSES, 13))
    return built.state()


def first_step() -> dict[str, np.ndarray]:
    return {"losses": engine("drawn", precision="float32").train(1).losses}


def by_position() -> dict[str, np.ndarray]:
    """Steps of a network of ours with Keras' random layers in a nested model; it has a row, so is no user's own."""
    with unittest.mock.patch.dict(MODEL_ROWS.rows, {"toy": ModelEntry("cases:toy", "")}):
        built = engine("toy", of="", batchnorm="sync", accumulate=2)
    return after(built, 3) | {"notes": np.array(len(built.notes))}


def toy(shape: tuple[int, int, int], classes: int) -> keras.Model:
    image = keras.Input(shape)
    x = layers.Reshape((8, 8))(image)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 2, dropout=0.3, name="attention")(x, x)])
    x = layers.Dropout(0.3, noise_shape=(None, 1, 1), name="depth")(layers.BatchNormalization(name="norm")(x))
    x = layers.GaussianNoise(0.1, name="noise")(layers.Flatten()(x))
    nested = keras.Model(image, x, name="backbone")
    return keras.Sequential([keras.Input(shape), nested, layers.Dropout(0.3, name="drop"), layers.Dense(classes)])


def stock() -> dict[str, np.ndarray]:
    built = engine("stock")
    built.train(2)
    return {"notes": np.array(len(built.notes)), "named": np.array("cases:stock" in " ".join(built.notes))}


def each_dispatched(run: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """As JAX dispatches the steps of a large model on a CPU."""
    programs = sys.modules["convoy.trainer.engines.jax.programs"]
    usual = programs.LARGE
    programs.LARGE = 0
    try:
        return run()
    finally:
        programs.LARGE = usual


# Case -> the most devices it says anything new on.
CASES = {
    "initial": (initial, 4),
    "first_step": (first_step, 1),
    "clipping": (clipping, 4),
    "accumulation/1": (lambda: accumulation(1), 1),
    "accumulation/3": (lambda: accumulation(3), 4),
    "loss/focal": (lambda: corrected("focal"), 1),
    "loss/weighted": (lambda: corrected("weighted:0.9"), 2),
    "loss/adjusted": (lambda: corrected("logit_adjusted:2"), 2),
    "sync": (lambda: normalization("sync"), 2),
    "ghost": (lambda: normalization("ghost:5"), 4),
    "local": (lambda: normalization("local"), 2),
    "moments": (moments, 2),
    "loss_scale": (loss_scale, 4),
    "hopeless": (hopeless, 2),
    "loops": (loops, 2),
    "diverging": (diverging, 2),
    "skipping": (lambda: skipping(accumulate=2), 2),
    "skipping/float16": (lambda: skipping(precision="mixed_float16"), 1),
    "overflowing": (overflowing, 1),
    "rewound": (rewound, 2),
    "evaluation": (evaluation, 4),
    "stock": (stock, 2),
    "compiled": (compiled, 2),
    "frozen": (frozen, 2),
}
if BACKEND == "jax":
    CASES |= {
        "ahead": (ahead, 2),
        "each_dispatched/accumulation": (lambda: each_dispatched(lambda: accumulation(3)), 2),
        "each_dispatched/loops": (lambda: each_dispatched(loops), 1),
        "each_dispatched/diverging": (lambda: each_dispatched(diverging), 1),
        "each_dispatched/skipping": (lambda: each_dispatched(skipping), 1),
        "each_dispatched/hopeless": (lambda: each_dispatched(hopeless), 1),
    }

else:
    CASES["skipping/xla"] = (lambda: skipping(xla="on"), 1)
if (BACKEND, DEVICES) != ("jax", 1):  # which the others say enough of
    CASES["stages"] = (stages, 2)

# Run where they are named: python engine_cases.py BACKEND DEVICES FILE CASE.
LONG = {"rematerialized": (rematerialized, 2), "by_position": (by_position, 4)}

if __name__ == "__main__":
    cases = {name: LONG[name] for name in sys.argv[4:]} or CASES
    found = {case: run() for case, (run, most) in cases.items() if most >= DEVICES}
    np.savez(FILE, **{f"{case}:{name}": value for case, values in found.items() for name, value in values.items()})
