"""--loss and --label_smoothing -> the loss of training. What a loss corrects are the frequencies that the stream shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from convoy import exits
from convoy.data.balance import effective_numbers
from convoy.trainer.losses.cross_entropy import as_floats, cross_entropy
from convoy.trainer.losses.names import LOSSES, LossSpec

# (logits [n, classes], labels integers [n, k], label_weights [n, k]) -> [n], as `cross_entropy` has them.
Loss = Callable[[Any, Any, Any], Any]


def build_loss(spec: LossSpec, label_smoothing: float, draws: np.ndarray) -> Loss:
    """The loss of training.

    Args:
      spec: of --loss.
      label_smoothing: as RunConfig has it.
      draws: int64 [classes], how often an epoch of the stream shows each. With --balance these are not the numbers of
        examples.

    Raises:
      exits.CannotRun: no example of a class that the loss needs.
    """
    if LOSSES[spec.kind].needs_every_class and not draws.all():
        raise exits.CannotRun(
            f"--loss={spec} needs training examples of every class, and class {int(draws.argmin())} of {len(draws)}, counted"
            " from 0, has none; add some, leave the class out, or give another --loss."
        )
    return LOSSES.load(spec.kind)(*spec.numbers, label_smoothing=label_smoothing, draws=draws)


def plain(label_smoothing: float, draws: np.ndarray) -> Loss:
    """Cross-entropy."""

    def loss(logits: Any, labels: Any, label_weights: Any) -> Any:
        return cross_entropy(logits, labels, label_smoothing, label_weights)

    return loss


def focal(gamma: float, label_smoothing: float, draws: np.ndarray) -> Loss:
    """Every term of the cross-entropy times (1 - p)**gamma (Lin et al. 2017, equation 4)."""

    def loss(logits: Any, labels: Any, label_weights: Any) -> Any:
        return cross_entropy(logits, labels, label_smoothing, label_weights, gamma)

    return loss


def weighted(beta: float, label_smoothing: float, draws: np.ndarray) -> Loss:
    """Cross-entropy with the weight of each label times that of its class, see `class_weights`."""
    weights = class_weights(draws, beta)

    def loss(logits: Any, labels: Any, label_weights: Any) -> Any:
        logits = as_floats(logits)
        dtype = ops.dtype(logits)
        label_weights = ops.cast(label_weights, dtype) * ops.take(ops.convert_to_tensor(weights, dtype), labels)
        return cross_entropy(logits, labels, label_smoothing, label_weights)

    return loss


def logit_adjusted(tau: float, label_smoothing: float, draws: np.ndarray) -> Loss:
    """Cross-entropy of logits + tau * log frequency (Menon et al. 2021, equation 10).

    With tau = 1 it is balanced softmax (Ren et al. 2020, theorem 1): log frequency and log count differ by a constant, which
    a softmax does not see.
    """
    added = tau * np.log(draws / draws.sum())

    def loss(logits: Any, labels: Any, label_weights: Any) -> Any:
        logits = as_floats(logits)
        logits += ops.convert_to_tensor(added, ops.dtype(logits))
        return cross_entropy(logits, labels, label_smoothing, label_weights)

    return loss


def class_weights(draws: np.ndarray, beta: float) -> np.ndarray:
    """float64 [classes]: 1 / the effective number of draws, scaled so that the mean over the draws of an epoch is 1.

    So the learning rate means what it meant. For beta = 1 it is inverse frequency (Cui et al. 2019, section 4, where the
    mean over the classes is 1 instead). A class that is never drawn has 0: no label asks for it.
    """
    numbers = draws if beta == 1 else effective_numbers(draws, beta)
    weights = np.divide(1.0, numbers, out=np.zeros(len(draws)), where=draws > 0)
    return weights * draws.sum() / (weights @ draws)
