"""The names a configuration may choose from; one table each, so that flags, validation and builders agree."""

from __future__ import annotations

RESNETS = ("resnet18", "resnet50")
MODELS = ("article_cnn", *RESNETS)
OPTIMIZERS = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3, "muon": 1e-3}  # name -> default learning rate
LOSSES = ("cross_entropy", "focal", "weighted", "balanced_softmax", "logit_adjusted")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16", "float64")
SCHEDULES = ("constant", "cosine", "linear", "polynomial", "step")
STRATEGIES = ("auto", "one", "mirrored", "multiworker", "tpu")
BACKENDS = ("tensorflow", "jax")
XLA = ("auto", "on", "off")
ON_NAN = ("stop", "skip", "rollback")
