"""Keras' global settings as they were, after every test of this process."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def keras_settings():
    import keras

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
