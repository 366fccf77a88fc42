"""The names a configuration may choose from; one table each, so that flags, validation and builders agree."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

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


def near(name: str, names: Iterable[str]) -> str:
    """`did you mean ...?` for a name that is almost one of `names`, else their list."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
