"""A run that is killed at any moment ends, once continued, with the same bits as one that was left alone."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest

from support import QUICK, assert_same_bits, command, environment, events_of, records_of, result_of

# Where each kill lands; the last run of the list is left alone. Boundaries: saves at 20, 40 and 60, evaluations too.
KILLS = ["kill:step@1+3", "kill:manifest@20", "kill:evaluation@60"]


def test_killed_once_in_every_phase(convoy, undisturbed, tmp_path):
    run_dir = tmp_path / "run"
    for kill in KILLS:
        outcome = convoy("train", *QUICK, f"--run_dir={run_dir}", "--steps_per_loop=10", chaos=kill)
        assert outcome.code == 42, f"{kill}: {outcome}"
        assert "SIGKILL" in outcome.err
    outcome = convoy("train", *QUICK, f"--run_dir={run_dir}")
    assert outcome.code == 0, outcome
    assert_same_bits(run_dir, undisturbed)
    assert records_of(run_dir) == records_of(undisturbed)
    assert result_of(run_dir)["eval"] == result_of(undisturbed)["eval"]
    assert result_of(run_dir)["attempts"] == len(KILLS) + 1
    restored = [event["step"] for event in events_of(run_dir) if event["event"] == "restored"]
    # Two kills came before a checkpoint was complete. The save of step 40 waited for that of step 20, and may be cut itself.
    assert restored in ([20], [40])


@pytest.mark.thorough
def test_killed_at_a_random_moment_and_restarted_by_the_parent(undisturbed, tmp_path):
    seed = int(os.environ.get("CONVOY_TEST_SEED") or random.randrange(10**6))
    print(f"CONVOY_TEST_SEED={seed}")
    run_dir = tmp_path / "run"
    parent = subprocess.Popen(
        command("train", *QUICK, f"--run_dir={run_dir}", "--restarts=3"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 100
    while not (run_dir / "events.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(random.Random(seed).uniform(0, 1.5))
    children = subprocess.run(["pgrep", "-P", str(parent.pid)], capture_output=True, text=True, check=False).stdout
    for child in children.split():
        with contextlib.suppress(ProcessLookupError):  # it may just have ended
            os.kill(int(child), signal.SIGKILL)
    _, err = parent.communicate(timeout=150)
    assert parent.returncode == 0, (seed, err)
    assert_same_bits(run_dir, undisturbed)
    assert records_of(run_dir) == records_of(undisturbed)
    # A kill after result.json was written leaves nothing to repeat.
    assert result_of(run_dir)["attempts"] in (1, 2)
