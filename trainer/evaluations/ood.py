"""--ood: how well images of another data set are told from the run's own, by what the model says of them."""

from __future__ import annotations

import dataclasses

import numpy as np

from convoy import exits
from convoy.data.opening import open_splits
from convoy.data.sources.changed import Changed
from convoy.data.sources.examples import Examples
from convoy.trainer.evaluations.measuring import Measuring, Outcome
from convoy.trainer.logits import Logits

SCORES = {
    "probability": "the largest probability (Hendrycks & Gimpel 2017)",
    "logit": "the largest logit (Hendrycks et al. 2022)",
    "energy": "the logarithm of the sum of all exponentials (Liu et al. 2020)",
}


def measure(measuring: Measuring, name: str) -> Outcome:
    """Measures another data set. The score of an example should be large for the run's own images, and small for others."""
    examples = _examples(measuring, name)
    other = measuring.measure(Changed(examples, labels=np.zeros(len(examples), np.int32)))  # its classes are others
    own_scores, other_scores = scores(measuring.logits), scores(other)
    judged = {
        score: {
            "auroc": auroc(own_scores[score], other_scores[score]),
            "fpr95": fpr95(own_scores[score], other_scores[score]),
        }
        for score in SCORES
    }
    lines = [f"told from {len(other):,} images of {name}:"]
    lines += [
        f"  by {SCORES[score]}: AUROC {values['auroc']:.3f}; where 95% of the run's own pass, {values['fpr95']:.1%} of these do"
        for score, values in judged.items()
    ]
    return Outcome({"dataset": name, "examples": len(other), "scores": judged}, lines)


def scores(logits: Logits) -> dict[str, np.ndarray]:
    """float64 [N] for each name of SCORES; of logits that are not finite NaN or an infinity."""
    return {
        "probability": logits.confidence.astype(np.float64),
        "logit": logits.logits.max(axis=1).astype(np.float64),
        "energy": logits.log_sum,
    }


def auroc(own: np.ndarray, other: np.ndarray) -> float:
    """How often an example of `own` has the larger score of the two, ties by half: the area under the ROC curve."""
    from scipy.stats import rankdata

    ranks = rankdata(np.nan_to_num(np.concatenate([own, other]), nan=-np.inf))
    total = ranks[: len(own)].sum() - len(own) * (len(own) + 1) / 2
    return float(total / (len(own) * len(other)))


def fpr95(own: np.ndarray, other: np.ndarray) -> float:
    """The share of `other` whose score is at least that which 95 % of `own` reach."""
    own, other = (np.sort(np.nan_to_num(each, nan=-np.inf)) for each in (own, other))
    bound = own[len(own) - int(np.ceil(0.95 * len(own)))]
    return float((other >= bound).mean())


def _examples(measuring: Measuring, name: str) -> Examples:
    """Its test split, or all that it trains on."""
    experiment = measuring.experiment
    data = dataclasses.replace(
        experiment.config.data, dataset=name, augment="none", balance="none", eval_split="none", test_split="auto"
    )
    opened = open_splits(data)
    if opened.dataset.image_shape != experiment.data.dataset.image_shape:
        ours, theirs = ("x".join(map(str, each.dataset.image_shape)) for each in (experiment.data, opened))
        raise exits.CannotRun(
            f"--ood={name} has images of {theirs}, and the run takes {ours}; name a data set of that size and colour."
        )
    names = opened.dataset.split_names
    return opened.dataset.split("test") if "test" in names else opened.train
