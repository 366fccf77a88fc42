"""Kills a run over and over in a bucket whose storage fails all the time, and checks its end.

`make test` has four kills of it (tests/e2e/test_bucket.py), `make soak` fifty, and leaves its record in benchmarks/results.
"""

from __future__ import annotations

import csv
import datetime
import json
import os
import random
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from buckets import Emulator, faulty
from convoy.store import open_store
from support import REPOSITORY, command

RESULTS = REPOSITORY / "benchmarks" / "results" / "soak.csv"
PHASES = ("step", "evaluation", "snapshot", "upload", "manifest", "restore", "removal")
FLAGS = ["--dataset=digits", "--batch_size=64", "--augment=article", "--seed=3", "--deterministic", "--ema=0.9",
         "--steps_per_loop=3", "--keep=2"]  # fmt: skip


class Kill(NamedTuple):
    """A moment for SIGKILL, in the words of convoy.chaos; "" leaves the attempt alone."""

    phase: str
    step: int
    delay: int = 0  # milliseconds

    @property
    def chaos(self) -> str:
        step = 0 if self.phase == "restore" else self.step  # which comes before it is known
        phase = "between" if self.phase == "random" else self.phase
        return f"kill:{phase}@{step}+{self.delay}" if phase else ""


class Found(NamedTuple):
    """The counts of a soak."""

    kills: Counter[str]  # by phase; "random" for those that chose no phase
    other_ends: int  # attempts that ended with 42 by themselves, since the storage was away too long
    attempts: int
    refused: int  # damaged checkpoints that were not used


def plan(forced: int, at_random: int, steps: int, every: int, generator: random.Random) -> list[Kill]:
    """`forced` kills in each phase and some at random, spread over the run; those in later steps come later."""
    kills = []
    for phase in PHASES:
        for number in range(forced):
            step = (number + 1) * steps // (forced + 1)
            # A boundary, where something is saved, evaluated and, once there are more than two, removed.
            boundary = max(step // every, 3 if phase == "removal" else 1) * every
            kills.append(Kill(phase, boundary, generator.randrange(100) if phase == "restore" else 0))
    # At random, but not so late that the run gets past the kills that are due.
    kills += [Kill("random", generator.randrange(steps * 6 // 7), generator.randrange(60)) for _ in range(at_random)]
    return sorted(kills, key=lambda kill: (kill.step, generator.random()))


def run(place: Path, kills: list[Kill], steps: int, every: int, seed: int, rate: float, verbose: bool = False) -> Found:
    """Trains in a bucket behind a proxy that makes faults at a rate, is killed as planned, and ends like an undisturbed run.

    Raises:
      AssertionError: an announced checkpoint is missing, or the end is another one.
    """
    flags = [*FLAGS, f"--duration={steps}st", f"--checkpoint_every={every}st", f"--eval_every={2 * every}st"]
    undisturbed = place / "undisturbed"
    subprocess.run(
        command("train", *flags, "--keep=1000", f"--run_dir={undisturbed}"), check=True, stdout=subprocess.DEVNULL
    )
    with Emulator() as emulator, faulty(emulator.host, f"--seed={seed}", f"--rate={rate}") as url:
        emulator.create("bucket")
        # To look at what is there past the faults.
        os.environ["STORAGE_EMULATOR_HOST"] = emulator.host
        store = open_store("gs://bucket/run")
        killed: Counter[str] = Counter()
        other = attempts = refused = 0
        for kill in [*kills, Kill("", 0)]:
            while True:
                attempts += 1
                outcome = _attempt(kill, flags, url)
                refused += outcome.stderr.count(" is refused: ")
                _nothing_announced_is_missing(store, open_store(str(undisturbed)))
                if verbose:
                    print(kill, outcome.returncode, outcome.stdout, outcome.stderr, flush=True)
                if "SIGKILL" in outcome.stderr:
                    killed[kill.phase] += 1
                elif outcome.returncode == 42:
                    other += 1
                    assert other < 3 * len(kills) + 10, outcome.stderr
                    continue  # the storage was away; the kill is still due
                assert outcome.returncode == (0 if "SIGKILL" not in outcome.stderr else 42), outcome.stderr
                break
        assert outcome.returncode == 0, outcome.stderr
        assert killed == Counter(kill.phase for kill in kills), "the run was over before a kill was due"
        _same_end(store, undisturbed)
    return Found(killed, other, attempts, refused)


def _attempt(kill: Kill, flags: list[str], host: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "STORAGE_EMULATOR_HOST": host, "CONVOY_WRITER": "soak", "CONVOY_CHAOS": kill.chaos}
    return subprocess.run(
        command("train", *flags, "--run_dir=gs://bucket/run"), env=env, capture_output=True, text=True, check=False
    )


def _nothing_announced_is_missing(store, undisturbed) -> None:
    """Asserts that the newest announced checkpoint or a newer one is complete, and that all have the right bits."""
    from convoy.trainer.checkpoints import format
    from convoy.trainer.outputs.records import read_events

    announced = [event["step"] for event in read_events(store) if event["event"] == "saved"]
    complete = format.complete(store)
    if announced:
        assert complete, announced
        assert max(announced) <= complete[-1].step, (announced, complete)
    right = {checkpoint.step: checkpoint for checkpoint in format.complete(undisturbed)}
    for checkpoint in complete:
        tensors, _ = format.read(store, checkpoint)
        expected, _ = format.read(undisturbed, right[checkpoint.step])
        assert tensors.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(tensors[name], value, f"{name} of {checkpoint}")


def _same_end(store, undisturbed: Path) -> None:
    from convoy.store import open_store
    from convoy.trainer.checkpoints import select
    from convoy.trainer.outputs.records import read_metrics

    ends, records, results = [], [], []
    for run_store in (store, open_store(str(undisturbed))):
        _, tensors, state = select(run_store, "last")
        ends.append(tensors)
        records.append(
            [
                {k: v for k, v in line.items() if k not in ("time", "images_per_second")}
                for line in read_metrics(run_store)
            ]
        )
        results.append(json.loads(run_store.get("result.json")))
        assert state["progress"]["lines"] == len(records[-1])
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        np.testing.assert_array_equal(value, ends[1][name], name)
    assert records[0] == records[1], "metrics.jsonl neither repeats nor loses a step"
    assert results[0]["eval"] == results[1]["eval"]


def main() -> None:
    import tempfile

    seed = int(os.environ.get("CONVOY_TEST_SEED") or random.randrange(10**6))
    print(f"CONVOY_TEST_SEED={seed}", flush=True)
    begun = time.monotonic()
    steps, every, rate = 210, 5, 0.03
    kills = plan(6, 8, steps, every, random.Random(seed))
    with tempfile.TemporaryDirectory() as place:
        outcome = run(Path(place), kills, steps, every, seed, rate)
    row = {
        "date": datetime.date.today().isoformat(),
        "seed": seed,
        "fault_rate": rate,
        "kills": sum(outcome.kills.values()),
        **{phase: outcome.kills[phase] for phase in (*PHASES, "random")},
        "ended_by_storage": outcome.other_ends,
        "attempts": outcome.attempts,
        "refused_checkpoints": outcome.refused,
        "lost_checkpoints": 0,
        "end": "equal bit for bit",
        "minutes": round((time.monotonic() - begun) / 60, 1),
    }
    print(row)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
