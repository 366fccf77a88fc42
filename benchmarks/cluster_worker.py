"""One process of a side of benchmarks/cluster.py: `python cluster_worker.py SIDE INDEX HOST,HOST,... BATCH MODEL [FLAG...]`.

It prints "ready"; for each line of input, a number of steps, it makes them with its peers and prints the seconds. Each side
trains MODEL, article_cnn (trainer/models/article_cnn.py) or resnet18, in float32, by SGD with Nesterov's momentum, on batches
of bytes that lie in memory. The process has one core, so one thread computes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from step_torch import NETWORKS, torch_network

if TYPE_CHECKING:
    import torch

SIZE, CLASSES, PORT = 32, 10, 2222


def convoy_steps(
    backend: str, index: int, hosts: Sequence[str], batch: int, model: str, flags: Sequence[str]
) -> Callable[[int], object]:
    """Training steps of a run, as its loop makes them."""
    if len(hosts) > 1:
        places = [f"{host}:{PORT}" for host in hosts]
        os.environ["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": places}, "task": {"type": "worker", "index": index}}
        )
        os.environ |= {
            "JAX_COORDINATOR_ADDRESS": places[0],
            "JAX_NUM_PROCESSES": str(len(hosts)),
            "JAX_PROCESS_ID": str(index),
        }
    from convoy.trainer import engines
    from convoy.trainer.config import from_argv

    config = from_argv([
        f"--backend={backend}", f"--dataset=synthetic:{SIZE}x{SIZE}x3:{CLASSES}:{4 * batch * len(hosts)}",
        "--eval_split=none", f"--model={model}", "--optimizer=sgd", "--learning_rate=0.01", "--devices=cpu:1",
        f"--batch_size={batch * len(hosts)}", "--hang_timeout=0", *flags,
    ])  # fmt: skip
    engines.choose(backend)
    from convoy.trainer.experiment import build

    experiment = build(config)
    experiment.engine.feed(experiment.data.train, 0, cached=2)
    return experiment.engine.train


def torch_steps(side: str, index: int, hosts: Sequence[str], batch: int, model: str) -> Callable[[int], object]:
    """DistributedDataParallel over Gloo: sums the dense layers' gradients while those of the convolution are computed."""
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0"
    import torch
    from torch import distributed, nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = article_cnn() if model == "article_cnn" else torch_network(NETWORKS[model])
    distributed.init_process_group("gloo", init_method=f"tcp://{hosts[0]}:{PORT}", rank=index, world_size=len(hosts))
    # One process alone, too: torch.compile makes other graphs of a network that is not wrapped, slower ones here.
    network = nn.parallel.DistributedDataParallel(network, gradient_as_bucket_view=True, static_graph=True)
    if side == "torch_compiled":
        network = torch.compile(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
    batches = [
        (
            torch.randint(0, 256, (batch, 3, SIZE, SIZE), dtype=torch.uint8).to(memory_format=torch.channels_last),
            torch.randint(0, CLASSES, (batch,)),
        )
        for _ in range(2)
    ]

    def train(steps: int) -> None:
        for step in range(steps):
            images, labels = batches[step % 2]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images.float() / 255), labels).backward()
            optimizer.step()

    return train


def article_cnn() -> torch.nn.Module:
    import torch
    from torch import nn

    pixels = ((SIZE - 2) // 2) ** 2
    layers = [
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(32 * pixels, 128), nn.ReLU(), nn.Linear(128, CLASSES)),
    ]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def main(side: str, index: int, hosts: Sequence[str], batch: int, model: str, flags: Sequence[str]) -> None:
    if side.startswith("torch"):
        train = torch_steps(side, index, hosts, batch, model)
    else:
        train = convoy_steps(side, index, hosts, batch, model, flags)
    train(2)
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        train(int(line))
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    side, index, hosts, batch, model, *flags = sys.argv[1:]
    main(side, int(index), hosts.split(","), int(batch), model, flags)
