"""The article's tutorial as a reader would mend it, timed: `python article_keras.py --data_dir=DIR --seed=0 --output=FILE`.

What had to be mended: the input shape is the data's (32x32x3, not 224x224x3), the loss takes integer labels, and Adam's
argument is learning_rate. Everything else is the article's: ImageDataGenerator, batches of 32, fit for 10 epochs, evaluate.
Importing and reading the data are not timed; fit and evaluate are.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import keras
import numpy as np
import tensorflow_datasets as tfds
from keras import layers
from tensorflow.keras.preprocessing.image import ImageDataGenerator


def read(data_dir: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = tfds.as_numpy(
        tfds.load("cifar10", data_dir=data_dir, split=split, as_supervised=True, batch_size=-1)
    )
    return images / np.float32(255), labels


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output", type=Path, required=True)
    flags = parser.parse_args()

    keras.utils.set_random_seed(flags.seed)
    train_images, train_labels = read(flags.data_dir, "train")
    test_images, test_labels = read(flags.data_dir, "test")
    augmentation = ImageDataGenerator(
        rotation_range=15, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True
    )
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(learning_rate=0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )

    begun = time.perf_counter()
    batches = augmentation.flow(train_images, train_labels, batch_size=32, seed=flags.seed)
    model.fit(batches, epochs=flags.epochs, verbose=2)
    _, accuracy = model.evaluate(test_images, test_labels, verbose=2)
    seconds = time.perf_counter() - begun
    flags.output.write_text(json.dumps({"seconds": seconds, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
