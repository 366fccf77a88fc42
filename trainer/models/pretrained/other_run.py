"""The weights of another run of Convoy, for a second stage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from convoy.store import open_store
from convoy.trainer.checkpoints import select, weights
from convoy.trainer.models.pretrained.owners import Matched, Owner
from convoy.trainer.models.pretrained.sources import Source


def matched(source: Source, owners: Sequence[Owner]) -> tuple[Matched, str]:
    """The last checkpoint's weights, averaged where the run kept an average, and their sha256."""
    _, tensors, _ = select(open_store(source.root), "last")
    saved = weights(tensors)
    digest = hashlib.sha256()
    for name, tensor in sorted(saved.items()):
        digest.update(name.encode() + tensor.tobytes())
    paths = {variable.path for owner in owners for variable in owner.variables}
    values = {path: tensor for path, tensor in saved.items() if path in paths}
    unused = [path for path, tensor in saved.items() if path not in paths and tensor.dtype.kind == "f"]
    return Matched(values, unused), digest.hexdigest()
