"""Records what other implementations of LARS and LAMB make of one case; tests/trainer/test_layerwise.py compares with it.

    uv venv && uv pip install optax==0.2.8 jax==0.10.2 timm==1.0.31 torch==2.15.0
    .venv/bin/python tests/trainer/layerwise_references.py > tests/trainer/golden/layerwise.json

optax takes the same update rules, so all its weights must be met within 1e-6. Of the others the file holds one step from
[3, 4], where the libraries disagree (docs/large-batch.md).
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import jax
import numpy as np
import optax
import timm.optim
import torch

STEPS = 10
SHAPES = {
    "conv/kernel": (3, 3, 2, 4),
    "conv/bias": (4,),
    "bn/gamma": (4,),
    "dense/kernel": (5, 3),
    "zero/kernel": (2, 2),
}
EXCLUDED = ("conv/bias", "bn/gamma")
RATES = [0.1 * min((step + 1) / 4, 1 - step / STEPS) for step in range(STEPS)]


def case() -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """First weights, and the gradients of each step; one kernel is 0, and one gradient is 0 for two steps."""
    rng = np.random.default_rng(18)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    weights["zero/kernel"][:] = 0
    weights["conv/bias"][:] = 0
    weights["bn/gamma"][:] = 1
    gradients = [
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()} for _ in range(STEPS)
    ]
    for step in 3, 4:
        gradients[step]["dense/kernel"][:] = 0
    return weights, gradients


def weights_after(transformation: optax.GradientTransformation) -> dict[str, list[float]]:
    weights, gradients = case()
    state = transformation.init(weights)
    for gradient in gradients:
        updates, state = transformation.update(gradient, state, weights)
        weights = optax.apply_updates(weights, updates)
    return {name: np.asarray(value, np.float64).ravel().tolist() for name, value in weights.items()}


def optax_cases() -> dict[str, dict[str, list[float]]]:
    def rate(step: jax.Array) -> jax.Array:
        return jax.numpy.asarray(RATES, jax.numpy.float32)[step]

    mask = {name: name not in EXCLUDED for name in SHAPES}
    cases = {}
    for nesterov in False, True:
        for decay in 0.0, 0.02:
            cases[f"lars decay={decay} nesterov={nesterov}"] = weights_after(
                optax.lars(rate, decay, mask, 0.1, 0.0, mask, momentum=0.9, nesterov=nesterov)
            )
    for decay in 0.0, 0.02:
        cases[f"lamb decay={decay}"] = weights_after(
            optax.chain(
                optax.scale_by_adam(0.9, 0.999, 1e-6),
                optax.add_decayed_weights(decay, mask),
                optax.masked(optax.scale_by_trust_ratio(), mask),
                optax.scale_by_learning_rate(lambda step: 0.1 * rate(step)),
            )
        )
    return cases


def one_step(make, weight: list[float], gradient: list[float]) -> list[float]:
    """By a PyTorch optimizer."""
    parameter = torch.nn.Parameter(torch.tensor([weight]))
    parameter.grad = torch.tensor([gradient])
    make([parameter]).step()
    return parameter.detach().numpy().astype(float).round(6).ravel().tolist()


def timm_steps() -> dict[str, list[float]]:
    gradient = [0.6, 0.8]
    return {
        "timm lars rate=1 decay=0": one_step(lambda p: timm.optim.Lars(p, lr=1.0), [3.0, 4.0], gradient),
        "timm lars rate=1 decay=0.01": one_step(
            lambda p: timm.optim.Lars(p, lr=1.0, weight_decay=0.01), [3.0, 4.0], gradient
        ),
        "timm lars rate=1 decay=0.01 from 0": one_step(
            lambda p: timm.optim.Lars(p, lr=1.0, weight_decay=0.01), [0.0, 0.0], gradient
        ),
        "timm lamb rate=0.1 decay=0": one_step(
            lambda p: timm.optim.Lamb(p, lr=0.1, weight_decay=0.0), [3.0, 4.0], gradient
        ),
        "timm lamb rate=0.1 decay=0.1": one_step(
            lambda p: timm.optim.Lamb(p, lr=0.1, weight_decay=0.1), [3.0, 4.0], gradient
        ),
    }


def optax_step(transformation: optax.GradientTransformation, weight: list[float]) -> list[float]:
    gradient, weights = np.float32([0.6, 0.8]), np.float32(weight)
    updates, _ = transformation.update(gradient, transformation.init(weights), weights)
    return np.asarray(optax.apply_updates(weights, updates), float).round(6).tolist()


def main() -> None:
    weights, gradients = case()
    record = {
        "versions": {name: version(name) for name in ("optax", "jax", "timm", "torch", "numpy")},
        "rates": RATES,
        "weights": {name: value.astype(float).ravel().tolist() for name, value in weights.items()},
        "gradients": [{name: g.astype(float).ravel().tolist() for name, g in step.items()} for step in gradients],
        "shapes": SHAPES,
        "after": optax_cases(),
        "one step": timm_steps()
        | {
            "optax lars rate=1 decay=0": optax_step(optax.lars(1.0), [3.0, 4.0]),
            "optax lars rate=1 decay=0.01": optax_step(optax.lars(1.0, 0.01), [3.0, 4.0]),
            "optax lars rate=1 decay=0.01 from 0": optax_step(optax.lars(1.0, 0.01), [0.0, 0.0]),
            "optax lamb rate=0.1 decay=0": optax_step(optax.lamb(0.1), [3.0, 4.0]),
            "optax lamb rate=0.1 decay=0.1": optax_step(optax.lamb(0.1, weight_decay=0.1), [3.0, 4.0]),
        },
    }
    json.dump(record, sys.stdout, indent=None, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
