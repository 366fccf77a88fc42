"""A training step on this machine's cores: Convoy on TensorFlow and on JAX beside torch.

    python benchmarks/step_torch.py --torch_python=PYTHON    # of an environment that has torch, timm and psutil

The same network (torch's is timm's), batch, precision and optimizer, SGD with Nesterov's momentum and weight decay, on batches
of bytes that lie in memory. Every side has its best settings, and a process of its own, which keeps the memory that it frees.
The sides of a network take turns, round by round. Writes results/step_torch.csv, in which it replaces the rows of the
networks and precisions that it measures.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rows import HERE, checkout, describe, replace
from sides import Team, add, serve

if TYPE_CHECKING:
    import torch

RESULTS = HERE / "results" / "step_torch.csv"
CLASSES = 10
BEFORE = " before"  # of a side
# What Convoy does by itself (trainer/engines/allocator.py), by the environment of a peer.
KEEPS_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}


class Network(NamedTuple):
    model: str  # --model
    timm: str
    size: int
    batch: int


NETWORKS = {
    "resnet18": Network("resnet18", "resnet18", 32, 128),
    "resnet50": Network("resnet50", "resnet50", 224, 32),
    "efficientnet_b0": Network("keras:EfficientNetB0", "efficientnet_b0", 224, 32),
    "mobilenet_v3_large": Network("keras:MobileNetV3Large", "mobilenetv3_large_100", 224, 32),
}
SIDES = {
    "tensorflow": "Convoy",
    "jax": "Convoy",
    "torch": "channels_last",
    "torch_compiled": "torch.compile, channels_last",
}


def convoy_step(
    backend: str, network: Network, precision: str, flags: list[str], device: str = "cpu"
) -> Callable[[], int]:
    """Some steps of a run, as its loop makes them."""
    from convoy.trainer import engines
    from convoy.trainer.config import from_argv

    config = from_argv([
        f"--backend={backend}", f"--dataset=synthetic:{network.size}x{network.size}x3:{CLASSES}:{4 * network.batch}",
        "--eval_split=none", f"--model={network.model}", "--optimizer=sgd", "--learning_rate=0.01", "--weight_decay=1e-4",
        f"--devices={device}:1", f"--batch_size={network.batch}", f"--precision={precision}", *flags,
    ])  # fmt: skip
    engines.choose(backend)
    from convoy.trainer.experiment import build

    experiment = build(config)
    experiment.engine.feed(experiment.data.train, 0, cached=2)

    def train() -> int:
        experiment.engine.train(2)
        return 2 * network.batch

    return train


def torch_network(network: Network, device: str = "cpu") -> torch.nn.Module:
    import timm
    import torch
    from torch import nn

    model: nn.Module = timm.create_model(network.timm, num_classes=CLASSES)
    if network.size < 64:  # the stem for small images
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model.to(device, memory_format=torch.channels_last).train()


def torch_step(side: str, network: Network, precision: str, device: str = "cpu") -> Callable[[], int]:
    """The same on torch, whose name for a GPU is cuda."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    model = torch_network(network, device)
    call = torch.compile(model) if side == "torch_compiled" else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)
    batches = [
        (
            torch.randint(0, 256, (network.batch, 3, network.size, network.size), dtype=torch.uint8).to(
                device, memory_format=torch.channels_last
            ),
            torch.randint(0, CLASSES, (network.batch,), device=device),
        )
        for _ in range(2)
    ]

    def train() -> int:
        for images, labels in batches:
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=precision == "mixed_bfloat16"):
                loss = nn.functional.cross_entropy(call(images.float() / 255), labels)
            loss.backward()
            optimizer.step()
        loss.item()  # a GPU is done then
        return 2 * network.batch

    return train


def start(words: list[str]) -> Callable[[], int]:
    side, network, precision, *flags = words
    if side.startswith("torch"):
        return torch_step(side, NETWORKS[network], precision)
    return convoy_step(side, NETWORKS[network], precision, flags)


def version_of(python: str, package: str) -> str:
    """Of a package that an interpreter has; empty without one."""
    program = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def take_turns(sides: dict[str, Team], rounds: int, seconds: float) -> dict[str, list[float]]:
    """The speeds of each side, round by round."""
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, team in sides.items():
            speeds[side].append(team.turn(seconds))
        print(*(f"{side} {own[-1]:.1f}" for side, own in speeds.items()), flush=True)
    return speeds


def figures(speeds: list[float], torch: float | None) -> dict[str, object]:
    """Of a side, in columns of its row, with torch's median beside it."""
    median = statistics.median(speeds)
    return {
        "images_per_second": round(median, 1),
        "least": round(min(speeds), 1),
        "most": round(max(speeds), 1),
        "of_torch": round(median / torch, 3) if torch else "",
    }


def measure(flags: argparse.Namespace, network: str, precision: str, sides: dict[str, Team]) -> None:
    print(network, precision, flush=True)
    speeds = take_turns(sides, flags.rounds, flags.seconds)
    peers = [statistics.median(own) for side, own in speeds.items() if side.startswith("torch")]
    versions = {**describe(), "torch": version_of(flags.torch_python, "torch")}
    for side, own in speeds.items():
        row = {
            **versions,
            "network": network,
            "batch": NETWORKS[network].batch,
            "precision": precision,
            "side": side,
            "rounds": flags.rounds,
            **figures(own, max(peers, default=None)),
            "rss_mib": round(sides[side].rss() / 2**20),
            "notes": SIDES.get(side, flags.before),
        }
        replace(flags.output, row, "network", "precision", "side")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch_python", default=sys.executable, help="an interpreter whose environment has torch")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["resnet18", "resnet50"])
    parser.add_argument("--precisions", nargs="+", default=["float32", "mixed_bfloat16"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--before", default="", help="a commit of Convoy that is measured beside")
    parser.add_argument("--flags", type=str.split, default=[], help="more flags of Convoy's, as one word")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--be", nargs="+", help="be one process of a side")
    flags = parser.parse_args()
    if flags.be:
        serve(start(flags.be))
        return
    with tempfile.TemporaryDirectory() as folder:
        sides = [*flags.sides]
        if flags.before:
            checkout(flags.before, Path(folder))
            sides += [f"{side}{BEFORE}" for side in flags.sides if not side.startswith("torch")]
        for network, precision in itertools.product(flags.networks, flags.precisions):
            teams: dict[str, Team] = {}
            for side in sides:
                peer = side.startswith("torch")
                environment = KEEPS_MEMORY if peer else {"PYTHONPATH": folder} if side.endswith(BEFORE) else {}
                words = ["--be", side.removesuffix(BEFORE), network, precision, *flags.flags]
                team = Team([flags.torch_python if peer else sys.executable, __file__, *words], 1, environment)
                add(teams, side, team)
            measure(flags, network, precision, teams)
            for team in teams.values():
                team.end()


if __name__ == "__main__":
    main()
