"""Models by name. A model takes images as floats in [0, 1], [n, height, width, channels], and returns logits."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path

import keras
import numpy as np

from convoy import exits
from convoy.trainer.run_dir import trust

# --model -> the module that has a function of that name.
_MODULES = {
    "article_cnn": "convoy.trainer.models.article_cnn",
    "resnet18": "convoy.trainer.models.resnet",
    "resnet50": "convoy.trainer.models.resnet",
}


def build_model(
    name: str, image_shape: tuple[int, int, int], num_classes: int, stochastic_depth: float = 0.0
) -> keras.Model:
    """--model -> a built model; CannotRun, a sentence, if a user's own function is missing or returns something else.

    A name of a user's own, which is imported, comes from a RunConfig: of the user's flags, or `trust.consented`.
    `stochastic_depth` is 0 for any model but the resnets, which validation sees to.
    """
    if ":" in name:
        return _users_own(name, image_shape, num_classes)
    function = getattr(importlib.import_module(_MODULES[name]), name)
    options = {"stochastic_depth": stochastic_depth} if stochastic_depth else {}
    return function(image_shape, num_classes, **options)


def _users_own(name: str, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    module_name, function_name = name.split(":")
    trust.look_here()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.split(".")[0] == error.name.split(".")[0]:
            raise exits.CannotRun(
                f"--model={name}: there is no module {module_name} in {Path.cwd()} or among the installed packages."
            ) from error
        raise
    function = getattr(module, function_name, None)
    if not callable(function):
        raise exits.CannotRun(f"--model={name}: {module.__file__} defines no function {function_name}.")
    try:
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
