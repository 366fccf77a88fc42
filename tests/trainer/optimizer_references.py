"""Records what other implementations make of one case; tests/trainer/test_optimizer_references.py compares ours with it.

    uv venv
    uv pip install optax==0.2.8 jax==0.10.2 timm==1.0.31 torch==2.15.0 schedulefree==1.4.1 pytorch-optimizer==4.1.0
    .venv/bin/python tests/trainer/optimizer_references.py tests/trainer/golden/optimizers.npz

All in float32: muon (optax.contrib), lion (optax), schedule-free AdamW (its authors'), adaptive gradient clipping (timm) and
lookahead (pytorch-optimizer); the last two with PyTorch's SGD.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version

import jax
import numpy as np
import optax
import optax.contrib
import pytorch_optimizer
import schedulefree
import timm.optim.lookahead
import timm.utils.agc
import torch

STEPS, DECAY = 10, 0.05
# In Keras' layout. Two of the kernels have one shape, one the shape of a transpose.
SHAPES = {
    "conv/kernel": (3, 3, 2, 4),
    "conv_1/kernel": (3, 3, 2, 4),
    "depthwise/kernel": (3, 3, 4, 1),
    "conv/bias": (4,),
    "norm/gamma": (4,),
    "dense/kernel": (4, 18),
    "zero/kernel": (2, 3),
    "logits/kernel": (5, 3),
    "logits/bias": (3,),
}
VECTORS = [name for name, shape in SHAPES.items() if len(shape) < 2]
RATES = np.float32([min((step + 1) / 4, 1.2 - step / STEPS) for step in range(STEPS)])

Weights = dict[str, np.ndarray]


def case() -> tuple[Weights, list[Weights]]:
    """First weights, and the gradients of each step. One kernel is 0; one has no gradient at two steps, one none at first."""
    rng = np.random.default_rng(18)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    weights["zero/kernel"][:] = weights["conv/bias"][:] = 0
    weights["norm/gamma"][:] = 1
    draws = [{name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()} for _ in range(STEPS)]
    for step in 3, 4:
        draws[step]["dense/kernel"][:] = 0
    draws[0]["conv_1/kernel"][:] = 0
    return weights, draws


def by_optax(make: Callable[[Callable], optax.GradientTransformation]) -> Weights:
    weights, draws = case()
    optimizer = make(lambda step: jax.numpy.asarray(RATES)[step])
    state, update = optimizer.init(weights), jax.jit(optimizer.update)
    for gradients in draws:
        updates, state = update(gradients, state, weights)
        weights = optax.apply_updates(weights, updates)
    return {name: np.asarray(weight) for name, weight in weights.items()}


def muon(nesterov: bool, rates: Callable) -> optax.GradientTransformation:
    """Its Adam takes what is no kernel, and the head."""
    dimensions: dict[str, optax.contrib.MuonDimensionNumbers | None] = dict.fromkeys(SHAPES)
    for name in ("conv/kernel", "conv_1/kernel"):
        dimensions[name] = optax.contrib.MuonDimensionNumbers((0, 1, 2), (3,))
    dimensions["depthwise/kernel"] = optax.contrib.MuonDimensionNumbers((0, 1), (2, 3))
    for name in ("dense/kernel", "zero/kernel"):
        dimensions[name] = optax.contrib.MuonDimensionNumbers((0,), (1,))
    decayed = {name: name not in VECTORS for name in SHAPES}
    return optax.contrib.muon(
        lambda step: 0.01 * rates(step),
        weight_decay=DECAY,
        weight_decay_mask=decayed,
        nesterov=nesterov,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=dimensions,
    )


def as_torch(tensor: np.ndarray) -> torch.Tensor:
    """A copy in PyTorch's layout, the units first."""
    axes = {1: (0,), 2: (1, 0), 4: (2, 3, 0, 1) if tensor.shape[-1] == 1 else (3, 2, 0, 1)}[tensor.ndim]
    return torch.tensor(np.ascontiguousarray(tensor.transpose(axes)))


def as_keras(tensor: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    axes = {1: (0,), 2: (1, 0), 4: (2, 3, 0, 1) if shape[-1] == 1 else (2, 3, 1, 0)}[len(shape)]
    array = tensor.detach().numpy().transpose(axes).copy()
    assert array.shape == shape
    return array


def by_torch(
    make: Callable[[list[dict]], torch.optim.Optimizer],
    rate: float,
    before: Callable[[dict[str, torch.nn.Parameter]], None] = lambda parameters: None,
    after: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None,
    rates: np.ndarray = RATES,
) -> tuple[Weights, torch.optim.Optimizer, dict[str, torch.nn.Parameter]]:
    weights, draws = case()
    parameters = {name: torch.nn.Parameter(as_torch(weight)) for name, weight in weights.items()}
    groups = [
        {"params": [p for name, p in parameters.items() if name not in VECTORS], "weight_decay": DECAY},
        {"params": [p for name, p in parameters.items() if name in VECTORS], "weight_decay": 0.0},
    ]
    optimizer = make(groups)
    for step, gradients in enumerate(draws):
        for name, parameter in parameters.items():
            parameter.grad = as_torch(gradients[name])
        for group in optimizer.param_groups:
            group["lr"] = rate * float(rates[step])
        before(parameters)
        optimizer.step()
    after(optimizer)
    return {name: as_keras(p, SHAPES[name]) for name, p in parameters.items()}, optimizer, parameters


def sgd(groups: list[dict], **options: object) -> torch.optim.Optimizer:
    return torch.optim.SGD([{**group, "weight_decay": 0.0} for group in groups], 0.1, **options)


def nesterov(groups: list[dict]) -> torch.optim.Optimizer:
    """At a constant rate: PyTorch's stands outside the momentum, Keras' within."""
    return sgd(groups, momentum=0.9, nesterov=True)


def clip(parameters: dict[str, torch.nn.Parameter]) -> None:
    timm.utils.agc.adaptive_clip_grad([p for name, p in parameters.items() if not name.startswith("logits")], 0.1)


def main(path: str) -> None:
    record: dict[str, np.ndarray] = {"rates": RATES, "shapes": np.array(json.dumps(SHAPES))}

    def keep(label: str, weights: Weights) -> None:
        record[label] = np.concatenate([weights[name].ravel() for name in SHAPES])

    weights, draws = case()
    keep("first", weights)
    for step, gradients in enumerate(draws):
        keep(f"gradient {step}", gradients)
    for ahead in False, True:
        keep(f"muon nesterov={ahead}", by_optax(lambda rates, ahead=ahead: muon(ahead, rates)))
    decayed = {name: name not in VECTORS for name in SHAPES}
    keep("lion", by_optax(lambda rates: optax.lion(lambda step: 0.01 * rates(step), weight_decay=DECAY, mask=decayed)))

    def schedule_free(groups: list[dict]) -> torch.optim.Optimizer:
        optimizer = schedulefree.AdamWScheduleFree(groups, lr=0.01)
        optimizer.train()
        return optimizer

    keep("schedule-free y", by_torch(schedule_free, 0.01)[0])
    keep("schedule-free x", by_torch(schedule_free, 0.01, after=lambda optimizer: optimizer.eval())[0])
    keep("agc", by_torch(nesterov, 0.1, before=clip, rates=np.ones(STEPS))[0])

    def lookahead(groups: list[dict]) -> torch.optim.Optimizer:
        return pytorch_optimizer.Lookahead(sgd(groups), k=3, alpha=0.4)

    fast, optimizer, parameters = by_torch(lookahead, 0.1)
    keep("lookahead", fast)
    slow = {name: optimizer.state[p]["slow_params"] for name, p in parameters.items()}
    keep("lookahead slow", {name: as_keras(tensor, SHAPES[name]) for name, tensor in slow.items()})
    keep("timm lookahead", by_torch(lambda groups: timm.optim.lookahead.Lookahead(sgd(groups), k=3, alpha=0.4), 0.1)[0])
    libraries = ("optax", "jax", "timm", "torch", "schedulefree", "pytorch_optimizer", "numpy")
    record["versions"] = np.array([f"{name} {version(name)}" for name in libraries])
    np.savez_compressed(path, **record)


if __name__ == "__main__":
    main(sys.argv[1])
