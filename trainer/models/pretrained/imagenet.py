"""The classes of ImageNet-1k, and the files in which Keras keeps weights that were trained on it. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from pathlib import Path

from convoy.outside import read_file

CLASSES = 1000
_LABELS = Path("datasets", "imagenet2012", "labels.txt")  # of TFDS: a WordNet id a line
_NAMES = "imagenet_class_index.json"  # of Keras, in its cache once something has asked for it


def class_names() -> tuple[tuple[str, ...], ...]:
    """The names of each class: its WordNet id, and its English name where Keras has downloaded these. Empty if unknown."""
    spec = importlib.util.find_spec("tensorflow_datasets")
    place = Path(str(spec.origin)).parent / _LABELS if spec and spec.origin else None
    if place is None or not place.is_file():
        return ()
    # Classes are numbered in the order of their ids.
    ids = sorted(place.read_text().split())
    if len(ids) != CLASSES:
        return ()
    english = dict[str, str]()
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
        index = json.loads(read_file(keras_cache() / _NAMES, 1 << 20))
        english = {str(wnid): str(name) for wnid, name in index.values()}
    return tuple((wnid, english[wnid]) if wnid in english else (wnid,) for wnid in ids)


def keras_cache() -> Path:
    """Where Keras keeps what it downloads: $KERAS_HOME/models, ~/.keras/models."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"
