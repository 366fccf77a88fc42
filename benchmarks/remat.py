"""What --remat saves and costs: `python benchmarks/remat.py`.

A training step of batch 32 on images of 96x96 pixels, float32, with and without the flag, each in a process of its own. Memory
is what the step takes beside what was there before it: XLA's account of the program on JAX, the growth of the process on
TensorFlow. Seconds are the median of three steps. Writes results/remat.csv.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from rows import HERE, describe, write

CASES = [("tensorflow", "resnet50"), ("tensorflow", "efficientnet_lite0"), ("jax", "resnet50")]
STEPS = 3


def measure(backend: str, model: str, remat: bool) -> dict[str, float]:
    from convoy.data.config import DataConfig
    from convoy.trainer.config import RunConfig
    from convoy.trainer.engines import choose

    choose(backend)
    from convoy.trainer.experiment import build

    data = DataConfig("synthetic:96x96x3:10:256")
    config = RunConfig(data=data, model=model, backend=backend, batch_size=32, devices="cpu:1", remat=remat)
    experiment = build(config)
    engine = experiment.engine
    engine.feed(experiment.data.train, 0, cached=1)
    memory = engine.step_memory()
    seconds = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        engine.train(1)
        seconds.append(time.perf_counter() - begun)
    return {"mib": round((memory.needed - memory.base) / 2**20), "seconds": round(statistics.median(seconds), 2)}


def main() -> None:
    if len(sys.argv) > 1:
        backend, model, remat = sys.argv[1:]
        print(json.dumps(measure(backend, model, remat == "True")))
        return
    rows = []
    for backend, model in CASES:
        for remat in (False, True):
            argv = [sys.executable, __file__, backend, model, str(remat)]
            done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(
                {
                    **describe(),
                    "backend": backend,
                    "model": model,
                    "remat": remat,
                    **json.loads(done.stdout.splitlines()[-1]),
                }
            )
            print(rows[-1], flush=True)
    write(HERE / "results" / "remat.csv", rows)


if __name__ == "__main__":
    main()
