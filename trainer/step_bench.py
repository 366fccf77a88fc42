"""How fast a training step is, beside what its devices can do, and where its time goes. `convoy bench step` asks for it."""

from __future__ import annotations

import dataclasses
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from convoy import terminal
from convoy.chips import peak_flops
from convoy.trainer import bench, flops, traces
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import patches, scopes
from convoy.trainer.engines.base import BaseEngine
from convoy.trainer.engines.protocol import Engine
from convoy.trainer.engines.runtime import compute_dtype
from convoy.trainer.experiment import build

SIDES = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # of the matrices whose product is the peak
ROWS = 12  # of the table of layers
_TRACED_SECONDS = 1.0
_ENOUGH = 0.5  # of a profile's time has to have a name
_TOKEN = re.compile(r"([^/()]+)(\(?)")


def measure(config: RunConfig, rounds: int, seconds: float) -> dict[str, Any]:
    """What `--json` prints. Figures are the median of the rounds, with the least and the most.

    Args:
      config: of the run whose step is measured.
      rounds: how often step and peak are measured, in turn.
      seconds: of each measurement.
    """
    if config.duration_spec.in_minutes:
        config = dataclasses.replace(config, duration=RunConfig().duration)
    config = dataclasses.replace(config, batch_ramp="", cache_features=False)
    experiment = build(config, single_process=True)
    config, engine = experiment.config, experiment.engine
    assert isinstance(engine, BaseEngine)
    stage = engine.parts.stages[0]
    work = flops.count(engine.model, experiment.data.dataset.image_shape, {id(v) for v in stage.trained})
    per_step = work.flops * config.batch_size
    engine.feed(experiment.data.train, 0, cached=bench.CACHED)
    layer_scopes: dict[str, str] = {}
    with patches.observed_calls(engine.model, _note_scopes(engine.model, layer_scopes)):
        engine.compile()
    side = SIDES[config.devices_spec.platform]
    multiply = engine.products(side)
    devices, speeds, peaks = config.devices_spec.count, list[float](), list[float]()
    for _ in range(rounds):
        speeds.append(bench.rate(lambda steps: bench.train(engine, steps), seconds))
        peaks.append(bench.rate(multiply, seconds) * 2 * side**3 * devices)
    seconds_of = _traced(engine, max(1, min(50, round(speeds[-1] * _TRACED_SECONDS))))
    breakdown = _breakdown(seconds_of, _names(engine.model, layer_scopes), work)
    speed, peak = statistics.median(speeds), statistics.median(peaks)
    table_peak = peak_flops(engine.device_name, compute_dtype(config.precision))
    return {
        **{name: getattr(config, name) for name in ("model", "batch_size", "precision", "backend", "devices")},
        **{name: getattr(config, name) for name in ("onednn", "xla", "kernels", "accumulate")},
        "images_per_second": speed * config.batch_size,
        "flops_per_second": speed * per_step,
        "peak_fraction": speed * per_step / peak,
        "spread": {
            "images_per_second": _spread([rate * config.batch_size for rate in speeds]),
            "flops_per_second": _spread([rate * per_step for rate in speeds]),
            "peak_flops_per_second": _spread(peaks),
        },
        "flops_per_step": per_step,
        "layers_not_counted": work.uncounted,
        "xla_flops_per_step": engine.compiler_flops(),
        "peak": {"flops_per_second": peak, "matrix": side, "dtype": compute_dtype(config.precision)},
        "table_peak": table_peak
        and {
            "flops_per_second": table_peak * devices,
            "fraction": speed * per_step / (table_peak * devices),
        },
        **breakdown,
        "input_wait_fraction": bench.with_input(experiment, seconds)[1],
        "copy_of_state_seconds": _copy_seconds(engine),
    }


def _spread(figures: Sequence[float]) -> dict[str, float]:
    return {"least": min(figures), "most": max(figures)}


def _note_scopes(model: keras.Model, into: dict[str, str]) -> Callable[..., None]:
    """An observer of calls: TensorFlow's name scope -> the layer's path. Keras opens the scope of a layer more than once, so
    that TensorFlow numbers them: `conv` runs in conv_1, which may be the name of another layer."""
    layers = {id(layer): path for layer, path in flops.paths(model)}

    def note(operation: Any, inputs: Any, outputs: Any) -> None:
        scope = tf.compat.v1.get_default_graph().get_name_scope() if tf.inside_function() else ""
        if scope and id(operation) in layers:
            into[scope] = layers[id(operation)]

    return note


def _names(model: keras.Model, layer_scopes: Mapping[str, str]) -> Callable[[str], tuple[str, str]]:
    """A function: operation -> (part of the step, path of the layer), "" where it has none."""
    by_length = sorted(layer_scopes, key=len, reverse=True)
    every = {path for _, path in flops.paths(model)}

    def layer_of(operation: str) -> str:
        if layer_scopes:
            return next((layer_scopes[scope] for scope in by_length if f"/{scope}/" in f"/{operation}/"), "")
        path = ""
        # transpose(jvp(backbone))/conv/dot_general: functions of JAX, then layers, last what is computed.
        tokens = [match[1] for match in _TOKEN.finditer(operation.rpartition("/")[0]) if not match[2]]
        for token in tokens:
            below = f"{path}/{token}" if path else token
            path = below if below in every else path
        return path

    def names(operation: str) -> tuple[str, str]:
        if part := scopes.scope_of(operation):
            return part, ""
        if layer := layer_of(operation):
            return "layers", layer
        return ("input" if "IteratorGetNext" in operation else "other"), ""

    return names


def _traced(engine: Engine, steps: int) -> dict[str, float]:
    """Operation -> seconds, in so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        engine.start_trace(folder)
        try:
            bench.train(engine, steps)
        finally:
            engine.stop_trace()
        return traces.operation_seconds(folder, engine.operations())


def _breakdown(
    seconds: Mapping[str, float], names: Callable[[str], tuple[str, str]], work: flops.Work
) -> dict[str, Any]:
    """Shares of the time of a step's operations by part and by layer; by FLOPs where a profile does not name them."""
    parts: dict[str, float] = defaultdict(float)
    layers: dict[str, float] = defaultdict(float)
    for operation, own in seconds.items():
        part, layer = names(operation)
        parts[part] += own
        if layer:
            layers[layer] += own
    total, flops_total = sum(parts.values()), work.flops or 1.0
    by_time = total > 0 and parts.get("other", 0.0) <= (1 - _ENOUGH) * total
    measured = {path: own / total for path, own in layers.items()} if by_time else {}
    counted = {path: value / flops_total for path, value in work.layers.items()}
    shares = measured or counted
    rows = [
        {"layer": path, "share": shares.get(path, 0.0), "flops_share": counted.get(path, 0.0)}
        for path in sorted({*shares, *counted}, key=lambda path: -shares.get(path, 0.0))
    ]
    return {
        "shares_are_of": "the time of all operations in a profile" if by_time else "FLOPs",
        "parts": dict(sorted(((part, own / total) for part, own in parts.items()), key=lambda row: -row[1]))
        if by_time
        else {},
        "layers": rows,
    }


def _copy_seconds(engine: Engine) -> float:
    """How long steps stand still for a checkpoint: its state is copied, and written beside them."""
    begun = time.perf_counter()
    for _, tensor in engine.stream_state():
        np.array(tensor)
    return time.perf_counter() - begun


def show(measurement: dict[str, Any]) -> None:
    """The measurement as tables."""
    console = Console(file=terminal.unguarded(sys.stdout), highlight=False, soft_wrap=True)
    spread, peak = measurement["spread"], measurement["peak"]
    table = Table("", box=None, pad_edge=False)
    for name in ("median", "least", "most"):
        table.add_column(name, justify="right")
    for name, unit, key, value in (
        ("images/s", 1.0, "images_per_second", measurement["images_per_second"]),
        ("GFLOP/s", 1e9, "flops_per_second", measurement["flops_per_second"]),
        (f"GFLOP/s of a {peak['dtype']} product", 1e9, "peak_flops_per_second", peak["flops_per_second"]),
    ):
        figures = (value, spread[key]["least"], spread[key]["most"])
        table.add_row(name, *(f"{figure / unit:,.0f}" for figure in figures))
    console.print(table)
    lines = [
        f"A step reaches {measurement['peak_fraction']:.0%} of a product of {peak['matrix']}x{peak['matrix']} matrices."
    ]
    if measurement["table_peak"]:
        lines.append(f"It reaches {measurement['table_peak']['fraction']:.0%} of the peak that its maker names.")
    if measurement["layers_not_counted"]:
        names = ", ".join(measurement["layers_not_counted"])
        lines.append(f"Not counted, as Convoy does not know what they compute: {names}.")
    if measurement["input_wait_fraction"] is not None:
        lines.append(
            f"With the run's own input {measurement['input_wait_fraction']:.0%} of the time is spent waiting for data."
        )
    lines.append(f"A checkpoint stops the steps for {1000 * measurement['copy_of_state_seconds']:,.0f} ms.")
    for line in lines:
        console.print(line, markup=False)
    console.print(_shares(measurement))


def _shares(measurement: dict[str, Any]) -> Table:
    """Where the time goes: the parts of a step, then its largest layers."""
    table = Table(f"share of {measurement['shares_are_of']}", box=None, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("of the FLOPs", justify="right")
    for part, value in measurement["parts"].items():
        table.add_row(part.replace("_", " "), f"{value:.1%}", "")
    rows = measurement["layers"]
    for row in rows[:ROWS]:
        table.add_row(f"  {row['layer']}", f"{row['share']:.1%}", f"{row['flops_share']:.1%}")
    if rest := rows[ROWS:]:
        totals = (sum(row[key] for row in rest) for key in ("share", "flops_share"))
        table.add_row(f"  {len(rest)} more", *(f"{total:.1%}" for total in totals))
    return table
