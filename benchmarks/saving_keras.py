"""One run of Keras `fit` for benchmarks/saving.py: prints what its steps and the saves within them took, as JSON.

`python benchmarks/saving_keras.py SIDE`, with `none` for a run that does not save.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

from convoy.trainer.models.build import build_model
from saving import BATCH, BEGIN, CLASSES, END, PIXELS, SAVE, STEPS


class Manager(keras.callbacks.Callback):
    """tf.train.CheckpointManager, as its guide uses it."""

    def __init__(self, folder: str):
        super().__init__()
        self.folder = folder

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        self.manager = tf.train.CheckpointManager(checkpoint, self.folder, max_to_keep=2)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if (batch + 1) % SAVE == 0:
            self.manager.save()


CALLBACKS = {
    "none": lambda folder: keras.callbacks.Callback(),
    "ModelCheckpoint": lambda folder: keras.callbacks.ModelCheckpoint(f"{folder}/last.keras", save_freq=SAVE),
    "BackupAndRestore": lambda folder: keras.callbacks.BackupAndRestore(folder, save_freq=SAVE),
    "CheckpointManager": Manager,
    "OrbaxCheckpoint": lambda folder: keras.callbacks.OrbaxCheckpoint(folder, save_freq=SAVE, max_to_keep=2),
}


class Clock(keras.callbacks.Callback):
    """Calls another callback and times it, and the steps around it."""

    def __init__(self, inner: keras.callbacks.Callback):
        super().__init__()
        self.inner = inner
        self.begun = self.wall = self.in_save = self.rss = 0.0
        self.saves = 0

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.inner.set_model(model)

    def set_params(self, params: dict[str, object]) -> None:
        super().set_params(params)
        self.inner.set_params(params)

    def on_train_begin(self, logs: object = None) -> None:
        self.inner.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.inner.on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        self.inner.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        now = time.perf_counter()
        if batch + 1 == BEGIN:
            self.begun = now
        if batch + 1 == END:
            self.wall = now - self.begun
            self.rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.inner.on_train_batch_end(batch, logs)
        if batch + 1 == SAVE:
            self.in_save += time.perf_counter() - now
            self.saves += 1


def main() -> None:
    side = sys.argv[1]
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (5120, PIXELS, PIXELS, 3), dtype=np.uint8)
    stream = tf.data.Dataset.from_tensor_slices((images, generator.integers(0, CLASSES, len(images)))).repeat()
    stream = stream.batch(BATCH).map(lambda x, y: (tf.cast(x, tf.float32) / 255, y), num_parallel_calls=2).prefetch(2)
    model = build_model("resnet50", (PIXELS, PIXELS, 3), CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA, which Keras would take, computes convolutions on CPUs far more slowly.
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), loss, jit_compile=False)
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(CALLBACKS[side](folder))
        model.fit(stream, steps_per_epoch=STEPS, epochs=1, verbose=0, callbacks=[clock])
        if side == "OrbaxCheckpoint":
            clock.inner.on_train_end()  # waits for what it does in the background
    print(json.dumps({"wall": clock.wall, "in_save": clock.in_save, "saves": clock.saves, "rss": clock.rss}))


if __name__ == "__main__":
    main()
