"""Where a training step spends its time, by kinds of operations: Convoy on TensorFlow beside torch.

    python benchmarks/step_profile.py --torch_python=PYTHON    # of an environment that has torch, timm and psutil

The steps are those of step_torch.py. Convoy makes them with one thread between operations, so that times add up; it is a
little slower for that. Writes results/step_profile.csv, in which it replaces the rows of the network and precision.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rows import HERE, describe, replace
from step_torch import KEEPS_MEMORY, NETWORKS, convoy_step, torch_step, version_of

RESULTS = HERE / "results" / "step_profile.csv"
STEPS = 8
WARM_CALLS = 3
# Kinds of operations, by names of TensorFlow's, XLA's and torch's; the first that matches counts.
KINDS = {
    "convolutions": r"conv2d|convolution|matmul|einsum|reorder",
    "BatchNormalization": r"batch_?norm",
    "ReLU and additions": r"relu|threshold|clamp|^addn|^addv2|add_$|fusion",
    "pooling": r"pool",
    "optimizer": r"apply|sgd|l2loss",
    "copies and casts": r"cast|copy|transpose|slice|pad|pack|concat|split|stack|tile",
}


def convoy_seconds(network: str, precision: str) -> dict[str, float]:
    """Operation -> seconds of a step; "step" is all of it."""
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    steps = convoy_step("tensorflow", NETWORKS[network], precision, [])
    for _ in range(WARM_CALLS):
        steps()
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        begin = time.perf_counter()
        for _ in range(STEPS // 2):
            steps()
        seconds = {"step": (time.perf_counter() - begin) / STEPS}
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if ":" in name or re.fullmatch(r"\w+_fusion", name):  # XLA's loops have names of their own
                kernel = name.rpartition(":")[2]
                seconds[kernel] = seconds.get(kernel, 0) + event.duration_ps / 1e12 / STEPS
    return seconds


def torch_seconds(network: str, precision: str) -> dict[str, float]:
    """The same of torch."""
    from torch.profiler import ProfilerActivity, profile

    steps = torch_step("torch", NETWORKS[network], precision)
    for _ in range(WARM_CALLS):
        steps()
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        begin = time.perf_counter()
        for _ in range(STEPS // 2):
            steps()
        seconds = {"step": (time.perf_counter() - begin) / STEPS}
    for average in measured.key_averages():
        seconds[average.key.removeprefix("aten::")] = average.self_cpu_time_total / 1e6 / STEPS
    return seconds


def by_kind(seconds: dict[str, float]) -> dict[str, float]:
    """Kind -> seconds of a step, with what belongs to none of them as "other"."""
    step, kinds = seconds.pop("step"), Counter[str]()
    for name, own in seconds.items():
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), "")
        if kind:
            kinds[kind] += own
    return {**{kind: kinds[kind] for kind in KINDS}, "other": step - kinds.total(), "step": step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch_python", default=sys.executable, help="an interpreter whose environment has torch")
    parser.add_argument("--network", choices=NETWORKS, default="resnet50")
    parser.add_argument("--precisions", nargs="+", default=["float32", "mixed_bfloat16"])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--be", choices=["tensorflow", "torch"], help="be one side, of one precision")
    flags = parser.parse_args()
    if flags.be:
        measure = convoy_seconds if flags.be == "tensorflow" else torch_seconds
        writer = csv.writer(sys.stdout)
        writer.writerows([("kind", *row) for row in by_kind(measure(flags.network, *flags.precisions)).items()])
        return
    versions = {**describe(), "torch": version_of(flags.torch_python, "torch")}
    for precision in flags.precisions:
        milliseconds = {}
        for side, python, settings in (("tensorflow", sys.executable, {}), ("torch", flags.torch_python, KEEPS_MEMORY)):
            argv = [python, __file__, f"--be={side}", f"--network={flags.network}", f"--precisions={precision}"]
            done = subprocess.run(argv, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True, check=True)
            lines = [line for line in csv.reader(done.stdout.splitlines()) if line[:1] == ["kind"]]
            milliseconds[side] = {kind: round(1000 * float(seconds), 1) for _, kind, seconds in lines}
        for kind in milliseconds["torch"]:
            row = {
                **versions,
                "network": flags.network,
                "batch": NETWORKS[flags.network].batch,
                "precision": precision,
                "kind": kind,
                "convoy_ms": milliseconds["tensorflow"][kind],
                "torch_ms": milliseconds["torch"][kind],
            }
            print(precision, kind, row["convoy_ms"], row["torch_ms"], flush=True)
            replace(flags.output, row, "network", "precision", "kind")


if __name__ == "__main__":
    main()
