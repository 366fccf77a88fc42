"""What data a run was begun on: kept in its directory before its first step, compared when it goes on or is measured."""

from __future__ import annotations

import json

from convoy import exits
from convoy.data.identity import Identity
from convoy.outside import parse_object, printable
from convoy.store import Store
from convoy.trainer.checkpoints import format
from convoy.trainer.checkpoints.documents import STATE, CorruptCheckpoint
from convoy.trainer.config import RunConfig
from convoy.trainer.run_dir.files import IDENTITY


def keep(store: Store, identity: Identity) -> None:
    store.put(IDENTITY, json.dumps(identity.to_dict(), indent=1).encode())


def known(store: Store) -> Identity | None:
    """What the run was begun on: by the file of `keep`, or, in a copy or a run from before there was one, by its checkpoints.

    None where neither is there.
    """
    try:
        place = f"{store.url}/{IDENTITY}"
        return Identity.from_dict(parse_object(store.get(IDENTITY), place), place)
    except FileNotFoundError:
        pass
    for checkpoint in reversed(format.complete(store)):
        try:
            state = format.read_state(store, checkpoint)
        except CorruptCheckpoint:  # whoever restores it says so
            continue
        return Identity.from_dict(state, f"{store.url}/{checkpoint.folder}/{STATE}")
    return None


def refuse_other_data(config: RunConfig, now: Identity, then: Identity | None) -> None:
    """CannotRun if the data set is no longer what the run was begun on, as far as that is known, and says what is different."""
    if then and (changes := now.differences(then)):
        raise exits.CannotRun(
            f"--dataset={printable(config.data.dataset)} is not what the run in {config.run_dir} was begun on:"
            f" {'; '.join(changes)}. Bring the old data back, or choose another --run_dir."
        )
