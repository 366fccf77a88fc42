"""Commands that a call from Python starts: their lines, ends and values. A script stands in for them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import convoy
from convoy import calling, exits, supervise

pytestmark = pytest.mark.slow  # processes


@pytest.fixture
def command(monkeypatch, tmp_path):
    """command("print(1)") makes that program the command that is called."""

    def become(text: str) -> None:
        script = tmp_path / "command.py"
        script.write_text("import sys, time, os, signal\n" + textwrap.dedent(text))
        monkeypatch.setattr(supervise, "module", lambda name, argv: [sys.executable, str(script), *argv])

    return become


def test_lines_are_shown_as_they_come(command, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter does
    command(r"""
        print("first", sys.argv[1], os.environ.get("FORCE_COLOR"), os.environ["FOR_IT"])
        print("a warning", file=sys.stderr)
        print("convoy: no restart here.", file=sys.stderr)
        sys.stdout.buffer.write(b"\xff last\n")
    """)
    lines = []
    calling.call(["word"], lines.append, variables={"FOR_IT": "alone"})
    assert lines == ["first word None alone", "\\xff last"]
    assert capsys.readouterr().err == "a warning\nconvoy: no restart here.\n"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (2, exits.UsageError), (42, exits.TryAgain), (65, exits.BadData), (70, exits.Diverged), (78, exits.CannotRun),
        (130, exits.Stopped), (1, exits.ConvoyError), (7, exits.ConvoyError),
    ],
)  # fmt: skip
def test_an_exit_code_becomes_its_exception(command, code, kind, capsys):
    command(f"print('before\\nconvoy: one.\\nconvoy: two:\\n  more', file=sys.stderr); sys.exit({code})")
    with pytest.raises(exits.ConvoyError) as error:
        calling.call([], print)
    assert type(error.value) is kind
    assert str(error.value) == "two:\n  more"
    assert capsys.readouterr().err == "before\nconvoy: one.\n"


def test_a_command_that_is_killed_says_so(command):
    command("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(exits.TryAgain, match="exit code 42"):
        calling.call([], print)


STOPPABLE = """
    def stop(*_):
        print("convoy: stopped, saved at step 7; the same command continues.", file=sys.stderr)
        sys.exit(130)
    signal.signal(signal.SIGINT, {handler})
    print("ready", flush=True)
    time.sleep(60)
"""


def interrupted(times: int = 1) -> list[str]:
    """Calls the command and interrupts this process once it is ready, as a notebook or Ctrl-C does."""
    lines = list[str]()

    def interrupt() -> None:
        while not lines:
            time.sleep(0.01)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        calling.call([], lines.append)
    finally:
        thread.join()
    return lines


def test_an_interrupt_lets_the_run_save_and_is_an_exception(command):
    command(STOPPABLE.format(handler="stop"))
    with pytest.raises(exits.Stopped, match="stopped, saved at step 7; the same command continues"):
        interrupted()


def test_a_second_interrupt_kills(command):
    command(STOPPABLE.format(handler="signal.SIG_IGN"))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted(times=2)
    assert time.monotonic() - began < 20


WRITES = """
    import json
    from pathlib import Path
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[2:])
    print("a table that is not shown", sys.argv[1])
    print("convoy: 1 of the 2 files could not be read.", file=sys.stderr)
    if sys.argv[1] == "evaluate":
        classes = {"<cat>": {"count": 3, "recall": 1 / 3, "precision": None}}
        measured = {"step": 7, "split": flags["split"], "examples": 3, "loss": float("nan"), "accuracy": 1 / 3,
                    "mean_recall": 0.5, "groups": {}, "per_class": classes}
        Path(flags["output"]).write_text(json.dumps(measured))
    else:
        named = Path(flags["list"]).read_text().split("\\0")[:-1]
        classes = [{"name": " ".join(sys.argv[1:9]), "index": 0, "probability": 1e-300}]
        lines = [{"file": name, "classes": classes} for name in named]
        Path(flags["out"]).write_text("\\n".join(map(json.dumps, lines)))
"""


def test_a_measurement_is_a_value_that_shows_itself(command, capsys):
    command(WRITES)
    measured = convoy.Run("runs/x").evaluate("eval", checkpoint=12)
    assert (measured.step, measured.split, measured.accuracy, measured.top5_accuracy) == (7, "eval", 1 / 3, None)
    assert measured.per_class["<cat>"].recall == 1 / 3
    assert repr(measured).splitlines() == [
        "class  examples  recall  precision",
        "<cat>  3         33.3%   -",
        "step 7: 33.33% of 3 eval examples right (loss nan)",
    ]
    assert "&lt;cat&gt;" in measured._repr_html_()
    out, err = capsys.readouterr()
    assert (out, err) == ("", "convoy: 1 of the 2 files could not be read.\n")
    with pytest.raises(exits.BadData, match="^here has no step"):
        convoy.Measurement.from_dict({}, "here")


def test_predictions_are_values_in_the_order_of_their_files(command):
    command(WRITES)
    run = convoy.Run("runs/x")
    found = run.predict(["b c.png", Path("a.png")], top=2, tta=True)
    assert [(p.file, p.error, p.probability) for p in found] == [("b c.png", "", 1e-300), ("a.png", "", 1e-300)]
    assert found[0].name == (
        "predict --run_dir=runs/x --top=2 --tta --checkpoint=last --batch_size=32 --backend= --model="
    )
    assert [p.file for p in run.predict("new/*.png")] == ["new/*.png"]
    assert len(run.predict([])) == 0
    for wrong in ("", "a\0b"):
        with pytest.raises(exits.UsageError, match="names no file"):
            run.predict([wrong])


RUN = """
    import json
    def status(**values):
        with open(os.environ["CONVOY_STATUS_FILE"], "w") as file:
            json.dump(values, file)
        time.sleep(0.6)
    print("begins", flush=True)
    status(step=0, total=60, epoch=0.0, loss=None, images_per_second=None, input_wait=None)
    status(step=30, total=60, epoch=1.5, loss=0.25, images_per_second=1234.5, input_wait=0.0)
    print("ends", flush=True)
"""


def test_a_notebook_has_a_bar_that_moves(command, monkeypatch, capsys, tmp_path):
    bars = []

    class Handle:
        def update(self, bar):
            bars.append((repr(bar), bar._repr_html_()))

    def display(bar, display_id):
        assert display_id is True
        Handle().update(bar)
        return Handle()

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None)))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    command(RUN)
    assert convoy.train(run_dir=tmp_path).run_dir == str(tmp_path)
    assert capsys.readouterr().out == "begins\nends\n"
    assert [text for text, _ in bars] == [
        "0 of 60 steps",
        "30 of 60 steps: epoch 1.5, loss 0.250, 1,234 images/s",
    ]
    assert '<progress value="30" max="60"' in bars[1][1]


def test_a_terminal_has_a_bar_too(command, monkeypatch, tmp_path):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    command(RUN)
    convoy.train(run_dir=tmp_path)
    for words in ("begins", "epoch 1.5", "loss 0.250  1,234 images/s", "ends"):
        assert words in terminal.getvalue()
    assert sys.stdout is terminal


def test_a_command_ends_when_its_caller_dies(tmp_path):
    """Also one that is killed, and what the command itself has started."""
    program = (
        "from convoy import calling\n"
        f"calling.call(['train', '--duration=100000st', '--run_dir={tmp_path / 'run'}'], print)"
    )
    caller = subprocess.Popen([sys.executable, "-P", "-c", program])
    while len(started := descendants(caller.pid)) < 2:  # the command and the run
        assert caller.poll() is None
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    deadline = time.monotonic() + 10
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, started))


def descendants(process: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return children + [pid for child in children for pid in descendants(child)]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
