"""--model -> a built model: a row's, or a user's own function."""

from __future__ import annotations

import importlib
import traceback
from typing import Any

import keras
import numpy as np

from convoy import exits
from convoy.trainer.models import own_module
from convoy.trainer.models.downloads import downloading
from convoy.trainer.models.names import MODELS, is_users_own
from convoy.trainer.run_dir import trust

# Packages that were installed beside convoy once, and are within it now.
_MOVED = ("data", "launch", "trainer")


def build_model(name: str, image_shape: tuple[int, int, int], num_classes: int, **options: Any) -> keras.Model:
    """--model -> a built model; CannotRun, a sentence, if a user's own function is missing or returns something else.

    A user's own module, which is imported, is named by a RunConfig: of the user's flags, or `trust.consented`.

    Args:
      name: as RunConfig has it.
      image_shape: (height, width, channels).
      num_classes: logits of an image.
      options: flags that the model's row takes, `RunConfig.model_options`.
    """
    if is_users_own(name):
        return _users_own(name, image_shape, num_classes)
    prefix, _, argument = name.partition(":")
    return MODELS.load(prefix)(*filter(None, [argument]), image_shape, num_classes, **options)


def _users_own(name: str, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    module_name, function_name = name.split(":")
    trust.look_here()
    try:
        with downloading(name):
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if error.name in _MOVED and package != module_name.split(".")[0]:
            raise exits.CannotRun(
                f"--model={name} imports {package}, which is convoy.{package} now; import it from there, for example Dropout"
                " from convoy.trainer.layers."
            ) from error
        if error.name and module_name.split(".")[0] == package:
            raise own_module.no_module(name) from error
        raise
    function = getattr(module, function_name, None)
    if not callable(function):
        raise own_module.no_function(name, str(module.__file__))
    try:
        with downloading(name):
            model = function(image_shape, num_classes)
        if not isinstance(model, keras.Model):
            raise exits.CannotRun(f"--model={name} returned {type(model).__name__}; it must return a keras.Model.")
        # A call builds a subclassed model too, which neither build() nor compute_output_shape() can be trusted to do.
        logits = model(np.zeros((2, *image_shape)), training=False)
    except (ValueError, TypeError) as error:
        # The layers' own complaints about shapes; the traceback stays, since it is the user's code.
        traceback.print_exc()
        raise exits.CannotRun(
            f"--model={name} cannot be built for images of shape {image_shape} and {num_classes} classes; its error is above."
        ) from error
    shape = tuple(getattr(logits, "shape", ()))
    if shape != (2, num_classes):
        returned = f"outputs of shape {('n', *shape[1:])}" if shape else f"a {type(logits).__name__}"
        raise exits.CannotRun(
            f"--model={name} returns {returned}; it must return logits of shape {('n', num_classes)}."
        )
    last = model.layers[-1] if model.layers else None
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise exits.CannotRun(
            f"--model={name} ends in a softmax; remove it: the loss takes logits and would apply a second one."
        )
    return model
