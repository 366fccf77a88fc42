"""What `convoy models` prints: the networks, from the tables of names alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from convoy import terminal
from convoy.trainer.models.zoo.families import Network


def document(networks: Mapping[str, Network]) -> list[dict[str, Any]]:
    """An object for each network."""
    return [
        {
            "model": model,
            "family": network.family.title,
            "source": network.family.source,
            "parameters": network.parameters,
            "image_size": network.side,
            "multiply_adds": network.multiplications,
            "licence": network.family.licence,
            "weights": weights(model, network),
        }
        for model, network in networks.items()
    ]


def weights(model: str, network: Network) -> list[str]:
    """Where weights of a network come from: sources as a person would name them; none for one that has none."""
    if model.startswith("keras:"):
        return ["ImageNet-1k"]
    if model.startswith("hub:"):
        return [*network.presets]
    return ["ImageNet-1k, timm"] if network.family.licence else []


def show(networks: Mapping[str, Network], as_json: bool) -> None:
    """Prints the networks: a table, or a JSON document."""
    if as_json:
        print(json.dumps(document(networks), indent=1))
        return
    console = Console(file=terminal.unguarded(sys.stdout), highlight=False, emoji=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("--model=", no_wrap=True)
    for name in ("parameters", "pixels", "FLOPs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("weights", overflow="fold")
    for row in document(networks):
        # A preset begins with the name of its network.
        own = f"{row['model'].partition(':')[2]}_"
        first, *others = [source.removeprefix(own) for source in row["weights"]] or ["none"]
        licence = f" ({row['licence']})" * bool(row["weights"])
        table.add_row(
            row["model"],
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['image_size']}",
            f"{row['multiply_adds'] / 1e9:.2f} G",
            f"{first}{f' and {len(others)} more' * bool(others)}{licence}",
        )
    console.print(table)
    console.print(
        "Parameters and FLOPs (one multiplication with its addition) are of 1000 classes and images of that size. --json has"
        " all that is known; docs/networks.md says which engine to take.",
        soft_wrap=True,
        markup=False,
    )
