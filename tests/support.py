"""Helpers of many tests: Convoy as a process, folders of images, the files of a run directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

REPOSITORY = Path(__file__).parent.parent
S = TypeVar("S", bound=socketserver.BaseServer)
DATA = Path(os.environ.get("CONVOY_TEST_DATA", REPOSITORY.parent / "shared")).absolute()

# A run that is over in a second or two, whose bits are the same every time.
QUICK = ["--dataset=digits", "--batch_size=64", "--duration=60st", "--checkpoint_every=20st", "--eval_every=20st",
         "--augment=article", "--seed=3", "--deterministic", "--noreport"]  # fmt: skip


class Outcome:
    """Exit code, stdout and stderr of a finished process."""

    def __init__(self, done: subprocess.CompletedProcess[str]):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def command(*argv: object) -> list[str]:
    """`convoy ...` by this interpreter, wherever its script is."""
    return [sys.executable, "-P", "-m", "convoy", *map(str, argv)]


def hear_hangups() -> None:
    """Before a program starts: SIGHUP ends it again, though the tests themselves may run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, **variables}


def write_images(root: Path, classes: tuple[str, ...], each: int, first: int = 0) -> None:
    from PIL import Image

    generator = np.random.default_rng(first)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(each):
            pixels = generator.integers(0, 120, (24, 20, 3), dtype=np.uint8) + np.uint8(100 * label)
            Image.fromarray(pixels).save(root / name / f"{index:03d}.{'png' if index % 2 else 'jpg'}")


def once_on_both(factory: pytest.TempPathFactory, program: Path) -> dict[str, dict[str, np.ndarray]]:
    """backend -> the arrays that `program FILE.npz` saved with that backend of Keras; both run at once, once for all tests."""

    def make(place: Path) -> None:
        processes = [
            subprocess.Popen(
                [sys.executable, "-P", program, place / f"{backend}.npz"],
                env=environment(KERAS_BACKEND=backend), stderr=subprocess.PIPE, text=True,
            )
            for backend in ("tensorflow", "jax")
        ]  # fmt: skip
        for process in processes:
            errors = process.communicate(timeout=150)[1]
            assert process.returncode == 0, errors

    folder = once(factory, program.stem, make)
    return {backend: dict(np.load(folder / f"{backend}.npz")) for backend in ("tensorflow", "jax")}


def final_tensors(run_dir: Path) -> dict[str, np.ndarray]:
    """Every tensor of the newest checkpoint, read with NumPy alone."""
    folder = max((run_dir / "checkpoints").iterdir())
    tensors = {}
    for file in folder.glob("*.npz"):
        with np.load(file) as members:
            tensors |= {f"{file.stem}/{name}": members[name] for name in members.files}
    return tensors


def assert_same_bits(run_dir: Path, other: Path) -> None:
    """Model, optimizer, averages and predictions of two finished runs are equal bit for bit."""
    ours, theirs = final_tensors(run_dir), final_tensors(other)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 5
    for name, value in ours.items():
        assert value.tobytes() == theirs[name].tobytes(), name
    if (other / "predictions.npz").exists():  # which runs of older versions do not write
        assert (run_dir / "predictions.npz").read_bytes() == (other / "predictions.npz").read_bytes()


def result_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "result.json").read_text())


def records_of(run_dir: Path) -> list[dict]:
    """metrics.jsonl without the fields that differ between any two runs."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "images_per_second")} for line in lines]


def events_of(run_dir: Path) -> list[dict]:
    # A line that is being written while we read has no end yet.
    lines = (run_dir / "events.jsonl").read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def free_ports(count: int) -> list[int]:
    """Distinct ports of this machine that nobody listens on."""
    import socket

    sockets = [socket.socket() for _ in range(count)]
    for unused in sockets:
        unused.bind(("127.0.0.1", 0))
    ports = [unused.getsockname()[1] for unused in sockets]
    for unused in sockets:
        unused.close()
    return ports


def cluster_variables(backend: str, processes: int) -> list[dict[str, str]]:
    """The variables of each process of a run on this machine."""
    ports = free_ports(processes)
    if backend == "jax":
        common = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{ports[0]}", "JAX_NUM_PROCESSES": str(processes)}
        return [{**common, "JAX_PROCESS_ID": str(index)} for index in range(processes)]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return [
        {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})}
        for index in range(processes)
    ]


def start_workers(
    cwd: Path, backend: str, processes: int, *argv: object, own: Mapping[int, Mapping[str, str]] | None = None
) -> list[subprocess.Popen[str]]:
    """`convoy train` in several processes that share a run; `own` are variables of single processes."""
    return [
        subprocess.Popen(
            command("train", f"--backend={backend}", *argv),
            cwd=cwd,
            env=environment(**variables, **(own or {}).get(index, {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, variables in enumerate(cluster_variables(backend, processes))
    ]


def run_workers(cwd: Path, backend: str, processes: int, *argv: object, code: int = 0) -> list[Outcome]:
    """The outcomes of all processes, each of which must end with `code`."""
    started = start_workers(cwd, backend, processes, *argv)
    outcomes = []
    for process in started:
        out, err = process.communicate(timeout=150)
        outcomes.append(Outcome(subprocess.CompletedProcess([], process.returncode, out, err)))
    assert [outcome.code for outcome in outcomes] == [code] * processes, outcomes
    return outcomes


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` filled in the first test process that needed it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    place = base / name
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            place.mkdir()
            make(place)
            (place / "made").touch()
    assert (place / "made").exists(), f"making {name} failed before"
    return place


@contextlib.contextmanager
def serving(server: S, serve: Callable[..., object], *args: object) -> Iterator[S]:
    """A server that answers in a thread, by `serve(*args)`, until the end."""
    thread = threading.Thread(target=serve, args=args)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
