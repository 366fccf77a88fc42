"""TensorFlow Datasets: found prepared in --data_dir, or downloaded and prepared there."""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from convoy import exits
from convoy.outside import printable
from data.config import DataConfig
from data.identity import Origin, Split
from data.parallel import in_parallel
from data.resize import resize_and_crop
from data.sources.examples import DataSet, InMemory


def open_tfds(config: DataConfig, download: bool) -> DataSet:
    """Opens an image classification set of TFDS; a split is decoded into memory when it is asked for.

    Args:
      config: the data set's name and --data_dir.
      download: whether one that is not prepared in --data_dir may be downloaded and prepared there.
    """
    builder = _prepared(config, download)
    image, label = _features(builder)
    shape = tuple(image.shape)
    if config.image_size:
        shape = (config.image_size, config.image_size, shape[-1])
    if None in shape:
        raise exits.CannotRun(
            f"--dataset={config.dataset} has images of many sizes; give --image_size=PIXELS to bring them to one."
        )
    splits = {name: functools.partial(_read, builder, name, shape, config) for name in builder.info.splits}
    counts = {name: Split(split.num_examples) for name, split in builder.info.splits.items()}
    return DataSet(config.dataset, tuple(label.names), shape, splits, origin=Origin(builder.info.full_name, counts))


def _prepared(config: DataConfig, download: bool) -> Any:
    import tensorflow_datasets as tfds

    name, data_dir = config.dataset, config.data_dir or None
    try:
        with _nothing_imported_for_features():
            builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        names = ["digits", *tfds.list_builders(with_community_datasets=False)]
        near = difflib.get_close_matches(name.partition(":")[0], names, n=1)
        hint = f"did you mean {near[0]}?" if near else "TFDS's catalogue lists what there is."
        raise exits.CannotRun(
            f"--dataset={name} is neither digits, folder:PATH, synthetic:... nor a data set of TFDS; {hint}"
        ) from error
    if not builder.info.splits:
        where = builder.data_path
        if not download:
            raise exits.CannotRun(
                f"--dataset={name} is not prepared in {printable(str(where))}, where the run's configuration says it is; give"
                " --data_dir, a place where it is or may be."
            )
        print(f"{name} is not prepared in {where}; downloading it.", flush=True)
        try:
            builder.download_and_prepare()
        except Exception as error:  # TFDS passes on whatever its downloader, the server or a manual step raises
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise exits.CannotRun(
                f"--dataset={name} could not be downloaded and prepared in {where}: {reason}; if it is prepared"
                " elsewhere, point --data_dir there."
            ) from error
    return builder


@contextlib.contextmanager
def _nothing_imported_for_features() -> Iterator[None]:
    """Keeps TFDS from importing a module because a prepared folder's features.json names it: a folder holds data, not code."""
    from tensorflow_datasets.core.features.feature import FeatureConnector

    original = FeatureConnector.__dict__["cls_from_name"]

    def known(cls: type, name: str) -> type:
        if name not in cls._registered_features and not name.startswith("tensorflow_datasets."):  # type: ignore[attr-defined]
            raise exits.BadData(
                f"the data set's features.json names {printable(repr(name[:200]))}, a class of a module that is not TFDS's own;"
                " it was not imported. Prepare the data set with features of TFDS."
            )
        return original.__func__(cls, name)

    FeatureConnector.cls_from_name = classmethod(known)
    try:
        yield
    finally:
        FeatureConnector.cls_from_name = original


def _features(builder: Any) -> tuple[Any, Any]:
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise exits.CannotRun(
            f"--dataset={builder.name} is not an image classification set: it has the features {', '.join(features)},"
            " and Convoy needs an image and a class label of these names."
        )
    return image, label


def _read(builder: Any, split: str, shape: tuple[int, ...], config: DataConfig) -> InMemory:
    """The whole split as uint8, in TFDS's own order of files and examples."""
    import tensorflow as tf

    count = builder.info.splits[split].num_examples
    needed = count * int(np.prod(shape))
    if needed > config.cache_bytes:
        raise exits.CannotRun(
            f"the split {split} of {config.dataset} needs {needed / 2**30:.1f} GiB decoded, more than"
            f" --cache_bytes={config.cache_bytes}; raise it, lower --image_size, or export the images and use"
            " --dataset=folder:PATH, which is decoded as it is drawn."
        )
    images, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int32)

    def prepare(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = example["image"]
        return (resize_and_crop(image, config.image_size) if config.image_size else image), example["label"]

    stream = in_parallel(builder.as_dataset(split=split, shuffle_files=False), prepare).batch(1000)
    row = 0
    try:
        for some_images, some_labels in stream.as_numpy_iterator():
            images[row : row + len(some_labels)], labels[row : row + len(some_labels)] = some_images, some_labels
            row += len(some_labels)
    except (tf.errors.OpError, ValueError) as error:
        raise exits.BadData(
            f"the split {split} of {config.dataset} in {builder.data_path} cannot be read after example {row}:"
            f" {str(error).splitlines()[0]}; prepare it again."
        ) from error
    if row != count:
        raise exits.BadData(
            f"the split {split} of {config.dataset} holds {row} examples, but its description says {count}; prepare it"
            " again."
        )
    return InMemory(images, labels)
