"""The flags of `convoy train` as keyword arguments, for type checkers.

CONVOY_UPDATE_GOLDEN=1 pytest tests/convoy/test_api.py writes it from the flags.
"""

from __future__ import annotations

import os
from typing import TypedDict


class TrainFlags(TypedDict, total=False):
    """Those that are not the data set's name. `convoy train --help` says what each is."""

    recipe: str
    run_dir: str | os.PathLike[str]
    log_to: str
    model: str
    pretrained: str
    stochastic_depth: float
    precision: str
    batchnorm: str
    batch_size: int
    batch_ramp: str
    duration: str
    optimizer: str
    learning_rate: float | None
    scale_lr: str
    schedule: str
    warmup: str
    momentum: float
    nesterov: bool
    trust_coefficient: float
    beta_2: float
    weight_decay: float
    weight_decay_mode: str
    clip_norm: float
    clip_agc: float
    loss: str
    label_smoothing: float
    ema: float
    lookahead: str
    groups: str
    layer_decay: float
    unfreeze: str
    cache_features: bool
    accumulate: int
    remat: bool
    noise_scale: bool
    patience: int
    max_minutes: float
    eval_every: str
    checkpoint_every: str
    keep: int
    steps_per_loop: int
    restarts: int
    on_nan: str
    report: bool
    profile: str
    seed: int
    deterministic: bool
    devices: str
    backend: str
    strategy: str
    xla: str
    kernels: str
    onednn: str
    gradient_buckets: int
    gradient_dtype: str
    compile_cache: str
    trust_compile_cache: bool
    hang_timeout: float | None
    data_dir: str | os.PathLike[str]
    eval_split: str
    test_split: str
    group: str
    image_size: int
    crop_fraction: float | None
    fit: str
    bit_depth: int
    augment: str
    balance: str
    order: str
    bad_images: str
    max_bad_fraction: float
    cache_bytes: int
    cache_gb: float
