"""A run with two small checkpoints, and what a stranger makes of the newer one: its checksums stay right."""

from __future__ import annotations

import functools
import io
import json
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from convoy import exits
from convoy.store.local import LocalStore
from convoy.trainer.checkpoints import Checkpoint, CheckpointManager, format, select
from convoy.trainer.checkpoints.snapshot import Snapshot
from convoy.trainer.loop.progress import Progress
from convoy.trainer.verbs.checkpoints import CHECKPOINTS
from mutations import untouched

TENSORS = {
    "model/conv/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "model/norm/moving": np.ones(3, np.float16),
    "model/seed": np.array([1, 2], np.uint32),
    "model/nothing": np.zeros((0, 3)),
    "model/is_built": np.array([True, False]),
    "optimizer/step": np.array(40, np.int64),
}
FILE_BYTES = 100  # so that the model needs two files
KERNEL, REST, STEP = "model-00001-of-00002.npz", "model-00002-of-00002.npz", "optimizer.npz"


class _Memory(dict[str, bytes]):
    """A store in memory with the methods that format.write calls."""

    url = "memory"

    def put(self, name: str, data: Any) -> int:
        self[name] = bytes(data)
        return 0

    def put_if_absent(self, name: str, data: Any) -> bool:
        self.put(name, data)
        return True

    def flush(self) -> None: ...


@functools.cache
def _run() -> dict[str, bytes]:
    """The objects of a run as it left them."""
    store = _Memory({"config.json": b"{}", "config.flags": b"", "metrics.jsonl": b'{"step": 20}\n'})
    for step in (20, 40):
        snapshot = Snapshot({name: (value.shape, value.dtype) for name, value in TENSORS.items()}, FILE_BYTES)
        best = {"step": 20, "loss": 0.5, "accuracy": 0.25}
        progress = Progress(step, position=8 * step, best=best, lines=1, wait_seconds=0.5).to_dict()
        state = {"progress": progress, "examples": 9, "classes": ["a", "b"]}
        format.write(store, Checkpoint(step, 1), snapshot.write(TENSORS.items()), snapshot.tensors, state)
    return store


class Forgery:
    """The checkpoint of step 40 of a run in `root`, to be changed in memory, then written.

    `files` are its objects; `manifest` and `state` are documents as they should be. `write` keeps sizes and checksums right
    unless it is given the manifest's text.
    """

    def __init__(self, root: Path):
        self.root, self.store = root, LocalStore(str(root))
        self.folder = root / "checkpoints" / "00000040.1"
        for name, data in _run().items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        self._written: dict[str, bytes] = {}
        self.reset()

    def reset(self) -> None:
        prefix = "checkpoints/00000040.1/"
        self.files = {name.removeprefix(prefix): data for name, data in _run().items() if name.startswith(prefix)}
        self.manifest: dict[str, Any] = json.loads(self.files.pop("MANIFEST.json"))
        self.state: dict[str, Any] = json.loads(self.files["state.json"])

    def write(self, manifest: bytes | None = None) -> None:
        for name, data in self.files.items():
            if isinstance(entry := self.manifest["objects"].get(name), dict):
                entry |= {"bytes": len(data), "crc32c": f"{google_crc32c.value(data):08x}"}
        text = json.dumps(self.manifest).encode() if manifest is None else manifest
        for name, data in {**self.files, "MANIFEST.json": text}.items():
            if self._written.get(name) is not data:
                (self.folder / name).write_bytes(data)
                self._written[name] = data

    def members(self, file: str) -> list[tuple[str, bytes]]:
        with zipfile.ZipFile(io.BytesIO(self.files[file])) as archive:
            return [(info.filename, archive.read(info)) for info in archive.infolist()]


def npz(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    """A zip file of any members, with right checksums."""
    file = io.BytesIO()
    with (
        warnings.catch_warnings(action="ignore"),
        zipfile.ZipFile(file, "w", compression) as archive,
    ):  # of a name given twice
        archive.comment = comment
        for path, content in members:
            info = zipfile.ZipInfo(path)
            info.compress_type = compression
            archive.writestr(info, content)
    return file.getvalue()


def npy(descr: str, shape: str, numbers: bytes, fortran: str = "False", magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    """A tensor with a header of these literals."""
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return magic + struct.pack("<H", len(header)) + header + numbers


def refused(forgery: Forgery, capsys: pytest.CaptureFixture[str], words: str = "") -> int:
    """Asserts that every reader refuses the newer checkpoint in a sentence; returns the exit code of `copy` and `evaluate`.

    A run passes over the checkpoint, `verify` names it, and nothing is written: the place of the copy stays empty.
    """
    run_dir, top = forgery.root, forgery.root.parent.parent
    copied = top / "far" / "away" / "copy"
    copied.parent.mkdir(parents=True, exist_ok=True)
    capsys.readouterr()
    with untouched(top, copied):
        loaded = CheckpointManager(forgery.store, 1, 1).load_latest()
        assert loaded
        assert loaded[1]["progress"]["step"] == 20
        sentence = capsys.readouterr().err.removesuffix("\n")
        assert sentence.startswith("convoy: the checkpoint checkpoints/00000040.1 is refused: ")
        assert sentence.isprintable()
        assert words in sentence
        assert CHECKPOINTS(["list", f"--run_dir={run_dir}"]) == exits.OK
        assert CHECKPOINTS(["verify", f"--run_dir={run_dir}"]) == exits.BAD_DATA
        assert "40  attempt  1  damaged: " in capsys.readouterr().out
        with pytest.raises(exits.ConvoyError) as evaluated:
            select(forgery.store, "40")
        with pytest.raises(exits.ConvoyError) as copies:
            CHECKPOINTS(["copy", f"--run_dir={run_dir}", "--checkpoint=40", f"--to={copied}"])
        assert [path.name for path in copied.rglob("*")] in ([], [".lock"])
    assert words in str(copies.value)
    assert evaluated.value.code == copies.value.code
    return copies.value.code
