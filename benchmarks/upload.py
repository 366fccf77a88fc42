"""Convoy's upload of a checkpoint beside google-cloud-storage's transfer_manager.upload_many: `python benchmarks/upload.py`.

192 MiB in files of 32 MiB, four at a time on both sides, into an emulator on this machine, in turn. Convoy's side writes and
reads checksums, state and manifest too. Writes results/upload.csv.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import statistics
import sys
import time

from rows import HERE, describe, write

sys.path.append(str(HERE.parent / "tests"))  # its emulator

ROUNDS = 5


def main() -> None:
    import numpy as np
    from google.cloud import storage
    from google.cloud.storage import transfer_manager

    from buckets import Emulator
    from convoy.store import open_store
    from convoy.trainer.checkpoints import Checkpoint, format
    from convoy.trainer.checkpoints.snapshot import Snapshot

    emulator = Emulator()
    emulator.create("bucket")
    os.environ["STORAGE_EMULATOR_HOST"] = emulator.host
    draw = np.random.default_rng(0).random
    tensors = {f"{kind}/{i}": draw((1 << 20), np.float32) for kind in ("model", "optimizer") for i in range(24)}
    snapshot = Snapshot({name: (value.shape, value.dtype) for name, value in tensors.items()})
    files = snapshot.write(tensors.items())
    size = sum(len(content) for content in files.values())
    store, bucket = open_store("gs://bucket/run"), storage.Client().bucket("bucket")
    speeds: dict[str, list[float]] = {"convoy": [], "upload_many": []}
    for number in range(ROUNDS + 1):  # the first warms both up
        begun = time.perf_counter()
        format.write(store, Checkpoint(number, 1), files, snapshot.tensors, {})
        speeds["convoy"].append(size / (time.perf_counter() - begun) / 2**20)
        pairs = [(io.BytesIO(content), bucket.blob(f"raw/{number}/{name}")) for name, content in files.items()]
        begun = time.perf_counter()
        transfer_manager.upload_many(pairs, worker_type=transfer_manager.THREAD, max_workers=4, raise_exception=True)
        speeds["upload_many"].append(size / (time.perf_counter() - begun) / 2**20)
        print({side: round(rates[-1]) for side, rates in speeds.items()}, flush=True)
        store.remove("checkpoints")
        for _, blob in pairs:
            blob.delete()
    emulator.stop()
    rows = [
        {
            **describe(),
            "side": side,
            "google_cloud_storage": importlib.metadata.version("google-cloud-storage"),
            "rounds": ROUNDS,
            "mib": round(size / 2**20),
            "files": len(files),
            "mib_per_second": round(statistics.median(rates[1:])),
            "least": round(min(rates[1:])),
            "most": round(max(rates[1:])),
        }
        for side, rates in speeds.items()
    ]
    write(HERE / "results" / "upload.csv", rows)


if __name__ == "__main__":
    main()
