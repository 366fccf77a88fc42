"""`convoy data pack`: reads the flags, starts the packing as a child, and answers for its exit code.

`python -m convoy.data.verbs.pack FLAGS` is the packing without its parent.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from convoy import exits, options, supervise
from convoy.bounds import whole
from convoy.data.config import MOST_PIXELS, DataConfig
from convoy.data.records.caches import copy_of, is_remote
from convoy.options import option

USAGE = """usage: convoy data pack --dataset=NAME --out=DIR [--flag=value ...]

Packs a data set into few large files. --dataset=records:DIR then stands for it: the same examples in the same order and the
same splits. The same command continues a packing that was stopped or killed."""


def _like(name: str) -> Any:
    """The same flag as `convoy train` has."""
    field = next(field for field in options.fields(DataConfig) if field.name == name)
    return dataclasses.field(default=field.default, metadata=field.metadata)


@dataclasses.dataclass(frozen=True)
class PackConfig:
    """What to pack, and where."""

    dataset: str = _like("dataset")
    data_dir: str = _like("data_dir")
    image_size: int = option(
        0,
        "pack the pixels of images resized and centre-cropped to this side in pixels (0: the pixels of small images of one"
        " size, and the files of others).",
        group="Data",
        within=whole(0, MOST_PIXELS),
    )
    cache_bytes: int = _like("cache_bytes")
    out: str = option("", "the directory to fill, or gs://BUCKET/PATH.", group="Packing")
    shard_bytes: int = option(128 << 20, "bytes of images in one file.", group="Packing", within=whole(1, 1 << 40))

    def __post_init__(self) -> None:
        options.check(self)
        if not self.out:
            raise exits.CannotRun("--out is missing; give the directory to pack into.")
        kind, _, rest = self.data.dataset.partition(":")
        if kind == "records":
            raise exits.CannotRun(f"--dataset={self.dataset} is packed already; give the data set that it was made of.")
        if kind == "folder" and self.root.resolve().is_relative_to(_expanded(rest).resolve()):
            raise exits.CannotRun(f"--out={self.out} lies within the folder that is packed; choose another place.")

    @property
    def data(self) -> DataConfig:
        """The source; CannotRun for an impossible one."""
        # No split is made of hashes here: files need not be read for them beforehand.
        return DataConfig(self.dataset, self.data_dir, "none", image_size=self.image_size, cache_bytes=self.cache_bytes)

    @property
    def root(self) -> Path:
        """Where it is packed: for a bucket, the copy that this machine will read."""
        return copy_of(self.out, "") if is_remote(self.out) else _expanded(self.out)


def _expanded(path: str) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - which leaves ~nobody as it is, where a Path raises


def main(argv: list[str]) -> int:
    if options.wants_help(argv):
        print(options.help_text(USAGE, PackConfig))
        return exits.OK
    _parse(argv)
    return supervise.run(supervise.module("convoy.data.verbs.pack", argv))


def child(argv: list[str]) -> int:
    supervise.follow_parent()
    config = _parse(argv)
    from convoy.data.records.mirror import send
    from convoy.data.records.packing import pack

    pack(config.data, config.root, config.shard_bytes)
    if is_remote(config.out):
        send(config.root, config.out)
    return exits.OK


def _parse(argv: list[str]) -> PackConfig:
    return PackConfig(**options.parse(argv, PackConfig))


if __name__ == "__main__":
    exits.call(lambda: child(sys.argv[1:]))
