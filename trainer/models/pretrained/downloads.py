"""The weights that Keras publishes for a network of keras.applications: from its cache, or downloaded into it."""

from __future__ import annotations


def weights(name: str) -> tuple[bytes, str]:
    """The file of --model=keras:NAME with its head for ImageNet, and where it lies."""
    raise NotImplementedError
