"""Whose code a run directory names. Imports nothing heavy, and none of the code that it looks at.

`--model=package.module:function` in a run directory's config.json, or a data set that TFDS would download Python code for, runs
with the rights of whoever reads that directory. A command gets a RunConfig from one by `consented` alone: for a run that this
user began on this machine, which `convoy train` noted in the user's cache, or by a flag of the user's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pkgutil
import re
import sys
import uuid
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path

from convoy import exits, outside
from convoy.data.records.caches import caches
from convoy.trainer.config import RunConfig
from convoy.trainer.models.names import is_users_own
from convoy.trainer.run_dir.stored_config import StoredConfig

# --dataset=NAMESPACE:NAME of TFDS, which downloads Python code for it, and imports that.
_COMMUNITY = re.compile(r"[\w-]+:[A-Za-z]")


@dataclasses.dataclass(frozen=True)
class Code:
    """What an import of a module would run."""

    file: str
    digest: str  # of that file and of the packages' that it is in, which are run before it


def new_id() -> str:
    """What a run is known by, wherever its directory is copied to."""
    return uuid.uuid4().hex


def remember(run_id: str, config: RunConfig) -> list[str]:
    """Notes in the user's cache that this user began, or went on with, a run with code of their own, or data of TFDS or a
    --data_dir.

    Returns what there is to say about it: a cache that cannot be written is no reason to end a run.
    """
    own, data = is_users_own(config.model), config.data
    flags = [f"--model={config.model}"] * own
    flags += ["--data_dir"] if data.data_dir else [f"--dataset={data.dataset}"] * data.dataset_spec.source.downloads
    if not flags:
        return []
    code = code_of(config.model) if own else None
    noted = {"model": config.model, "dataset": data.dataset, "data_dir": data.data_dir}
    noted |= dataclasses.asdict(code) if code else {}
    place = _place(run_id)
    partial = place.with_suffix(f".{os.getpid()}")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            partial.write_text(json.dumps(noted))
            partial.replace(place)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
    except OSError as error:
        needed = " and ".join(flags)
        return [f"{place} cannot be written ({exits.reason(error)}), so `convoy evaluate` may need {needed}."]
    return []


def consented(stored: StoredConfig, run_dir: str, model: str = "", trusted: bool = False) -> RunConfig:
    """Returns the run's configuration. Refuses code that this user does not stand for; drops a --data_dir that somebody else
    chose, and every --compile_cache.

    Args:
      stored: the configuration in the run directory.
      run_dir: where, for the sentence.
      model: --model of the command, "" if it was not given.
      trusted: --trust_model_code.

    Raises:
      exits.CannotRun: it names code of whoever wrote it; nothing was imported.
    """
    config = stored.unchecked
    if model and model != config.model:
        raise exits.CannotRun(
            f"--model={model}, but the run in {run_dir} was begun with --model={config.model}; give that, or leave it out."
        )
    downloads = config.data.dataset_spec.source.downloads
    if not trusted and downloads and _COMMUNITY.match(config.data.dataset):
        raise exits.CannotRun(
            f"{run_dir} names --dataset={outside.printable(config.data.dataset)}, for which TFDS downloads Python code that"
            " would run with your rights; nothing was imported. If you trust it, give --trust_model_code."
        )
    if is_users_own(config.model) and not (trusted or model) and (reason := _why_not(stored)):
        raise exits.CannotRun(
            f"{run_dir} names --model={config.model}, code that would run with your rights, and {reason}; nothing was imported."
            f" If you trust it, give --model={config.model} too, or --trust_model_code."
        )
    # A compiled program is code: where it is read from is this user's to say.
    config = dataclasses.replace(config, compile_cache="auto", trust_compile_cache=False)
    if config.data.dataset_spec.source.copies and not own_place(stored):
        # Copies of records go to the user's cache then, also of those that --dataset says are in a bucket now.
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=""))
    return config


def own_place(stored: StoredConfig) -> bool:
    """Whether this user began the run here: its data may be downloaded, and written to its --data_dir."""
    data, noted = stored.unchecked.data, _noted(stored.run_id)
    return (noted.get("dataset"), noted.get("data_dir")) == (data.dataset, data.data_dir)


def _why_not(stored: StoredConfig) -> str:
    """Why a run is not known as one that this user began here with the code that is here now; "" if it is."""
    model = stored.unchecked.model
    noted = _noted(stored.run_id)
    if noted.get("model") != model:
        return "this is no run that you began on this machine"
    now = code_of(model)
    if now is None:
        return f"that module is not in {Path.cwd()} or among the installed packages"
    if noted.get("file") != now.file:
        return f"its file is now {now.file}, not the {noted.get('file')} of that run"
    return "" if noted.get("digest") == now.digest else f"{now.file} has changed since that run"


def _noted(run_id: str) -> dict[str, object]:
    """What `remember` noted of a run; nothing where there is no note or a damaged one."""
    if not run_id:
        return {}
    place = _place(run_id)
    with contextlib.suppress(OSError, exits.BadData):
        return outside.parse_object(outside.read_file(place, 1 << 16), str(place))
    return {}


def _place(run_id: str) -> Path:
    return caches() / "runs" / f"{run_id}.json"


def code_of(model: str) -> Code | None:
    """What --model=package.module:function would import, without importing anything; None if there is no such file."""
    specs = find(model.partition(":")[0])
    hashed = hashlib.blake2b(digest_size=16)
    for spec in specs:
        source = b""
        if spec.has_location and spec.origin:
            try:
                source = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]
            except (OSError, AttributeError):
                return None
        for part in (spec.name.encode(), source):
            hashed.update(len(part).to_bytes(8, "little") + part)
    if not specs or not specs[-1].has_location:
        return None
    return Code(os.path.realpath(specs[-1].origin or ""), hashed.hexdigest())


def look_here() -> None:
    """Has imports find modules of the current directory.

    Last, so that no file of it can stand in for one of ours or of a library.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def find(module: str) -> list[ModuleSpec]:
    """Where an import of a module would find it, its packages first; empty if nowhere.

    Imports none of them, as Python's own importlib.util.find_spec would.
    """
    look_here()
    top, *rest = module.split(".")
    specs = [spec for finder in sys.meta_path if (spec := finder.find_spec(top, None))][:1]
    for depth in range(len(rest)):
        if not specs:
            return []
        spec = _below(".".join((top, *rest[: depth + 1])), specs[-1].submodule_search_locations or ())
        specs = [*specs, spec] if spec else []
    return specs


def _below(name: str, places: Iterable[str]) -> ModuleSpec | None:
    """A module, by its full name, in a package's folders: the first that has a file of it, else the folders that are one."""
    importers = filter(None, map(pkgutil.get_importer, places))
    specs = [spec for importer in importers if (spec := importer.find_spec(name))]
    for spec in specs:
        if spec.loader:
            return spec
    if not specs:
        return None
    package = ModuleSpec(name, None, is_package=True)  # without __init__.py, it may lie in several folders
    package.submodule_search_locations = [p for spec in specs for p in spec.submodule_search_locations or ()]
    return package
