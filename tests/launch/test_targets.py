"""A launch target is a folder and a row of launch/targets/names.py: a toy one gets flags, rules, a dry run and a doctor."""

from __future__ import annotations

import textwrap

import pytest

from convoy import exits
from convoy.launch import cli
from convoy.launch.command_line import from_argv
from convoy.launch.targets.names import TARGETS, platform
from convoy.launch.targets.options import job_options, target_options
from convoy.options import fields
from convoy.table import Entry

TOY = """
import dataclasses

from convoy import exits
from convoy.launch.targets.base import RUNNING, Check, JobState, Platform
from convoy.options import option


@dataclasses.dataclass(frozen=True)
class Place:
    shelf: str = option("top", "toy: where the toys stand.", group="Where")


@dataclasses.dataclass(frozen=True)
class Options:
    colour: str = option("red", "of its toys.", group="Toys")

    def __post_init__(self):
        if self.colour == "grey":
            raise exits.CannotRun("--colour=grey is not possible: give red or blue.")


class Box:
    poll_seconds = 0.0

    def __init__(self, shelf):
        self.shelf = shelf

    def describe(self, spec):
        return f"puts a {spec.options.narrowed(Options).colour} {spec.name} on the {self.shelf} shelf"

    def submit(self, spec, replace=False):
        return JobState(spec.name, RUNNING)


class Toy(Platform):
    target_options = Place
    job_options = Options

    def check(self, spec):
        if spec.workers > 3:
            raise exits.CannotRun(f"--workers={spec.workers}: a box has room for 3 toys.")

    def warnings(self, options):
        yield f"{options.narrowed(Options).colour} toys fade."

    def open(self, options, chaos=""):
        return Box(options.narrowed(Place).shelf)

    def doctor(self, options):
        yield Check("shelf", lambda: options.narrowed(Place).shelf)
        yield Check("box", self._box, essential=True)
        yield Check("lid", lambda: "never reached")

    def _box(self):
        raise exits.CannotRun("the box is open; close it.")
"""
ARGV = ["--target=toy", "--name=duck", "--shelf=low", "--colour=blue"]
RUN = ["--", "--run_dir=runs/duck"]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy_target.py").write_text(textwrap.dedent(TOY))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(TARGETS.rows, "toy", Entry("toy_target:Toy", "a box of toys"))


def test_help_shows_the_row_and_its_flags(toy, capsys):
    assert cli.LAUNCH(["submit", "--help"]) == exits.OK
    printed = " ".join(capsys.readouterr().out.split())
    assert "tpu-vm: Cloud TPU VMs; toy: a box of toys. [local]" in printed
    assert "--shelf toy: where the toys stand. [top]" in printed
    assert "Toys --colour of its toys. [red]" in printed
    assert cli.LAUNCH(["status", "--help"]) == exits.OK
    printed = capsys.readouterr().out
    assert "--shelf" in printed
    assert "--colour" not in printed


@pytest.mark.parametrize(
    ("flags", "kind", "sentence"),
    [
        (["--workers=4"], exits.CannotRun, "a box has room for 3 toys"),
        (["--colour=grey"], exits.CannotRun, "--colour=grey is not possible"),
        (["--shelf=a\u200bb"], exits.CannotRun, r"--shelf=a.*b has the invisible character U\+200B"),
        (["--shelv=low"], exits.UsageError, "did you mean --shelf"),
    ],
)
def test_its_rules_hold_beside_those_of_every_job(toy, flags, kind, sentence):
    with pytest.raises(kind, match=sentence):
        from_argv([*ARGV, *flags, *RUN])


def test_a_dry_run_describes_the_job_and_a_submission_begins_it(toy, capsys):
    assert cli.LAUNCH(["submit", "--dry_run", *ARGV, *RUN]) == exits.OK
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "puts a blue duck on the low shelf"
    assert printed.err == "convoy: blue toys fade.\n"
    assert cli.LAUNCH(["submit", *ARGV, *RUN]) == exits.OK
    printed = capsys.readouterr()
    assert printed.out == "duck: running\n"
    # Flags by which the target is found are in the commands that sentences name, flags of the job are not.
    assert "`convoy launch status --name=duck --target=toy --shelf=low` says how it goes." in printed.err


def test_the_doctor_makes_its_checks_until_an_essential_one_fails(toy, capsys):
    assert cli.LAUNCH(["doctor", "--target=toy", "--shelf=low", "--run_dir=s3://b/r"]) == exits.CANNOT_RUN
    shelf, box, run_dir = capsys.readouterr().out.splitlines()
    assert (shelf, box) == ("ok     shelf: low", "wrong  box: the box is open; close it.")
    assert run_dir.startswith("wrong  run directory: s3://b/r")


def test_faults_are_for_rehearsals(toy):
    with pytest.raises(exits.CannotRun, match="--chaos=kill:worker-0@step=1 is for rehearsals; give --target=local"):
        cli.LAUNCH(["submit", "--chaos=kill:worker-0@step=1", *ARGV, *RUN])


def test_without_the_row_there_is_no_such_target_and_no_such_flag(capsys):
    assert {"shelf", "colour"}.isdisjoint(field.name for field in fields(job_options(), target_options()))
    with pytest.raises(exits.UsageError, match="--target=toy"):
        from_argv(["--target=toy", "--name=duck", *RUN])
    with pytest.raises(exits.CannotRun, match="--target=toy is not known; there are local, k8s, slurm, tpu-vm"):
        platform("toy")
