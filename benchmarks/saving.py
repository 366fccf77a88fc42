"""The cost of saving to a run: Convoy to an emulator of a bucket, Keras' own ways to a disk: `python benchmarks/saving.py`.

Convoy's resnet50 with momentum (180 MiB of state), images of 32 pixels, batch 64, a save every 20 steps. Every side trains in a
process of its own, in turn, with saves and without. Timed are 20 steps with a save among them, from the end of the second step,
which no longer traces, to that of the 22nd. Needs benchmarks/peers.txt. Writes results/saving.csv.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rows import HERE, describe, write

sys.path.append(str(HERE.parent / "tests"))  # its emulator

BEGIN, SAVE, END, STEPS = 2, 20, 22, 24
BATCH, PIXELS, CLASSES = 64, 32, 10
# side -> the package whose version the row has
SIDES = {
    "convoy": "keras-convoy",
    "ModelCheckpoint": "keras",
    "BackupAndRestore": "keras",
    "CheckpointManager": "tensorflow",
    "OrbaxCheckpoint": "orbax-checkpoint",
}
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rounds_of_peers", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "saving.csv")
    flags = parser.parse_args()
    # All of Keras' sides have one run without saves.
    ways = {side: "convoy without saves" if side == "convoy" else "none" for side in flags.only}
    measurements: dict[str, list[dict[str, float]]] = {way: [] for pair in ways.items() for way in pair}
    for number in range(flags.rounds):
        for way, measured in measurements.items():
            if way.startswith("convoy"):
                measured.append(convoy_run(way == "convoy"))
            elif number < flags.rounds_of_peers:
                measured.append(keras_run(way))
            print(way, measured[-1], flush=True)
    write(flags.output, [row(side, measurements[without], measurements[side]) for side, without in ways.items()])


def row(side: str, without: list[dict[str, float]], with_saves: list[dict[str, float]]) -> dict[str, object]:
    """Medians over the rounds; each ratio compares turns of one round."""
    pairs = list(zip(without, with_saves, strict=True))
    ratios = [b["wall"] / a["wall"] for a, b in pairs]
    return {
        **describe(),
        "side": side,
        "version": importlib.metadata.version(SIDES[side]),
        "rounds": len(pairs),
        "saves": int(with_saves[0]["saves"]),
        "seconds_without": round(statistics.median(turn["wall"] for turn in without), 2),
        "seconds_with": round(statistics.median(turn["wall"] for turn in with_saves), 2),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_least": round(min(ratios), 4),
        "ratio_most": round(max(ratios), 4),
        "in_save_fraction": round(statistics.median(turn["in_save"] / turn["wall"] for turn in with_saves), 5),
        "seconds_in_save": round(statistics.median(turn["in_save"] / turn["saves"] for turn in with_saves), 3),
        "rss_without_least": round(min(turn["rss"] for turn in without)),
        "rss_without_most": round(max(turn["rss"] for turn in without)),
        "extra_rss_mib": round(statistics.median(b["rss"] - a["rss"] for a, b in pairs)),
    }


def convoy_run(saves: bool) -> dict[str, float]:
    """`convoy train` into an emulator. A record every second step gives both ways the same boundaries."""
    from buckets import Emulator
    from convoy.store import open_store

    emulator = Emulator()
    emulator.create("bucket")
    os.environ["STORAGE_EMULATOR_HOST"] = emulator.host
    argv = [f"--dataset=synthetic:{PIXELS}x{PIXELS}x3:{CLASSES}:5120", "--model=resnet50", "--optimizer=sgd",
            f"--batch_size={BATCH}", f"--duration={STEPS}st", "--eval_split=none", f"--eval_every={BEGIN}st",
            f"--checkpoint_every={SAVE if saves else STEPS}st", "--run_dir=gs://bucket/run"]  # fmt: skip
    # Without its parent, so that its memory can be asked for; the run without saves has one at its end.
    command = [sys.executable, "-P", "-m", "convoy.trainer.run", *argv]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT})
    store, peaks = open_store("gs://bucket/run"), []
    while child.poll() is None:
        peaks.append((time.time(), _peak_mib(child.pid)))
        time.sleep(0.1)
    if child.returncode:
        raise SystemExit(f"the run ended with {child.returncode}")
    events = [json.loads(line) for line in store.get("events.jsonl").decode().splitlines()]
    emulator.stop()
    spent = {event["step"]: event["time"] for event in events if event["event"] == "spent"}
    saved = [event for event in events if event["event"] == "saved" and event["step"] < STEPS]
    return {
        "wall": spent[END] - spent[BEGIN],
        "in_save": sum(event["blocked"] for event in saved),
        "saves": len(saved),
        "rss": max(mib for moment, mib in peaks if moment < spent[END]),
    }


def _peak_mib(pid: int) -> float:
    """The peak of a process's memory so far; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), default=0.0)


def keras_run(side: str) -> dict[str, float]:
    command = [sys.executable, str(HERE / "saving_keras.py"), side]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **ENVIRONMENT})
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
