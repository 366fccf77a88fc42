"""Cases of --batch_ramp for engine_cases.py, and the same run in NumPy."""

from __future__ import annotations

import numpy as np
from case_setup import BACKEND, BATCH, CLASSES, DEVICES, EXAMPLES, engine, labelled
from noise_cases import gradient

from convoy.data.pipeline import BatchSharding, training_stream

BORDERS, STEPS = (2, 5), 8
MOMENTUM, EMA = float(np.float32(0.9)), float(np.float32(0.6))
SIZES = [8] * 2 + [20] * 3 + [BATCH] * 3
FLAGS = {
    "batch_ramp": "8:2st,20:3st",
    "duration": "8st",
    "accumulate": 2,
    "learning_rate": 0.05,
    "scale_lr": f"sqrt:{BATCH}",
    "schedule": "linear",
    "warmup": "3st",
    "ema": 0.6,
}


def ramp(model: str = "plain", **values: object) -> dict[str, np.ndarray]:
    """Eight steps in three sizes, all compiled before; then the last two sizes again, from the state of the first border."""
    built, states, losses = engine(model, **FLAGS, **values), {}, {}
    for border in BORDERS:
        built.compile_ahead(border, EXAMPLES)
    for first, last in ((0, 2), (2, 3), (3, 5), (5, STEPS)):
        states[first] = built.state()
        losses[first] = _train(built, first, last)
    once, rates = built.state(), [built.learning_rate(step) for step in range(STEPS)]
    built.restore(states[2])
    again = [_train(built, *steps) for steps in ((2, 3), (3, 4), (4, 5), (5, STEPS))]
    figures = {"losses": np.concatenate(list(losses.values())), "rates": np.array(rates)}
    return {**once, **figures, "again": np.concatenate([losses[0], *again])} | labelled(once=once, again=built.state())


def _train(built: object, first: int, last: int) -> np.ndarray:
    """The losses of the steps from `first` to `last`, which have one size."""
    built.enter_stage(first)
    built.feed(EXAMPLES, sum(SIZES[:first]))
    return built.train(last - first).losses


def by_hand() -> dict[str, np.ndarray]:
    """Weights, averages, losses and rates of the model `plain` after these steps, by SGD with Nesterov's momentum of 0.9."""
    built = engine("plain", **FLAGS)
    state = built.state()
    weights = [value.astype(np.float64) for name, value in state.items() if name.startswith("model/")]
    averages, velocities, position, rates, losses = list(weights), [0.0 * w for w in weights], 0, [], []
    for step, size in enumerate(SIZES):
        stream = training_stream(EXAMPLES, BatchSharding(size), built.config.data, built.config.seed, position)
        batch = next(iter(stream))
        images, labels = batch.images.numpy().reshape(size, -1) / 255, batch.labels.numpy()[:, 0]
        losses.append(_loss(weights, images, labels))
        vector = gradient(weights, images, labels) * BATCH / size  # which has the mean over BATCH
        gradients = [part.reshape(w.shape) for part, w in zip(np.split(vector, _ends(weights)), weights, strict=True)]
        # In examples: of 36 until the third step ends, 56 with the fourth, of 196 in all.
        left = 1 - max(position - 36, 0) / (196 - 36)
        rates.append(0.05 * np.sqrt(size / BATCH) * (min((position + size) / 56, 1) if step < 3 else left))
        velocities = [MOMENTUM * v - rates[-1] * g for v, g in zip(velocities, gradients, strict=True)]
        moves = [MOMENTUM * v - rates[-1] * g for v, g in zip(velocities, gradients, strict=True)]
        weights = [w + move for w, move in zip(weights, moves, strict=True)]
        full_steps = position / BATCH
        decay = min(EMA, (1 + full_steps) / (10 + full_steps)) ** (size / BATCH)
        averages = [decay * a + (1 - decay) * w for a, w in zip(averages, weights, strict=True)]
        position += size
    names = [name.removeprefix("model/") for name in state if name.startswith("model/")]
    found = {f"model/{name}": w for name, w in zip(names, weights, strict=True)}
    found |= {f"ema/{name}": a for name, a in zip(names, averages, strict=True)}
    return found | {"losses": np.array(losses), "rates": np.array(rates)}


def _ends(weights: list[np.ndarray]) -> np.ndarray:
    return np.cumsum([w.size for w in weights])[:-1]


def _loss(weights: list[np.ndarray], images: np.ndarray, labels: np.ndarray) -> float:
    kernel, bias, last_kernel, last_bias = weights
    logits = np.tanh(images @ kernel + bias) @ last_kernel + last_bias
    logits = logits - logits.max(1, keepdims=True)
    log_odds = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -float((np.eye(CLASSES)[labels] * log_odds).sum(1).mean())


def refused() -> dict[str, np.ndarray]:
    """The sentence for groups that a smaller batch cannot be cut into."""
    from convoy import exits

    built = engine("normalized", batchnorm="ghost:5", batch_ramp="8:2st", duration="8st")
    try:
        built.compile()
    except exits.CannotRun as error:
        return {"sentence": np.array(str(error))}
    return {"sentence": np.array("")}


# Case -> the most devices it says anything new on. Two combinations of engine and devices say what the others would.
CASES = {"ramp": (ramp, 2)} if (BACKEND, DEVICES) in (("tensorflow", 1), ("jax", 2)) else {}
if (BACKEND, DEVICES) == ("tensorflow", 1):
    CASES |= {"ramp/by_hand": (by_hand, 1), "ramp/refused": (refused, 1)}
NORMALIZED = {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 1.0, "unfreeze": "3st", "noise_scale": True}
LONG = {"ramp_of_normalized": (lambda: ramp("normalized", **NORMALIZED), 4)}
