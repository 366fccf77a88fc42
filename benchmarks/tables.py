"""Writes the tables of the documents from results/*.csv: `python benchmarks/tables.py`. A test holds them against it."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from cells import HERE, machine_of, rows_of, source, spread, table
from step_tables import cluster, cluster_resnet18, collectives, step_before, step_profile, step_torch, winograd
from stream_tables import order_quality, streaming

ROOT = HERE.parent
PAGES = tuple(
    ROOT / page
    for page in (
        "README.md",
        "docs/checkpoints.md",
        "docs/engines.md",
        "docs/fine-tuning.md",
        "docs/imbalance.md",
        "docs/large-batch.md",
        "docs/networks.md",
        "docs/performance.md",
        "docs/records.md",
    )
)


def article_cifar10() -> str:
    """The two sides: median seconds with their spread on one machine, mean accuracy of the newest rows with its deviation."""
    rows = rows_of("article_cifar10")
    first, newest = rows[0], max(row["date"] for row in rows)
    lines = []
    medians = {}
    for side, name in (
        ("article", "the tutorial in Keras, mended"),
        ("convoy", "Convoy, recipes/article_cifar10.flags"),
    ):
        own = [row for row in rows if row["side"] == side]
        last = max(row["date"] for row in own)
        seconds = [float(row["seconds"]) for row in own if row["date"] == first["date"]]
        accuracy = [float(row["accuracy"]) for row in own if row["date"] == last]
        medians[side] = statistics.median(seconds)
        lines.append(
            [
                name,
                own[0]["batch_size"],
                f"{medians[side]:.0f} ({min(seconds):.0f} to {max(seconds):.0f})",
                f"{statistics.mean(accuracy):.2%} ± {statistics.stdev(accuracy):.2%}",
            ]
        )
    times = medians["article"] / medians["convoy"]
    caption = (
        f"{times:.1f} times as fast; 3 seeds a side in turn on {machine_of(first)}; Convoy's accuracy is of {newest}, with"
        f" the first weights of today {source('article_cifar10', 'make bench')}"
    )
    return table(
        ["10 epochs of CIFAR-10, training and test", "batch", "seconds, median (spread)", "accuracy, mean ± sd"],
        lines,
        caption,
    )


def digits() -> str:
    """`make train` in one sentence."""
    rows = rows_of("digits")
    seconds, accuracy = [float(row["seconds"]) for row in rows], [float(row["accuracy"]) for row in rows]
    return (
        f"`make train`'s recipe reaches {statistics.median(accuracy):.1%} of the 376 held-out digits"
        f" ({min(accuracy):.1%} to {max(accuracy):.1%}, {len(rows)} seeds) in {statistics.median(seconds):.0f} s of training on"
        f" {rows[0]['machine']} ([rows](benchmarks/results/digits.csv))."
    )


def peers(name: str) -> str:
    """Every side's images per second, and how many times as fast Convoy is."""
    rows = rows_of(name)
    speed = {row["side"]: float(row["images_per_second"]) for row in rows}
    lines = []
    for row in rows:
        side = row["side"]
        ours = "convoy with RandAugment" if "RandAugment" in side else "convoy"
        times = "" if side == ours else f"{speed[ours] / speed[side]:.3g}x"
        shown = side.replace("convoy", "**Convoy**")
        if row["package"] not in ("tensorflow", "keras"):
            shown += f" ({row['version']})"
        lines.append([shown, spread(row), times, row["rss_mib"], row["notes"]])
    first = rows[0]
    caption = f"{first['rounds']} rounds, the sides in turn, on {machine_of(first)} {source(name)}"
    return table(["", "images/s, median (spread)", "Convoy is", "MiB", ""], lines, caption)


def together() -> str:
    """Input and step together, in one table."""
    lines = []
    rows = rows_of("together")
    for row in rows:
        speeds = [f"{float(row[part]):,.0f}" for part in ("loader", "step", "together")]
        reached, wait = float(row["reached"]), float(row["input_wait_fraction"])
        lines.append([row["model"], f"{int(row['batch_size']):,}", *speeds, f"{reached:.0%}", f"{wait:.1%}"])
    caption = (
        f"Real CIFAR-10, the tutorial's augmentation, {rows[0]['machine']}, {rows[0]['date']} {source('together')}"
    )
    return table(
        [
            "model",
            "batch",
            "input alone, images/s",
            "step alone",
            "together",
            "of what the two allow",
            "waiting for data",
        ],
        lines,
        caption,
    )


def saving() -> str:
    """What a save costs on every side, and how fast uploads are."""
    lines = []
    rows = rows_of("saving")
    for row in rows:
        name = "**Convoy**, to a bucket's emulator" if row["side"] == "convoy" else f"{row['side']}, to a disk"
        seconds, share = float(row["seconds_in_save"]), float(row["in_save_fraction"])
        lines.append([name, f"{float(row['ratio']):.3f}", f"{seconds:.2f} s, {share:.1%}", row["extra_rss_mib"]])
    speed = {row["side"]: float(row["mib_per_second"]) for row in rows_of("upload")}
    first = rows[0]
    noise = float(first["ratio_most"]) - float(first["ratio_least"])
    memory = int(first["rss_without_most"]) - int(first["rss_without_least"])
    caption = (
        f"resnet50 with momentum, 180 MiB of state, batch 64 of 32x32, {machine_of(first)};"
        f" {first['rounds']} rounds of Convoy, {rows[1]['rounds']} of the others;"
        f" Convoy's ratios differ by {noise:.1%}, its peak memory without saves by {memory} MiB"
        " ([rows](benchmarks/results/saving.csv)). The upload alone reaches"
        f" {speed['convoy'] / speed['upload_many']:.0%} of google-cloud-storage's `upload_many`"
        " ([rows](benchmarks/results/upload.csv))."
    )
    return table(
        ["a save every 20 steps", "whole time against none", "within the save", "more memory, MiB"], lines, caption
    )


def loop_overhead() -> str:
    """What the loop leaves of a bare step, in one sentence."""
    ratios = {(row["backend"], row["model"]): float(row["ratio"]) for row in rows_of("loop_overhead")}
    of = "; ".join(
        f"{name} {ratios[backend, 'resnet18']:.1%} (resnet18) and {ratios[backend, 'article_cnn']:.1%} (article_cnn)"
        for backend, name in (("tensorflow", "TensorFlow"), ("jax", "JAX"))
    )
    return (
        "The loop itself, with its metrics, events and guards, leaves this much of the speed of the bare compiled step:"
        f" {of} ([rows](benchmarks/results/loop_overhead.csv))."
    )


def long_tail() -> str:
    """Mean recall of every option, and how far it is from that of none."""
    rows = rows_of("long_tail")
    options = list(dict.fromkeys((row["balance"], row["loss"]) for row in rows))

    def of(option: tuple[str, str], name: str) -> list[float]:
        return [float(row[name]) for row in rows if (row["balance"], row["loss"]) == option]

    lines = []
    plain = statistics.mean(of(("none", "cross_entropy"), "mean_recall"))
    for option in options:
        recalls = of(option, "mean_recall")
        many, medium = (statistics.mean(of(option, name)) for name in ("many", "medium"))
        lines.append(
            [
                *option,
                f"{statistics.mean(recalls):.1%} ± {statistics.stdev(recalls):.1%}",
                f"{100 * (statistics.mean(recalls) - plain):+.1f}",
                f"{many:.1%}",
                f"{medium:.1%}",
            ]
        )
    first = rows[0]
    seeds = len({row["seed"] for row in rows})
    caption = f"{seeds} seeds, {int(first['steps']):,} steps of 128 each, on {machine_of(first)} {source('long_tail')}"
    return table(["--balance", "--loss", "mean recall, mean ± sd", "against none", "many", "medium"], lines, caption)


def engines_forward() -> str:
    """Images per second forward of every network, by engine."""
    rows = rows_of("forward")
    names = list(dict.fromkeys(row["notes"] for row in rows))
    networks = list(dict.fromkeys(row["side"].removesuffix(f" {row['notes']}") for row in rows))
    speed = {row["side"]: row for row in rows}
    lines = []
    for network in networks:
        lines.append([network, *(spread(speed[f"{network} {name}"]) for name in names)])
    first = rows[0]
    caption = (
        f"224x224 pixels, batches of 32, float32, {first['machine']}, TensorFlow {first['tensorflow']}, JAX {first['jax']},"
        f" {first['date']} {source('forward')}"
    )
    return table(["images/s forward, median (spread)", *names], lines, caption)


def remat() -> str:
    """Memory and time of a step without and with --remat."""
    rows = rows_of("remat")
    lines = []
    for plain, recomputed in zip(rows[::2], rows[1::2], strict=True):
        name = {"tensorflow": "TensorFlow", "jax": "JAX"}[plain["backend"]]
        lines.append(
            [
                f"{plain['model']}, {name}",
                *(f"{int(row['mib']):,} MiB" for row in (plain, recomputed)),
                *(row["seconds"] for row in (plain, recomputed)),
            ]
        )
    first = rows[0]
    caption = (
        f"Batches of 32 images of 96x96 pixels, float32, {first['machine']}, {first['date']}. On TensorFlow memory is the"
        f" growth of the process in a step, on JAX XLA's account of the step {source('remat')}"
    )
    return table(["", "a step without", "with --remat", "seconds without", "with --remat"], lines, caption)


def allocator() -> str:
    """Steps whose freed memory goes back to the kernel, and steps whose process keeps it."""
    rows = rows_of("allocator")
    lines = []
    for row in rows:
        name = {"tensorflow": "TensorFlow", "jax": "JAX"}[row["backend"]]
        hosts = "1 host" if row["processes"] == "1" else f"{row['processes']} hosts"
        times = [
            f"{float(row[f'step_ms_{side}']):,.0f} ms ({float(row[f'min_{side}']):,.0f} to {float(row[f'max_{side}']):,.0f})"
            for side in ("gives_back", "keeps")
        ]
        pages = [f"{float(row[f'page_faults_{side}']):,.0f}" for side in ("gives_back", "keeps")]
        kernel = [f"{float(row[f'kernel_ms_{side}']):,.0f} ms" for side in ("gives_back", "keeps")]
        lines.append([f"{row['model']}, {name}, {hosts}", *times, *pages, *kernel])
    caption = (
        f"`given back` is what glibc does by itself. One core a process, float32, images of 32x32, batches of"
        f" {' and '.join(dict.fromkeys(row['batch_size'] for row in rows))}, {rows[0]['rounds']} rounds;"
        f" {machine_of(rows[0])} {source('allocator')}"
    )
    return table(
        [
            "",
            "a step, given back (range)",
            "kept (range)",
            "new pages, given back",
            "kept",
            "in the kernel, given back",
            "kept",
        ],
        lines,
        caption,
    )


def noise_scale() -> str:
    """What --noise_scale adds to a step."""
    rows = rows_of("noise_scale")
    lines = []
    for row in rows:
        name = {"tensorflow": "TensorFlow", "jax": "JAX"}[row["backend"]]
        where = "1 device, 2 microbatches" if row["devices"] == "1" else "2 devices"
        middle, low, high = (f"{float(row[f'processor_{figure}']):+.1%}" for figure in ("cost", "low", "high"))
        lines.append([f"{row['model']}, {name}", where, f"{middle} ({low} to {high})"])
    caption = (
        f"Batches of {' and '.join(dict.fromkeys(row['batch_size'] for row in rows))} images of 32x32, float32,"
        f" {machine_of(rows[0])} {source('noise_scale')}"
    )
    return table(["", "on", "processor time that it adds to a step, median (quartiles)"], lines, caption)


def find_lr() -> str:
    """The rate that --find_lr names beside the best of a grid."""
    rows = rows_of("find_lr")
    lines = []
    for row in rows:
        name = "**named**" if row["by"] == "find_lr" else "grid"
        rate, middle, low, high = (float(row[column]) for column in ("learning_rate", "accuracy", "low", "high"))
        lines.append([f"`{row['optimizer']}`, {name}", f"{rate:.3g}", f"{middle:.1%} ({low:.1%} to {high:.1%})"])
    caption = f"Digits, article_cnn, batch 128, 10 epochs, cosine to 0, {machine_of(rows[0])} {source('find_lr')}"
    return table(["", "rate", "accuracy, median of 3 seeds (range)"], lines, caption)


def frozen_backbone() -> str:
    """Training of a new head, all sides."""
    rows = rows_of("frozen_backbone")
    speed = {row["side"]: float(row["images_per_second"]) for row in rows}
    lines = []
    for row in rows:
        shown = f"{row['side']} ({row['version']})" if row["package"] != "keras" else row["side"]
        lines.append([shown, spread(row), f"{speed[row['side']] / speed['timm']:.3g}x", row["notes"]])
    caption = (
        f"EfficientNetB0, 224x224 pixels, batches of 32, {rows[0]['rounds']} rounds, the sides in turn, on"
        f" {machine_of(rows[0])} {source('frozen_backbone')}"
    )
    return table(["", "images/s, median (spread)", "against timm in float32", ""], lines, caption)


def fine_tune() -> str:
    """Accuracy on few photographs: mean and each seed."""
    rows = rows_of("fine_tune")
    names = {
        "scratch": "from scratch, in the time of the last row",
        "regression": "scikit-learn's LogisticRegression on the features, its penalty chosen on the test images",
        "head": "a new head, features computed once (`--cache_features`)",
        "staged": "the head for 20 epochs, then all but BatchNormalization for 6 (`--unfreeze`)",
    }
    lines = []
    for side, name in names.items():
        own = [row for row in rows if row["side"] == side]
        accuracy = [float(row["accuracy"]) for row in own]
        seconds = statistics.median(float(row["seconds"]) for row in own)
        each = ", ".join(f"{value:.1%}" for value in accuracy)
        lines.append([name, f"{statistics.mean(accuracy):.1%} ({each})", f"{seconds:.0f}"])
    caption = (
        "CIFAR-10 shown at 128x128 pixels, EfficientNet-Lite0 with weights of ImageNet, 2,000 test images,"
        f" {machine_of(rows[0])} {source('fine_tune')}"
    )
    return table(
        ["1,000 training images of 10 classes", "accuracy, mean (each seed)", "seconds of training, median"],
        lines,
        caption,
    )


TABLES = {
    "article_cifar10": article_cifar10,
    "digits": digits,
    "augmentation": lambda: peers("augmentation"),
    "photographs": lambda: peers("photographs"),
    "together": together,
    "loop_overhead": loop_overhead,
    "long_tail": long_tail,
    "saving": saving,
    "forward": engines_forward,
    "remat": remat,
    "noise_scale": noise_scale,
    "allocator": allocator,
    "find_lr": find_lr,
    "cluster": cluster,
    "cluster_resnet18": cluster_resnet18,
    "collectives": collectives,
    "step_torch": step_torch,
    "step_before": step_before,
    "step_profile": step_profile,
    "winograd": winograd,
    "frozen_backbone": frozen_backbone,
    "fine_tune": fine_tune,
    "order_quality": order_quality,
    "streaming": streaming,
}


def filled(page: Path) -> str:
    """A page with every table between `<!-- table NAME -->` and `<!-- end -->` made anew."""
    up = "../" * len(page.parent.relative_to(ROOT).parts)

    def table(match: re.Match[str]) -> str:
        text = TABLES[match[1]]().replace("](benchmarks/", f"]({up}benchmarks/")
        return f"<!-- table {match[1]} -->\n{text}\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", table, page.read_text(), flags=re.DOTALL)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page))
