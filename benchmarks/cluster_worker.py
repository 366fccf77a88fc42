"""One process of a side of benchmarks/cluster.py: `python cluster_worker.py SIDE INDEX HOST,HOST,... BATCH [MODEL]`.

It prints "ready"; for each line of input, a number of steps, it makes them with its peers and prints the seconds. Each side
trains article_cnn (trainer/models/article_cnn.py), or Convoy MODEL, in float32, by SGD with Nesterov's momentum, on batches of
bytes that lie in memory. The process has one core, so one thread computes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence

SIZE, CLASSES, PORT = 32, 10, 2222


def convoy_steps(
    backend: str, index: int, hosts: Sequence[str], batch: int, model: str = "article_cnn"
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
        f"--batch_size={batch * len(hosts)}", "--hang_timeout=0",
    ])  # fmt: skip
    engines.choose(backend)
    from convoy.trainer.experiment import build

    experiment = build(config)
    experiment.engine.feed(experiment.data.train, 0, cached=2)
    return experiment.engine.train


def torch_steps(side: str, index: int, hosts: Sequence[str], batch: int) -> Callable[[int], object]:
    """DistributedDataParallel over Gloo: sums the dense layers' gradients while those of the convolution are computed."""
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0"
    import torch
    from torch import distributed, nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels = ((SIZE - 2) // 2) ** 2
    layers = [
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(32 * pixels, 128), nn.ReLU(), nn.Linear(128, CLASSES)),
    ]
    model: nn.Module = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    distributed.init_process_group("gloo", init_method=f"tcp://{hosts[0]}:{PORT}", rank=index, world_size=len(hosts))
    # One process alone, too: torch.compile makes other graphs of a network that is not wrapped, slower ones here.
    model = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True)
    if side == "torch_compiled":
        model = torch.compile(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
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
            nn.functional.cross_entropy(model(images.float() / 255), labels).backward()
            optimizer.step()

    return train


def main(side: str, index: int, hosts: Sequence[str], batch: int, *model: str) -> None:
    start = torch_steps if side.startswith("torch") else convoy_steps
    train = start(side, index, hosts, batch, *model)
    train(2)
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        train(int(line))
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    side, index, hosts, batch, *model = sys.argv[1:]
    main(side, int(index), hosts.split(","), int(batch), *model)
