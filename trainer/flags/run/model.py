"""Where a run lives, its data and its model."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from convoy.bounds import real
from convoy.data.config import DataConfig
from convoy.options import option
from convoy.table import joined
from convoy.trainer.flags import validation
from convoy.trainer.flags.choices import PRECISIONS
from convoy.trainer.flags.specs import BatchNormSpec
from convoy.trainer.loggers.names import LOGGERS, LoggersSpec
from convoy.trainer.models.names import AUTO, DEFAULT, MODELS

_RUN = "Run"
_MODEL = "Model"


@dataclasses.dataclass(frozen=True)
class ModelFlags:
    """Where a run lives, its data and its model."""

    run_dir: str = option(
        "",
        "where the run lives; a run that is already there is continued (default: runs/DATASET-TIME).",
        group=_RUN,
        may_change=True,
    )
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    log_to: str = option(
        "",
        lambda: (
            f"services that get flags, figures and result too, several with commas: {LOGGERS.help()}. One that fails is left"
            " out, and the run goes on (docs/logging.md)."
        ),
        group=_RUN,
        may_change=True,
    )
    model: str = option(
        AUTO,
        lambda: (
            f"{AUTO}: the network of --pretrained, else {DEFAULT}; {MODELS.help()}; or"
            " package.module:function of your own, which takes (input_shape, num_classes) and returns a keras.Model of logits;"
            " images arrive as numbers from 0 to 1."
        ),
        group=_MODEL,
        check=validation.check_model,
    )
    pretrained: str = option(
        "",
        "begin with weights that were trained before: a .safetensors, .weights.h5 or .keras file, a folder in timm's form or a"
        " preset of KerasHub, the directory of another run, or imagenet for those that Keras publishes; here or at gs://. The"
        " head is made new but for classes of equal name (docs/pretrained.md).",
        group=_MODEL,
    )
    stochastic_depth: float = option(
        0.0,
        lambda: (
            "leave residual blocks out at random in training, at a rate that grows to this one at the last block, with"
            f" --model={joined(MODELS.with_option('stochastic_depth'), 'or')} (Huang et al. 2016; 0: off)."
        ),
        group=_MODEL,
        within=real(0, 1, below=True),
    )
    precision: str = option("auto", lambda: f"{PRECISIONS.help()}.", group=_MODEL, choices=PRECISIONS)
    batchnorm: str = option(
        "sync",
        "what BatchNormalization measures in training: sync, the batch on all devices (with --accumulate, each microbatch);"
        " local, the share of a device; ghost:N, groups of N examples; frozen, nothing: it stays as --pretrained has it.",
        group=_MODEL,
    )

    @functools.cached_property
    def log_to_spec(self) -> LoggersSpec:
        return LoggersSpec.parse(self.log_to)

    @functools.cached_property
    def batchnorm_spec(self) -> BatchNormSpec:
        return BatchNormSpec.parse(self.batchnorm)

    @property
    def model_options(self) -> dict[str, Any]:
        """The flags that the row of --model takes; none for a user's own model."""
        return {name: getattr(self, name) for name in (MODELS[self.model].options if self.model in MODELS else ())}
