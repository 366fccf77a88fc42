"""Fixtures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buckets import Emulator
from support import DATA, REPOSITORY, Outcome, command, environment, write_images

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Most of a short run on JAX is compiling what the test before compiled.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
# Lists of folders are kept there; a person's own stay as they are.
os.environ["XDG_CACHE_HOME"] = str(REPOSITORY / ".pytest_cache" / "xdg")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for a job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def signals_stay() -> Iterator[None]:
    """No test takes over the signals of pytest's process: one that a later test sends would end it without a word."""
    yield
    assert signal.set_wakeup_fd(-1) == -1


@pytest.fixture(autouse=True)
def operations_stay() -> Iterator[None]:
    """No test makes TensorFlow's operations deterministic in pytest's process, which nothing takes back."""
    yield
    if config := sys.modules.get("tensorflow.python.framework.config"):
        assert not config.is_op_determinism_enabled()


@pytest.fixture
def convoy(tmp_path: Path) -> Callable[..., Outcome]:
    """convoy("train", "--flag", cwd=..., CHAOS="kill:snapshot@20") -> Outcome."""

    def call(*argv: object, cwd: Path | None = None, chaos: str = "", **variables: str) -> Outcome:
        env = environment(**variables, **({"CONVOY_CHAOS": chaos} if chaos else {}))
        done = subprocess.run(
            command(*argv), cwd=cwd or tmp_path, env=env, capture_output=True, text=True, timeout=150, check=False
        )
        return Outcome(done)

    return call


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """--data_dir of the real CIFAR-10."""
    if not (DATA / "tfds" / "cifar10").is_dir():
        pytest.skip(f"no prepared CIFAR-10 in {DATA}/tfds (CONVOY_TEST_DATA)")
    return DATA / "tfds"


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """An emulator of Google Cloud Storage with gs://bucket in it."""
    with Emulator() as emulator:
        emulator.create("bucket")
        yield emulator


@pytest.fixture
def bucket(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty place in the emulator's bucket, which all processes of the test find."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.host)
    monkeypatch.delenv("CONVOY_WRITER", raising=False)
    return f"gs://bucket/{uuid.uuid4().hex}"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of two classes, 12 JPEG and PNG images of 20x24 pixels each."""
    root = tmp_path / "photographs"
    write_images(root, classes=("cat", "dog"), each=12)
    return root


@pytest.fixture
def state_directory(tmp_path, monkeypatch) -> Iterator[None]:
    """An empty directory in which jobs on this machine are kept; none outlives the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    yield
    from convoy.launch.targets.local.target import LocalTarget

    for state in LocalTarget().jobs():
        LocalTarget().cancel(state.name)
