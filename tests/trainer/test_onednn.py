"""--onednn: what it does to TensorFlow's switch, and what a run writes down of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from convoy.trainer.config import RunConfig
from convoy.trainer.engines import onednn
from convoy.trainer.run_dir import stored_config

PROGRAM = """
import json, sys
from convoy.trainer import config as configuration, engines
config = configuration.from_argv(sys.argv[1:])
backend = engines.choose(config.backend, config.onednn)
import os
print(json.dumps([os.environ.get("TF_ENABLE_ONEDNN_OPTS"), backend.prepare(config).config.onednn]))
"""


def settled(*flags: str, **environment: str) -> list[str | None]:
    """TensorFlow's switch, and --onednn as a run resolves it."""
    clean = {name: value for name, value in os.environ.items() if name != onednn.SWITCH}
    argv = [sys.executable, "-c", PROGRAM, *flags]
    done = subprocess.run(argv, env={**clean, **environment}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_switch_is_set_before_tensorflow_reads_it():
    assert settled("--onednn=off") == ["0", "off"]
    assert settled("--onednn=on") == ["1", "on"]
    assert settled("--onednn=tensorflow") == [None, "tensorflow"]
    assert settled("--onednn=on", TF_ENABLE_ONEDNN_OPTS="0") == ["0", "off"]


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ({"sse4_2", "avx"}, "tensorflow"),
        ({"avx2", "fma"}, "on"),
        ({"avx2", "fma", "avx512f"}, "tensorflow"),
        ((), "tensorflow"),
    ],
)
def test_a_processor_has_its_row(instructions, expected, monkeypatch):
    monkeypatch.setattr(onednn, "instructions", lambda: frozenset(instructions))
    assert onednn.for_this_machine() == expected


def test_a_run_goes_on_as_it_began():
    values = {name: value for name, value in RunConfig().to_dict().items() if name not in ("kernels", "onednn")}
    older = stored_config.from_json(json.dumps(values).encode(), "config.json")
    continued = older.computing(RunConfig())
    assert (continued.kernels, continued.onednn) == ("1", "tensorflow")
    newer = stored_config.from_json(json.dumps({**values, "kernels": "2", "onednn": "off"}).encode(), "config.json")
    continued = newer.computing(RunConfig())
    assert (continued.kernels, continued.onednn) == ("2", "off")
    assert newer.computing(RunConfig(kernels="1", onednn="on")).kernels == "1"
