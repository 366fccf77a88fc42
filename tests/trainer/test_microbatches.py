"""--accumulate=auto: what is measured, what is chosen, and that it is chosen once."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.sources.examples import DataSet
from convoy.data.sources.in_memory import InMemory
from convoy.trainer import config as configuration
from convoy.trainer import run
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import memory
from convoy.trainer.engines.memory import LIMITLESS, StepMemory
from convoy.trainer.engines.tensorflow.engine import TensorFlowEngine
from convoy.trainer.flags.run.training import AUTO_ACCUMULATE
from convoy.trainer.microbatches import Trials, fewest
from convoy.trainer.processes.cluster import Cluster
from support import final_tensors

pytestmark = pytest.mark.slow  # engines

SHARE = 96
CANDIDATES = [parts for parts in range(1, SHARE + 1) if SHARE % parts == 0]


def measured(needed, available, asked, base=0):
    """What `fewest` measures with: records what it is asked."""

    def measure(parts):
        asked.append(parts)
        return StepMemory(needed(SHARE // parts), available, base)

    return measure


def line(microbatch):
    return 1000 + 10.0 * microbatch


def curve(microbatch):
    """As a process's peak is: it grows late, and then by more than along a line."""
    return 1000 + max(0, microbatch - 10) ** 1.3 * 4


@pytest.mark.parametrize("needed", [line, curve])
@pytest.mark.parametrize("parts", CANDIDATES)
def test_the_fewest_that_fit_are_found_with_few_measurements(needed, parts):
    asked, available = [], needed(SHARE // parts) + 0.5
    assert needed(SHARE // fewest(CANDIDATES, measured(needed, available, asked), True)[0]) == needed(SHARE // parts)
    assert len(set(asked)) == len(asked) <= 5
    assert asked[0] == 1


@pytest.mark.parametrize("base", [0, 990])
@pytest.mark.parametrize("parts", CANDIDATES)
def test_what_would_end_the_process_is_never_tried(base, parts):
    asked, available = [], line(SHARE // parts) + 0.5
    chosen, found = fewest(CANDIDATES, measured(line, available, asked, base), fails_softly=False)
    assert min(asked) == chosen >= parts
    assert found.fits
    assert asked == sorted(set(asked), reverse=True)
    if base and parts > 1:
        assert chosen <= CANDIDATES[CANDIDATES.index(parts) + 1 if parts < SHARE else -1], "at most one worse"


def test_with_room_to_spare_few_steps_are_tried():
    asked = []
    assert fewest(CANDIDATES, measured(line, 20_000, asked, 990), fails_softly=False)[0] == 1
    assert asked == [96, 1]


@pytest.mark.parametrize("parts", CANDIDATES)
def test_devices_that_only_show_whether_a_step_fits(parts):
    def measure(tried):
        return StepMemory(0 if tried >= parts else math.inf, LIMITLESS)

    chosen, found = fewest(CANDIDATES, measure, fails_softly=True)
    assert (chosen, found.fits) == (parts, True)


@pytest.mark.parametrize("fails_softly", [True, False])
def test_where_nothing_fits_the_last_measurement_says_so(fails_softly):
    parts, found = fewest(CANDIDATES, measured(line, 1, []), fails_softly)
    assert (parts, found.fits) == (96, False)


# Engines that are tried


class Engine:
    """Needs 10 MiB an example."""

    description, replicas = "a stand-in", 2

    def __init__(self, parts, log, available=400, processes=1, tries_steps=True, said=b""):
        self.parts, self.log, self.available, self.said = parts, log, available, said
        self.tries_steps, self.fails_softly = tries_steps, not tries_steps
        self.notes = []
        self.cluster = Cluster(1 if said else 0, processes)
        log.append(f"build {parts}")

    def feed(self, examples, first_position, cached):
        assert cached

    def enter_stage(self, step):
        assert step == 59, "the last step trains the most"

    def step_memory(self):
        self.log.append(f"measure {self.parts}")
        return StepMemory(64 // self.parts * 10 * 2**20, self.available * 2**20)

    def broadcast(self, text):
        return self.said

    def barrier(self): ...


def trials(log, processes=1, noise_scale=False, **options):
    config = RunConfig(batch_size=128, accumulate=AUTO_ACCUMULATE, noise_scale=noise_scale)
    return Trials(
        config, [], 60, processes, lambda config: Engine(config.accumulate, log, processes=processes, **options)
    )


def test_the_engine_that_trains_is_one_that_no_trial_has_touched():
    log = []
    config, engine = trials(log).settle(0)
    assert (config.accumulate, engine.parts) == (2, 2)
    assert engine.notes == ["--accumulate=auto is 2: a step takes 320 MiB of memory, and there are 400."]
    assert log == [
        *("build 1", "build 64", "measure 64", "build 2", "measure 2", "build 2"),
    ]


def test_an_engine_that_only_compiled_trains_itself():
    log = []
    config, engine = trials(log, available=10**6, tries_steps=False).settle(0)
    assert (config.accumulate, engine.parts) == (1, 1)
    assert log == ["build 1", "measure 1"]


@pytest.mark.parametrize(("replicas", "parts"), [(1, 2), (2, 1)])
def test_noise_is_measured_from_two_parts_at_least(monkeypatch, replicas, parts):
    monkeypatch.setattr(Engine, "replicas", replicas)
    config, _ = trials([], noise_scale=True, available=10**6, tries_steps=False).settle(0)
    assert config.accumulate == parts


def test_a_run_that_goes_on_tries_nothing():
    log = []
    config, engine = trials(log).settle(4)
    assert (config.accumulate, engine.notes) == (4, [])
    assert log == ["build 4"]


def test_no_room_for_one_example_is_a_sentence():
    words = (
        "on a stand-in even one example at a time does not fit: a step takes 10 MiB of memory, and there are 9; give"
    )
    with pytest.raises(exits.CannotRun, match=words):
        trials([], available=9).settle(0)


def test_several_processes_take_the_number_of_the_leader():
    log = []
    assert trials(log, processes=2, said=b'{"value": 8}').settle(0)[0].accumulate == 8
    assert log == ["build 1", "build 8"]
    with pytest.raises(exits.CannotRun, match="several processes cannot do together; give a number"):
        trials([], processes=2, said=b'{"value": 0}').settle(0)


# The flag


def test_auto_is_a_word_for_a_number():
    assert configuration.from_argv(["--accumulate=auto"]).accumulate == AUTO_ACCUMULATE
    config = configuration.from_argv(["--accumulate=4"])
    assert "--accumulate=4" in config.to_flags()
    unresolved = dataclasses.replace(config, accumulate=AUTO_ACCUMULATE).to_flags().splitlines()
    assert configuration.from_argv(unresolved).accumulate == AUTO_ACCUMULATE


@pytest.mark.parametrize("value", ["-1", "Auto", "", "1.5"])
def test_what_is_neither_a_number_nor_auto_is_refused(value):
    with pytest.raises((exits.UsageError, exits.CannotRun), match="give auto or a whole number from 1"):
        configuration.from_argv([f"--accumulate={value}"])


# A run


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Runs that train on 20 images, with steps of which 2 examples at once fit into memory."""
    rng = np.random.default_rng(0)
    examples = InMemory(rng.integers(0, 256, (20, 8, 8, 1)), rng.integers(0, 2, 20))
    dataset = DataSet("small", ("a", "b"), (8, 8, 1), {"train": lambda: examples, "test": lambda: examples})
    monkeypatch.setattr("convoy.data.opening.open_dataset", lambda config, download: dataset)
    monkeypatch.setattr("convoy.trainer.outputs.curves.draw", lambda *values: None)

    def step_memory(engine):
        engine.train(1)
        return StepMemory(8 // engine.config.accumulate, 2.5)

    monkeypatch.setattr(TensorFlowEngine, "step_memory", step_memory)

    def train(name, **flags):
        config = RunConfig(
            str(tmp_path / name), DataConfig("digits", eval_split="none"), batch_size=8, precision="float64",
            **{"duration": "4st", "accumulate": AUTO_ACCUMULATE, **flags},
        )  # fmt: skip
        run.run(config)
        return final_tensors(tmp_path / name)

    return train


@pytest.mark.thorough
def test_trials_leave_no_trace_and_a_run_that_goes_on_makes_none(train, tmp_path, monkeypatch, capsys):
    found, expected = train("auto"), train("given", accumulate=4)
    assert "Note: --accumulate=auto is 4: a step takes" in capsys.readouterr().out
    assert "--accumulate=4" in (tmp_path / "auto" / "config.flags").read_text().splitlines()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name], tensor, rtol=1e-12, atol=1e-15, err_msg=name)

    monkeypatch.setattr(TensorFlowEngine, "step_memory", lambda engine: pytest.fail("a step was tried"))
    train("auto")  # is finished
    train("auto", duration="6st")
    assert "--accumulate=4" in (tmp_path / "auto" / "config.flags").read_text().splitlines()
    with pytest.raises(exits.CannotRun, match="--accumulate=2, but the run was begun with --accumulate=4"):
        train("auto", duration="6st", accumulate=2)


# The machine's memory


@pytest.fixture
def machine(tmp_path):
    """A machine with 1 GiB available, and a cgroup without a limit."""
    place = SimpleNamespace(meminfo=tmp_path / "meminfo", cgroup=tmp_path / "cgroup")
    place.meminfo.write_text("MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\n")
    place.cgroup.mkdir()
    (place.cgroup / "memory.max").write_text("max\n")
    return place


def test_free_memory_is_the_machines(machine):
    assert memory.free(machine.meminfo, machine.cgroup) == 1 << 30


def test_a_cgroup_may_leave_less(machine):
    (machine.cgroup / "memory.max").write_text(f"{1 << 29}\n")
    (machine.cgroup / "memory.current").write_text(f"{3 << 27}\n")
    (machine.cgroup / "memory.stat").write_text(f"anon 5\ninactive_file {1 << 27}\nactive_file 7\n")
    assert memory.free(machine.meminfo, machine.cgroup) == 1 << 28


def test_a_cgroup_of_the_first_version_too(machine):
    folder = machine.cgroup / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(f"{1 << 28}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{1 << 29}\n")
    (folder / "memory.stat").write_text("total_inactive_file 0\n")
    assert memory.free(machine.meminfo, machine.cgroup) == 0


def test_this_machine_has_memory_and_this_process_uses_it():
    assert min(memory.peak(), memory.resident()) > 1 << 20
    assert memory.free() > 0
