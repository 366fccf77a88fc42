"""The weights of another run of Convoy, for a second stage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from convoy.store import open_store
from convoy.trainer.checkpoints import select
from convoy.trainer.models.pretrained.owners import Matched, Owner
from convoy.trainer.models.pretrained.sources import Source


def matched(source: Source, owners: Sequence[Owner]) -> tuple[Matched, str]:
    """The last checkpoint's weights, averaged where the run kept an average, and their sha256."""
    _, tensors, _ = select(open_store(source.root), "last")
    weights = {name.removeprefix("model/"): tensor for name, tensor in tensors.items() if name.startswith("model/")}
    weights |= {name.removeprefix("ema/"): tensor for name, tensor in tensors.items() if name.startswith("ema/")}
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode() + tensor.tobytes())
    paths = {variable.path for owner in owners for variable in owner.variables}
    values = {path: tensor for path, tensor in weights.items() if path in paths}
    unused = [path for path, tensor in weights.items() if path not in paths and tensor.dtype.kind == "f"]
    return Matched(values, unused), digest.hexdigest()
