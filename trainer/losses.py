"""Losses per example, on either backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from convoy import exits
from convoy.data.balance import effective_numbers
from convoy.trainer.flags.specs import LossSpec

# (logits [n, classes], labels integers [n, k], shares [n, k]) -> [n], as `cross_entropy` has them.
Loss = Callable[[Any, Any, Any], Any]


def build(spec: LossSpec, label_smoothing: float, draws: np.ndarray) -> Loss:
    """--loss and --label_smoothing -> the loss of training.

    - focal: every term of the cross-entropy times (1 - p)**gamma (Lin et al. 2017, equation 4).
    - weighted: the share of each label times the weight of its class, see `class_weights`.
    - logit_adjusted: cross-entropy of logits + tau * log frequency (Menon et al. 2021, equation 10). With tau = 1 it is
      balanced_softmax (Ren et al. 2020, theorem 1): log frequency and log count differ by a constant, which a softmax does
      not see.

    Args:
      spec: of --loss.
      label_smoothing: as RunConfig has it.
      draws: int64 [classes], how often an epoch of the stream shows each. What a loss corrects are the frequencies it meets;
        with --balance these are not those of the examples.

    Raises:
      exits.CannotRun: a frequency is 0, and so has no logarithm.
    """
    kind, number = spec.kind, spec.number
    gamma = number if kind == "focal" else 0.0
    weights = class_weights(draws, number) if kind == "weighted" else None
    added = number * _log_frequencies(spec, draws) if kind in ("balanced_softmax", "logit_adjusted") else None

    def losses(logits: Any, labels: Any, shares: Any) -> Any:
        logits = _floats(logits)
        dtype = ops.dtype(logits)
        shares = ops.cast(shares, dtype)
        if added is not None:
            logits += ops.convert_to_tensor(added, dtype)
        if weights is not None:
            shares *= ops.take(ops.convert_to_tensor(weights, dtype), labels)
        return cross_entropy(logits, labels, label_smoothing, shares, gamma)

    return losses


def class_weights(draws: np.ndarray, beta: float) -> np.ndarray:
    """float64 [classes]: 1 / the effective number of draws, scaled so that the mean over the draws of an epoch is 1.

    So the learning rate means what it meant. For beta = 1 it is inverse frequency (Cui et al. 2019, section 4, where the
    mean over the classes is 1 instead). A class that is never drawn has 0: no label asks for it.
    """
    numbers = draws if beta == 1 else effective_numbers(draws, beta)
    weights = np.divide(1.0, numbers, out=np.zeros(len(draws)), where=draws > 0)
    return weights * draws.sum() / (weights @ draws)


def cross_entropy(
    logits: Any, labels: Any, label_smoothing: float = 0.0, shares: Any = None, gamma: float = 0.0
) -> Any:
    """Softmax cross-entropy of each example.

    Args:
      logits: [n, classes]; bfloat16 is computed in float32.
      labels: integers [n] in [0, classes), or [n, k] with `shares`.
      label_smoothing: this share of the target is spread evenly over all classes (Szegedy et al. 2016, section 7).
      shares: [n, k], how much of an example's target each of its labels is. They sum up to 1, or to less where an
        image could not be read.
      gamma: above 0, the term of every class is multiplied by (1 - its probability)**gamma.

    Returns:
      [n], float32, or float64 for float64 logits. The loss of a step is its sum divided by the global batch.
    """
    logits = _floats(logits)
    terms = ops.log_softmax(logits, axis=-1)
    if gamma:
        # Away from 0, where a power below 1 has no derivative; expm1, because 1 - p is all rounding where p is almost 1.
        others = ops.maximum(-ops.expm1(terms), float(np.finfo(np.float32).tiny))
        terms *= others**gamma
    dtype = ops.dtype(logits)
    target = ops.one_hot(labels, logits.shape[-1], dtype=dtype)
    counts: Any = 1
    if shares is not None:
        shares = ops.cast(shares, dtype)
        target, counts = ops.sum(shares[..., None] * target, axis=1), ops.sum(shares, axis=1)
    loss = -ops.sum(target * terms, axis=-1)
    if label_smoothing:
        # No ops.mean: on JAX it computes float64 in float32.
        everywhere = ops.sum(terms, axis=-1) / logits.shape[-1]
        loss = (1 - label_smoothing) * loss - label_smoothing * counts * everywhere
    return loss


def right(logits: Any, labels: Any, shares: Any) -> Any:
    """bool [n]: whether the largest logit is that of the label with the largest share, for examples that count."""
    first = shares[:, 0] >= shares[:, 1]
    label = ops.where(first, labels[:, 0], labels[:, 1])
    guesses = ops.cast(ops.argmax(logits, axis=-1), ops.dtype(label))
    return ops.logical_and(guesses == label, ops.sum(shares, axis=1) > 0)


def _floats(logits: Any) -> Any:
    return logits if ops.dtype(logits) == "float64" else ops.cast(logits, "float32")


def _log_frequencies(spec: LossSpec, draws: np.ndarray) -> np.ndarray:
    if not draws.all():
        raise exits.CannotRun(
            f"--loss={spec} needs training examples of every class, and class {int(draws.argmin())} of {len(draws)}, counted"
            " from 0, has none; add some, leave the class out, or give another --loss."
        )
    return np.log(draws / draws.sum())
