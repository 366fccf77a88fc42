"""`convoy data pack`: its flags. records/packing.py packs.

`python -m convoy.data.verbs.pack FLAGS` is the packing without its parent.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from convoy import exits, imports, options
from convoy.bounds import whole
from convoy.data.config import DataConfig
from convoy.data.records.caches import copy_of, is_remote
from convoy.data.sources import places
from convoy.data.sources.arguments import MAX_SIDE
from convoy.options import option
from convoy.verbs import ChildVerb

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
    group: str = _like("group")
    image_size: int = option(
        0,
        "pack the pixels of images resized and centre-cropped to this side in pixels (0: the pixels of small images of one"
        " size, and the files of others).",
        group="Data",
        within=whole(0, MAX_SIDE),
    )
    fit: str = _like("fit")
    bit_depth: int = _like("bit_depth")
    cache_bytes: int = _like("cache_bytes")
    out: str = option("", "the directory to fill, or gs://BUCKET/PATH.", group="Packing")
    shard_bytes: int = option(128 << 20, "bytes of images in one file.", group="Packing", within=whole(1, 1 << 40))

    def __post_init__(self) -> None:
        options.check(self)
        if not self.out:
            raise exits.CannotRun("--out is missing; give the directory to pack into.")
        spec = self.data.dataset_spec
        if spec.source.is_packed:
            raise exits.CannotRun(f"--dataset={self.dataset} is packed already; give the data set that it was made of.")
        if spec.source.has_place and self.root.resolve().is_relative_to(_expanded(str(spec.value)).resolve()):
            raise exits.CannotRun(f"--out={self.out} lies within the folder that is packed; choose another place.")

    @property
    def data(self) -> DataConfig:
        """The source; CannotRun for an impossible one."""
        # No split is made of hashes here: files need not be read for them beforehand.
        own = {
            field.name: getattr(self, field.name) for field in options.fields(DataConfig) if hasattr(self, field.name)
        }
        return DataConfig(**own, eval_split="none")

    @property
    def root(self) -> Path:
        """Where it is packed: for a bucket, a place for what has not been sent."""
        return copy_of(self.out, "") / ".packing" if is_remote(self.out) else _expanded(self.out)


def _expanded(path: str) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - which leaves ~nobody as it is, where a Path raises


def _parse(argv: list[str]) -> PackConfig:
    return PackConfig(**options.parse(argv, PackConfig))


def _work(config: PackConfig) -> None:
    places.check(config.data)
    imports.tensorflow_and_keras()
    from convoy.data.records.packing import pack

    pack(config.data, config.root, config.shard_bytes, config.out if is_remote(config.out) else "")


VERB = ChildVerb(USAGE, (PackConfig,), _parse, _work, module="convoy.data.verbs.pack")

if __name__ == "__main__":
    VERB.child()
