"""The optimizers: a row for each name that --optimizer may be. Imports nothing heavy.

A row's target takes (schedule, weight_decay, model) and the flags in its `options`, and returns a Keras optimizer.
"""

from __future__ import annotations

import dataclasses

from convoy.table import Entry, Table


@dataclasses.dataclass(frozen=True)
class OptimizerEntry(Entry):
    """A row.

    Args:
      learning_rate: the peak where --learning_rate is not given.
    """

    learning_rate: float = 0.001


OPTIMIZERS: Table[OptimizerEntry] = Table(
    "optimizer",
    {
        "sgd": OptimizerEntry(
            "convoy.trainer.optimizers.sgd:sgd",
            "Nesterov momentum",
            learning_rate=0.1,
            options=("momentum", "weight_decay_mode"),
        ),
        "adam": OptimizerEntry(
            "convoy.trainer.optimizers.keras_own:adam",
            "beta 0.9 and 0.999",
            source="Kingma & Ba 2015",
            options=("beta_2",),
        ),
        "adamw": OptimizerEntry(
            "convoy.trainer.optimizers.keras_own:adamw",
            "the same as adam here, where every optimizer's weight decay is decoupled",
            source="Loshchilov & Hutter 2019",
            options=("beta_2",),
        ),
        "muon": OptimizerEntry(
            "convoy.trainer.optimizers.keras_own:muon",
            "orthogonalized for the kernels of dense layers but the last, Adam for the rest",
            source="Jordan et al. 2024",
        ),
        "lars": OptimizerEntry(
            "convoy.trainer.optimizers.lars:lars",
            "momentum at a rate for each layer, for batches of thousands",
            source="You et al. 2017",
            learning_rate=1.0,
            options=("momentum", "nesterov", "trust_coefficient"),
        ),
        "lamb": OptimizerEntry(
            "convoy.trainer.optimizers.lamb:lamb",
            "adam at a rate for each layer, for batches of thousands",
            source="You et al. 2020",
            options=("beta_2",),
        ),
        "keras_lamb": OptimizerEntry(
            "convoy.trainer.optimizers.keras_own:keras_lamb",
            "Keras' own lamb, whose weight decay is outside the layer's rate",
        ),
    },
)
