"""Records the learning rates of other implementations; tests/trainer/test_schedules.py compares ours with them.

    uv venv && uv pip install timm==1.0.31 torch==2.15.0 optax==0.2.8
    .venv/bin/python tests/trainer/schedule_references.py > tests/trainer/golden/schedules.json

Each of 100 updates, after 10 of warm-up and without it, at a peak of 0.5: timm's WSD with its two cooldowns over the last 20
updates, and its cosine; optax' polynomial of power 2 down to 0.01. Warm-up has no part in this: timm begins at 0, at which the
first update would do nothing, and Convoy's one step later.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

import optax
import torch
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.scheduler.wsd_lr import WSDLRScheduler

TOTAL, COOLDOWN, PEAK, END = 100, 20, 0.5, 0.01


def timm_rates(scheduler: type, warmup: int, **options: Any) -> list[float]:
    """The rates of the updates after warm-up."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    made = scheduler(optimizer, warmup_t=warmup, t_in_epochs=False, **options)
    rates = []
    for update in range(warmup, TOTAL):
        made.step_update(update)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def rates(warmup: int) -> dict[str, list[float]]:
    left = TOTAL - warmup
    wsd = {"t_initial": left, "decay_t": COOLDOWN}
    polynomial = optax.polynomial_schedule(PEAK, END, power=2, transition_steps=left)
    return {
        "wsd:0.2": timm_rates(WSDLRScheduler, warmup, decay_fn="1-sqrt", **wsd),
        "trapezoid:0.2": timm_rates(WSDLRScheduler, warmup, decay_fn="linear", **wsd),
        "cosine": timm_rates(CosineLRScheduler, warmup, t_initial=left, warmup_prefix=True),
        f"polynomial:2,{END}": [float(polynomial(update)) for update in range(left)],
    }


if __name__ == "__main__":
    versions = {name: version(name) for name in ("timm", "torch", "optax")}
    json.dump({"versions": versions, "0": rates(0), "10": rates(10)}, sys.stdout)
    print()
