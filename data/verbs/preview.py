"""`convoy data preview`: a contact sheet of what the model will see, originals beside augmented images."""

from __future__ import annotations

import dataclasses
import io
import sys
from typing import TYPE_CHECKING

from convoy import exits, options, supervise
from convoy.bounds import whole
from convoy.data.config import DataConfig
from convoy.options import option
from convoy.outside import printable

if TYPE_CHECKING:
    import numpy as np

    from convoy.data.pipeline import Batch

USAGE = """usage: convoy data preview [--flag=value ...]

Draws the first examples of the training stream, each beside what --augment makes of it, into a PNG."""

_PAIRS_A_ROW = 4
_INCHES = 1.25  # of an image's side


@dataclasses.dataclass(frozen=True)
class PreviewConfig:
    """What to draw, and where."""

    output: str = option("preview.png", "the picture.", group="Preview")
    count: int = option(24, "how many examples.", group="Preview", within=whole(1, 400))
    seed: int = option(0, "of the run that would see them.", group="Preview", within=whole(-(2**31), 2**31 - 1))

    def __post_init__(self) -> None:
        options.check(self)


def main(argv: list[str]) -> int:
    if options.wants_help(argv):
        print(options.help_text(USAGE, PreviewConfig, DataConfig))
        return exits.OK
    _parse(argv)
    return supervise.run(supervise.module("convoy.data.verbs.preview", argv))


def child(argv: list[str]) -> int:
    supervise.follow_parent()
    config, data = _parse(argv)
    picture = contact_sheet(data, config.count, config.seed)
    try:
        with open(config.output, "wb") as file:
            file.write(picture)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise exits.CannotRun(
            f"--output={config.output} cannot be written: {reason}; name a file in a folder that is there."
        ) from error
    print(
        f"{config.output}: {config.count} examples of {data.dataset}, each beside what --augment={data.augment} makes of it."
    )
    return exits.OK


def _parse(argv: list[str]) -> tuple[PreviewConfig, DataConfig]:
    values = options.parse(argv, PreviewConfig, DataConfig)
    return PreviewConfig(**options.take(PreviewConfig, values)), DataConfig(**options.take(DataConfig, values))


def contact_sheet(data: DataConfig, count: int, seed: int) -> bytes:
    """The PNG: positions 0 to `count` of a run's stream, in order, and their labels with the shares of a mix."""
    import tensorflow as tf

    from convoy.data import splits
    from convoy.data.balance import Sampler
    from convoy.data.order import PositionRanges
    from convoy.data.pipeline import BatchSharding, training_stream
    from convoy.data.sources import open_dataset

    dataset = open_dataset(data)
    data = splits.resolve(data, dataset)
    train, _ = splits.train_and_eval(data, dataset)
    indices = Sampler(train.labels, data.balance, seed).draw(tf.range(count, dtype=tf.int64)).indices
    try:
        batch = next(training_stream(train, BatchSharding(count), data, seed, 0).as_numpy_iterator())
        # With positions, by which another takes the place of one that cannot be read, as it does in the batch.
        originals, *_ = train.fetcher()(indices, PositionRanges([(tf.constant(0, tf.int64), count)], seed))
    except tf.errors.OpError as error:
        if sentence := train.explain():
            raise exits.BadData(sentence) from error
        raise
    return _draw(originals.numpy(), batch, dataset.class_names, f"{data.dataset}  --augment={data.augment}")


def _draw(originals: np.ndarray, batch: Batch, class_names: tuple[str, ...], title: str) -> bytes:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

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


def _label(labels: np.ndarray, shares: np.ndarray, class_names: tuple[str, ...]) -> str:
    parts = {label: float(shares[labels == label].sum()) for label in labels if shares[labels == label].sum() > 0}
    if not parts:
        return "does not count"
    if len(parts) == 1:
        return class_names[next(iter(parts))]
    return " + ".join(f"{share:.2f} {class_names[label]}" for label, share in parts.items())


if __name__ == "__main__":
    exits.call(lambda: child(sys.argv[1:]))
