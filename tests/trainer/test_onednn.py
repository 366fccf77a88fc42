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


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "convoy" / "hardware.json"


def test_what_was_measured_comes_before_the_table(cache, monkeypatch):
    monkeypatch.setattr(onednn, "instructions", lambda: frozenset({"avx512f"}))
    assert onednn.for_this_machine() == "tensorflow"
    for value in ("on", "off"):
        assert onednn.keep(value) == cache
        assert onednn.for_this_machine() == value
    monkeypatch.setattr(onednn, "processor", lambda: "another")
    assert onednn.for_this_machine() == "tensorflow"
    onednn.keep("on")
    assert len(json.loads(cache.read_text())) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"KEY": "on"}', '{"KEY": {"onednn": "0; rm"}}', "\xff"])
def test_a_file_that_is_not_ours_says_nothing(cache, monkeypatch, text):
    monkeypatch.setattr(onednn, "instructions", lambda: frozenset({"avx2", "fma"}))
    cache.parent.mkdir()
    cache.write_text(text.replace("KEY", onednn._key()), encoding="latin-1")
    assert onednn.for_this_machine() == "on"
    onednn.keep("off")
    assert onednn.for_this_machine() == "off"


def test_hardware_keeps_what_is_faster(cache, monkeypatch, capsys):
    from convoy.trainer import hardware
    from convoy.trainer.verbs.hardware import VERB

    def child(switch, seconds):
        speed = 2.0 if switch == "1" else 3.0
        return {"steps_per_second": speed, "peak_flops_per_second": {"float32": 1e9}, "bytes_per_second": 1e9}

    monkeypatch.setattr(hardware, "_child", child)
    VERB(["--nokeep"])
    assert not cache.exists()
    VERB([])
    assert "--onednn=auto is off from now on" in capsys.readouterr().out
    assert onednn.for_this_machine() == "off"
