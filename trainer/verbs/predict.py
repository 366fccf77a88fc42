"""`convoy predict`: opens what it names. trainer/predict.py asks the model.

`python -m convoy.trainer.verbs.predict FLAGS IMAGE...` is the same without its parent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from convoy import destination, exits, options
from convoy.data.images.listing import ImageFile, image_files, listed_places
from convoy.data.images.walk import LeftOut
from convoy.store import open_store
from convoy.trainer import engines
from convoy.trainer.checkpoints.manager import find
from convoy.trainer.flags.prediction import PredictConfig
from convoy.trainer.run_dir import opening
from convoy.verbs import ChildVerb

USAGE = """usage: convoy predict --run_dir=DIR [--flag=value ...] IMAGE|FOLDER|PATTERN ...

Says what a run's model sees in image files, without the run's data set. Of a folder it takes the images at any depth; quote a
pattern ('new/*.jpg') that is too long for your shell. Exit code 65 if no file could be read."""


def _parse(argv: list[str]) -> tuple[PredictConfig, list[str]]:
    values, places = options.parse_with_words(argv, PredictConfig)
    config = PredictConfig(**values)
    if not places and not config.list:
        raise exits.UsageError("no image is named; give files, folders or patterns.")
    return config, places


def _work(parsed: tuple[PredictConfig, list[str]]) -> int:
    config, named = parsed

    def files(left_out: LeftOut) -> Iterator[ImageFile]:
        yield from image_files(named, left_out)
        if config.list:
            yield from image_files(listed_places(config.list), left_out)

    store = open_store(config.run_dir)
    stored = opening.trained_config(store, config.run_dir)
    find(store, config.checkpoint)
    destination.check("out", config.out)
    left_out = LeftOut()
    total = sum(1 for _ in files(left_out))  # a folder that cannot be listed ends it here, before seconds are spent
    if note := left_out.note():
        print(note, file=sys.stderr)
    if not total:
        raise exits.UsageError(f"--list={config.list} names no image; give files, folders or patterns.")
    engines.choose(config.backend or stored.unchecked.backend, stored.unchecked.onednn)
    from convoy.trainer import predict  # imports Keras, which now has the right backend

    return predict.predict_and_print(config, files(LeftOut()), total)


VERB = ChildVerb(USAGE, (PredictConfig,), _parse, _work, module="convoy.trainer.verbs.predict")

if __name__ == "__main__":
    VERB.child()
