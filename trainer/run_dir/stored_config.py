"""A run directory's config.json.

Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import re

from convoy import exits, options
from convoy.data.config import DataConfig
from convoy.outside import parse_object
from convoy.trainer.config import RunConfig, from_dict
from convoy.trainer.flags.run.machine import AUTO_BUCKETS

_RUN_ID, _MINUTES = re.compile(r"[0-9a-f]{32}"), re.compile(r"(?=.*[1-9])[0-9]{1,12}(\.[0-9]{1,20})?min")
# Flags that every run has. One that was added later may be missing: its default does what runs did before it, or what stands
# in _BEFORE does.
_FIRST = {
    "run_dir", "dataset", "data_dir", "eval_split", "image_size", "augment", "balance", "bad_images", "max_bad_fraction",
    "cache_bytes", "model", "stochastic_depth", "precision", "batchnorm", "batch_size", "duration", "optimizer",
    "learning_rate", "scale_lr", "schedule", "warmup", "weight_decay", "clip_norm", "loss", "label_smoothing", "ema",
    "accumulate", "eval_every", "checkpoint_every", "keep", "steps_per_loop", "restarts", "on_nan", "seed", "deterministic",
    "devices", "backend", "strategy", "xla", "hang_timeout",
}  # fmt: skip

_BEFORE = {"kernels": "1", "onednn": "tensorflow", "gradient_buckets": 1}


@dataclasses.dataclass(frozen=True)
class StoredConfig:
    """The configuration in a run directory.

    Anybody may have written it, and its --model may name their code: compare it, but build nothing of it.
    `run_dir.trust.consented` returns a RunConfig that this user stands for.

    Attributes:
      unchecked: the configuration.
      run_id: the key of the run in this user's cache; "" in runs of versions that wrote none.
      minutes: the --duration that was asked for, where that of the configuration was measured for it; else "".
    """

    unchecked: RunConfig
    run_id: str
    minutes: str = ""

    def computing(self, config: RunConfig) -> RunConfig:
        """A configuration that goes on with this run: `auto` where the run has measured or chosen a way to compute is that."""
        kept = {
            name: getattr(self.unchecked, name) for name in _BEFORE if getattr(config, name) in ("auto", AUTO_BUCKETS)
        }
        return dataclasses.replace(config, **kept)


def from_json(text: bytes, place: str) -> StoredConfig:
    """Parses a run directory's config.json.

    Raises:
      exits.BadData: it is no configuration, or an impossible one.
      exits.CannotRun: it has other flags than this version.
    """
    values = parse_object(text, place)
    run_id, minutes = values.pop("run_id", ""), values.pop("minutes", "")
    flags = {field.name: field.default for field in options.fields(RunConfig, DataConfig)}
    values = {name: default for name, default in flags.items() if name not in _FIRST} | _BEFORE | values
    if mismatched := sorted(flags.keys() ^ values.keys()):
        raise exits.CannotRun(
            f"{place} is not the configuration of a run that this version of Convoy understands (it"
            f" {'has no' if mismatched[0] in flags else 'has'} {options.shortened(mismatched[0])}); continue it with the"
            " version that wrote it, or choose another --run_dir."
        )
    try:
        config = from_dict(values)
    except (TypeError, exits.CannotRun) as error:
        raise exits.BadData(f"{place} is not the configuration of a run: {error}") from error
    if config.duration_spec.in_minutes:
        raise exits.BadData(f"{place} is not the configuration of a run: its duration was not measured.")
    measured = isinstance(minutes, str) and _MINUTES.fullmatch(minutes) and config.duration_spec.unit == "st"
    return StoredConfig(
        config,
        run_id if isinstance(run_id, str) and _RUN_ID.fullmatch(run_id) else "",
        minutes if measured else "",
    )
