"""Packed records beside what they could have been: `python benchmarks/records.py`.

- container: TFRecord shards read by an index of places (`convoy data pack`) beside ArrayRecord files with Grain's readers of
  random access. Records per second from the page cache, at random and in order, by batches of 128 (small) and 64
  (photographs). TFRecord checks the crc32c of every record.
- loader: CIFAR-10's training images as PNG files in folders beside the same packed. Images per second of the training stream
  without augmentation in batches of 128, and of opening and filling the memory.
- packing: 60,000 of these files, seconds of the whole command.

The sides take turns, after a round that does not count. Each side of the loader is a process of its own; its row has the peak
of its memory. Writes results/records.csv: three minutes on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rows import DATA, HERE, describe, write

RESULTS = HERE / "results" / "records.csv"
PHOTOGRAPHS = DATA.parent / "imagenet-sample"
REPEATED = 8  # times each photograph
BATCH = {"pixels": 128, "png": 128, "photographs": 64}
STRETCH = 300  # batches of the training stream


def peak() -> int:
    """The peak of this process's memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def seconds(what: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def write_folder(folder: Path) -> None:
    """CIFAR-10 as PNG files: train/CLASS/ and test/CLASS/."""
    from PIL import Image

    from convoy.data.config import DataConfig
    from convoy.data.sources.opening import open_dataset

    dataset = open_dataset(DataConfig("cifar10", data_dir=str(DATA)))
    for split in dataset.split_names:
        examples = dataset.split(split)
        for name in dataset.class_names:
            (folder / split / name).mkdir(parents=True)
        for row, (image, label) in enumerate(zip(examples.images, examples.labels, strict=True)):
            Image.fromarray(image).save(folder / split / dataset.class_names[label] / f"{row:05d}.png")


def containers(folder: Path, images: list[bytes], batch: int) -> dict[str, Callable[[np.ndarray], Any]]:
    """side -> a function that reads the images at some indices."""
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    from convoy.data.images.probe import Kind
    from convoy.data.records import format

    packed = (format.Packed(image, Kind.PNG, (1, 1, 3), 0, 0.0) for image in images)
    path = folder / f"{len(images)}.tfrecord"
    shards = format.Shards([path], format.write_shard(path, 0, packed))
    sides: dict[str, Callable[[np.ndarray], Any]] = {"tfrecord": shards.images}
    for compression in ("uncompressed", "zstd"):
        place = str(folder / f"{len(images)}.{compression}")
        writer = ArrayRecordWriter(place, f"group_size:1,{compression}")
        for image in images:
            writer.write(image)
        writer.close()
        # The options that measured best.
        reader = ArrayRecordReader(place, options="readahead_buffer_size:0,index_storage_option:in_memory")
        sides[f"array_record {compression}"] = lambda rows, reader=reader: reader.read(rows.tolist())
    return sides


def measure_containers(folder: Path, rounds: int) -> list[dict[str, Any]]:
    files = sorted((folder / "png" / "train").glob("*/*.png"))
    generator = np.random.default_rng(0)
    kinds = {
        "pixels": [generator.bytes(32 * 32 * 3) for _ in files],
        "png": [path.read_bytes() for path in files],
        "photographs": [path.read_bytes() for path in sorted(PHOTOGRAPHS.glob("*.JPEG"))] * REPEATED,
    }
    rows = []
    for kind, images in kinds.items():
        sides = containers(folder, images, BATCH[kind])
        orders = {"random": generator.permutation(len(images)), "in order": np.arange(len(images))}
        rates: dict[tuple[str, str], list[float]] = {}
        for turn in range(1 + rounds):
            for access, order in orders.items():
                batches = [order[first : first + BATCH[kind]] for first in range(0, len(order), BATCH[kind])]
                for side, read in sides.items():
                    rate = len(images) / seconds(lambda read=read, batches=batches: [read(batch) for batch in batches])
                    if turn:
                        rates.setdefault((side, access), []).append(rate)
        size = sum(map(len, images)) / len(images)
        rows += [
            row("container", side, f"{kind}, {size:,.0f} bytes each", access, measured, 0)
            for (side, access), measured in rates.items()
        ]
    return rows


def serve(dataset: str) -> None:
    """One side of the loader: measures whenever a line names what, and prints the rate."""
    from convoy.data.config import DataConfig
    from convoy.data.pipeline import BatchSharding, training_stream
    from convoy.data.sources.opening import open_dataset

    def opened(cache_bytes: int) -> tuple[DataConfig, Any]:
        config = DataConfig(dataset, cache_bytes=cache_bytes)
        return config, open_dataset(config).split("train")

    config, examples = opened(0)
    stream = iter(training_stream(examples, BatchSharding(BATCH["png"]), config, seed=0, first_position=0))
    for line in sys.stdin:
        if line == "streamed\n":
            rate = STRETCH * BATCH["png"] / seconds(lambda: [next(stream) for _ in range(STRETCH)])
        else:
            rate = len(examples) / seconds(lambda: opened(1 << 30)[1].fetcher())
        print(f"{rate} {peak()}", flush=True)


def measure_loaders(folder: Path, rounds: int) -> list[dict[str, Any]]:
    sides = {"folder": f"folder:{folder / 'png'}", "records": f"records:{folder / 'packed'}"}
    rows = []
    for access in ("streamed", "into memory"):
        children = {
            side: subprocess.Popen(
                [sys.executable, __file__, f"--serve={dataset}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for side, dataset in sides.items()
        }
        speeds: dict[str, list[float]] = {side: [] for side in sides}
        peaks: dict[str, int] = {}
        for turn in range(1 + rounds):
            for side, child in children.items():
                rate, peaks[side] = ask(child, access)
                if turn:
                    speeds[side].append(rate)
        for child in children.values():
            child.communicate()
        rows += [row("loader", side, "CIFAR-10, 32x32x3", access, speeds[side], peaks[side]) for side in sides]
    return rows


def ask(child: subprocess.Popen[str], access: str) -> tuple[float, int]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{access}\n")
    child.stdin.flush()
    while True:  # the program's notes are on the same stream
        words = child.stdout.readline().split()
        if len(words) == 2:
            return float(words[0]), int(words[1])


def pack(folder: Path, name: str) -> float:
    argv = ["data", "pack", f"--dataset=folder:{folder / 'png'}", f"--out={folder / name}"]
    return seconds(lambda: subprocess.run([sys.executable, "-m", "convoy", *argv], check=True))


def row(what: str, side: str, images: str, access: str, measured: list[float], mebibytes: int) -> dict[str, Any]:
    """A row of the results, which is printed too."""
    values = {"median": statistics.median(measured), "min": min(measured), "max": max(measured)}
    rounded = {name: round(value, 1) if value < 1000 else round(value) for name, value in values.items()}
    print(f"{what:10} {side:26} {images:28} {access:12} {rounded['median']:>12,}", flush=True)
    unit = "seconds" if what == "packing" else "images/s"
    columns = {"what": what, "side": side, "images": images, "access": access, "rounds": len(measured), "unit": unit}
    return {**describe(), "array_record": version("array_record"), **columns, **rounded, "peak_mib": mebibytes or ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.serve:
        serve(flags.serve)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_folder(folder / "png")
        times = [pack(folder, f"packed{turn or ''}") for turn in range(3)]
        rows = [row("packing", "records", "60,000 PNG, 32x32x3", "in order", times, 0)]
        rows += measure_loaders(folder, flags.rounds)
        rows += measure_containers(folder, flags.rounds)
    write(flags.output, rows)


if __name__ == "__main__":
    main()
