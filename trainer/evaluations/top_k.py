"""--top_k: how often the right class is among the K most probable."""

from __future__ import annotations

from convoy import exits
from convoy.trainer.evaluations.measuring import Measuring, Outcome, interval
from convoy.trainer.figures import share


def measure(measuring: Measuring, k: int) -> Outcome:
    """Of classes with the same logit all count as more probable that have a larger one only."""
    if k >= measuring.classes:
        raise exits.CannotRun(f"--top_k={k} is right by itself: the run has {measuring.classes} classes; give fewer.")
    hits = share(int((measuring.logits.rank < k).sum()), len(measuring.logits))
    assert hits, "a split holds examples"
    values = {"k": k, "accuracy": hits.value, "interval": [hits.low, hits.high]}
    return Outcome(values, [f"among the {k} most probable: {hits.value:.2%} ({interval(hits.low, hits.high)})"])
