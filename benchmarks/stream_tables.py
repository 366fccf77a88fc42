"""Tables of what is streamed from a bucket, and of the order that it needs."""

from __future__ import annotations

import statistics

from cells import machine_of, rows_of, source, table


def streaming() -> str:
    """Seconds until the first batch, and images per second, streamed and not."""
    rows = {(row["what"], row["side"]): row for row in rows_of("streaming")}
    lines = []
    for what, other in (("first batch, s", "copied"), ("images/s", "local")):
        cells, values = [], []
        for side in ("streamed", other):
            row = rows[what, side]
            values.append(float(row["median"]))
            shown = f" ({float(row['least']):,.1f} to {float(row['most']):,.1f})" if row["rounds"] != "1" else ""
            cells.append(f"{values[-1]:,.1f}{shown}")
        ratio = values[1] / values[0] if other == "copied" else values[0] / values[1]
        name = "seconds until the first batch" if other == "copied" else "resnet18, images/s"
        beside = "whole copy first" if other == "copied" else "local disk"
        lines.append(
            [name, cells[0], f"{beside}: {cells[1]}", f"{ratio:.1f}x" if other == "copied" else f"{ratio:.1%}"]
        )
    first = next(iter(rows.values()))
    caption = (
        f"{float(first['bytes']) / 1e9:.0f} GB, {int(first['examples']):,} photographs, in an emulator of the storage behind a"
        f" cable of {first['mbit']} Mbit/s; batches of {first['batch_size']}, shown at {first['image_size']} pixels,"
        f" `--order={first['order']}`; {machine_of(first)}, which runs the emulator too {source('streaming')}"
    )
    return table(["", "streamed, median (range)", "beside", ""], lines, caption)


def order_quality() -> str:
    """Accuracy and rank correlation of each order."""
    rows = rows_of("order_quality")
    lines = []
    for order in dict.fromkeys(row["order"] for row in rows):
        own = [row for row in rows if row["order"] == order]
        reached = [float(row["accuracy"]) for row in own]
        each = ", ".join(f"{value:.1%}" for value in reached)
        correlation, between, bound = (own[0][name] for name in ("rank_correlation", "between_epochs", "bound"))
        lines.append([f"`{order}`", f"{statistics.mean(reached):.2%} ({each})", correlation, between, bound,
                      own[0]["blocks_in_a_batch"]])  # fmt: skip
    first = rows[0]
    caption = (
        f"CIFAR-10 sorted by class, article_cnn, batches of {first['batch_size']}, {first['epochs']} epochs;"
        f" {machine_of(first)} {source('order_quality')}"
    )
    return table(
        [
            "--order",
            "accuracy, mean (each seed)",
            "rank correlation",
            "between epochs",
            "bound of both",
            "blocks in a batch",
        ],
        lines,
        caption,
    )
