"""Opens a new folder with this code and with that of an older commit: `python benchmarks/scan.py [--before=COMMIT]`.

- scan: opens 50,000 photographs for the first time: lists them, reads their headers, and hashes their contents for a split.
  They are 250 of ImageNet 200 times, each with a comment of its own, 110 KB on average.
- again: the same with the user's cache filled.
- list: lists 200,000 files in 200 folders, and reads none.

The sides take turns, each in a process of its own with an empty cache directory. The first round, which brings the files into
memory, does not count. Seconds are of the clock, and of all cores together. Writes results/scan.csv; needs 6 GB.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rows import DATA, HERE, checkout, describe, write

PHOTOGRAPHS = DATA.parent / "imagenet-sample"
SIDES = ("before", "now")
FIGURES = ("scan", "again", "list")


def make(folder: Path, photographs: int, files: int) -> None:
    sources = [path.read_bytes() for path in sorted(PHOTOGRAPHS.iterdir())]
    for number in range(photographs):
        content = sources[number % len(sources)]
        place = folder / "photographs" / f"{number % 100:03d}"
        place.mkdir(parents=True, exist_ok=True)
        comment = b"\xff\xfe" + (10).to_bytes(2, "big") + f"{number:08d}".encode()
        at = 4 + int.from_bytes(content[4:6], "big")  # behind JFIF
        (place / f"{number:06d}.jpg").write_bytes(content[:at] + comment + content[at:])
    for number in range(files):
        place = folder / "files" / f"{number % 200:03d}"
        if number < 200:
            place.mkdir(parents=True)
        (place / f"{number:06d}.jpg").touch()


def modules() -> tuple[Any, Any, Any]:
    """DataConfig, the source of folders, and open_dataset. An older commit has them in a package `data` beside `convoy`."""
    import convoy

    # By file: an editable installation finds convoy.data for an older convoy too.
    root = Path(convoy.__file__).parent
    package = "convoy.data" if (root / "data").is_dir() else "data"
    opening = f"{package}.sources.opening"
    return (
        importlib.import_module(f"{package}.config").DataConfig,
        importlib.import_module(f"{package}.sources.folder"),
        importlib.import_module(opening if importlib.util.find_spec(opening) else f"{package}.sources").open_dataset,
    )


def turn(folder: str) -> dict[str, list[float]]:
    """One process of a side: figure -> seconds, seconds of the processor."""
    DataConfig, source, open_dataset = modules()  # noqa: N806

    def scan() -> None:
        config = DataConfig(f"folder:{folder}/photographs", image_size=224, eval_split="hash:0.1")
        open_dataset(config).split("train").content_hashes()

    def listed() -> None:
        root = Path(folder, "files")
        if hasattr(source, "LeftOut"):
            source._list("train", root, source.folders_in(root), source.LeftOut())
            return
        arguments = {"every": True} if "every" in inspect.signature(source._list).parameters else {}
        source._list(root, source._folders(root), **arguments)

    figures = {}
    for figure, work in (("scan", scan), ("again", scan), ("list", listed)):
        begun, cpu = time.perf_counter(), time.process_time()
        work()
        figures[figure] = [time.perf_counter() - begun, time.process_time() - cpu]
    return figures


def measured(code: Path, folder: Path) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "PYTHONPATH": f"{code}", "XDG_CACHE_HOME": cache, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, __file__, f"--turn={folder}"]
        done = subprocess.run(command, cwd=code, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="3ff22d4", help="the commit of the other side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", type=int, default=50_000)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "scan.csv")
    parser.add_argument("--notes", default="", help="what else ran meanwhile, for the rows")
    parser.add_argument("--turn", default="", help="be one process of a side, on this folder")
    flags = parser.parse_args()
    if flags.turn:
        print(json.dumps(turn(flags.turn)))
        return
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder, "before")
        before.mkdir()
        checkout(flags.before, before)
        make(Path(folder), flags.photographs, flags.files)
        turns: dict[str, list[dict[str, list[float]]]] = {side: [] for side in SIDES}
        for round_ in range(1 + flags.rounds):
            for side, code in zip(SIDES, (before, HERE.parent), strict=True):
                turns[side].append(measured(code, Path(folder)))
                line = "  ".join(f"{figure} {turns[side][-1][figure][0]:.2f} s" for figure in FIGURES)
                print(f"round {round_}, {side}: {line}", flush=True)
    rows = []
    for figure in FIGURES:
        for side in SIDES:
            clock, cpu = zip(*(seconds[figure] for seconds in turns[side][1:]), strict=True)
            rows.append(
                {
                    **describe(),
                    "figure": figure,
                    "side": flags.before if side == "before" else side,
                    "files": flags.files if figure == "list" else flags.photographs,
                    "rounds": flags.rounds,
                    "seconds": round(statistics.median(clock), 2),
                    "least": round(min(clock), 2),
                    "most": round(max(clock), 2),
                    "cpu_seconds": round(statistics.median(cpu), 2),
                    "notes": flags.notes,
                }
            )
    write(flags.output, rows)


if __name__ == "__main__":
    main()
