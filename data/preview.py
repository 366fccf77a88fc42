"""A contact sheet of what the model will see: originals beside augmented images."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib import pyplot

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.opening import Splits, open_splits
from convoy.data.order import PositionRanges
from convoy.data.pipeline import Batch, BatchSharding, blocked_order, training_stream
from convoy.data.sampler import Sampler
from convoy.outside import printable

_PAIRS_A_ROW = 4
_INCHES = 1.25  # of an image's side

matplotlib.use("Agg")


def contact_sheet(data: DataConfig, count: int, seed: int) -> bytes:
    """The PNG: positions 0 to `count` of a run's stream, in order, and their labels with the weights of a mix."""
    opened = open_splits(data)
    originals, batch = pairs(opened, count, seed)
    title = f"{opened.config.dataset}  --augment={opened.config.augment}"
    return draw(originals, batch, opened.dataset.class_names, title)


def pairs(opened: Splits, count: int, seed: int, batch_size: int = 0) -> tuple[np.ndarray, Batch]:
    """(originals, uint8 [count, h, w, c], what a step gets of them): of the first `count` positions of a run's stream.

    With --order=blocked:N these depend on the run's `batch_size`; 0: it is `count`.
    """
    data, train = opened.config, opened.train
    blocks = blocked_order(train, data, seed, batch_size or count)
    indices = Sampler(train.labels, data.balance_spec, seed, blocks).sample(tf.range(count, dtype=tf.int64)).indices
    try:
        stream = training_stream(train, BatchSharding(count), data, seed, 0, full_batch=batch_size, steps=1)
        batch = next(stream.as_numpy_iterator())
        # With positions, by which another takes the place of one that cannot be read, as it does in the batch.
        originals, *_ = train.fetcher()(indices, PositionRanges([(tf.constant(0, tf.int64), count)], seed))
    except tf.errors.OpError as error:
        if sentence := train.explain():
            raise exits.BadData(sentence) from error
        raise
    return np.asarray(originals), batch


def draw(originals: np.ndarray, batch: Batch, class_names: tuple[str, ...], title: str) -> bytes:
    rows = -(-len(originals) // _PAIRS_A_ROW)
    size = (2 * _PAIRS_A_ROW * _INCHES + 0.2, rows * (_INCHES + 0.16) + 0.4)
    # A narrow empty column between the pairs.
    ratios = ([1, 1, 0.15] * _PAIRS_A_ROW)[:-1]
    figure, axes = pyplot.subplots(
        rows, len(ratios), figsize=size, layout="constrained", squeeze=False, width_ratios=ratios
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for index, (original, changed) in enumerate(zip(originals, batch.images, strict=True)):
        row, pair = divmod(index, _PAIRS_A_ROW)
        for column, image in enumerate((original, changed)):
            axis = axes[row, 3 * pair + column]
            # Of other numbers of channels than a picture has, the first.
            visible = image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
            axis.imshow(visible, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        label = _label(batch.labels[index], batch.label_weights[index], class_names)
        axes[row, 3 * pair].set_title(printable(label), fontsize=7, loc="left", pad=2, parse_math=False)
    figure.suptitle(printable(title), fontsize=9, parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    return buffer.getvalue()


def _label(labels: np.ndarray, weights: np.ndarray, class_names: tuple[str, ...]) -> str:
    sums = {label: float(weights[labels == label].sum()) for label in labels}
    parts = {label: weight for label, weight in sums.items() if weight > 0}
    if not parts:
        return "does not count"
    if len(parts) == 1:
        return class_names[next(iter(parts))]
    return " + ".join(f"{weight:.2f} {class_names[label]}" for label, weight in parts.items())
