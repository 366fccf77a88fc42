"""The forward pass of networks on a CPU, by engine: `python benchmarks/forward.py`.

Batch 32 of 224x224 pixels, float32, first weights. TensorFlow leaves oneDNN off by itself on processors without AVX-512. Writes
results/forward.csv.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

from rows import HERE
from sides import Side, main

SIZE, BATCH = 224, 32
NETWORKS = ("keras:EfficientNetB0", "keras:MobileNetV3Large", "keras:ResNet50")


def forward(model: str, backend: str, onednn: bool, data: str) -> Callable[[], int]:
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))
    import numpy as np

    from convoy.trainer.engines import choose

    engine = choose(backend)
    from convoy.trainer.models.build import build_model

    call = engine.forward(build_model(model, (SIZE, SIZE, 3), 10))
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)

    def run() -> int:
        call(images)
        return BATCH

    return run


SIDES = {
    f"{model} {label}": Side(functools.partial(forward, model, backend, onednn), "keras", True, label)
    for model in NETWORKS
    for label, backend, onednn in (
        ("TensorFlow", "tensorflow", False),
        ("TensorFlow, oneDNN", "tensorflow", True),
        ("JAX", "jax", False),
    )
}

if __name__ == "__main__":
    main(SIDES, lambda folder: "", Path(HERE / "results" / "forward.csv"), __doc__)
