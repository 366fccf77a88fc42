"""TensorFlow Datasets: found prepared in --data_dir, or downloaded and prepared there."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from convoy import exits
from convoy.counting import counted
from convoy.data import memory
from convoy.data.arrays import Array
from convoy.data.config import DataConfig
from convoy.data.identity import Origin, Split
from convoy.data.images.resize import resize_and_crop
from convoy.data.parallel import in_parallel
from convoy.data.sources import prepared
from convoy.data.sources.examples import DataSet
from convoy.data.sources.in_memory import InMemory
from convoy.data.sources.layout import first_few
from convoy.data.sources.names import SOURCES
from convoy.options import shortened
from convoy.outside import printable
from convoy.table import near

_NO_LABEL = -1  # what TFDS writes where there is none, as in many test splits
_LOOKED_AT = 100  # examples of a split, to see whether it has labels


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
    counts = {name: Split(split.num_examples) for name, split in builder.info.splits.items()}
    names = [name for name in counts if name != "test" or config.test_split != "none"]
    unlabelled = [
        name for name in names if name != "train" and counts[name].examples and not _has_labels(builder, name)
    ]
    if unlabelled:
        print(
            f"Note: {first_few(unlabelled)} of {config.dataset} has no labels and is left out; `convoy predict` says what such"
            " images show."
        )
    splits = {name: functools.partial(_read, builder, name, shape, config) for name in names if name not in unlabelled}
    # Another order of the same examples.
    origin = Origin(builder.info.full_name + (" as array_record" if _is_array_record(builder) else ""), counts)
    return DataSet(config.dataset, tuple(label.names), shape, splits, origin=origin, unlabelled=unlabelled)


def _prepared(config: DataConfig, download: bool) -> Any:
    import tensorflow_datasets as tfds

    name, folder = config.dataset, prepared.check_files(config.dataset, config.data_dir)
    try:
        with prepared.nothing_imported():
            builder = tfds.builder(name, data_dir=config.data_dir or None)
        prepared.check_splits(builder)
    except exits.ConvoyError:
        raise
    except tfds.core.DatasetNotFoundError as error:
        known = [*SOURCES, *tfds.list_builders(with_community_datasets=False)]
        hint = near(name.partition(":")[0], known, "TFDS's catalogue lists what there is.")
        raise exits.CannotRun(
            f"--dataset={shortened(name)} is neither {', '.join(map(SOURCES.syntax, SOURCES))} nor a data set of TFDS; {hint}"
        ) from error
    except Exception as error:  # what is wrong with a name or a folder comes out of TFDS as anything
        place = printable(folder or config.data_dir or "TFDS's own folder")
        raise (exits.BadData if folder else exits.CannotRun)(
            f"--dataset={shortened(name)} in {place} cannot be opened: {_reason(error)}; prepare it again, or name another."
        ) from error
    if not builder.info.splits:
        where = builder.data_path
        if not download:
            raise exits.CannotRun(
                f"--dataset={name} is not prepared in {printable(str(where))}, and you did not begin this run here; to have it"
                f" downloaded give --dataset={name} or --data_dir, a place where it is or may be."
            )
        print(f"{name} is not prepared in {where}; downloading it.", flush=True)
        try:
            builder.download_and_prepare()
        except Exception as error:  # TFDS passes on whatever its downloader, the server or a manual step raises
            raise exits.CannotRun(
                f"--dataset={name} could not be downloaded and prepared in {where}: {_reason(error)}; if it is prepared"
                " elsewhere, point --data_dir there."
            ) from error
    return builder


def _features(builder: Any) -> tuple[Any, Any]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    features = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise exits.CannotRun(
            f"--dataset={builder.name} is not an image classification set: it has the features"
            f" {shortened(', '.join(features))}, and Convoy needs an image and a class label of these names."
        )
    if image.np_dtype != np.uint8:
        raise exits.CannotRun(
            f"--dataset={builder.name} has images of {np.dtype(image.np_dtype).name}, and Convoy reads uint8; export them as"
            " files."
        )
    prepared.check_features(builder, image, label)
    return image, label


def _read(builder: Any, split: str, shape: tuple[int, ...], config: DataConfig) -> InMemory:
    """The whole split as uint8, in TFDS's own order of files and examples."""

    count = builder.info.splits[split].num_examples
    needed = count * math.prod(shape)
    if needed > config.cache_bytes:
        raise exits.CannotRun(
            f"the split {split} of {config.dataset} needs {needed / 2**30:.1f} GiB decoded, more than"
            f" --cache_bytes={config.cache_bytes}; raise it, lower --image_size, or export the images and use"
            " --dataset=folder:PATH, which is decoded as it is drawn."
        )
    memory.check("cache_bytes", config.cache_bytes, f"the decoded images of the split {split}", needed)
    images, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int32)

    def prepare(example: dict[str, Array]) -> tuple[Array, Array]:
        image = example["image"]
        if config.image_size:
            image = resize_and_crop(image, config.view)
        return image, example["label"]

    row = 0
    try:
        stream = in_parallel(_examples(builder, split), prepare).batch(1000)
        for some_images, some_labels in stream.as_numpy_iterator():
            images[row : row + len(some_labels)], labels[row : row + len(some_labels)] = some_images, some_labels
            row += len(some_labels)
    except Exception as error:  # of TensorFlow, NumPy, or TFDS's own reader
        raise exits.BadData(
            f"the split {split} of {config.dataset} in {printable(str(builder.data_path))} cannot be read after example {row}:"
            f" {_reason(error)}; prepare it again."
        ) from error
    if row != count:
        raise exits.BadData(
            f"the split {split} of {config.dataset} holds {counted(row, 'example')}, but its description says {count}; prepare"
            " it again."
        )
    labelled = labels != _NO_LABEL
    if not labelled.all():
        missing = count - int(labelled.sum())
        print(
            f"Note: {missing:,} of the {count:,} examples of {split} of {config.dataset} have no label and are left out."
        )
        images, labels = images[labelled], labels[labelled]
    return InMemory(images, labels)


def _has_labels(builder: Any, split: str) -> bool:
    """Whether one of a split's first examples, which TFDS shuffles, has a label."""
    import tensorflow_datasets as tfds

    first = min(_LOOKED_AT, builder.info.splits[split].num_examples)
    with contextlib.suppress(Exception):  # whoever reads the split says why it cannot be read
        examples = _examples(builder, tfds.core.ReadInstruction(split, to=first, unit="abs"))
        labels = examples.map(lambda example: example["label"])
        return any(label != _NO_LABEL for label in labels.as_numpy_iterator())
    return True


def _is_array_record(builder: Any) -> bool:
    import tensorflow_datasets as tfds

    return builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD


def _examples(builder: Any, split: object) -> tf.data.Dataset:
    """The split's examples, decoded, in TFDS's own order; of array_record, of which it makes no tf.data, one after another."""
    import tensorflow_datasets as tfds

    if not _is_array_record(builder):
        return builder.as_dataset(split=split, shuffle_files=False)
    # As bytes: for NumPy, TFDS decodes images by another library.
    records = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    stream = tf.data.Dataset.from_generator(lambda: map(bytes, records), output_signature=tf.TensorSpec([], tf.string))
    return stream.map(builder.info.features.deserialize_example)


def _reason(error: Exception) -> str:
    """What an error of TFDS says first."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0][:300]).rstrip(".")
