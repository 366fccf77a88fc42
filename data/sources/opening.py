"""Opens what --dataset names."""

from __future__ import annotations

import pkgutil

from convoy.data.config import DataConfig
from convoy.data.sources.examples import DataSet


def open_dataset(config: DataConfig, download: bool = True) -> DataSet:
    """Opens --dataset. Raises CannotRun for a name that is unknown, BadData for examples that cannot be used.

    Args:
      config: what to open, and where.
      download: whether a user named --dataset or --data_dir, so that what is not there may be downloaded.
    """
    source = config.dataset_spec.source
    open_source = pkgutil.resolve_name(source.target)
    return open_source(config, download) if source.downloads else open_source(config)
