"""A new head on a frozen EfficientNetB0 by Convoy and by timm: `python benchmarks/frozen_backbone.py`.

Images of 224x224 pixels in memory, 10 classes, batches of 32, first weights (speed does not depend on which), no augmentation.
Convoy makes training steps, input pipeline included. timm's backbone runs without gradients and its BatchNormalization as in
evaluation, channels last, in the faster of eager and compiled; its images are tensors that are there already. `forward` is the
network alone, in one graph. benchmarks/peers.txt lists the peers. Writes results/frozen_backbone.csv.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

from forward import forward
from rows import HERE
from sides import Side, main

SIZE, CLASSES, BATCH = 224, 10, 32
FROZEN = "^logits/:lr=1;.:freeze"


def with_onednn(start: Callable[[], Callable[[], int]]) -> Callable[[], int]:
    """The same with oneDNN, which TensorFlow leaves off by itself on processors without AVX-512."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    return start()


def convoy(**options: object) -> Callable[[], int]:
    """Training steps of a run with these flags."""
    from convoy.data.config import DataConfig
    from convoy.trainer.config import RunConfig
    from convoy.trainer.engines import choose

    choose("tensorflow")
    from convoy.trainer import features
    from convoy.trainer.experiment import build

    data = DataConfig(f"synthetic:{SIZE}x{SIZE}x3:{CLASSES}:512")
    config = RunConfig(data=data, model="keras:EfficientNetB0", batch_size=BATCH, devices="cpu:1", duration="100000st")
    experiment = build(dataclasses.replace(config, **options))
    engine, examples = experiment.engine, experiment.data.train
    if experiment.config.cache_features:
        cache = features.compute(engine, experiment.data, 0, lambda line: None)
        assert cache is not None
        examples = cache.train
    engine.feed(examples, 0)
    engine.compile()
    engine.train(2)
    steps = 200 if options.get("cache_features") else 1

    def train() -> int:
        engine.train(steps)
        return steps * BATCH

    return train


def timm(dtype: str) -> Callable[[], int]:
    """Steps of a linear head on a frozen timm network."""
    import timm as library
    import torch

    kind = getattr(torch, dtype)
    backbone = library.create_model("efficientnet_b0", num_classes=0).eval().to(kind, memory_format=torch.channels_last)
    images = torch.rand(BATCH, 3, SIZE, SIZE).to(kind, memory_format=torch.channels_last)
    head, labels = torch.nn.Linear(backbone.num_features, CLASSES), torch.arange(BATCH) % CLASSES
    optimizer = torch.optim.Adam(head.parameters())

    def train(network: Callable[[torch.Tensor], torch.Tensor]) -> int:
        with torch.no_grad():
            features = network(images).float()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(features), labels).backward()
        optimizer.step()
        return BATCH

    def seconds(network: Callable[[torch.Tensor], torch.Tensor]) -> float:
        import time

        train(network)
        begun = time.perf_counter()
        train(network)
        return time.perf_counter() - begun

    networks = [backbone]
    try:
        compiled = torch.compile(backbone)
        train(compiled)
        networks.append(compiled)
    except Exception as error:  # no compiler on this machine
        print(f"timm: not compiled: {type(error).__name__}", file=sys.stderr)
    best = min(networks, key=seconds)
    return lambda: train(best)


SIDES = {
    "Convoy": Side(lambda data: convoy(groups=FROZEN), "keras", True, "float32, frozen backbone, TensorFlow"),
    "forward": Side(
        functools.partial(forward, "keras:EfficientNetB0", "tensorflow", False),
        "keras",
        True,
        "float32, the network alone",
    ),
    "Convoy, oneDNN": Side(
        lambda data: with_onednn(lambda: convoy(groups=FROZEN)), "keras", True, "TF_ENABLE_ONEDNN_OPTS=1"
    ),
    "forward, oneDNN": Side(
        functools.partial(forward, "keras:EfficientNetB0", "tensorflow", True),
        "keras",
        True,
        "TF_ENABLE_ONEDNN_OPTS=1, the network alone",
    ),
    "Convoy, all, oneDNN": Side(
        lambda data: with_onednn(convoy), "keras", True, "TF_ENABLE_ONEDNN_OPTS=1, the whole network trains"
    ),
    "timm": Side(lambda data: timm("float32"), "timm", True, "float32, frozen backbone"),
    "timm, bfloat16": Side(lambda data: timm("bfloat16"), "timm", True, "bfloat16, frozen backbone"),
    "Convoy, cached": Side(
        lambda data: convoy(groups=FROZEN, cache_features=True), "keras", True, "--cache_features, TensorFlow"
    ),
    "Convoy, all": Side(lambda data: convoy(), "keras", True, "float32, the whole network trains, TensorFlow"),
}


if __name__ == "__main__":
    main(SIDES, lambda folder: "", Path(HERE / "results" / "frozen_backbone.csv"), __doc__)
