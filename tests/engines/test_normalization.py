"""Synchronized statistics: those of the global batch, also where the mean is a million times the deviation."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import numpy as np, tensorflow as tf, keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from convoy.trainer.engines.normalization import install
from convoy.trainer.engines.tensorflow.step import all_sum
from convoy.trainer.flags.specs import BatchNormSpec
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x = (np.random.default_rng(0).normal(size=(64, 3, 3, 4)) + 1e4).astype(np.float32)
with strategy.scope():
    layer = keras.layers.BatchNormalization(momentum=0.0)
    layer.build(x.shape)
install(keras.Sequential([layer]), BatchNormSpec.parse("sync"), all_sum, 2)

@tf.function(autograph=False)
def normalize():
    def one():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return layer(tf.constant(x)[replica * 32:(replica + 1) * 32], training=True)
    return strategy.run(one)

for _ in range(3):  # the shift finds the mean after the first
    y = np.concatenate([part.numpy() for part in strategy.experimental_local_results(normalize())])
exact = x.astype(np.float64)
variance = exact.var((0, 1, 2))
expected = (exact - exact.mean((0, 1, 2))) / np.sqrt(variance + layer.epsilon)
print(np.abs(y - expected).max(), np.abs(layer.moving_variance.numpy() / variance - 1).max(),
      np.abs(np.array(layer.moving_mean) - exact.mean((0, 1, 2))).max())
"""


def test_statistics_of_the_global_batch_without_cancellation():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    output, variance, mean = map(float, done.stdout.split())
    # float32 at 1e4 resolves 1e-3 of a deviation; E[x^2] - E[x]^2 would be off by several times the variance.
    assert output < 5e-3
    assert variance < 1e-3
    assert mean < 2e-3
