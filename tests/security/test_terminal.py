"""Text of strangers is shown on a terminal without its escape sequences."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tqdm import tqdm

from convoy import noise, terminal
from support import REPOSITORY

pytestmark = pytest.mark.slow  # processes

CLEAR = "\x1b[2J"
TITLE = "\x1b]0;yours\x07"
HOSTILE = f"a{CLEAR}b{TITLE}c\x9b31md\u202ee\x08f"


def assert_shown(text: str) -> None:
    """Asserts that no escape sequence is left, and that the name is still recognizable."""
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text), repr(text)
    assert "a\\x1b[2Jb" in text


def process(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY
    )


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("raise exits.BadData(f'the image {name} is bad')", 65),
        ("raise exits.CannotRun(name)", 78),
        ("raise ValueError(name)", 1),
        ("print(name)", 0),
        ("print(name, file=sys.stderr)", 0),
        ("sys.stdout.writelines([name])", 0),
        ("import warnings; warnings.warn(name)", 0),
        ("import threading; thread = threading.Thread(target=lambda: 1 / {}[name]); thread.start(); thread.join()", 0),
    ],
)
def test_no_process_of_ours_prints_an_escape_sequence(statement, code):
    done = process(
        f"import sys\nfrom convoy import entry, exits\nname = {HOSTILE!r}\ndef main():\n    {statement}\nentry.call(main)\n"
    )
    assert done.returncode == code
    assert_shown(done.stdout + done.stderr)


def test_names_that_are_no_unicode_are_printed():
    done = process("from convoy import entry\nentry.call(lambda: print('a\\udcffb', end='.'))\n")
    assert (done.returncode, done.stdout) == (0, "a\\udcffb.")


def test_line_breaks_stay_and_carriage_returns_do_not():
    """A carriage return would overwrite the sentence; progress bars use it on stderr."""
    done = process(
        "from convoy import entry, exits\ndef main():\n    raise exits.BadData('one\\ntwo\\rthree')\nentry.call(main)\n"
    )
    assert done.stderr == "convoy: one\ntwo\\rthree\n"


def passed_on(data: bytes, piece: int = 1 << 16) -> str:
    """The stderr of a child, as its parent passes it on."""
    reader, writer = os.pipe()
    target = io.BytesIO()
    with os.fdopen(reader, "rb") as source:
        thread = threading.Thread(target=noise.pass_on, args=(source, target))
        thread.start()
        for start in range(0, len(data), piece):
            os.write(writer, data[start : start + piece])
        os.close(writer)
        thread.join()
    return target.getvalue().decode()


def test_stderr_of_a_child_is_shown():
    text = passed_on(HOSTILE.encode() + b" \xff\xfe\n" + CLEAR.encode()[:2])
    assert text.endswith(" \\xff\\xfe\n\\x1b[")
    assert_shown(text.partition(" ")[0])


BAR = "Dl Size...:  50%|#####     | 1/2 [00:01<00:01,  1.20 MiB/s]"
TRUTH = "convoy: the image cat.png cannot be decoded."


@pytest.mark.parametrize(
    "text",
    [
        f"{TRUTH}\rconvoy: all is well.\n",
        f"{TRUTH}\r{' ' * 80}\n",
        f"{TRUTH}\r{BAR}\n",
        f"{TRUTH}\n\x1b[Aconvoy: all is well.\n",
        f"{TRUTH}\n\n\x1b[A\x1b[A",
        f"{TRUTH}\n{BAR}\n\x1b[A\x1b[A",
        f"\n\n{TRUTH}\x1b[A\n",
        f"\n{BAR}{TRUTH}\n\x1b[A",
        f"{BAR}\rconvoy: {TRUTH}\r",
        f"{'[00:00<' * 200}\r",
    ],
)
@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_no_earlier_line_is_overwritten(text, piece):
    """On a terminal only the last line would be seen."""
    assert re.search(r"\\r|\\x1b\[A", passed_on(text.encode(), piece))


def bars() -> str:
    """The progress bars of TensorFlow Datasets during a download."""
    raw = io.StringIO()
    with contextlib.ExitStack() as stack:
        places = ({"total": 3, "unit": " url"}, {"total": 0, "unit": " MiB"}, {"unit": " examples", "leave": False})
        drawn = [
            stack.enter_context(tqdm(desc="Dl...", position=place, file=raw, mininterval=0, **values))
            for place, values in enumerate(places)
        ]
        for _ in range(3):
            for bar in drawn:
                bar.update()
    return raw.getvalue()


def test_progress_bars_still_move(monkeypatch):
    raw = bars()
    assert raw.count("\x1b[A") > 10
    assert passed_on(raw.encode()) == raw
    assert passed_on(raw.encode(), 1) == raw
    with as_a_terminal(
        monkeypatch, lambda: [sys.stderr.write(part) for part in re.split("(\x1b\\[A|\n)", raw)]
    ) as text:
        assert text == raw
    assert passed_on(b"of Windows\r\n") == "of Windows\r\n"


@contextlib.contextmanager
def as_a_terminal(monkeypatch, show):
    """Within, `show` writes to a stream that claims to be a terminal."""

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    terminal.guard()
    try:
        show()
    finally:
        monkeypatch.undo()
    yield screen.getvalue()


def drawn(text: str) -> str:
    """Removes the escape sequences of rich itself: colours and cursor movements."""
    return re.sub("\x1b\\[(\\?25[lh]|[0-9;]*m|[12]?K|[0-9]*A)|\r", "", text)


def test_the_display_shows_names(monkeypatch):
    from convoy.trainer.outputs.display import Display

    def show():
        display = Display()
        display.block(f"Convoy: {HOSTILE}", [("data", HOSTILE), ("[bold]", ":bug: [red]x")])
        display.line(HOSTILE)
        with display.start(10, 0):
            display.update(1, 0.1, 10.0, None, 1.0)
            display.line(HOSTILE)
            print(HOSTILE)
            print(HOSTILE, file=sys.stderr)

    with as_a_terminal(monkeypatch, show) as text:
        assert "\x1b[1m" in text, "what rich draws with is drawn with"
        assert drawn(text).count("a\\x1b[2Jb") == 6
        assert ":bug: [red]x" in text
        assert_shown(drawn(text))


def test_one_guard_at_a_time_goes_away_with_the_bar(monkeypatch):
    def show():
        terminal.guard()
        print(HOSTILE)

    with as_a_terminal(monkeypatch, show) as text:
        assert text.count("\\x1b") == 2
        assert "\\\\" not in text


def test_the_table_of_an_evaluation_shows_classes(monkeypatch):
    from convoy.trainer.evaluation import show

    values = {"count": 3, "recall": 0.5, "precision": None}
    measured = {"per_class": {HOSTILE: values, "[red]": values}, "step": 3, "accuracy": 0.5, "examples": 6, "loss": 1.0}
    with as_a_terminal(monkeypatch, lambda: show({**measured, "split": "test", "chose_checkpoint": False})) as text:
        assert_shown(drawn(text))
        assert "[red]" in text


def test_names_of_classes_are_not_read_as_formulas(tmp_path):
    """Matplotlib reads text between two $ as a formula, and raises for `$x^$`."""
    import numpy as np

    from convoy.data.preview import draw

    class Batch:
        images = np.zeros((2, 4, 4, 3), np.uint8)
        labels = np.array([[0, 0], [1, 0]])
        label_weights = np.array([[1.0, 0.0], [0.5, 0.5]])

    picture = draw(np.zeros((2, 4, 4, 3), np.uint8), Batch(), ("$x^$", HOSTILE), f"$y_$ {HOSTILE}")  # type: ignore[arg-type]
    assert picture.startswith(b"\x89PNG")


def test_rich_draws_on_the_stream_behind_the_guard():
    """On another stream its escape sequences would be shown, and those of names obeyed."""
    for place in REPOSITORY.glob("*/**/*.py"):
        if place.relative_to(REPOSITORY).parts[0] in ("convoy", "data", "trainer", "launch"):
            for call in re.findall(r"\bConsole\([^)]*\)*", place.read_text()):
                assert "file=terminal.unguarded(" in call or "file=out" in call, place


def test_every_main_has_a_guard():
    """entry.call sets the guard; boot.py of TPU VMs runs without the rest of Convoy and writes to a log."""
    for name in subprocess.run(
        ["git", "ls-files", "*.py"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.split():
        if Path(name).parts[0] in ("convoy", "data", "trainer", "launch") and Path(name).name != "boot.py":
            text = (REPOSITORY / name).read_text()
            if '__name__ == "__main__"' in text:
                assert "entry.call(" in text or "VERB.child()" in text or name == "convoy/__main__.py", name


def test_commands_show_hostile_words_harmlessly(convoy, tmp_path):
    """`convoy evaluate` of a run with hostile names in its configuration."""
    for argv in (
        ["evaluate", f"--run_dir={HOSTILE}"],
        ["train", f"--model={HOSTILE}"],
        [HOSTILE],
        ["train", f"--{HOSTILE}"],
    ):
        outcome = convoy(*argv)
        assert outcome.code in (2, 78), outcome
        assert_shown(outcome.out + outcome.err)
