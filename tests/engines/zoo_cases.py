"""Steps of networks of the zoo on one engine and some CPU devices, all from one process: zoo_cases.py BACKEND DEVICES FILE.

Writes an .npz of the states that each network ends in, as "network:name"; test_zoo.py compares.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

from convoy.trainer.config import RunConfig
from convoy.trainer.engines import choose
from convoy.trainer.models.zoo import hub_names
from convoy.trainer.models.zoo.families import Network

BACKEND, DEVICES, FILE = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
BATCH, SHAPE, CLASSES = 16, (32, 32, 3), 3
# Vision transformers of KerasHub's presets drop nothing.
hub_names.NAMES["vit_toy"] = Network(
    hub_names.VIT,
    0,
    32,
    0,
    architecture={
        "patch_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 8,
        "mlp_dim": 16,
        "dropout_rate": 0.2,
        "attention_dropout": 0.3,
    },
)
# XLA compiles and runs EfficientNet for minutes on a CPU.
NETWORKS = ("hub:vit_toy", "keras:MobileNetV3Small", "keras:EfficientNetV2B0")[: 2 if BACKEND == "jax" else 3]
ENGINES = choose(BACKEND)
RUNTIME = ENGINES.prepare(
    RunConfig(backend=BACKEND, devices=f"cpu:{DEVICES}", precision="float64", batch_size=BATCH, deterministic=True)
)

from convoy.data.sources.in_memory import InMemory  # noqa: E402
from convoy.trainer.engines.runtime import set_up_keras  # noqa: E402

RNG = np.random.default_rng(0)
EXAMPLES = InMemory(RNG.integers(0, 256, (48, *SHAPE)), RNG.integers(0, CLASSES, 48))


def steps(model: str, precision: str) -> dict[str, np.ndarray]:
    """The state after two steps, with their losses, and the notes at the start."""
    config = dataclasses.replace(
        RUNTIME.config, model=model, optimizer="sgd", learning_rate=0.01, duration="20st", seed=2, precision=precision
    )
    set_up_keras(config)
    runtime = dataclasses.replace(RUNTIME, config=config)
    built = ENGINES.Engine(runtime, SHAPE, np.bincount(EXAMPLES.labels, minlength=CLASSES))
    built.feed(EXAMPLES, 0)
    losses = built.train(2).losses
    return {**built.state(), "losses": losses, "notes": np.array(" ".join(built.notes) or "none")}


if __name__ == "__main__":
    names = [name for name in NETWORKS if name in sys.argv[4:]] or NETWORKS
    found = {name: steps(name, "float64") for name in names}
    if "hub:vit_toy" in names and DEVICES == 1:
        found["mixed"] = steps("hub:vit_toy", "mixed_bfloat16")
    np.savez(FILE, **{f"{case}|{name}": value for case, values in found.items() for name, value in values.items()})
