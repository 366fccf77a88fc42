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
      averages: whether evaluations take an average that the optimizer keeps.
    """

    learning_rate: float = 0.001
    averages: bool = False


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
            "Keras' own: orthogonalized for the kernels of dense layers but the last, Adam for the rest, convolutions too",
            source="Jordan et al. 2024",
        ),
        "muon_conv": OptimizerEntry(
            "convoy.trainer.optimizers.muon_conv:muon_conv",
            "orthogonalized for the kernels of convolutions and dense layers but the head, Adam for the rest",
            source="Jordan et al. 2024",
        ),
        "lion": OptimizerEntry(
            "convoy.trainer.optimizers.keras_own:lion",
            "the sign of a momentum",
            source="Chen et al. 2023",
            learning_rate=0.0001,
        ),
        "schedule_free_adamw": OptimizerEntry(
            "convoy.trainer.optimizers.schedule_free:schedule_free_adamw",
            "adamw that evaluates an average of its steps in place of a falling rate: leave --schedule constant",
            source="Defazio et al. 2024",
            learning_rate=0.0025,
            averages=True,
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
