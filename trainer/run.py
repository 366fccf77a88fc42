"""The story of a run: open the directory and the data, build, restore, train, measure on the test split, tell.

`python -m convoy.trainer.run FLAGS` is the run without its parent; `convoy train` starts it as a child. Where several processes
share a run, all of them tell this story, and the leading one writes it down.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from convoy import chaos, exits, heartbeat, supervise
from convoy.store import Store, open_store
from convoy.store.nowhere import NowhereStore
from convoy.trainer import config as configuration
from convoy.trainer import engines
from convoy.trainer.config import Found, RunConfig
from convoy.trainer.outputs.status import Status
from convoy.trainer.processes import cluster, preemption
from convoy.trainer.processes.signals import Signals
from convoy.trainer.run_dir import results, trust
from convoy.trainer.run_dir.files import BAD_IMAGES, CHECKPOINTS, CONFIG, CURVES, EVENTS, FLAGS, RESULT

BEGAN = time.time()  # of this attempt, before anything heavy is imported


def run(config: RunConfig, signals: Signals | None = None) -> dict[str, Any]:
    """Trains to the end, or continues, and returns what result.json says.

    Args:
      config: the run; its `auto` values are resolved here.
      signals: guards that are installed already; without them the process's signal handlers are left alone.

    Raises:
      exits.ConvoyError: an end that a person can act on, with its exit code.
    """
    config = config.with_defaults()
    is_leader = cluster.from_environment(config.backend).is_leader
    store = open_store(config.run_dir) if is_leader else NowhereStore()
    with store.locked(), Status(store) as status:
        return _run(config, store, status, signals)


def _run(config: RunConfig, store: Store, status: Status, signals: Signals | None) -> dict[str, Any]:
    faults = chaos.from_environment()
    stored = _stored_config(store)
    with heartbeat.beating():
        backend = engines.choose(config.backend)
        import numpy as np

        from convoy.data import memory, splits
        from convoy.data.balance import draws_per_class
        from convoy.data.identity import Identity
        from convoy.data.sources import open_dataset
        from convoy.trainer import checkpoints
        from convoy.trainer.loop.loop import Loop, Plan
        from convoy.trainer.loop.progress import Progress
        from convoy.trainer.loop.result import measure
        from convoy.trainer.outputs import curves, goodput, recorder
        from convoy.trainer.outputs.display import Display
        from convoy.trainer.processes import consensus
        from convoy.trainer.run_dir import data_identity

    runtime = backend.prepare(config)
    if signals:
        signals.install()  # again: creating a strategy replaces handlers silently
    with heartbeat.beating():
        dataset = open_dataset(config.data)
        config = dataclasses.replace(runtime.config, data=splits.resolve(config.data, dataset))
        runtime = dataclasses.replace(runtime, config=config)
        share = config.batch_size // runtime.cluster.processes
        memory.check("batch_size", config.batch_size, "the images of a batch", share * math.prod(dataset.image_shape))
        train, held_out = splits.train_and_eval(config.data, dataset)
        final = splits.final(config.data, dataset, held_out)
        counts = np.bincount(train.labels, minlength=len(dataset.class_names))
        draws = draws_per_class(counts, config.data.balance)
        plan = Plan.from_config(config, int(draws.sum()))
    engine = backend.Engine(runtime, dataset.image_shape, draws)
    heartbeat.beat()
    if signals:
        signals.install()

    identity = Identity(len(train), dataset.class_names, dataset.origin)
    tensors: dict[str, Any] | None = None
    manager: checkpoints.CheckpointManager | None = None

    def begin() -> dict[str, Any]:
        """How this attempt begins: whether the run is finished, the attempt's number and the progress so far."""
        nonlocal tensors, manager
        if stored:
            then = data_identity.known(store)
            _refuse_differences(config, stored, moves=then is not None)
            data_identity.refuse_other_data(config, identity, then)
            if finished := _finished(store, plan.total):
                return {"finished": finished}
        attempt = next_attempt(store)
        manager = checkpoints.CheckpointManager(store, attempt, config.keep, faults)
        faults.at("restore", 0)
        restored = manager.load_latest(lambda found: refuse_other_model(engine, found, config))
        if restored:
            tensors = restored[0]
        progress = restored[1]["progress"] if restored else Progress().to_dict()
        if progress["step"] > plan.total:  # of a shorter run, which --duration cannot make of one
            raise exits.BadData(
                f"{store.url} holds another run: its checkpoint is of step {progress['step']:,}, and the run ends at step"
                f" {plan.total:,}; restore it from a copy, or choose another --run_dir."
            )
        recorder.check(store, progress["lines"])
        return {"finished": None, "attempt": attempt, "progress": progress, "restored": restored is not None}

    display = Display(quiet=not runtime.cluster.is_leader)
    beginning = consensus.leader_decides(engine, begin)
    if beginning["finished"]:
        display.line(f"{config.run_dir} is finished: nothing is left to do of --duration={config.duration}.")
        if runtime.cluster.is_leader:
            _tell(display, config, beginning["finished"], checkpoints.CheckpointManager(store, 0, 1))
        consensus.final_barrier(engine)
        return beginning["finished"]

    # Nothing is written before it is clear that this run may go on here.
    attempt, progress = beginning["attempt"], Progress.from_dict(beginning["progress"])
    manager = manager or checkpoints.CheckpointManager(store, attempt, config.keep, faults)
    if beginning["restored"]:
        engine.restore(tensors)
        tensors = None
    store.remove_partials()
    manager.clean(progress.step)
    run_id = (stored and stored.run_id) or trust.new_id()
    store.put(CONFIG, config.to_json(run_id))
    data_identity.keep(store, identity)
    store.put(FLAGS, config.to_flags().encode("utf-8", "surrogateescape"))
    status.begin(attempt, progress.step, plan.epoch(progress.step), plan.total)
    records = recorder.Recorder(store, attempt)
    where = {"devices": config.devices, "backend": config.backend, "processes": runtime.cluster.processes}
    records.event("start", began=BEGAN, **where)
    records.resume(progress.lines, progress.step)
    dataset.bad.list_in(lambda line: store.append(BAD_IMAGES, line), recorder.read_bad_images(store))
    dataset.bad.check()

    display.block(
        f"Convoy: {config.model} on {config.data.dataset}", _block(config, engine, plan, counts, draws, held_out)
    )
    for note in [*engine.notes, *(trust.remember(run_id, config) if runtime.cluster.is_leader else ())]:
        display.line(f"  Note: {note}")
    if beginning["restored"]:
        records.event("restored", step=progress.step)
        display.line(f"  continues at step {progress.step} of {plan.total}")
        if stored and stored.unchecked.duration != config.duration and config.schedule != "constant":
            display.line(
                f"  Note: --duration was {stored.unchecked.duration}; --schedule={config.schedule} now spans the new one."
            )
    with heartbeat.beating():
        for part in (held_out, final[1]):
            if part is not None:
                part.fetcher()  # decodes what fits in memory: a bad image must not end a run of days
                part.unreadable()  # nor one that can be left out be met for the first time when that is due
        engine.feed(train, (progress.step + progress.shift) * config.batch_size)
    signals = signals or Signals()
    signals.graceful = True  # from here on there is something to save
    heartbeat.beat(heartbeat.CAN_SAVE)
    engine.barrier()  # the others too: one that was still on its way here would leave the rest alone
    records.event("training", step=progress.step)
    records.flush()
    faults.at("start", progress.step)
    with checkpoints.Saver(manager, engine.shapes(), records) as saver:
        Loop(engine, plan, train, held_out, progress, saver, display, status, signals, faults, config, identity).run()

    faults.at("end", progress.step)
    result = measure(config, engine, dataset, counts, final, plan, progress, attempt, signals)
    if result is None:
        raise signals.leave(f"step {progress.step}, the last, before it was measured on the test split")
    if runtime.cluster.is_leader:
        curves.draw(store, dataset.name)
        records.event("finished", step=progress.step)
        records.close()
        result["goodput"] = goodput.summarize(recorder.read_events(store), time.time())
        store.close()
        # Last: a run is finished when it is there.
        store.put(RESULT, (json.dumps(result, indent=1) + "\n").encode())
        _tell(display, config, result, manager)
    engine.barrier()  # the others wait until it is written
    consensus.final_barrier(engine)
    heartbeat.beat(heartbeat.DONE)
    return result


def _stored_config(store: Store) -> Found | None:
    """The configuration of the run that stands there; CannotRun for a place that is something else."""
    try:
        text = store.get(CONFIG)
    except FileNotFoundError:
        if foreign := store.first_entry():
            raise exits.CannotRun(
                f"--run_dir={store.url} holds {foreign} and is no run of Convoy; choose an empty or a new directory."
            ) from None
        return None
    return configuration.from_json(text, f"{store.url}/{CONFIG}")


def _refuse_differences(config: RunConfig, stored: Found, moves: bool) -> None:
    if lines := configuration.differences(stored.unchecked, config, moves):
        raise exits.CannotRun(
            f"--run_dir={config.run_dir} holds another run:\n"
            + "\n".join(lines)
            + "\nGive the same flags to continue it, or another --run_dir to begin a new one."
        )


def next_attempt(store: Store) -> int:
    """The number of the attempt that begins: no other one has written under it, and what it saves will be found again."""
    from convoy.trainer import checkpoints
    from convoy.trainer.outputs import recorder

    told = {EVENTS: recorder.attempts(store), CHECKPOINTS: checkpoints.attempts(store)}
    place = max(told, key=told.__getitem__)
    if told[place] >= recorder.MOST_ATTEMPTS:
        raise exits.BadData(
            f"{store.url}/{place} tells of attempt {told[place]:,}, which no run comes to; remove it there, or choose another"
            " --run_dir."
        )
    return 1 + told[place]


def refuse_other_model(engine: Any, tensors: Mapping[str, Any], config: RunConfig) -> None:
    """CannotRun if a checkpoint's tensors are not those that the model has now."""
    try:
        engine.check(tensors)
    except ValueError as error:
        raise exits.CannotRun(
            f"{config.run_dir} holds another model than --model={config.model} builds now: {error}; bring back the model's"
            " code, or choose another --run_dir."
        ) from error


def _finished(store: Store, total: int) -> dict[str, Any] | None:
    try:
        found = results.read(store)
    except FileNotFoundError:
        return None
    return found if found["step"] >= total else None


def _block(config: RunConfig, engine: Any, plan: Any, counts: Any, draws: Any, held_out: Any) -> list[tuple[str, str]]:
    from convoy.trainer.engines.pace import TARGET_SECONDS

    per_replica = config.batch_size // engine.replicas
    parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
    delay = f"{config.steps_per_loop} steps" if config.steps_per_loop else f"about {2 * TARGET_SECONDS:g} s"
    decay = f", decoupled weight decay {config.weight_decay:g}" if config.weight_decay else ""
    held = f", {len(held_out):,} ({config.data.eval_split}) choose the best" if held_out else ""
    if config.data.eval_split == "test":
        held += " and are the test too: what it finds will be a little too good"
    balance = (
        [("balance", f"{config.data.balance}: {_balance(counts, draws)}")] if config.data.balance != "none" else []
    )
    loss = [("loss", config.loss)] if config.loss != "cross_entropy" else []
    return [
        ("devices", f"{engine.description}, {config.backend}, strategy {config.strategy}, {config.precision}"),
        ("data", f"{counts.sum():,} examples{held}, augment {config.data.augment}"),
        *balance,
        ("batch", f"{config.batch_size} global, {per_replica} per replica{parts}"),
        ("steps", f"{plan.total:,}, {plan.examples / config.batch_size:,.1f} per epoch"),
        ("learning rate", f"{config.peak_learning_rate:g} peak, {config.schedule}, {config.optimizer}{decay}"),
        *loss,
        ("parameters", f"{engine.parameters:,}"),
        ("signal delay", f"at worst one loop, {delay}, and a save"),
        ("run directory", config.run_dir),
    ]


def _balance(counts: Any, draws: Any) -> str:
    """What --balance does to the classes: from how many examples to how many draws."""
    there = counts > 0
    many, few, most, least = counts.max(), counts[there].min(), draws.max(), draws[there].min()
    none = "" if there.all() else f"; {(~there).sum():,} classes have none"
    drawn = f"{most:,} draws each" if most == least else f"{most:,} to {least:,} draws"
    return f"{many:,} to {few:,} examples a class -> {drawn} per epoch{none}"


def _tell(display: Any, config: RunConfig, result: dict[str, Any], manager: Any) -> None:
    """The three lines at the end."""
    from convoy.trainer.checkpoints import format

    measured, train = result["eval"], result["train"]
    last = manager.last or max(format.complete(manager.store), default=None)
    speed = f", {train['images_per_second']:,.0f} images/s" if train["images_per_second"] else ""
    display.line(
        f"{measured['accuracy']:.2%} of {measured['examples']:,} {measured['split']} examples right"
        f" (loss {measured['loss']:.4f}), {result['epoch']:.4g} epochs in {result['wall_seconds']:.0f} s{speed}."
    )
    if bad := result.get("bad_images"):
        display.line(f"{bad:,} images could not be read; {config.run_dir}/{BAD_IMAGES} says which and why.")
    display.line(f"Result {config.run_dir}/{RESULT}, curves {config.run_dir}/{CURVES}")
    if last:
        measure = f"`convoy evaluate --run_dir={config.run_dir}` measures it."
        display.line(f"Checkpoint {config.run_dir}/{last.folder}; {measure}")


def main(argv: list[str]) -> int:
    """The child of `convoy train`: one attempt."""
    signals = Signals()
    signals.install()
    supervise.follow_parent()
    preemption.watch(signals.on_notice)
    run(configuration.from_argv(argv), signals)
    return exits.OK


if __name__ == "__main__":
    exits.call(lambda: main(sys.argv[1:]))
