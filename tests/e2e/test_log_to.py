"""--log_to with the services' own packages: a run that is killed, stopped and continued is one record with each step once."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import QUICK, assert_same_bits, command, environment, free_ports, records_of, result_of

pytestmark = pytest.mark.thorough

# Long enough to be killed after a service has opened, which takes seconds.
LONG = ["--dataset=digits", "--batch_size=64", "--duration=6000st", "--eval_every=100st", "--checkpoint_every=400st",
        "--seed=3", "--noreport"]  # fmt: skip
SERVICES = ["mlflow", "wandb", "trackio"]
Points = list[tuple[str, int]]


def variables(service: str, place: Path) -> dict[str, str]:
    """Where a service keeps a run on this machine."""
    return {
        "mlflow": {"MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db"},
        "wandb": {"WANDB_MODE": "offline", "WANDB_DIR": str(place)},
        "trackio": {"TRACKIO_DIR": str(place / "trackio")},
    }[service]


def mlflow_points(place: Path) -> Points:
    with contextlib.closing(sqlite3.connect(place / "mlflow.db")) as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)
        return database.execute("select key, step from metrics").fetchall()


def wandb_points(place: Path) -> Points:
    from wandb.proto.wandb_internal_pb2 import Record

    from convoy.trainer.loggers import wandb_files

    points: Points = []
    files = sorted(place.glob("wandb/offline-run-*/run-*.wandb"))
    assert len({file.name for file in files}) <= 1, "one run"
    for file in files:
        for text in wandb_files.records(file.read_bytes()):
            record = Record.FromString(text)
            row = {item.nested_key[0] if item.nested_key else item.key: item.value_json for item in record.history.item}
            points += [(name, int(row["_step"])) for name in row if not name.startswith("_")]
            for item in record.summary.update:
                name = item.nested_key[0] if item.nested_key else item.key
                points += [(name, 0)] if name.startswith("result/") else []
    return points


def trackio_points(place: Path) -> Points:
    if not (place / "trackio" / "convoy.db").exists():  # it is made with the first row
        return []
    with contextlib.closing(sqlite3.connect(place / "trackio" / "convoy.db")) as database:
        rows = database.execute("select run_id, run_name, step, metrics from metrics").fetchall()
    assert len({row[:2] for row in rows}) <= 1, "one run"
    return [(name, step) for *_, step, metrics in rows for name in json.loads(metrics)]


READ: dict[str, Callable[[Path], Points]] = {
    "mlflow": mlflow_points,
    "wandb": wandb_points,
    "trackio": trackio_points,
}


def written(run_dir: Path) -> Points:
    """What metrics.jsonl has."""
    context = {"step", "epoch", "examples", "split"}
    return [
        (f"{record['split']}/{name}", record["step"])
        for record in records_of(run_dir)
        for name in record
        if name not in context and record[name] is not None
    ]


@contextlib.contextmanager
def training(service: str, run_dir: Path, place: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command("train", *LONG, f"--log_to={service}", f"--run_dir={run_dir}"),
        cwd=place, env=environment(**variables(service, place)), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until_it_logs(service: str, process: subprocess.Popen[str], place: Path) -> None:
    """Returns when the service has steps of this attempt; for wandb, which writes late, when it could have."""
    assert process.stdout
    for line in process.stdout:
        assert "Note: --log_to" not in line
        if f"logs to {service}" in line:
            break
    known = 0 if service == "wandb" else len(READ[service](place))
    for line in process.stdout:
        if service == "wandb" and "step" in line:
            known += 1
            if known == 8:
                return
        if service != "wandb" and len(READ[service](place)) > known + 12:
            return
    raise AssertionError("the run was over before it could be killed")


@pytest.mark.parametrize("service", SERVICES)
def test_a_run_that_is_killed_and_stopped_logs_each_step_once(service, tmp_path):
    pytest.importorskip(service, reason=f"pip install 'keras-convoy[{service}]'")
    run_dir = tmp_path / "run"
    for sent in (signal.SIGKILL, signal.SIGTERM):
        with training(service, run_dir, tmp_path) as process:
            until_it_logs(service, process, tmp_path)
            child = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
            os.kill(int(child.split()[0]), sent)
            process.communicate(timeout=60)
            assert process.returncode == 42
    with training(service, run_dir, tmp_path) as process:
        out = process.communicate(timeout=150)[0]
        assert process.returncode == 0, out
    assert "Note: --log_to" not in out
    points = collections.Counter(READ[service](tmp_path))
    # images_per_second is null in no record here, so that both have the same names.
    steps = {point: count for point, count in points.items() if not point[0].startswith("result/")}
    speed = collections.Counter(("train/images_per_second", step) for step in range(100, 6001, 100))
    assert steps == collections.Counter(written(run_dir)) + speed
    figures = {name for name, _ in points if name.startswith("result/")}
    assert {"result/accuracy", "result/loss", "result/best_step", "result/wall_seconds"} <= figures
    assert result_of(run_dir)["attempts"] == 3


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_not_there_leaves_exit_code_and_bits_alone(service, convoy, undisturbed, tmp_path):
    pytest.importorskip(service, reason=f"pip install 'keras-convoy[{service}]'")
    nowhere, file = f"http://127.0.0.1:{free_ports(1)[0]}", tmp_path / "file"
    file.touch()
    broken = {
        "mlflow": {"MLFLOW_TRACKING_URI": nowhere, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
        "wandb": {"WANDB_MODE": "online", "WANDB_API_KEY": "", "HOME": str(tmp_path), "NETRC": str(file)},
        "trackio": {"TRACKIO_DIR": str(file / "below")},
    }[service]
    began = time.monotonic()
    outcome = convoy("train", *QUICK, f"--log_to={service}", f"--run_dir={tmp_path / 'run'}", **broken)
    assert outcome.code == 0, outcome
    assert outcome.out.count(f"Note: --log_to={service} gets nothing more of this attempt") == 1, outcome
    assert time.monotonic() - began < 100
    assert_same_bits(tmp_path / "run", undisturbed)
    assert records_of(tmp_path / "run") == records_of(undisturbed)
