"""Convoy on the NVIDIA GPUs of this machine: `make gpu-check`. Written blind: nobody has run it on a GPU yet.

Every part is a process of its own, on one GPU or on all visible ones, on TensorFlow and, if installed for GPUs, JAX:

- steps: `convoy train` on synthetic images; images and steps per second (without the first loop), input wait and MFU.
  Input wait, from result.json, is the fraction of that time in which the devices waited for a batch; at 0, reading
  was hidden behind computing. It does not count copies to the device that TensorFlow makes within the step.
  MFU = 6 * multiply-adds of the forward pass * images per second / peak. A multiply-add is two operations, and the backward
  pass costs twice the forward pass. The peak is the published dense one. For float32 it is that of TF32 where the GPU has
  it, because both engines then multiply in TF32. For a GPU that is not in PEAKS, MFU is unknown. (XLA counts 2 % less for
  resnet50 at 224 pixels: nothing for borders and for the images' gradient.)
- reduction: the collectives of the compiled loop, the gradient in one, and a line of NCCL_DEBUG=INFO that names the carrier.
- equality: 20 steps on all GPUs end as on one, in float64 with --deterministic; so does a run killed on all and continued
  on one. Model and flags are those of tests/engines/test_equality.py.

A part that cannot be run here is skipped and says why. One row for the whole is appended to results/gpu_check.csv.
`--devices=cpu:2` rehearses all of it without a GPU, small, and writes no row.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rows import HERE, describe, write

from convoy import entry, exits

BACKENDS = ("tensorflow", "jax")
PRECISIONS = ("float32", "mixed_bfloat16")
BLIND = "Written without a GPU at hand: what this prints about one has not been checked by anybody yet."
NO_GPU = (
    "neither TensorFlow nor JAX sees an NVIDIA GPU here; install a driver and `.venv/bin/pip install 'tensorflow[and-cuda]'"
    " 'jax[cuda12]'` in the versions of requirements.lock, or rehearse with --devices=cpu:2."
)
SECONDS = 1200  # the time limit of a process

# Name as the driver has it -> published dense TFLOP/s in float32 (TF32 from Ampere on) and bfloat16, from NVIDIA's data sheets.
PEAKS: dict[str, tuple[float, float | None]] = {
    r"Tesla V100-SXM2-\d\dGB": (15.7, None),
    r"(Tesla|NVIDIA) T4": (8.1, None),
    r"(NVIDIA )?A100(-SXM4|-PCIE)?[- ]\d\dGB( PCIe)?": (156, 312),
    r"NVIDIA A30": (82, 165),
    r"NVIDIA A10": (62.5, 125),
    r"NVIDIA L4": (60, 121),
    r"NVIDIA L40S": (183, 362),
    r"NVIDIA GeForce RTX 3090": (35.6, 71),
    r"NVIDIA GeForce RTX 4090": (82.6, 165.2),
    r"NVIDIA H100 PCIe": (378, 756),
    r"NVIDIA H[12]00 NVL": (417.5, 835),
    r"NVIDIA (H100 80GB HBM3|H200)": (494.7, 989.4),
}


def peak(name: str, precision: str) -> float | None:
    """FLOP/s of one GPU; None where no published figure is known."""
    for pattern, peaks in PEAKS.items():
        if re.fullmatch(pattern, name):
            tera = peaks[PRECISIONS.index(precision)]
            return tera and tera * 1e12
    return None


def driver() -> str:
    """The version of NVIDIA's driver, if it can be asked."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition("\n")[0]


def suite() -> Any:
    """tests/engines/test_equality.py."""
    for folder in ("tests", "tests/engines"):
        if (path := str(HERE.parent / folder)) not in sys.path:
            sys.path.append(path)
    return importlib.import_module("test_equality")


def run(argv: list[Any], cwd: Path, code: int = 0, **variables: str) -> str:
    """All that a process wrote; RuntimeError with its last line if it does not end with `code`."""
    command, environment = [sys.executable, *map(str, argv)], {**os.environ, **variables}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode != code:
        last = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise RuntimeError(f"exit code {done.returncode}, not {code}: {last}")
    return done.stdout + "\n" + done.stderr


def probe(*argv: object, **variables: Any) -> tuple[dict[str, Any], str]:
    """The answer of gpu_probe.py, and all that it wrote."""
    text = run([HERE / "gpu_probe.py", *argv], HERE, **variables)
    return json.loads(next(line for line in reversed(text.splitlines()) if line.startswith("{"))), text


def train(flags: list[str], cwd: Path, **options: Any) -> None:
    """`convoy train` with these flags."""
    run(["-P", "-m", "convoy", "train", *flags], cwd, **options)


@dataclasses.dataclass
class Check:
    """The parts, each a method that returns what it found as a text."""

    flags: argparse.Namespace
    kind: str  # gpu, or cpu in a rehearsal
    counts: dict[str, int]  # how many devices a backend sees
    name: str  # of a device
    multiplications: int  # of one image, forward
    folder: Path

    def parts(self) -> Iterator[tuple[str, str, bool, Callable[[], str]]]:
        """(name, backend, whether it needs several devices, function)."""
        for backend in BACKENDS:
            for several, precision in itertools.product((False, True), PRECISIONS):
                # XLA is a choice on one device of TensorFlow only.
                for xla in ("off", "on") if backend == "tensorflow" and not several else ("auto",):
                    name = f"{backend}, {'all' if several else 'one'}, {precision}"
                    steps = functools.partial(self.steps, backend, several, precision, xla)
                    yield name + (f", xla {xla}" if xla != "auto" else ""), backend, several, steps
            yield f"{backend}, reduction", backend, True, functools.partial(self.reduction, backend)
            yield f"{backend}, all end as one", backend, True, functools.partial(self.all_as_one, backend)
            yield f"{backend}, killed, continued on one", backend, False, functools.partial(self.continued, backend)

    def outcome(self, backend: str, several: bool, function: Callable[[], str]) -> str:
        if importlib.util.find_spec(backend) is None:
            return f"skipped: {backend} is not installed"
        if not self.counts[backend]:
            return f"skipped: {backend} sees no GPU"
        if several and self.counts[backend] == 1:
            return "skipped: there is one device only"
        try:
            return function()
        except subprocess.TimeoutExpired:
            return f"failed: no end after {SECONDS} s"
        except Exception as error:  # the other parts have something to say all the same
            return f"failed: {str(error) or type(error).__name__}".splitlines()[0]

    def steps(self, backend: str, several: bool, precision: str, xla: str) -> str:
        flags, count = self.flags, self.counts[backend] if several else 1
        run_dir = self.folder / f"{backend}-{count}-{precision}-{xla}"
        shape = f"{flags.pixels}x{flags.pixels}x3:1000:{4 * flags.batch * count}"
        argv = [f"--dataset=synthetic:{shape}", "--eval_split=none", f"--model={flags.model}", "--optimizer=sgd",
                f"--batch_size={flags.batch * count}", f"--duration={flags.steps}st", f"--eval_every={flags.steps}st",
                f"--checkpoint_every={flags.steps}st", f"--backend={backend}", f"--devices={self.kind}:{count}",
                f"--precision={precision}", f"--xla={xla}", f"--run_dir={run_dir}"]  # fmt: skip
        train(argv, self.folder)
        measured, limit = json.loads((run_dir / "result.json").read_text())["train"], peak(self.name, precision)
        shutil.rmtree(run_dir)  # its checkpoint has hundreds of megabytes
        images, wait = measured["images_per_second"], measured["input_wait_fraction"]
        mfu = f"{6 * self.multiplications * images / (limit * count):.1%}" if limit else "unknown"
        return f"{images:.1f} images/s, {1000 / measured['step_milliseconds']:.2f} steps/s, input wait {wait:.1%}, MFU {mfu}"

    def reduction(self, backend: str) -> str:
        count = self.counts[backend]
        answer, text = probe("reductions", backend, f"{self.kind}:{count}", NCCL_DEBUG="INFO")
        operations = ", ".join(f"{number:g} {name}" for name, number in answer.items()) or "nothing"
        if sum(answer.values()) != 1:
            raise RuntimeError(f"{operations} in a step, where one reduction should be")
        lines = [line.strip() for line in text.splitlines() if "NCCL" in line and f"nranks {count} " in line]
        joined = next((line for line in lines if "Init COMPLETE" in line), "")
        if self.kind == "gpu" and not (joined and (backend == "jax" or "nccl" in operations.lower())):
            raise RuntimeError(f"{operations} in a step, but not by NCCL, whose log says {joined or 'nothing'}")
        return f"{operations} in a step; {joined or 'no NCCL on a CPU'}"

    def all_as_one(self, backend: str) -> str:
        count = self._sharing(backend)
        return self._compare(backend, self._train(backend, "all", count)) + f" ({count} devices)"

    def continued(self, backend: str) -> str:
        count = self._sharing(backend)
        self._train(backend, "moved", count, "--steps_per_loop=5", code=exits.TRY_AGAIN, CONVOY_CHAOS="kill:between@15")
        place = self._train(backend, "moved", 1)
        if '"event": "restored"' not in (place / "run" / "events.jsonl").read_text():
            raise RuntimeError("it began anew instead of going on from its checkpoint")
        return self._compare(backend, place) + f" (killed at step 15 on {count})"

    def _sharing(self, backend: str) -> int:
        """How many devices can share the 64 examples, in two parts, of that model's batch: a power of two."""
        return min(1 << (self.counts[backend].bit_length() - 1), 32)

    def _train(self, backend: str, name: str, devices: int, *more: str, **options: Any) -> Path:
        """20 steps of the suite's own case in a place of their own."""
        equality, place = suite(), self.folder / f"{backend}-{name}"
        place.mkdir(exist_ok=True)
        (place / "mine.py").write_text(equality.MODEL)
        argv = [*equality.FLAGS, "--duration=20st", "--eval_every=10st", "--checkpoint_every=10st", "--run_dir=run"]
        train([*argv, f"--backend={backend}", f"--devices={self.kind}:{devices}", *more], place, **options)
        return place

    def _compare(self, backend: str, place: Path) -> str:
        single = self.folder / f"{backend}-single"
        suite().assert_equal(place, single if single.exists() else self._train(backend, "single", 1))
        return "equal"


def append(path: Path, row: dict[str, Any]) -> None:
    """Adds one row to a table whose columns may have been others before."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    columns = dict.fromkeys([*(rows[0] if rows else {}), *row], "")
    write(path, [{**columns, **values} for values in (*rows, row)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--devices", default="gpu", help="cpu:N rehearses on N logical devices, small; --batch is that of one device"
    )
    rehearsal = parser.parse_known_args()[0].devices.startswith("cpu")
    small = {"model": "article_cnn", "pixels": 16, "batch": 8, "steps": 30}
    defaults = small if rehearsal else {"model": "resnet50", "pixels": 224, "batch": 64, "steps": 100}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    flags = parser.parse_args()

    print(BLIND, flush=True)
    logical: dict[str, Any] = {"count": int(flags.devices.partition(":")[2] or 0), "name": "CPU"}
    seen = {backend: logical if rehearsal else probe("gpus", backend)[0] for backend in BACKENDS}
    counts = {backend: devices["count"] for backend, devices in seen.items()}
    if not any(counts.values()):
        raise exits.CannotRun(NO_GPU)
    device = next(devices["name"] for devices in seen.values() if devices["count"])
    row: dict[str, Any] = {
        **describe(),
        "driver": driver(),
        "device": device,
        **{f"{backend}_devices": counts[backend] for backend in BACKENDS},
        **{flag: getattr(flags, flag) for flag in defaults},
    }
    print(", ".join(f"{column} {value}" for column, value in row.items()), flush=True)
    # Without a GPU: a process that needs none should not take the memory of one.
    work, _ = probe("multiplications", flags.model, flags.pixels, CUDA_VISIBLE_DEVICES="")
    with tempfile.TemporaryDirectory() as folder:
        check = Check(flags, "cpu" if rehearsal else "gpu", counts, device, work["multiplications"], Path(folder))
        for part, backend, several, function in check.parts():
            row[part] = check.outcome(backend, several, function)
            print(f"{part:<42} {row[part]}", flush=True)
        append(Path(folder) / "rehearsal.csv" if rehearsal else HERE / "results" / "gpu_check.csv", row)
    return exits.BUG if any(str(value).startswith("failed") for value in row.values()) else exits.OK


if __name__ == "__main__":
    entry.call(main)
