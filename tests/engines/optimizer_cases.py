"""Cases of optimizers that are more than an update: an average that is evaluated, slow weights, clipping by units.

Run by engine_cases.py, on one device of TensorFlow and two of JAX; elsewhere where they are named.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from case_setup import BACKEND, BATCH, DEVICES, EXAMPLES, after, engine, labelled


def resumed(model: str, **values: Any) -> dict[str, np.ndarray]:
    """Five steps; the state after each; and the last three again, from the state after two."""
    built, losses = engine(model, **values), []
    states = [built.state()]
    for _ in range(5):
        losses.append(built.train(1).losses)
        states.append(built.state())
    built.restore(states[2])
    built.feed(EXAMPLES, 2 * BATCH)
    built.train(3)
    return (
        states[-1]
        | {"losses": np.concatenate(losses)}
        | labelled(once=states[-1], restored=built.state())
        | {f"step {step}/{name}": value for step, state in enumerate(states) for name, value in state.items()}
    )


def large_batch(optimizer: str) -> dict[str, np.ndarray]:
    """Three steps of 8,192 examples, in four microbatches on one device and in one on four."""
    options = {"lars": {"weight_decay": 1e-3, "trust_coefficient": 0.1}, "lamb": {"weight_decay": 0.1}}[optimizer]
    built = engine(
        "plain",
        optimizer=optimizer,
        learning_rate=0.1,
        batch_size=8192,
        accumulate=4 // DEVICES,
        schedule="polynomial",
        warmup="2st",
        **options,
    )
    return after(built, 3)


# A bias before BatchNormalization has no gradient but rounding, which Adam would make as large as any other.
SCHEDULE_FREE = {
    "optimizer": "schedule_free_adamw", "learning_rate": 0.01, "weight_decay": 0.1, "warmup": "3st",
    "groups": "/dense/bias:freeze",
}  # fmt: skip
MUON = {
    "optimizer": "muon_conv", "learning_rate": 0.01, "weight_decay": 0.1, "lookahead": "2:0.5", "clip_agc": 0.02, "ema": 0.9,
    "groups": "/conv2d/bias:freeze;conv2d_1/kernel:lr=0.5,wd=2",
}  # fmt: skip

ALL = {
    "schedule_free": (lambda: resumed("normalized", **SCHEDULE_FREE), 2),
    "muon_lookahead": (lambda: resumed("convolved", **MUON), 2),
}
# Case -> the most devices it says anything new on; those of LONG only where they are named.
CASES = ALL if (BACKEND, DEVICES) == ("tensorflow", 1) else {}
LONG = ALL | {
    f"large/{optimizer}": (lambda optimizer=optimizer: large_batch(optimizer), 4) for optimizer in ("lars", "lamb")
}
