"""What TensorBoard gets of a finished run: pictures of its last measurement, and its flags for the HParams tab.

All of it is one event file, written as a whole in the place of an earlier one. So nothing of it comes twice, however often
a run ends. Imports no TensorFlow.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from convoy.outside import below
from convoy.store import Store
from convoy.trainer import figures
from convoy.trainer.logits import Logits
from convoy.trainer.report import charts, sheets
from convoy.trainer.report.pictures import Pictures
from convoy.trainer.run_dir.files import TENSORBOARD

_SUFFIX = ".result"
_HPARAMS = "hparams"  # the plugin's name


def write(
    store: Store,
    step: int,
    flags: Mapping[str, Any],
    measured: Mapping[str, Any],
    logits: Logits,
    class_names: Sequence[str],
    pictures: Pictures,
) -> None:
    """Writes what TensorBoard gets of a run that ends.

    Args:
      store: the run directory.
      step: the last.
      flags: name -> value, all of them.
      measured: `accuracy` and `loss` of the last measurement.
      logits: of its examples.
      class_names: of the classes, in order.
      pictures: of some of these examples.
    """
    board = FinalBoard()
    results = {f"result/{name}": float(measured[name]) for name in ("accuracy", "loss")}
    board.scalars(step, results)
    board.hyperparameters(flags, tuple(results))
    if len(class_names) <= charts.DRAWN:
        counts = figures.confusion(logits, len(class_names))
        board.image("result/confusion", step, charts.matrix_png(counts, class_names))
    rows = np.searchsorted(logits.index, pictures.index)
    labels, guesses = ([class_names[label] for label in each[rows]] for each in (logits.label, logits.guess))
    board.image("result/examples", step, sheets.examples(pictures.images, labels, guesses))
    board.write(store)


class FinalBoard:
    """An event file in the making; `write` puts it into the run directory."""

    def __init__(self) -> None:
        self._file = io.BytesIO()

    def image(self, tag: str, step: int, png: bytes) -> None:
        """Adds a picture."""
        from tensorboard.compat.proto import summary_pb2

        width, height = Image.open(io.BytesIO(png)).size
        picture = summary_pb2.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._add(step, tag=tag, image=picture)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for tag, value in values.items():
            self._add(step, tag=tag, simple_value=value)

    def hyperparameters(self, flags: Mapping[str, Any], metrics: tuple[str, ...]) -> None:
        """Adds a session of the HParams plugin that has ended: all flags, and the tags of the scalars that measure it."""
        from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

        infos = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics]
        now = time.time()
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=now)
        for name, value in flags.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[name].number_value = value
            elif value is not None:
                start.hparams[name].string_value = str(value)
        end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=now)
        data = plugin_data_pb2.HParamsPluginData
        self._plugin("experiment", data(experiment=api_pb2.Experiment(metric_infos=infos, time_created_secs=now)))
        self._plugin("session_start_info", data(session_start_info=start))
        self._plugin("session_end_info", data(session_end_info=end))

    def write(self, store: Store) -> None:
        """Puts the file in the place of that of an earlier end of the run."""
        for earlier in store.list_names(TENSORBOARD):
            if earlier.endswith(_SUFFIX):
                store.remove(earlier)
        # TensorBoard reads files by their names, and never goes back: this one comes after that of the attempt.
        name = f"events.out.tfevents.{int(time.time()) + 1:010d}{_SUFFIX}"
        store.put(below(TENSORBOARD, name), self._file.getvalue())

    def _plugin(self, tag: str, data: Any) -> None:
        from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

        plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name=_HPARAMS, content=data.SerializeToString())
        shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=0)])
        nothing = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape=shape)
        metadata = summary_pb2.SummaryMetadata(plugin_data=plugin)
        self._add(0, tag=f"_hparams_/{tag}", metadata=metadata, tensor=nothing)

    def _add(self, step: int, **value: Any) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(**value)])
        event = event_pb2.Event(step=step, wall_time=time.time(), summary=summary)
        RecordWriter(self._file).write(event.SerializeToString())
