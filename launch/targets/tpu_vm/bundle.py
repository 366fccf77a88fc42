"""The code for machines that have none: a tarball named by its own SHA-256.

    convoy/                          this installation
    requirements.txt uv.txt          its dependencies, and their installer: versions and hashes of launch/locks, nothing else
    user/                            the package of --model=package.module:function

Only *.py of those packages is read, and no hidden folder: no data, no configuration, no credentials. The same code gives the
same bytes.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import convoy
import convoy.launch
from convoy import exits
from convoy.listing import files_below, listing
from convoy.outside import Name, below
from convoy.store import open_store
from convoy.trainer.models.names import is_users_own
from convoy.trainer.run_dir import trust

HOUSE = ("convoy", "convoy/data", "convoy/launch", "convoy/trainer")  # in a checkout the last three are links
LOCKS = Path(convoy.launch.__file__).parent / "locks"  # by `make lock`
_MAX_BYTES = 50_000_000
_CODE = Name("code")


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A tarball, .tar.gz."""

    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def name(self) -> Name:
        """Within the bucket's folder."""
        return below(_CODE, f"{self.sha256}.tar.gz")

    def upload(self, bucket: str) -> str:
        """Uploads the bundle below gs://BUCKET/PATH unless it is there; returns its URL."""
        store = open_store(bucket)
        if self.name not in store.list_names(_CODE):
            store.put_if_absent(self.name, self.data)
        return f"{bucket}/{self.name}"


def build(model: str, backend: str) -> Bundle:
    """The code for a run of --model and --backend on TPUs; CannotRun if the model's package is not found here."""
    root = Path(convoy.__file__).parent.parent
    locks = {"requirements.txt": LOCKS / f"{backend}.txt", "uv.txt": LOCKS / "uv.txt"}
    files = {name: path.read_bytes() for name, path in locks.items()}
    for package in HOUSE:
        _add(files, (root / package).resolve(), package)
    if is_users_own(model):
        package_path = _package(model)
        _add(files, package_path, f"user/{package_path.name}")
    if sum(map(len, files.values())) > _MAX_BYTES:
        raise exits.CannotRun(f"the code of --model={model} has more than {_MAX_BYTES:,} bytes; give its own package.")
    return Bundle(gzip.compress(_tar(files), mtime=0))


def _package(model: str) -> Path:
    """The folder, or the one file, of a model's package."""
    top = model.partition(":")[0].partition(".")[0]
    for spec in trust.find(top):
        path = Path(next(iter(spec.submodule_search_locations or [spec.origin or ""])))
        if path.is_dir() or path.suffix == ".py":
            return path
    raise exits.CannotRun(
        f"--model={model}: there is no package {top} in {Path.cwd()} or where Python looks; go to the folder that has it."
    )


def _add(files: dict[str, bytes], package: Path, name: str) -> None:
    if package.is_file():
        files[name] = package.read_bytes()
        return
    with listing(package):
        paths = [Path(entry) for entry in files_below(package) if entry.is_file(follow_symlinks=False)]
    for path in sorted(paths):
        inner = path.relative_to(package)
        if path.suffix == ".py" and not any(part.startswith(".") for part in inner.parts):
            files[f"{name}/{inner.as_posix()}"] = path.read_bytes()


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            # TarInfo's defaults for times, owners and modes are constants.
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            tar.addfile(entry, io.BytesIO(files[name]))
    return buffer.getvalue()
