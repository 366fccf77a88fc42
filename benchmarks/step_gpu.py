"""A training step on one NVIDIA GPU: Convoy on TensorFlow and on JAX beside torch: `make gpu-bench`. It never ran on a GPU.

resnet50 at 224 pixels in bfloat16, SGD with Nesterov's momentum and weight decay, on batches of bytes in memory. torch has
channels_last, autocast, torch.compile and cuDNN's search for the fastest kernels. The sides of step_torch.py, each in a process
of its own, take turns for five rounds. A row for each goes to results/step_gpu.csv.

It gives up after ten minutes (--minutes): installing the CUDA packages of all three may take five, the starts three, the turns
two. `--device=cpu --torch_python=PYTHON` rehearses it, small, without a GPU, and writes into a temporary file or to --output.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, NoReturn

from rows import HERE, describe, replace
from sides import Team, add, serve
from step_torch import KEEPS_MEMORY, Network, convoy_step, figures, take_turns, torch_step, version_of

from convoy import entry, exits

RESULTS = HERE / "results" / "step_gpu.csv"
PEERS = HERE.parent / "build" / "gpu-peers"  # an environment for torch, whose CUDA is another than TensorFlow's
PACKAGES = ["torch==2.15.0", "timm>=1.0.31", "psutil>=6", "numpy"]
SIDES = {"tensorflow": "Convoy", "jax": "Convoy", "torch_compiled": "torch.compile, channels_last, cudnn.benchmark"}
PRECISION = "mixed_bfloat16"
NO_GPU = (
    "nvidia-smi shows no NVIDIA GPU here; run this on a machine with one and its driver, or rehearse with --device=cpu"
    " --torch_python=PYTHON."
)
# GiB of a GPU, from which on it takes that batch: all three sides hold their memory at the same time.
BATCHES = {70: 256, 40: 128, 20: 64, 0: 32}


class Gpu(NamedTuple):
    gpu: str
    driver: str
    gibibytes: int


def find_gpu() -> Gpu:
    """The first GPU, as the driver describes it."""
    fields, query = "name,driver_version,memory.total", ["nvidia-smi", "--format=csv,noheader,nounits"]
    answer = ""
    if shutil.which(query[0]):
        answer = subprocess.run([*query, f"--query-gpu={fields}"], capture_output=True, text=True, check=False).stdout
    cells = [cell.strip() for cell in answer.partition("\n")[0].split(",")]
    if len(cells) != 3 or not cells[2].isdigit():
        raise exits.CannotRun(NO_GPU)
    return Gpu(cells[0], cells[1], round(int(cells[2]) / 1024))


def network_for(gpu: Gpu | None) -> Network:
    if gpu is None:
        return Network("resnet18", "resnet18", 32, 8)
    batch = next(batch for least, batch in BATCHES.items() if gpu.gibibytes >= least)
    return Network("resnet50", "resnet50", 224, batch)


def install() -> str:
    """CUDA for both engines, in the versions that are here; the interpreter of an environment that has torch."""
    uv, python = str(Path(sys.executable).with_name("uv")), str(PEERS / "bin" / "python")
    if not Path(python).exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
    here = describe()
    engines = [f"tensorflow[and-cuda]=={here['tensorflow']}", f"jax[cuda12]=={here['jax']}", f"keras=={here['keras']}"]
    for target, packages in ((sys.executable, engines), (python, PACKAGES)):
        subprocess.run([uv, "pip", "install", "--quiet", "--python", target, *packages], check=True)
    return python


def start_teams(flags: argparse.Namespace, network: Network, teams: dict[str, Team]) -> None:
    """Adds the sides that could be started."""
    # torch's environment has no Convoy, which does by itself what KEEPS_MEMORY says; JAX would take most of the GPU.
    environment = {**KEEPS_MEMORY, "PYTHONPATH": str(HERE.parent), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    for side in SIDES:
        python = flags.torch_python if side.startswith("torch") else sys.executable
        words = ["--be", side, *map(str, network), f"--device={flags.device}"]
        add(teams, side, Team([python, __file__, *words], 1, environment))


def be(words: list[str], device: str) -> int:
    """Is a process of a side."""
    side, model, timm, *numbers = words
    network = Network(model, timm, *map(int, numbers))
    if side.startswith("torch"):
        serve(torch_step(side, network, PRECISION, "cuda" if device == "gpu" else device))
    else:
        serve(convoy_step(side, network, PRECISION, [], device))
    return exits.OK


def give_up(minutes: float, *_: object) -> NoReturn:
    raise exits.CannotRun(
        f"the {minutes:g} minutes are over; a second call finds all installed, or give more by --minutes."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument(
        "--torch_python", default="", help="an interpreter with torch and timm; installs all if not given"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--minutes", type=float, default=10, help="the time limit of all of it")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--be", nargs=5, help="be one process of a side")
    flags = parser.parse_args()
    if flags.be:
        return be(flags.be, flags.device)
    gpu = find_gpu() if flags.device == "gpu" else None
    signal.signal(signal.SIGALRM, functools.partial(give_up, flags.minutes))
    signal.alarm(round(60 * flags.minutes))
    flags.torch_python = flags.torch_python or (install() if gpu else sys.executable)
    network, teams = network_for(gpu), {}
    try:
        start_teams(flags, network, teams)
        speeds = take_turns(teams, flags.rounds, flags.seconds)
    finally:
        for team in teams.values():
            team.end()
    common = {
        **describe(),
        "torch": version_of(flags.torch_python, "torch"),
        **(gpu or Gpu("CPU", "", 0))._asdict(),
        **network._asdict(),
        **{"precision": PRECISION, "rounds": flags.rounds},
    }
    output = flags.output or (RESULTS if gpu else Path(tempfile.mkdtemp()) / RESULTS.name)
    peer = statistics.median(speeds["torch_compiled"]) if "torch_compiled" in speeds else None
    for side, own in speeds.items():
        row = {**common, "side": side, **figures(own, peer), "notes": SIDES[side]}
        replace(output, row, "gpu", "model", "side")
    print(f"The rows are in {output}.")
    return exits.OK if len(speeds) == len(SIDES) else exits.CANNOT_RUN


if __name__ == "__main__":
    entry.call(main)
