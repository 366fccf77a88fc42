"""Data sets of TFDS that are still to be downloaded: whether that can be, asked without TFDS, which tries for minutes.

Imports nothing heavy.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.sources import servers
from convoy.options import shortened
from convoy.outside import printable

_NAME = re.compile(r"([A-Za-z]\w*)(/[\w.-]+)?(:[0-9.*]+)?(/[0-9.*]+)?")
_COMMUNITY = re.compile(r"[\w-]+:[A-Za-z]")  # NAMESPACE:NAME
_COMMUNITY_LIST = "https://storage.googleapis.com/tfds-data"
_MAX_BYTES = 1 << 20  # of a list of addresses


def check(config: DataConfig) -> None:
    """CannotRun for one that is not prepared while a server that it comes from does not answer."""
    if _COMMUNITY.match(config.dataset):
        if reason := servers.unreachable([_COMMUNITY_LIST]):
            raise exits.CannotRun(
                f"--dataset={shortened(config.dataset)} would be a data set of TFDS's community, whose list cannot be reached:"
                f" {reason}. Your own images are folder:PATH."
            )
        return
    match = _NAME.fullmatch(config.dataset)
    place = config.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    if not match or "://" in place or (Path(os.path.expanduser(place)) / match[1]).exists():  # noqa: PTH111
        return
    if reason := servers.unreachable(_addresses(match[1])):
        raise exits.CannotRun(
            f"--dataset={config.dataset} is not prepared in {printable(place)} and cannot be downloaded: {reason}; if it is"
            " prepared elsewhere, point --data_dir there."
        )


def _addresses(name: str) -> list[str]:
    """Those that TFDS's package lists for a data set of its own; none for another."""
    package = importlib.util.find_spec("tensorflow_datasets")
    if package is None or not package.origin:
        return []
    root = Path(package.origin).parent
    lists = [root / "url_checksums" / f"{name}.txt", *root.glob(f"*/{name}/checksums.tsv")]
    texts = [file.read_text() for file in lists if file.is_file() and file.stat().st_size <= _MAX_BYTES]
    return [line.split()[0] for text in texts for line in text.splitlines() if line.strip()]
