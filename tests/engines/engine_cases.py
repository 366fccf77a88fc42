"""Small runs of one engine on some CPU devices, all from one process: python engine_cases.py BACKEND DEVICES FILE [LONG CASE].

Writes an .npz of what every case came to, as "case:name"; test_engines.py compares.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from case_setup import (
    BACKEND,
    BATCH,
    CLASSES,
    DEVICES,
    ENGINES,
    EXAMPLES,
    FILE,
    RNG,
    RUNTIME,
    SHAPE,
    SHAPES,
    after,
    engine,
    labelled,
)
from fine_tuning_cases import CASES as FINE_TUNING
from fine_tuning_cases import LONG
from noise_cases import LONG as LONG_NOISE
from noise_cases import by_hand
from optimizer_cases import CASES as OPTIMIZERS
from optimizer_cases import LONG as LONG_OPTIMIZERS
from ramp_cases import CASES as RAMPS
from ramp_cases import LONG as LONG_RAMPS

from convoy.data.sources.in_memory import InMemory
from convoy.trainer.engines.runtime import set_up_keras


def clipping() -> dict[str, np.ndarray]:
    built = engine("steep", learning_rate=1.0, clip_norm=1.0)
    return {"before/" + name: value for name, value in built.state().items()} | after(built, 1)


def accumulation(microbatches: int) -> dict[str, np.ndarray]:
    # 40 examples in 3 microbatches are 14, 14 and 12; on 4 devices 4, 4 and 2 each.
    built = engine("plain", accumulate=microbatches, clip_norm=1.0, ema=0.9, noise_scale=microbatches > 1)
    expected = by_hand(built)
    found = after(built, 12)
    # The noise itself depends on the parts; how far it is from what it should be does not.
    return found | {"noise": found.get("noise", expected[:, None])[:, 0] - expected}


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
    options = {"optimizer": "adam", "ema": 0.9, "noise_scale": DEVICES > 1}
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
    biased = sum("--noise_scale is biased" in note for note in once.notes)
    return {**labelled(**states), "biased": np.array(biased)}


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


def diverging() -> dict[str, np.ndarray]:
    result = engine("exploding", learning_rate=1e30).train(10)
    return {"steps": np.array(result.steps), "finite": np.array(result.finite), "losses": result.losses}


def evaluation() -> dict[str, np.ndarray]:
    built = engine("plain")
    SHAPES.clear()  # building calls the model with a symbolic batch
    kept = list[tuple[np.ndarray, np.ndarray]]()
    sums = built.evaluate(EXAMPLES, lambda: False, lambda *rows: kept.append(rows))
    indices, logits = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    assert built.evaluate(EXAMPLES, lambda: True) is None
    built.train(1)
    known = [side is not None for shape in SHAPES for side in shape]
    return {
        "loss": np.array(sums.loss),
        "counts": np.array([sums.examples, sums.correct, sums.top5]),
        "per_class": np.array([sums.count, sums.predicted, sums.hit]),
        "static": np.array(known),
        "indices": indices,
        "logits": logits,
    }


def winograds() -> dict[str, np.ndarray]:
    """Steps by --kernels=3, and by --kernels=2."""
    return labelled(
        newer=after(engine("wide", precision="float32", kernels="3"), 3),
        older=after(engine("wide", precision="float32", kernels="2"), 3),
    )


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
    "skipping/float16": (lambda: skipping(precision="mixed_float16", accumulate=2, noise_scale=True), 1),
    "overflowing": (overflowing, 1),
    "rewound": (rewound, 2),
    "evaluation": (evaluation, 4),
    "stock": (stock, 2),
    "compiled": (compiled, 2),
    "winograds": (winograds, 2),
}
if BACKEND == "jax":
    CASES |= {
        "ahead": (ahead, 2),
        "each_dispatched/skipping": (lambda: each_dispatched(skipping), 1),
    }
    if DEVICES == 2:
        CASES["each_dispatched/accumulation"] = lambda: each_dispatched(lambda: accumulation(3)), 2
else:
    CASES["skipping/xla"] = (lambda: skipping(xla="on"), 1)
# Only where they are named.
LONG_DISPATCHED = {
    "each_dispatched/accumulation": (lambda: each_dispatched(lambda: accumulation(3)), 1),
    "each_dispatched/loops": (lambda: each_dispatched(loops), 1),
    "each_dispatched/diverging": (lambda: each_dispatched(diverging), 1),
    "each_dispatched/hopeless": (lambda: each_dispatched(hopeless), 1),
}

if __name__ == "__main__":
    named = LONG_DISPATCHED | LONG | LONG_NOISE | LONG_OPTIMIZERS | LONG_RAMPS
    cases = {name: named[name] for name in sys.argv[4:]} or CASES | FINE_TUNING | OPTIMIZERS | RAMPS
    found = {case: run() for case, (run, most) in cases.items() if most >= DEVICES}
    np.savez(FILE, **{f"{case}:{name}": value for case, values in found.items() for name, value in values.items()})
