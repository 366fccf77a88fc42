"""The field's words: none of the paraphrases that were replaced comes back as a name.

A paraphrase is banned on all floors, but for the places listed with it, where the word means something else. A word with a
common meaning of its own is banned only in the files where it stood for something else.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator

import pytest

from support import REPOSITORY

FLOORS = ("convoy", "data", "trainer", "launch")
MAX_ANY = 59  # a quarter of the 237 there were in data/ and trainer/engines

# old name -> the field's name
PARAPHRASES = {
    "pulse": "heartbeat",
    "tell": "beat",
    "speak_into": "connect",
    "GENTLE": "CAN_SAVE",
    "gentle": "graceful",
    "Deal": "BatchSharding",
    "deal": "batch_sharding",
    "part_of": "slice_batch",
    "batch_of": "slice_batch",
    "one_by_one": "unrolled",
    "Drawn": "Sample",
    "Stretches": "PositionRanges",
    "in_pairs": "padded_to_pairs",
    "rows_in_pairs": "rows_after_padding",
    "least_area": "min_area",
    "least": "min, low",
    "most": "max, high, limit",
    "MOST_SKIPPED": "MAX_CONSECUTIVE_SKIPS",
    "heed": "on_notice",
    "notices": "preemption",
    "guards": "signals",
    "together": "consensus",
    "agree": "any, barrier",
    "leads": "is_leader",
    "Pace": "StepsPerLoop",
    "took": "record",
    "speaks": "has_cross_replica_layers",
    "alone": "exclusive_lock, ignore_cluster, dispatch_each_step",
    "Setting": "Runtime",
    "setting": "runtime",
    "Place": "WorkerIdentity",
    "Where": "TargetOptions",
    "Outage": "OutageTolerance",
    "borne": "tolerate",
    "patient": "enabled",
    "AWAY_SECONDS": "MAX_OUTAGE_SECONDS",
    "Keeper": "CheckpointManager",
    "newest": "load_latest",
    "passing": "on_phase",
    "Damaged": "CorruptCheckpoint",
    "claim": "put_if_absent",
    "foreign": "first_entry",
    "take_back": "restore_unless",
    "of": "a name that does not begin with a preposition",
    "of_waiting": "input_advice",
    "of_job": "job_cost",
    "of_the_leader": "from_leader",
    "averaged": "averaged_variables",
    "is_in": "has_batch_normalization",
    "a_stream_each": "decorrelate_replicas",
    "undisturbed": "seed_initializers",
    "right": "is_correct",
    "Rhythm": "Schedule and checkpoints",
    "one": "the noun of the thing",
    "found": "the noun of the thing",
    "some": "the noun of the thing",
    "there": "the noun of the thing",
    "made": "the noun of the thing",
    "told": "the noun of the thing",
    "left": "the noun of the thing, remaining",
}
# (old name, where) -> what it means there
MEANINGS = {
    ("together", "trainer/bench.py"): "the speed of input and step at once, as the measurement calls it",
    ("one", "data/augment/geometry.py"): "the number 1",
    ("tell", "convoy/store/gcs_streams.py"): "a method of Python's file objects",
    ("tell", "data/images/probe.py"): "a method of Python's file objects",
    ("tell", "data/records/index.py"): "a method of Python's file objects",
    ("tell", "trainer/checkpoints/snapshot.py"): "a method of Python's file objects",
    ("left", "data"): "a side of an image or a box",
    ("right", "data"): "a side of an image or a box",
}
# word -> (the field's name for what it once stood for, the files where it did)
ONCE = {
    "Name": ("JobName", ("launch/flags.py", "launch/watch.py", "launch/submit.py")),
    "Order": ("Sampler", ("data",)),
    "counts": ("valid", ("data/sources/in_memory.py", "data/sources/packed.py", "data/augment/mix.py")),
    "decide": ("leader_decides", ("trainer/processes", "trainer/loop", "trainer/run.py", "trainer/attempt.py")),
    "draw": ("sample", ("data/sampler.py", "data/pipeline.py")),
    "fetch": ("download", ("convoy/store",)),
    "first": ("first_replica", ("data/pipeline.py",)),
    "hands": ("shards", ("data/pipeline.py",)),
    "local": ("local_replicas", ("data/pipeline.py", "trainer/engines")),
    "names": ("list_names", ("convoy/store/protocol.py",)),
    "part": ("final_barrier", ("trainer/processes",)),
    "parts": ("microbatches", ("data/pipeline.py", "data/sharding.py", "trainer/engines/runtime.py")),
    "place": ("strategy_or_mesh", ("trainer/engines",)),
    "remember": ("snapshot", ("trainer/engines",)),
    "share": ("broadcast", ("trainer/engines", "trainer/processes")),
    "shares": ("label_weights", ("data/pipeline.py", "data/preview.py", "trainer/losses", "trainer/engines")),
    "shown": ("times_seen", ("data/sampler.py",)),
    "sizes": ("microbatch_sizes", ("data/pipeline.py", "trainer/engines/runtime.py")),
    "sweep": ("remove_partials", ("convoy/store",)),
    "take": ("write", ("trainer/checkpoints",)),
    "working": ("beating", ("convoy/heartbeat.py", "trainer/run.py")),
}


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module defines or uses, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg, node.value.lineno
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name, node.lineno


@functools.cache
def uses() -> dict[str, list[tuple[str, int]]]:
    """name -> its files and lines, of the four floors."""
    lines: dict[str, list[tuple[str, int]]] = {}
    for floor in FLOORS:
        for path in sorted((REPOSITORY / floor).rglob("*.py")):
            inner = path.relative_to(REPOSITORY)
            if inner.parts[0] == "convoy" and inner.parts[1] in FLOORS:
                continue  # a link to a floor
            for name, line in names(ast.parse(path.read_text())):
                lines.setdefault(name, []).append((str(inner), line))
    return lines


def lies_in(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def excused(name: str, path: str) -> bool:
    return any(word == name and lies_in(path, place) for word, place in MEANINGS)


@pytest.mark.parametrize("name", PARAPHRASES)
def test_a_paraphrase_is_no_name(name):
    lines = [f"{path}:{line}" for path, line in uses().get(name, ()) if not excused(name, path)]
    assert not lines, f"`{name}`: use {PARAPHRASES[name]}"


@pytest.mark.parametrize("name", ONCE)
def test_a_word_has_its_common_meaning(name):
    standard, places = ONCE[name]
    lines = [f"{path}:{line}" for path, line in uses().get(name, ()) if any(lies_in(path, place) for place in places)]
    assert not lines, f"`{name}`: use {standard}"


def test_every_exception_is_needed():
    for name, place in MEANINGS:
        assert any(lies_in(path, place) for path, _ in uses().get(name, ())), (name, place)


def test_arrays_have_types():
    folders = [REPOSITORY / "data", REPOSITORY / "trainer" / "engines"]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    words = {str(path): len(re.findall(r"\bAny\b", path.read_text())) for path in files}
    assert sum(words.values()) <= MAX_ANY, {path: count for path, count in words.items() if count}
