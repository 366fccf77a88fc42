"""One attempt at a run: build, begin or go on, train, measure, and write down what was reached.

Where several processes share a run, all of them go through this, and the leader writes.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from convoy import chaos, exits, heartbeat
from convoy.store import Store
from convoy.trainer import features, noise_scale
from convoy.trainer.config import RunConfig
from convoy.trainer.experiment import Experiment, build
from convoy.trainer.loggers.base import RunFacts
from convoy.trainer.loggers.loggers import Loggers
from convoy.trainer.loop.loop import Loop
from convoy.trainer.loop.progress import Progress
from convoy.trainer.outputs import curves, goodput, records, summary
from convoy.trainer.outputs.display import Display
from convoy.trainer.outputs.result import measure, write_result
from convoy.trainer.outputs.status import Status
from convoy.trainer.processes import consensus
from convoy.trainer.processes.signals import Signals
from convoy.trainer.report import own_page
from convoy.trainer.run_dir import data_identity, dataset, opening, pretrained, trust
from convoy.trainer.run_dir.files import BAD_IMAGES, CHECKPOINTS, CONFIG, FLAGS, PREDICTIONS, REPORT
from convoy.trainer.run_dir.opening import Beginning
from convoy.trainer.run_dir.stored_config import StoredConfig
from convoy.trainer.session import Session


def attempt(
    config: RunConfig,
    store: Store,
    stored: StoredConfig | None,
    status: Status,
    signals: Signals | None,
    began: float,
    load: bool = False,
) -> dict[str, Any]:
    """Trains to the end, and returns result.json.

    Args:
      config: the run's, as it was asked for.
      store: its directory, locked.
      stored: the configuration that was found there.
      status: is told how far the run is.
      signals: guards that are installed already, if any are.
      began: when this process began, in seconds since 1970.
      load: that of experiment.build.
    """
    faults = chaos.from_environment()
    experiment = build(config, signals, load=load, stored=stored)
    engine = experiment.engine
    display = Display(quiet=not engine.cluster.is_leader)
    beginning = _decide(experiment, store, stored)
    if beginning.finished:
        return _already_finished(experiment, config, store, display, beginning.finished)
    experiment.config.profile_spec.check(experiment.plan.total)
    if experiment.config.noise_scale:
        for sizes in engine.part_sizes.values():
            noise_scale.check(sizes)
    with Loggers(config.log_to_spec.names if engine.cluster.is_leader else (), display.line) as loggers:
        session = Session(
            experiment, store, beginning.attempt, signals or Signals(), display, (status,), faults, loggers
        )
        restored = session.restore(experiment)
        progress = restored or Progress()
        consensus.leader_decides(engine, lambda: records.check(store, progress.lines))
        # Nothing is written before it is clear that this run may go on here.
        notes = _write_down(experiment, config, session, stored, progress, began)
        status.begin(session.attempt, progress.step, experiment.plan.epoch(progress.step), experiment.plan.total)
        summary.show_start(display, experiment)
        for note in [*engine.notes, *notes]:
            display.line(f"  Note: {note}")
        if restored:
            _go_on(experiment, session, stored, progress)
        experiment = _get_ready(experiment, session, progress)
        try:
            with session:
                progress = Loop(experiment, session, progress).run()
            return _finish(experiment, session, progress, config)
        except (exits.Stopped, exits.TryAgain, exits.Diverged):
            own_page.write_in_time(experiment, session)  # with what is known so far
            raise


def _decide(experiment: Experiment, store: Store, stored: StoredConfig | None) -> Beginning:
    """How this attempt begins, the same in all processes; the leader looks."""
    experiment.data.final  # noqa: B018 - a test split that cannot be opened ends the run before anything is written

    def begin() -> dict[str, Any]:
        total = experiment.plan.total
        return dataclasses.asdict(opening.begin(experiment.config, experiment.identity, total, store, stored))

    return Beginning(**consensus.leader_decides(experiment.engine, begin))


def _already_finished(
    experiment: Experiment, asked: RunConfig, store: Store, display: Display, result: dict[str, Any]
) -> dict[str, Any]:
    if experiment.engine.cluster.is_leader and dataset.read(store) is None:
        dataset.write(store, experiment.data)  # which the version that began the run did not
    summary.show_finished(display, asked, result, store)
    consensus.final_barrier(experiment.engine)
    return result


def _write_down(
    experiment: Experiment,
    asked: RunConfig,
    session: Session,
    stored: StoredConfig | None,
    progress: Progress,
    began: float,
) -> list[str]:
    """Writes what the run is and that this attempt has begun; returns notes for the person."""
    config, store, data = experiment.config, session.store, experiment.data
    store.remove_partials()
    session.checkpoints.clean(progress.step)
    run_id = (stored and stored.run_id) or trust.new_id()
    store.put(CONFIG, config.to_json(run_id, _minutes(asked, config, stored)))
    data_identity.keep(store, experiment.identity)
    dataset.write(store, data)
    if record := experiment.engine.pretrained:
        pretrained.keep(store, record)
    store.put(FLAGS, config.to_flags().encode("utf-8", "surrogateescape"))
    where = {
        "devices": config.devices,
        "backend": config.backend,
        "processes": experiment.engine.cluster.processes,
    }
    session.recorder.event("start", began=began, **where)
    session.loggers.begin(_facts(experiment, store, run_id))
    session.recorder.resume(progress.lines, progress.step)
    bad_images = data.dataset.bad
    bad_images.list_in(lambda line: store.append(BAD_IMAGES, line), records.read_bad_images(store))
    bad_images.check()
    return trust.remember(run_id, config) if experiment.engine.cluster.is_leader else []


def _facts(experiment: Experiment, store: Store, run_id: str) -> RunFacts:
    """What the services of --log_to are told of the run."""
    links = {"report": REPORT, "predictions": PREDICTIONS, "checkpoints": CHECKPOINTS}
    return RunFacts(
        run_id,
        name=store.url.rpartition("/")[2],
        flags=experiment.config.to_dict(),
        links={name: f"{store.url}/{file}" for name, file in links.items()},
        evaluates=experiment.data.held_out is not None,
    )


def _minutes(asked: RunConfig, config: RunConfig, stored: StoredConfig | None) -> str:
    """The --duration in minutes that the steps of a run were measured for; "" where they were not."""
    if asked.duration_spec.in_minutes:
        return asked.duration
    return stored.minutes if stored and stored.unchecked.duration == config.duration else ""


def _go_on(experiment: Experiment, session: Session, stored: StoredConfig | None, progress: Progress) -> None:
    """Says where the run goes on, and what a longer --duration does to the schedule."""
    config = experiment.config
    session.recorder.event("restored", step=progress.step)
    session.display.line(f"  continues at step {progress.step} of {experiment.plan.total}")
    if stored and stored.unchecked.duration != config.duration and config.schedule != "constant":
        session.display.line(
            f"  Note: --duration was {stored.unchecked.duration}; --schedule={config.schedule} now spans the new one."
        )


def _get_ready(experiment: Experiment, session: Session, progress: Progress) -> Experiment:
    """Everything before the first step that may take long. From here on a signal is answered by saving."""
    data, engine = experiment.data, experiment.engine
    with heartbeat.beating():
        if experiment.config.cache_features:
            computed = features.compute(engine, data, progress.step, session.display.line)
            experiment = dataclasses.replace(experiment, features=computed)
        for examples in (experiment.held_out(progress.step), data.final[1]):
            if examples is not None:
                examples.fetcher()  # decodes what fits in memory: a bad image must not end a run of days
                examples.unreadable()  # nor one that can be left out be met for the first time when that is due
        engine.enter_stage(progress.step)
        engine.feed(experiment.train(progress.step), progress.position)
    session.signals.graceful = True
    heartbeat.beat(heartbeat.CAN_SAVE)
    engine.barrier()  # a process that died on its way here would leave the others alone
    session.recorder.event("training", step=progress.step)
    session.recorder.flush()
    session.chaos.at("start", progress.step)
    return experiment


def _finish(experiment: Experiment, session: Session, progress: Progress, asked: RunConfig) -> dict[str, Any]:
    """Measures the last weights on the test split and writes result.json, which makes the run finished."""
    engine, store = experiment.engine, session.store
    session.chaos.at("end", progress.step)
    measured = measure(experiment, session, progress)
    if measured is None:
        raise session.signals.leave(f"step {progress.step}, the last, before it was measured on the test split")
    result, logits = measured
    if engine.cluster.is_leader:
        if logits:
            own_page.keep_pictures(experiment, session, result, logits)
        curves.draw(store, experiment.data.dataset.name)
        session.recorder.event("finished", step=progress.step)
        session.recorder.close()
        with heartbeat.beating():
            session.loggers.finish(result)
        result["goodput"] = goodput.summarize(records.read_events(store), time.time())
        store.close()
        write_result(store, result)
        own_page.write(experiment, session)
        summary.show_end(session.display, asked, result, session.checkpoints.last)
    engine.barrier()  # the other processes wait until it is written
    consensus.final_barrier(engine)
    heartbeat.beat(heartbeat.DONE)
    return result
