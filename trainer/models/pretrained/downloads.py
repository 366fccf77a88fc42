"""The weights that Keras publishes for a network of keras.applications: from its cache, or downloaded into it."""

from __future__ import annotations

import contextlib
import hashlib
import sys

import keras

from convoy import exits
from convoy.data import memory
from convoy.outside import printable, read_file
from convoy.trainer.models.pretrained.imagenet import keras_cache
from convoy.trainer.models.pretrained.keras_files import FILES, URL


def weights(model: str) -> tuple[bytes, str]:
    """The file of --model=keras:NAME with its head for ImageNet, and where it lies.

    Raises:
      exits.CannotRun: it is not there and cannot be downloaded, or is another file than Keras published.
    """
    name, path, digest = FILES[model.partition(":")[2]]
    place = keras_cache() / name
    if not place.exists():
        _download(name, URL + path, digest)
    data = read_file(place, memory.size() // 4)
    # Not by get_file: it removes a file with another digest, also where no other can be had.
    if (
        digest
        and hashlib.new("md5" if len(digest) == 32 else "sha256", data, usedforsecurity=False).hexdigest() != digest
    ):
        raise exits.CannotRun(
            f"{place} is not what Keras published under this name: its digest is not {digest}; remove it, and it is"
            " downloaded again."
        )
    return data, str(place)


def _download(name: str, url: str, digest: str) -> None:
    place = keras_cache()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # its bar
            keras.utils.get_file(
                name, url, cache_dir=str(place.parent), cache_subdir=place.name, file_hash=digest or None
            )
    except Exception as error:  # Keras raises Exception itself for an address that does not answer
        why = printable(str(error).splitlines()[0])[:200]
        known = f" (its digest is {digest})" if digest else ""
        raise exits.CannotRun(
            f"--pretrained=imagenet needs {name}, which cannot be downloaded ({why}); download {url} elsewhere{known} and put"
            f" it in {place}."
        ) from error
