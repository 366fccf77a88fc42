"""`convoy models`: the networks that --model and --pretrained know by name."""

from __future__ import annotations

import dataclasses

from convoy import exits, options
from convoy.options import option
from convoy.table import near
from convoy.trainer.models.names import networks
from convoy.verbs import verb


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """Which networks, and how."""

    like: str = option("", "only those with this text in their name, in any case.", group="Networks")
    json: bool = option(False, "print one JSON document and nothing else.", group="Networks")

    def __post_init__(self) -> None:
        options.check(self)


@verb(
    """usage: convoy models [--like=TEXT] [--json]

Lists the networks that --model takes by name: parameters, the images they were made for, FLOPs, and whose weights there are.
Needs neither Keras nor KerasHub.""",
    ListOptions,
)
def show(wanted: ListOptions) -> None:
    chosen = {name: network for name, network in networks().items() if wanted.like.lower() in name.lower()}
    if not chosen:
        remedy = near(wanted.like, networks(), "leave it out to see all.")
        raise exits.CannotRun(f"--like={wanted.like}: no network has that in its name; {remedy}")
    from convoy.trainer.models.zoo import listing  # imports rich

    listing.show(chosen, wanted.json)
