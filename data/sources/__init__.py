"""Data sets by name. Each source opens one kind and returns a DataSet."""

from __future__ import annotations

from convoy.data.config import DataConfig
from convoy.data.sources.examples import DataSet


def open_dataset(config: DataConfig, download: bool = True) -> DataSet:
    """Opens --dataset. Raises CannotRun for a name that is none, BadData for examples that cannot be used.

    Args:
      config: what to open, and where.
      download: whether --data_dir is a place that this user named, where TFDS may prepare what is not there.
    """
    kind, _, rest = config.dataset.partition(":")
    if config.dataset == "digits":
        from convoy.data.sources.digits import open_digits

        return open_digits(config)
    if kind == "synthetic":
        from convoy.data.sources.synthetic import open_synthetic

        return open_synthetic(config)
    if kind == "folder":
        from convoy.data.sources.folder import open_folder

        return open_folder(rest, config)
    if kind == "records":
        from convoy.data.sources.records import open_records

        return open_records(rest, config)
    from convoy.data.sources.tfds import open_tfds

    return open_tfds(config, download)
