"""Hostile input through the real commands: a right exit code, a sentence, no write outside, no escape sequence, no wait.

50 inputs are drawn from a seed over all readers that need no TensorFlow; `make test` runs half of them. `make test-all` runs
the other half, and inputs of the readers behind TensorFlow, which takes seconds to start.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoint_files import STEP, Forgery
from convoy import exits
from convoy.launch.targets.local.target import submission
from convoy.trainer.config import RunConfig
from convoy.trainer.run_dir import stored_config
from hostile_flags import IMPOSSIBLE
from local_jobs import job
from mutations import SEED, case, document, name, torn, untouched
from run_files import BAD_IMAGES, EVENTS, KINDS, RECORDS, RESULT, instead, mutated
from support import Outcome, command, environment, write_images

pytestmark = pytest.mark.slow

ESCAPES = "\x1b[2J\x1b]0;mine\x07\x9b31m"
CODES = {exits.OK, exits.USAGE, exits.BAD_DATA, exits.CANNOT_RUN}


def hostile(root: Path, *argv: object, inside: tuple[Path, ...] = (), **variables: str) -> Outcome:
    """Runs a command and asserts the rules above of its outcome."""
    (root / "outside").write_text("a marker")
    with untouched(root, *inside):
        done = subprocess.run(
            command(*argv), cwd=root, env=environment(XDG_STATE_HOME=str(root / "state"), **variables),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    outcome = Outcome(done)
    assert outcome.code in CODES, outcome
    assert "Traceback" not in outcome.out + outcome.err, outcome
    shown = (outcome.out + outcome.err).replace("\n", "").replace("\t", "")
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown), outcome
    if outcome.code:
        assert "convoy: " in outcome.err, outcome
        assert len(outcome.err) < 2000, outcome
    return outcome


def a_configuration(root: Path, chance: random.Random) -> Path:
    """A run directory with a damaged config.json."""
    place = root / "run" / "config.json"
    place.parent.mkdir()
    if chance.random() < 0.3:
        instead(place, chance.choice(KINDS), root / "outside")
        return place.parent
    while True:
        data = document(RunConfig(run_dir="x").to_dict(), chance)
        place.write_bytes(data)
        try:
            stored_config.from_json(data, "")
        except (exits.BadData, exits.CannotRun):
            return place.parent


def evaluate(root: Path, chance: random.Random) -> None:
    run = a_configuration(root, chance)
    verb = chance.choice([["evaluate"], ["predict", "a.png"], ["try"], ["report", "--watch"]])
    assert "config.json" in hostile(root, *verb, f"--run_dir={run}").err


def train(root: Path, chance: random.Random) -> None:
    run = a_configuration(root, chance)
    assert "config.json" in hostile(root, "train", f"--run_dir={run}", inside=(run / ".lock",)).err


def checkpoints(root: Path, chance: random.Random) -> None:
    forgery = Forgery(root / "run")
    what = chance.choice([STEP, "state.json", "MANIFEST.json", "metrics.jsonl"])
    if what == "metrics.jsonl":
        (root / "run" / what).write_bytes(mutated(RECORDS, chance))
    elif chance.random() < 0.3:
        instead(forgery.folder / what, chance.choice(KINDS), root / "outside")
    elif what == STEP:
        forgery.files[what] = torn(forgery.files[what], chance)
        forgery.write()
    elif what == "state.json":
        forgery.files[what] = document(forgery.state, chance)
        forgery.write()
    else:
        forgery.write(document(forgery.manifest, chance))
    hostile(root, "checkpoints", chance.choice(["list", "verify"]), f"--run_dir={root / 'run'}")
    copy = root / "copy"
    hostile(root, "checkpoints", "copy", f"--run_dir={root / 'run'}", f"--to={copy}", inside=(copy,))


def flags(root: Path, chance: random.Random) -> None:
    flag = chance.choice(list(IMPOSSIBLE))
    argv = [f"--{flag}={chance.choice(IMPOSSIBLE[flag])}"]
    if chance.random() < 0.5:
        (root / "some.flags").write_text(f"--seed=1\n{argv[0]}\n")
        argv = [f"--flagfile={root / 'some.flags'}"]
    verb = chance.choice([["train"], ["bench", "input"], ["launch", "submit", "--dry_run", "--"]])
    outcome = hostile(root, *verb, *argv)
    assert outcome.code, outcome
    assert f"--{flag}" in outcome.err


def flagfile(root: Path, chance: random.Random) -> None:
    place = root / "some" / "flags"
    place.parent.mkdir()
    match chance.randrange(3):
        case 0:
            instead(place, chance.choice(["fifo", "loop", "folder", "device"]), root / "outside")
        case 1:
            place.write_bytes(torn(b"--seed=1\n--keep=3\n", chance) + b"\xff")
        case _:
            place.write_text(f"--seed=1\n--flagfile={place}\n")
    assert hostile(root, "train", f"--flagfile={place}").code


def text(root: Path, chance: random.Random) -> None:
    """Hostile names as values of every flag that takes a name."""
    value = name(chance)
    word = str(value).replace("\0", "\x01").encode("utf-8", "replace").decode()
    verb, flag = chance.choice(
        [("evaluate", "run_dir"), ("train", "model"), ("train", "augment"), ("train", "schedule")]
    )
    assert hostile(root, verb, f"--{flag}={word}").code


def jobs(root: Path, chance: random.Random) -> None:
    place = root / "state" / "convoy" / "jobs"
    state = {
        "phase": "failed",
        "reason": ESCAPES,
        "restarts": 1,
        "exit_code": 70,
        "begun": 1e9,
        "supervisor": 0,
        "workers": [],
    }
    for job_name in ("good", "odd"):
        (place / job_name / "logs").mkdir(parents=True)
        (place / job_name / "job.json").write_text(
            json.dumps({**submission(job(name=job_name), ""), "run_dir": str(root / "none")})
        )
        (place / job_name / "state.json").write_text(json.dumps(state))
    file = place / "odd" / chance.choice(["job.json", "state.json"])
    if chance.random() < 0.3:
        instead(file, chance.choice(KINDS), root / "outside")
    else:
        file.write_bytes(document(json.loads(file.read_bytes()), chance))
    assert "good: failed" in hostile(root, "launch", "list", inside=(place / ".lock",)).out
    if chance.random() < 0.5:
        hostile(root, "launch", "status", "--name=odd")
    else:
        assert "good: removed" in hostile(root, "launch", "gc", inside=(place,)).out


def result(root: Path, chance: random.Random) -> None:
    place = root / "run" / "result.json"
    place.parent.mkdir()
    if chance.random() < 0.3:
        instead(place, chance.choice(KINDS), root / "outside")
    else:
        place.write_bytes(document(RESULT, chance))
    hostile(root, "launch", "cost", "--accelerator=l4x1", f"--run_dir={place.parent}")


QUICKLY: list[tuple[Callable[[Path, random.Random], None], int]] = [
    (evaluate, 8), (train, 6), (checkpoints, 10), (flags, 8), (flagfile, 4), (text, 4), (jobs, 6), (result, 4)
]  # fmt: skip
FIFTY = [(kind, number) for kind, count in QUICKLY for number in range(count)]


def params(cases, thorough):
    return [
        pytest.param(
            kind, number, id=f"{kind.__name__} {number}", marks=[pytest.mark.thorough] * bool(thorough(number))
        )
        for kind, number in cases
    ]


def test_fifty_inputs_are_drawn():
    assert len(FIFTY) == 50


@pytest.mark.parametrize(("kind", "number"), params(FIFTY, lambda number: number % 2))
def test_a_command_refuses_a_hostile_input(tmp_path, kind, number):
    with case(SEED, hash_of(kind, number)) as chance:
        kind(tmp_path, chance)


def hash_of(kind: Callable[..., None], number: int) -> int:
    """A distinct number for each case of each kind."""
    return 1000 * [other for other, _ in (*QUICKLY, *SLOWLY)].index(kind) + number


def journals(root: Path, chance: random.Random) -> None:
    """A run with a damaged journal or result, which is read once the data are open."""
    run, which = root / "run", chance.choice(["metrics.jsonl", "events.jsonl", "result.json", "bad_images.jsonl"])
    argv = [
        "--dataset=synthetic:8x8x1:2:64",
        "--batch_size=8",
        "--duration=4st",
        "--eval_every=2st",
        "--checkpoint_every=2st",
    ]
    assert hostile(root, "train", *argv, f"--run_dir={run}", inside=(run,)).code == 0
    if which != "result.json":
        (run / "result.json").unlink()
    rights = {"events.jsonl": EVENTS, "result.json": RESULT, "metrics.jsonl": RECORDS, "bad_images.jsonl": BAD_IMAGES}
    (run / which).write_bytes(mutated(rights[which], chance))
    outcome = hostile(root, "train", *argv[:2], "--duration=6st", *argv[3:], f"--run_dir={run}", inside=(run,))
    assert outcome.code == 0 or which in outcome.err, outcome


def records(root: Path, chance: random.Random) -> None:
    """A changed manifest of packed records."""
    packed = root / "packed"
    assert hostile(root, "data", "pack", "--dataset=digits", f"--out={packed}", inside=(packed,)).code == 0
    manifest = packed / "MANIFEST.json"
    manifest.write_bytes(document(json.loads(manifest.read_bytes()), chance))
    argv = [f"--dataset=records:{packed}", f"--output={root / 'preview.png'}", "--count=4"]
    hostile(root, "data", "preview", *argv, inside=(root / "preview.png", packed))


def classes(root: Path, chance: random.Random) -> None:
    """Class folders with hostile names, which are harmless: the run completes and shows them."""
    names = (f"cat{ESCAPES}", "$x^$", "[red]dog")
    write_images(root / "photographs", names, each=6)
    run, data = root / "run", f"--dataset=folder:{root / 'photographs'}"
    argv = ["train", data, "--image_size=16", "--batch_size=4", "--duration=2st", f"--run_dir={run}"]
    assert hostile(root, *argv, inside=(run,)).code == 0
    outcome = hostile(root, "evaluate", f"--run_dir={run}", "--split=train")
    assert outcome.code == 0
    assert "cat\\x1b[2J" in outcome.out
    picture = root / "preview.png"
    argv = [data, "--image_size=16", "--count=8", f"--output={picture}"]
    assert hostile(root, "data", "preview", *argv, inside=(picture,)).code == 0


SLOWLY: list[tuple[Callable[[Path, random.Random], None], int]] = [(journals, 8), (records, 6), (classes, 1)]
BEHIND = [(kind, number) for kind, count in SLOWLY for number in range(count)]


@pytest.mark.parametrize(("kind", "number"), params(BEHIND, lambda number: True))
def test_a_command_refuses_a_hostile_input_once_tensorflow_has_started(tmp_path, kind, number):
    with case(SEED, hash_of(kind, number)) as chance:
        kind(tmp_path, chance)
