"""TensorFlow in this process: one CPU device, Keras' global settings as they were after every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import once


@pytest.fixture(autouse=True)
def keras_settings():
    import keras

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """A finished run on digits, whose test split lies beside it as PNG files named INDEX-DIGIT."""

    def make(place: Path) -> None:
        from PIL import Image

        from convoy.data.config import DataConfig
        from convoy.data.sources.opening import open_dataset
        from convoy.trainer.config import RunConfig
        from convoy.trainer.run import run

        test = open_dataset(DataConfig("digits")).split("test")
        (place / "new").mkdir()
        for index, (image, label) in enumerate(zip(test.images, test.labels, strict=True)):
            Image.fromarray(image[..., 0]).save(place / "new" / f"{index:04d}-{label}.png")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("convoy.trainer.outputs.curves.draw", lambda *values: None)
            run(RunConfig(str(place / "run"), DataConfig("digits", eval_split="none"), duration="25st", report=False))

    return once(tmp_path_factory, "predict", make)
