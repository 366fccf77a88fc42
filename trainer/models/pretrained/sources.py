"""What --pretrained names: a file, a folder in timm's or KerasHub's form, another run, or Keras' own weights. Nothing heavy.

Whatever stands there may be a stranger's. Documents are parsed within bounds, and no code of theirs is run (docs/security.md).
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
from typing import Any

from convoy import exits, shapes
from convoy.bounds import real, whole
from convoy.data import memory
from convoy.options import shortened
from convoy.outside import name_in, parse_object, printable, read_file
from convoy.store import open_store

IMAGENET = "imagenet"
CONFIG = "config.json"
SUFFIXES = {".weights.h5": "hdf5", ".h5": "hdf5", ".hdf5": "hdf5", ".keras": "keras", ".safetensors": "safetensors"}
READABLE = (
    "a file (.safetensors, .weights.h5, .h5 or .keras), a folder in timm's form (config.json and model.safetensors), a preset"
    " folder of KerasHub, the run directory of another run, or imagenet for Keras' own weights"
)
_DOCUMENT_BYTES = 1 << 20  # of a config.json
_SIDE = whole(1, 1 << 13)
_TIMM = {
    "architecture": str,
    "num_classes?": whole(0, 1 << 20),
    "label_names?": ([str], None),
    "pretrained_cfg?": {
        "tag?": (str, None),
        "input_size?": [_SIDE],
        "interpolation?": str,
        "crop_pct?": (real(0.1, 1), None),
        "mean?": [float],
        "std?": [float],
        "classifier?": (str, None),
    },
}


@dataclasses.dataclass(frozen=True)
class Source:
    """Where weights lie, and what is known before they are read.

    Attributes:
      spec: as the flag has it.
      kind: run, imagenet, timm, preset, or of a single file hdf5, keras or safetensors.
      root: the folder or gs://BUCKET/PATH that files are read from.
      files: their names below the root; the first has the network, the others may be missing.
      config: of a timm folder or a preset, its config.json.
    """

    spec: str
    kind: str
    root: str = ""
    files: tuple[str, ...] = ()
    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    def read(self, name: str) -> bytes:
        """A file below the root. FileNotFoundError if there is none; BadData for one that this machine could not hold."""
        return read(self.root, name, memory.size() // 4)

    @property
    def place(self) -> str:
        """Where it lies, for a sentence."""
        return printable(posixpath.join(self.root, self.files[0]) if len(self.files) == 1 else self.root or self.spec)


def find(spec: str) -> Source:
    """What a --pretrained names; CannotRun, a sentence, where nothing stands that can be read."""
    if spec == IMAGENET:
        return Source(spec, IMAGENET)
    place = spec if spec.startswith("gs://") else os.path.expanduser(spec)  # noqa: PTH111 - leaves ~nobody as it is
    folder, _, name = place.rpartition("/")
    if kind := next((kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix)), ""):
        return Source(spec, kind, folder or ("/" if place.startswith("/") else "."), (name,))
    try:
        config = parse_object(read(place, CONFIG, _DOCUMENT_BYTES), posixpath.join(place, CONFIG))
    except (FileNotFoundError, NotADirectoryError):
        raise _refused(spec, f"nothing that can be read is there; give {READABLE}") from None
    if "architecture" in config:
        shapes.check(config, _TIMM, posixpath.join(place, CONFIG))
        return Source(spec, "timm", place, ("model.safetensors",), config)
    if "run_id" in config or "checkpoint_every" in config:
        return Source(spec, "run", place)
    if "registered_name" in config or "class_name" in config:
        return Source(spec, "preset", place, ("model.weights.h5", "task.weights.h5"), config)
    raise _refused(spec, f"its {CONFIG} is none that is known here; give {READABLE}")


def read(root: str, name: str, max_bytes: int) -> bytes:
    """A file below a folder or bucket that a person named. FileNotFoundError if there is none, BadData for a larger one."""
    if root.startswith("gs://"):
        return open_store(root).get(name_in(name, root), max_bytes=max_bytes)
    try:
        return read_file(os.path.join(root, name), max_bytes)  # noqa: PTH118 - a link there was set by this person
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(name) from None
    except OSError as error:
        raise exits.CannotRun(
            f"cannot read {printable(os.path.join(root, name))}: {exits.reason(error)}; make it readable."  # noqa: PTH118
        ) from error


def _refused(spec: str, why: str) -> exits.CannotRun:
    return exits.CannotRun(f"--pretrained={shortened(spec)}: {why}.")
