"""Code on its way to machines that have none: a tarball that is named by its own SHA-256.

    convoy/ data/ trainer/ launch/   this installation
    requirements.txt                 what it needs, and the backend's, for JAX in the versions that are here
    user/                            the package of --model=package.module:function

Nothing but *.py of those packages is read, and nothing in hidden folders: no data, no configuration, no credentials. The same
code gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib.metadata
import importlib.util
import io
import re
import tarfile
from pathlib import Path

from convoy import exits
from convoy.store import open_store

HOUSE = ("convoy", "data", "launch", "trainer")
_MOST_BYTES = 50_000_000
_EXTRA = re.compile(r";\s*extra == \"(\w+)\"$")
# TensorFlow's package for TPUs replaces the usual one; there is none after 2.20.
_TENSORFLOW, _TENSORFLOW_TPU = re.compile(r"tensorflow\b(?!-)"), "tensorflow-tpu>=2.20,<2.21"
_NAME = re.compile(r"([\w.-]+)(\[[\w,-]+\])?")
_PUBLIC_VERSION = re.compile(r"[\w.]+")  # 2.9.0+cpu is on no index


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A tarball, .tar.gz."""

    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def name(self) -> str:
        """Within the bucket's folder."""
        return f"code/{self.sha256}.tar.gz"

    def upload(self, bucket: str) -> str:
        """The bundle's URL below gs://BUCKET/PATH; it is written only if it is not there."""
        store = open_store(bucket)
        if self.name not in store.names("code"):
            store.claim(self.name, self.data)
        return f"{bucket}/{self.name}"


def build(model: str, backend: str) -> Bundle:
    """The code for a run of --model and --backend on TPUs; CannotRun if the model's package is not found here."""
    root = Path(__file__).resolve().parent.parent
    files: dict[str, bytes] = {"requirements.txt": "".join(f"{line}\n" for line in requirements(backend)).encode()}
    for package in HOUSE:
        _add(files, root / package, package)
    if ":" in model:
        place = _place(model)
        _add(files, place, f"user/{place.name}")
    if sum(map(len, files.values())) > _MOST_BYTES:
        raise exits.CannotRun(f"the code of --model={model} has more than {_MOST_BYTES:,} bytes; give its own package.")
    return Bundle(gzip.compress(_tar(files), mtime=0))


def requirements(backend: str) -> list[str]:
    """Of this installation, for TPUs, without what only development needs.

    For JAX the versions are those that are installed here, so that all machines, tonight's and tomorrow's, run what was tried
    here; a range stays where there is none. tensorflow-tpu is older than the TensorFlow here, and chooses within the ranges.
    """
    try:
        declared = importlib.metadata.requires("keras-convoy") or []
    except importlib.metadata.PackageNotFoundError:
        raise exits.CannotRun(
            "Convoy is not installed here, so nobody knows what machines need; run `pip install .` in its folder."
        ) from None
    found = []
    for line in declared:
        extra = _EXTRA.search(line)
        if extra is None or (extra[1] == "tpu" and backend == "jax"):
            line = _EXTRA.sub("", line).strip()
            if backend == "jax":
                line = _pinned(line)
            elif _TENSORFLOW.match(line):
                line = _TENSORFLOW_TPU
            found.append(line)
    return sorted(found)


def _pinned(requirement: str) -> str:
    """jax[tpu]<0.13,>=0.10 -> jax[tpu]==0.10.2, if that is installed."""
    match = _NAME.match(requirement)
    assert match is not None
    try:
        version = importlib.metadata.version(match[1])
    except importlib.metadata.PackageNotFoundError:
        return requirement
    return f"{match[0]}=={version}" if _PUBLIC_VERSION.fullmatch(version) else requirement


def _place(model: str) -> Path:
    """The folder, or the one file, of a model's package; as trainer.models looks: the current directory comes last."""
    top = model.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        spec = None
    for place in [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []:
        return place
    if spec and spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin)
    for place in (Path.cwd() / top, Path.cwd() / f"{top}.py"):
        if place.is_dir() or place.is_file():
            return place
    raise exits.CannotRun(
        f"--model={model}: there is no package {top} in {Path.cwd()} or where Python looks; go to the folder that has it."
    )


def _add(files: dict[str, bytes], place: Path, name: str) -> None:
    if place.is_file():
        files[name] = place.read_bytes()
        return
    for path in sorted(place.rglob("*.py")):
        inner = path.relative_to(place)
        if path.is_file() and not path.is_symlink() and not any(part.startswith(".") for part in inner.parts):
            files[f"{name}/{inner.as_posix()}"] = path.read_bytes()


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            # Times, owners and modes of TarInfo are constants.
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            tar.addfile(entry, io.BytesIO(files[name]))
    return buffer.getvalue()
