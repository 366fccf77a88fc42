"""`convoy checkpoints list | verify | copy`: the checkpoints of a run, whether they are intact, and copies of them."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import Any

from convoy import exits, options
from convoy.counting import counted
from convoy.options import option
from convoy.outside import Name
from convoy.store import Data, Store, open_store
from convoy.table import Entry, Table
from convoy.trainer.checkpoints import format
from convoy.trainer.checkpoints.documents import STATE, Checkpoint, CorruptCheckpoint, parse_state
from convoy.trainer.checkpoints.manager import find
from convoy.trainer.run_dir.files import CONFIG, DATASET, FLAGS, METRICS
from convoy.verbs import Command, verb

USAGE = """usage: convoy checkpoints COMMAND --run_dir=DIR [--flag=value ...]

{verbs}

DIR is a folder or gs://BUCKET/PATH. convoy checkpoints COMMAND --help lists the flags of a command."""


@dataclasses.dataclass(frozen=True)
class RunOption:
    """The run."""

    run_dir: str = option("", "the run.", group="Checkpoints")

    def __post_init__(self) -> None:
        options.check(self)
        if not self.run_dir:
            raise exits.CannotRun("--run_dir is missing; give the directory of a run, for example runs/digits.")


@dataclasses.dataclass(frozen=True)
class VerifyOption:
    """The checkpoints to verify."""

    checkpoint: str = option("all", "all, last, best or a step.", group="Checkpoints")

    def __post_init__(self) -> None:
        options.check(self)


@dataclasses.dataclass(frozen=True)
class CopyOptions:
    """The checkpoint to copy, and its new place."""

    checkpoint: str = option("last", "last, best or a step.", group="Checkpoints")
    to: str = option("", "an empty or a new directory, or gs://BUCKET/PATH.", group="Checkpoints")

    def __post_init__(self) -> None:
        options.check(self)
        if not self.to:
            raise exits.CannotRun("--to is missing; give an empty or a new directory, or gs://BUCKET/PATH.")


@verb(
    """usage: convoy checkpoints list --run_dir=DIR

Lists the checkpoints of a run, oldest first.""",
    RunOption,
)
def show(run: RunOption) -> None:
    store = _open(run.run_dir)
    complete = format.complete(store)
    best = None
    lines = {}
    for checkpoint in complete:
        try:
            entries = format.read_manifest(store, checkpoint)
            best = format.read_state(store, checkpoint)["progress"]["best"]
            size = sum(entry.bytes for entry in entries.values())
            lines[checkpoint] = f"{size / 2**20:,.1f} MiB in {counted(len(entries), 'object')}"
        except CorruptCheckpoint as error:
            lines[checkpoint] = f"damaged: {error}"
    for checkpoint, line in lines.items():
        if best and best["step"] == checkpoint.step:
            line += f", the best: {best['accuracy']:.2%} of the examples that choose it"
        print(_line(checkpoint, line))
    for checkpoint in format.incomplete(store):
        print(_line(checkpoint, "incomplete: being saved, or left by a run that died"))
    if not complete:
        print(f"{store.url} has no checkpoint yet.")


@verb(
    """usage: convoy checkpoints verify --run_dir=DIR [--checkpoint=all]

Reads checkpoints from end to end, and refuses what no run saves. Exit code 65 if one is damaged.""",
    RunOption,
    VerifyOption,
)
def verify(run: RunOption, which: VerifyOption) -> int:
    store = _open(run.run_dir)
    damaged = 0
    for checkpoint in format.complete(store) if which.checkpoint == "all" else [find(store, which.checkpoint)]:
        try:
            size = sum(len(stored.data) for stored in format.read_objects(store, checkpoint))
            print(_line(checkpoint, f"whole, {size / 2**20:,.1f} MiB"))
        except CorruptCheckpoint as error:
            damaged += 1
            print(_line(checkpoint, f"damaged: {error}"))
    if damaged:
        print(f"convoy: {damaged} damaged; a run goes on from the newest whole one.", file=sys.stderr)
    return exits.BAD_DATA if damaged else exits.OK


@verb(
    """usage: convoy checkpoints copy --run_dir=DIR --to=PLACE [--checkpoint=last]

Copies a checkpoint with the configuration and the records up to it. The copy is a run that can be continued and evaluated.""",
    RunOption,
    CopyOptions,
)
def copy(run: RunOption, copied: CopyOptions) -> None:
    source, target = _open(run.run_dir), open_store(copied.to, "to")
    checkpoint = find(source, copied.checkpoint)
    with target.locked():
        if entry := target.first_entry():
            raise exits.CannotRun(f"--to={target.url} holds {entry}; give an empty or a new directory.")
        _copy(source, target, checkpoint)
    print(f"{target.url}/{checkpoint.folder}")


def _copy(source: Store, target: Store, checkpoint: Checkpoint) -> None:
    state: dict[str, Any] = {}
    files: dict[str, Data] = {}
    tensors: dict[str, list[str]] = {}
    try:
        for stored in format.read_objects(source, checkpoint):
            if stored.name == STATE:
                state = parse_state(stored.data, checkpoint)
            else:
                files[stored.name] = stored.data
                tensors[stored.name] = list(stored.tensors)
    except CorruptCheckpoint as error:
        raise error.ending(
            f"{source.url}/{checkpoint.folder} is damaged: {error}; give another --checkpoint."
        ) from error
    configuration = {name: _needed(source, name) for name in (CONFIG, FLAGS)}
    lines = _records(source, state["progress"]["lines"])
    with contextlib.suppress(FileNotFoundError):  # older versions wrote none
        configuration[DATASET] = source.get(DATASET)
    for name, data in configuration.items():
        target.put(name, data)
    target.rewrite(METRICS, lines)
    format.write(target, checkpoint, files, tensors, state)


def _records(source: Store, count: int) -> str:
    """The first `count` lines of metrics.jsonl, or all if there are fewer."""
    try:
        return "".join(source.get(METRICS).decode().splitlines(keepends=True)[:count])
    except FileNotFoundError:
        return ""  # the checkpoint was saved before the first record
    except UnicodeDecodeError as error:
        raise exits.BadData(f"{source.url}/{METRICS} is not UTF-8; mend it or remove it.") from error


def _open(url: str) -> Store:
    """The store of a run; CannotRun if there is none."""
    store = open_store(url)
    _needed(store, CONFIG)
    return store


def _needed(store: Store, name: Name) -> bytes:
    try:
        return store.get(name)
    except FileNotFoundError:
        raise exits.CannotRun(f"--run_dir={store.url} is no run: it has no {name}.") from None


def _line(checkpoint: Checkpoint, text: str) -> str:
    return f"step {checkpoint.step:>8}  attempt {checkpoint.attempt:>2}  {text}"


CHECKPOINTS = Command(
    "convoy checkpoints",
    USAGE,
    Table(
        "command",
        {
            "list": Entry(
                "convoy.trainer.verbs.checkpoints:show", "a line for each: step, attempt, size, whether it is the best"
            ),
            "verify": Entry(
                "convoy.trainer.verbs.checkpoints:verify",
                "read every byte, compare sizes and checksums, refuse what no run saves",
            ),
            "copy": Entry(
                "convoy.trainer.verbs.checkpoints:copy",
                "copy one, with configuration and records, to another place",
            ),
        },
    ),
)
