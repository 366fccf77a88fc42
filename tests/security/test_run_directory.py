"""Anybody may have written a run directory: a sentence names the file at fault, and nothing waits."""

from __future__ import annotations

import json

import pytest

from convoy import exits
from convoy.launch import prices
from convoy.store.local import LocalStore
from convoy.trainer.config import RunConfig
from convoy.trainer.outputs import curves, goodput, recorder, records
from convoy.trainer.run_dir import stored_config
from convoy.trainer.run_dir.files import CONFIG
from convoy.trainer.run_dir.finished import read_result
from convoy.trainer.run_dir.opening import next_attempt
from mutations import SEED, case, counts, untouched
from run_files import BAD_IMAGES, EVENTS, KINDS, RECORDS, RESULT, instead, mutated, written


def read_config(store):
    config = stored_config.from_json(store.get(CONFIG), f"{store.url}/{CONFIG}")
    assert isinstance(config.unchecked, RunConfig)


def read_events(store):
    summary = goodput.summarize(records.read_events(store), now=200.0)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert 1 <= next_attempt(store) <= records.MAX_ATTEMPTS


def resume(store):
    records.check(store, 2)
    writer = recorder.Recorder(store, 2)
    writer.resume(2, 0)
    assert writer.lines <= 2
    assert len(records.read_metrics(store)) == writer.lines


# file -> (its right content, its readers)
READERS = {
    "config.json": (RunConfig().to_dict(), read_config),
    "result.json": (RESULT, read_result),
    "metrics.jsonl": (RECORDS, resume),
    "events.jsonl": (EVENTS, read_events),
    "bad_images.jsonl": (BAD_IMAGES, records.read_bad_images),
}


def refused(store: LocalStore, name: str, read) -> bool:
    """Whether a reader refuses the file in a sentence that names it."""
    try:
        read(store)
    except (exits.BadData, exits.CannotRun) as error:
        sentence = str(error)
        assert name in sentence, sentence
        assert sentence.isprintable(), sentence
        assert len(sentence) < 800, sentence
        return True
    return False


@pytest.mark.parametrize("name", READERS)
def test_an_intact_file_is_read(tmp_path, name):
    right, read = READERS[name]
    (tmp_path / name).write_bytes(written(right))
    assert not refused(LocalStore(str(tmp_path)), name, read)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"[" * 10_000 + b"]" * 10_000, b"[]", b"null", b"1", b'"x"', b"9" * 5000, b'{"step": ' + b"9" * 4000 + b"}",
     b"\x00" * 100, b'{"event": 1, "split": [], "step": "x"}'],
    ids=["not UTF-8", "deep", "list", "null", "number", "text", "digits", "large", "zeros", "types"],
)  # fmt: skip
def test_odd_content_is_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    # A journal's line that is no JSON counts as cut short by a crash and is left out.
    tolerated = name in ("events.jsonl", "bad_images.jsonl") and content[:1] in (b"[", b"9", b"\0") and content != b"[]"
    assert refused(LocalStore(str(tmp_path)), name, READERS[name][1]) is not tolerated


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_pipe_link_or_folder_is_read_as_a_record(tmp_path, name, kind):
    path, outside = tmp_path / "run" / name, tmp_path / "outside"
    path.parent.mkdir()
    outside.write_bytes(written(READERS[name][0]))
    instead(path, kind, outside)
    with untouched(tmp_path):
        assert refused(LocalStore(str(path.parent)), name, READERS[name][1])


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("batch_size", "x"), ("batch_size", True), ("batch_size", 64.0), ("batch_size", 2**63), ("batch_size", None),
        ("learning_rate", "0.1"), ("learning_rate", 1e39), ("learning_rate", True), ("dataset", 7), ("dataset", None),
        ("deterministic", 1), ("deterministic", "true"), ("seed", [1]), ("model", {"a": 1}), ("run_dir", "a\x00b"),
        ("duration", 10), ("augment", "rotate:1e400"), ("data_dir", "\ud800"), ("keep", 10**4000), ("run_dir", "a\x1b[2Jb"),
    ],
)  # fmt: skip
def test_values_that_no_flag_takes_are_refused(flag, value):
    with pytest.raises(exits.BadData, match="runs/x/config.json") as error:
        stored_config.from_json(json.dumps({**RunConfig().to_dict(), flag: value}).encode(), "runs/x/config.json")
    assert flag in str(error.value)
    assert str(error.value).isprintable()


def test_an_integer_is_accepted_for_a_float():
    values = {**RunConfig().to_dict(), "learning_rate": 1, "hang_timeout": 30}
    config = stored_config.from_json(json.dumps(values).encode(), "config.json").unchecked
    assert (config.learning_rate, config.hang_timeout) == (1.0, 30.0)
    assert type(config.learning_rate) is float


@pytest.mark.parametrize(("change", "words"), [({"later": 1}, "it has later"), (None, "it has no keep")])
def test_flags_of_another_version_are_named(change, words):
    values = {**RunConfig().to_dict(), **(change or {})}
    if change is None:
        del values["keep"]
    with pytest.raises(exits.CannotRun, match=words):
        stored_config.from_json(json.dumps(values).encode(), "config.json")


@pytest.mark.parametrize("speed", [1000.0, 1e-310, 1e16, -5.0, 1e300])
@pytest.mark.parametrize("epoch", [2.5, 1e-310, 1e300, -2.5])
def test_an_impossible_speed_is_bad_data(tmp_path, speed, epoch):
    result = {**RESULT, "epoch": epoch, "train": {"images_per_second": speed}}
    (tmp_path / "result.json").write_text(json.dumps(result))
    if (speed, epoch) == (1000.0, 2.5):
        assert prices.measured(str(tmp_path)) == (1000.0, 1536)
    else:
        with pytest.raises(exits.BadData, match=r"result\.json tells of .* images a second"):
            prices.measured(str(tmp_path))


def test_a_damaged_record_is_found_before_the_first_step(tmp_path):
    """Otherwise curves.png would find it, after the last step."""
    store = LocalStore(str(tmp_path))
    (tmp_path / "metrics.jsonl").write_bytes(written(RECORDS)[:-20])
    records.check(store, 1)  # the second line is repeated anyway
    with pytest.raises(exits.BadData, match=r"metrics\.jsonl, line 2, .* Remove the line, or metrics\.jsonl"):
        records.check(store, 2)


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    store = LocalStore(str(tmp_path))
    data = written(EVENTS)
    for cut in range(len(data)):
        (tmp_path / "events.jsonl").write_bytes(data[:cut])
        # All lines but the last are complete; the last is complete or left out.
        assert data[:cut].count(b"\n") <= len(records.read_events(store)) <= data[:cut].count(b"\n") + 1


def test_an_impossible_attempt_is_refused(tmp_path):
    (tmp_path / "events.jsonl").write_text(json.dumps({**EVENTS[0], "attempt": 2**62}) + "\n")
    with pytest.raises(exits.BadData, match=r"events\.jsonl tells of attempt"):
        next_attempt(LocalStore(str(tmp_path)))


def test_curves_are_drawn_from_any_records(tmp_path):
    store = LocalStore(str(tmp_path))
    odd = [{"loss": 1e300}, {"loss": -1e300}, {"loss": float("inf")}, {"epoch": 1e300}, {"accuracy": float("nan")}]
    lines = [{**line, **values} for values in odd for line in RECORDS]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves.draw(store, "$x^ of \x1b[2J")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_curves_have_the_splits_of_a_run_and_no_others(tmp_path):
    """Drawing thousands of splits, or a long name, takes minutes."""
    store, odd = LocalStore(str(tmp_path)), ["$x^$", "\x1b[2J", "_x", "", "x" * 5000, *map(str, range(20))]
    pictures = []
    for splits in ([], odd):
        lines = [*RECORDS, *({**RECORDS[0], "split": split, "epoch": 7} for split in splits)]
        (tmp_path / "metrics.jsonl").write_bytes(written(lines))
        curves.draw(store, "digits")
        pictures.append((tmp_path / "curves.png").read_bytes())
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("name", READERS)
@counts(60)
def test_any_file_of_a_run_is_read_or_refused_in_a_sentence(tmp_path, name, count):
    (folder := tmp_path / "run").mkdir()
    store, (right, read), refusals = LocalStore(str(folder)), READERS[name], 0
    for number in range(count):
        with case(SEED, number) as chance:
            for path in folder.iterdir():
                path.unlink()
            (folder / name).write_bytes(mutated(right, chance))
            with untouched(tmp_path, folder):
                refusals += refused(store, name, read)
    assert refusals > count / 5  # many are refused, so the generator works
