"""What looks wrong with a run, in words: while it trains, and on its page. Imports nothing heavy.

Each alert is a function of what is known, and says nothing where that is too little. The bounds are wide: a run that is well
gets no alert, and one that gets none need not be well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from convoy.counting import counted
from convoy.trainer.metrics import EvaluationSums

FEW = 10  # training examples of a class
_NAMED = 3  # classes in a sentence
_TIMES = 3  # records in a row
_STALE = 0.02  # of an average: more of what it began with shows in evaluations
_RISEN, _FAR_RISEN, _ABOVE_GUESSING = 1.1, 1.5, 1.1


class Seen(NamedTuple):
    """What is known of a run.

    Attributes:
      train: records of metrics.jsonl, of steps.
      held_out: of evaluations.
      names: of the classes.
      trained: the training examples of each class; empty where that is not known.
      measured: int64 [classes], the examples of the last measurement; None without one.
      taken: int64 [classes], how many of them were taken for each class.
      hits: how many were right.
      momentum: the largest of the network's BatchNormalization layers; None without one, or where that is not known.
    """

    train: Sequence[Mapping[str, Any]]
    held_out: Sequence[Mapping[str, Any]]
    names: Sequence[str]
    trained: Sequence[int]
    measured: np.ndarray | None = None
    taken: np.ndarray | None = None
    hits: int | None = None
    momentum: float | None = None

    @classmethod
    def from_records(
        cls,
        records: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        trained: Sequence[int],
        predictions: tuple[np.ndarray, np.ndarray] | None,
    ) -> Seen:
        """From a run directory. `predictions`: labels and guesses, int [n] each, of the last measurement."""
        train, held_out = ([record for record in records if record["split"] == split] for split in ("train", "eval"))
        seen = cls(train, held_out, names, trained)
        if not predictions:
            return seen
        measured, taken = (np.bincount(each, minlength=len(names)) for each in predictions)
        return seen._replace(measured=measured, taken=taken, hits=int((predictions[0] == predictions[1]).sum()))


def overfits(seen: Seen) -> str:
    """The loss of evaluations has risen while that of training fell."""
    losses = [record["loss"] for record in seen.held_out if record.get("loss") is not None]
    if len(losses) <= _TIMES:
        return ""
    best = int(np.argmin(losses))
    since = seen.held_out[best]["epoch"]
    after = [record["loss"] for record in seen.train if record["epoch"] >= since and record.get("loss") is not None]
    if min(losses[-_TIMES:]) < _RISEN * losses[best] or len(after) < 2 or after[-1] >= after[0]:
        return ""
    return (
        f"it overfits: the eval loss has risen from {losses[best]:.3g} at epoch {since:.3g} to {losses[-1]:.3g} while that of"
        f" training fell to {after[-1]:.3g}; try more --augment or --weight_decay, a smaller model, or --patience={_TIMES}."
    )


def rises(seen: Seen) -> str:
    """The loss of training has risen."""
    losses = _losses(seen.train)
    if len(losses) < _TIMES or min(losses[-2:]) < _FAR_RISEN * min(losses):
        return ""
    return (
        f"the training loss has risen from {min(losses):.3g} to {losses[-1]:.3g}; try a third of --learning_rate,"
        " --clip_norm=1, or a longer --warmup."
    )


def worse_than_guessing(seen: Seen) -> str:
    """The loss of training stays above that of equal probabilities for all classes."""
    losses, guessing = _losses(seen.train), math.log(max(len(seen.names), 1))
    if len(losses) < _TIMES or min(losses[-_TIMES:]) < _ABOVE_GUESSING * guessing or rises(seen):
        return ""
    return (
        f"the training loss, {losses[-1]:.3g}, stays above that of guessing all classes alike, {guessing:.3g}: the learning"
        " rate is probably too high; --find_lr names one that is not."
    )


def at_chance(seen: Seen) -> str:
    """Training finds no more than chance does."""
    chance = 1 / max(len(seen.names), 1)
    shares = [record["accuracy"] for record in seen.train if record.get("accuracy") is not None][-_TIMES:]
    if len(shares) < _TIMES or chance == 1 or max(shares) > min(1.5 * chance, chance + 0.05):
        return ""
    return (
        f"accuracy in training stays at chance ({shares[-1]:.1%}; guessing gives {chance:.1%}); likely causes: a learning rate"
        " that is far too high or too low (--find_lr), or labels that do not belong to the images (`convoy data preview`"
        " shows them)."
    )


def evaluation_at_chance(seen: Seen) -> str:
    """An evaluation finds no more than chance although training finds the classes."""
    trained = seen.train[-1].get("accuracy") if seen.train else None
    examples = 0 if seen.measured is None else int(seen.measured.sum())
    if trained is None or seen.measured is None or seen.hits is None or not examples:
        return ""
    commonest, accuracy = int(seen.measured.max()) / examples, seen.hits / examples
    deviation = math.sqrt(commonest * (1 - commonest) / examples)
    if not 0 < commonest < 1 or accuracy > commonest + 2 * deviation or trained < (1 + commonest) / 2:
        return ""
    causes = ["held-out images of another kind, or with other labels", "a layer that does something else in training"]
    steps = seen.train[-1]["step"]
    if seen.momentum and (rest := seen.momentum**steps) >= _STALE:
        causes.insert(
            0,
            f"BatchNormalization, whose averages are still {rest:.0%} what they began with, after {counted(steps, 'step')} of"
            f" momentum {seen.momentum:g} (build its layers with momentum=0.9, or train longer)",
        )
    symptom = f"evaluation is at chance ({accuracy:.1%}) while training is right ({trained:.1%})"
    return f"{symptom}; likely causes: {'; '.join(causes)}."


def never_predicted(seen: Seen) -> str:
    """Classes that no example was taken for."""
    if seen.measured is None or seen.taken is None or len(seen.held_out) < _TIMES:
        return ""
    dead = np.flatnonzero((seen.measured >= 5) & (seen.taken == 0))
    if not len(dead):
        return ""
    return (
        f"{counted(len(dead), 'class')} {'is' if len(dead) == 1 else 'are'} never predicted ({_listed(seen, dead)}); try"
        " --balance=oversample, more examples of them, or longer training."
    )


def few_examples(seen: Seen) -> str:
    """Classes with hardly any training examples."""
    few = np.flatnonzero([0 < count < FEW for count in seen.trained])
    if not len(few):
        return ""
    return (
        f"{counted(len(few), 'class')} {'has' if len(few) == 1 else 'have'} fewer than {FEW} training examples"
        f" ({_listed(seen, few)}); a network of --pretrained weights needs the fewest, and --augment helps."
    )


ALERTS: tuple[Callable[[Seen], str], ...] = (
    rises, worse_than_guessing, at_chance, evaluation_at_chance, overfits, never_predicted, few_examples,
)  # fmt: skip


def sentences(seen: Seen) -> list[str]:
    """All alerts, as sentences for a page."""
    return [as_sentence(clause) for alert in ALERTS if (clause := alert(seen))]


def as_sentence(clause: str) -> str:
    """What follows `Note: ` on the screen, as it stands alone."""
    return clause[:1].upper() + clause[1:]


class Watch:
    """Gives each alert once, as soon as it holds.

    Args:
      names: of the classes.
      trained: the training examples of each.
      momentum: that of Seen.
    """

    def __init__(self, names: Sequence[str], trained: Sequence[int], momentum: float | None = None) -> None:
        self._train, self._held_out = list[Mapping[str, Any]](), list[Mapping[str, Any]]()
        self._seen = Seen(self._train, self._held_out, names, trained, momentum=momentum)
        self._told = set[Callable[[Seen], str]]()

    def record(self, split: str, step: int, epoch: float, metrics: Mapping[str, float | None]) -> None:
        """Takes what metrics.jsonl gets."""
        records = self._train if split == "train" else self._held_out
        records.append({"step": step, "epoch": epoch, **metrics})

    def new(self, sums: EvaluationSums) -> list[str]:
        """The alerts that hold after an evaluation and were not given before."""
        seen = self._seen._replace(measured=sums.count, taken=sums.predicted, hits=sums.correct)
        given = {alert: sentence for alert in ALERTS if alert not in self._told and (sentence := alert(seen))}
        self._told.update(given)
        return list(given.values())


def _losses(records: Sequence[Mapping[str, Any]]) -> list[float]:
    return [record["loss"] for record in records if record.get("loss") is not None]


def _listed(seen: Seen, classes: np.ndarray) -> str:
    """The names of a few classes."""
    names = ", ".join(seen.names[label] for label in classes[:_NAMED])
    return names + (f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else "")
