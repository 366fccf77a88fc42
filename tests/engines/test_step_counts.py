"""What a training step is made of, counted: a step that grows is seen without a clock.

CONVOY_UPDATE_GOLDEN=1 renews golden_counts.json, after another version of TensorFlow or JAX for one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

GOLDEN = Path(__file__).with_name("golden_counts.json")
PROGRAM = Path(__file__).with_name("step_counts.py")


def test_a_step_is_made_of_what_it_was():
    argvs = {backend: [sys.executable, "-P", PROGRAM, backend] for backend in ("tensorflow", "jax")}
    processes = {
        backend: subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for backend, argv in argvs.items()
    }
    counts = {}
    for backend, process in processes.items():
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        counts[backend] = json.loads(out.splitlines()[-1])
    if os.environ.get("CONVOY_UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(counts, indent=1) + "\n")
    assert counts == json.loads(GOLDEN.read_text()), "CONVOY_UPDATE_GOLDEN=1 renews them, where that is meant"
