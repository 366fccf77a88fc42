"""The loss, which variables train and are averaged, and how a batch is cut."""

from __future__ import annotations

import dataclasses
import functools

from convoy.bounds import real, whole
from convoy.options import option
from convoy.trainer.flags.durations import MAX_EXAMPLES
from convoy.trainer.flags.groups import GroupsSpec, UnfreezeSpec
from convoy.trainer.flags.lookahead import LookaheadSpec
from convoy.trainer.flags.run.batch import BatchFlags
from convoy.trainer.losses.names import LOSSES, LossSpec

AUTO_ACCUMULATE = 0

_OPTIMIZATION = "Optimization"


@dataclasses.dataclass(frozen=True)
class TrainingFlags(BatchFlags):
    """The loss, which variables train and are averaged, and how a batch is cut."""

    loss: str = option(
        "cross_entropy",
        lambda: (
            f"of training; evaluation is cross-entropy. {LOSSES.help()}. Classes count as often as --balance draws them."
        ),
        group=_OPTIMIZATION,
    )
    label_smoothing: float = option(
        0.0,
        "fraction of the target that is spread evenly over the classes in training.",
        group=_OPTIMIZATION,
        within=real(0, 1, below=True),
    )
    ema: float = option(
        0.0,
        "decay of a moving average of the weights, used for every evaluation (0: off; try 0.999).",
        group=_OPTIMIZATION,
        within=real(0, 1, below=True),
    )
    lookahead: str = option(
        "0",
        "STEPS or STEPS:ALPHA: slow weights follow every so many steps, ALPHA (0.5) of the way, lead the weights back to"
        " them, and are evaluated; for example 5:0.5 (Zhang et al. 2019; 0: off).",
        group=_OPTIMIZATION,
    )
    groups: str = option(
        "",
        "what becomes of variables whose path a pattern (RE2) is the first to match: lr= and wd= multiply"
        " --learning_rate and --weight_decay, freeze leaves them as they are, for example ^stem:freeze;^logits:lr=10,wd=0"
        " (docs/fine-tuning.md).",
        group=_OPTIMIZATION,
    )
    layer_decay: float = option(
        1.0,
        "multiply the learning rate by this once for every block of the network between a variable and the head, for example"
        " 0.75 (Howard & Ruder 2018; 1: off).",
        group=_OPTIMIZATION,
        within=real(0, 1, above=True),
    )
    unfreeze: str = option(
        "",
        "train the head alone until here, in epochs (3ep) or steps (300st), then all; with several, 3ep,6ep, the blocks below"
        " the head begin to train one part after the other, from the head down.",
        group=_OPTIMIZATION,
    )
    cache_features: bool = option(
        False,
        "compute what a frozen backbone makes of the images once, keep it in --cache_bytes of memory, and train the head on it:"
        " the same steps up to rounding, without the backbone. Needs --augment=none, and --groups or --unfreeze to freeze it.",
        group=_OPTIMIZATION,
        may_change=True,
    )
    accumulate: int = option(
        1,
        "cut every batch into this many microbatches and add up their gradients: the same step in less memory, up to"
        " rounding and to the statistics of BatchNormalization; auto: the fewest that fit into memory, tried once.",
        group=_OPTIMIZATION,
        within=whole(1, MAX_EXAMPLES),
        words={"auto": AUTO_ACCUMULATE},
    )
    remat: bool = option(
        False,
        "keep few activations of the network and compute the others again for the gradient: less memory for a longer step,"
        " and the same step up to rounding.",
        group=_OPTIMIZATION,
        may_change=True,
    )
    noise_scale: bool = option(
        False,
        "measure the gradient noise scale, the batch size beyond which larger ones save few steps (McCandlish et al. 2018), on"
        " the parts of each batch: --accumulate=2 or more, or several devices (docs/large-batch.md).",
        group=_OPTIMIZATION,
        may_change=True,
    )

    @functools.cached_property
    def loss_spec(self) -> LossSpec:
        return LossSpec.parse(self.loss)

    @functools.cached_property
    def lookahead_spec(self) -> LookaheadSpec:
        return LookaheadSpec.parse(self.lookahead)

    @functools.cached_property
    def groups_spec(self) -> GroupsSpec:
        return GroupsSpec.parse(self.groups)

    @functools.cached_property
    def unfreeze_spec(self) -> UnfreezeSpec:
        return UnfreezeSpec.parse(self.unfreeze)

    def microbatches(self, batch_size: int) -> int:
        """--accumulate, for a batch of this size: a smaller one has fewer microbatches of the same size, or a smaller one."""
        return -(-self.accumulate * batch_size // self.batch_size)

    def unfreeze_borders(self, examples: int) -> tuple[int, ...]:
        """The steps at which more of the network begins to train, --unfreeze; CannotRun for some that no run has."""
        return self.unfreeze_spec.steps(self.clock(examples), self.total_steps(examples))
