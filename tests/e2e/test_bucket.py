"""Runs in a bucket: the real client against a real emulator, with faults between them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest

import soak
from buckets import faulty, objects
from convoy import exits
from convoy.store import open_store
from convoy.trainer.checkpoints import format
from convoy.trainer.outputs.records import read_events
from soak import Kill
from support import QUICK, assert_same_bits, command, environment, records_of

KILLS = [Kill("snapshot", 4), Kill("upload", 8), Kill("manifest", 12), Kill("removal", 16)]


@pytest.mark.parametrize("kills", [KILLS[1:3], pytest.param(KILLS, marks=pytest.mark.thorough)], ids=["two", "four"])
def test_killed_with_faults_all_along_it_ends_with_the_same_bits(tmp_path, kills):
    seed = int(os.environ.get("CONVOY_TEST_SEED") or random.randrange(10**6))
    print(f"CONVOY_TEST_SEED={seed}")
    soak.run(tmp_path, kills, steps=20, every=4, seed=seed, rate=0.03)


def test_a_second_process_on_a_run_directory_is_refused_and_harms_nothing(bucket):
    long = [*QUICK, "--duration=100000st", "--eval_every=50000st", "--checkpoint_every=50000st"]
    first = subprocess.Popen(command("train", *long, f"--run_dir={bucket}"), env=environment())
    store = open_store(bucket)
    deadline = time.monotonic() + 60
    while "training" not in [event["event"] for event in read_events(store)]:
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second = subprocess.run(
        command("train", *long, f"--run_dir={bucket}"), env=environment(), capture_output=True, text=True, check=False
    )
    assert second.returncode == exits.CANNOT_RUN, second.stderr
    assert "another process is training there now" in second.stderr
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == exits.TRY_AGAIN
    events = read_events(store)
    assert {event["attempt"] for event in events} == {1}
    assert events[-1]["event"] == "left"
    (last,) = format.complete(store)
    assert last.step == events[-1]["step"]
    assert ".lock" not in store.list_names(), "the next start need not wait"


@pytest.mark.thorough
def test_a_run_in_a_bucket_ends_like_one_in_a_folder(bucket, undisturbed, convoy, tmp_path):
    with faulty(os.environ["STORAGE_EMULATOR_HOST"], "--seed=7", "--rate=0.1", "--seconds=0.5") as url:
        for _ in ("train", "find it finished"):
            outcome = convoy("train", *QUICK, f"--run_dir={bucket}", STORAGE_EMULATOR_HOST=url)
            assert outcome.code == exits.OK, outcome
    store = open_store(bucket)
    for name in store.list_names():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        store.download(name, tmp_path / name)
    assert_same_bits(undisturbed, tmp_path)
    assert records_of(undisturbed) == records_of(tmp_path)
    assert [name for name in objects(store) if "segments" in name or "lock" in name] == []
