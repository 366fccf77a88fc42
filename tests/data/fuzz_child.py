"""python fuzz_child.py HARNESS FOLDER FIRST COUNT SEED: the outcomes of some cases, as JSON, in bounded memory."""

from __future__ import annotations

import importlib
import json
import resource
import sys
from pathlib import Path

LIMIT = 3 << 30  # bytes that data may take, TensorFlow's own half a GiB among them


def main(harness: str, folder: str, first: str, count: str, seed: str) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    outcomes = importlib.import_module(harness).outcomes(Path(folder), int(first), int(count), int(seed))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(json.dumps({"counts": [[*names, number] for names, number in outcomes.items()], "peak_bytes": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
