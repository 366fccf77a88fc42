"""--model=auto, and the image size that goes with --pretrained: settled before anything heavy is imported."""

from __future__ import annotations

import dataclasses

from convoy import exits
from convoy.options import shortened
from convoy.trainer.config import RunConfig
from convoy.trainer.models.names import AUTO
from convoy.trainer.models.pretrained import sources
from convoy.trainer.models.pretrained.description import describe
from convoy.trainer.run_dir.stored_config import StoredConfig

_SIZED = "synthetic:"  # whose argument has the size


def settle(config: RunConfig, stored: StoredConfig | None = None) -> RunConfig:
    """The configuration without the `auto` that --pretrained decides, as config.flags will have it.

    Args:
      config: as it was asked for.
      stored: that of the run in its directory, which has settled them already; the source is not looked at then.

    Raises:
      exits.CannotRun: the source is not there, or does not say which network it is of.
    """
    if not config.pretrained:
        return config
    if stored:
        then = stored.unchecked
        return _with(config, then.model, then.data.image_size, then.data.crop_fraction)
    source = sources.find(config.pretrained)
    description = describe(source, config.model)
    if config.model == AUTO and not description.model:
        raise exits.CannotRun(
            f"--pretrained={shortened(config.pretrained)} does not say of which network it is; give --model too"
            " (`convoy models` lists them)."
        )
    return _with(config, description.model, description.image_size, description.crop_fraction)


def _with(config: RunConfig, model: str, image_size: int, crop_fraction: float | None) -> RunConfig:
    """The configuration with these values in the place of defaults."""
    data = config.data
    size = data.image_size or (0 if data.dataset.startswith(_SIZED) else image_size)
    # Who asks for --fit=pad or squash wants to see all of an image.
    is_own = data.crop_fraction is not None or not size or data.fit != "crop"
    crop = data.crop_fraction if is_own else crop_fraction
    return dataclasses.replace(
        config,
        model=model if config.model == AUTO else config.model,
        data=dataclasses.replace(data, image_size=size, crop_fraction=crop),
    )
