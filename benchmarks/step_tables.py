"""Tables of training steps: beside torch, beside an earlier commit, on several hosts."""

from __future__ import annotations

from cells import machine_of, rows_of, source, table

# Tables of another script's rows: the script, and what it is given.
OF_SCRIPT = {"cluster_resnet18": "cluster", "step_before": "step_torch"}
MORE = {
    "cluster_resnet18": [
        *("--model=resnet18", "--batch=64", "--processes=2", "--share=0", "--flags=--batchnorm=local"),
        *("--sides", "tensorflow", "jax", "torch", "--rounds=5"),
    ],
    "step_before": [
        *("--networks", "efficientnet_b0", "mobilenet_v3_large", "--precisions=float32"),
        *("--sides=jax", "--before=9d4fb4d", "--rounds=3"),
    ],
}


def cluster() -> str:
    return _cluster("article_cnn", "python benchmarks/cluster.py")


def cluster_resnet18() -> str:
    return _cluster("resnet18", f"python benchmarks/cluster.py {' '.join(MORE['cluster_resnet18'])}")


def _cluster(model: str, command: str) -> str:
    """Images per second and process on several hosts: a side a row, a number of processes and a speed of links a column."""
    rows = [row for row in rows_of("cluster") if row["model"] == model and "sync" not in row["flags"]]
    names = {
        "tensorflow": "Convoy, TensorFlow",
        "jax": "Convoy, JAX",
        "torch": "torch DistributedDataParallel",
        "torch_compiled": "the same, compiled",
    }
    settings = list(dict.fromkeys((row["processes"], float(row["gbit"])) for row in rows))
    heads = (f"{count} at {gbit:g} Gbit/s" if gbit else f"{count}" for count, gbit in settings)
    lines = []
    for side, name in names.items():
        cells = []
        for count, gbit in settings:
            for row in rows:
                if (row["side"], row["processes"], float(row["gbit"])) == (side, count, gbit):
                    middle, low, high = (
                        float(row[column]) / int(count) for column in ("images_per_second", "least", "most")
                    )
                    cells.append(f"{middle:,.0f} ({low:,.0f} to {high:,.0f})")
        if cells:
            lines.append([name, *cells])
    first = rows[0]
    caption = (
        f"Hosts that are network namespaces, {float(first['share_of_core']) or 1:.0%} of a core each; {model}, float32,"
        f" {first['batch']} images of 32x32 a process, {first['rounds']} rounds; {machine_of(first)}, JAX {first['jax']},"
        f" torch {first['torch']} {source('cluster', command)}"
    )
    return table(["images/s of a process (range)", *heads], lines, caption)


def collectives() -> str:
    """What XLA leaves of --gradient_buckets on each kind of device."""
    rows = rows_of("collectives")
    lines = []
    for network, buckets in dict.fromkeys((row["network"], row["buckets"]) for row in rows):
        own = [row for row in rows if (row["network"], row["buckets"]) == (network, buckets)]
        cells = [f"{row['all_reduces']}: {row['mib'].replace(' ', ', ')} MiB" for row in own]
        lines.append([f"{network}, {own[0]['before_xla']} of {buckets}", *cells])
    first = rows[0]
    caption = (
        f"Sums over devices in the optimized program of a step, with what each carries, in order; `n of 8`:"
        f" a network with few tensors has fewer buckets; JAX {first['jax']}, {first['date']} {source('collectives')}"
    )
    return table(["network, buckets", *dict.fromkeys(row["devices"] for row in rows)], lines, caption)


def step_torch() -> str:
    """A training step of each network and precision: a side a column."""
    rows = rows_of("step_torch")
    names = {
        "tensorflow": "Convoy, TensorFlow",
        "jax": "Convoy, JAX",
        "torch": "torch",
        "torch_compiled": "torch.compile",
    }
    lines = []
    for network, precision in dict.fromkeys((row["network"], row["precision"]) for row in rows):
        own = {row["side"]: row for row in rows if (row["network"], row["precision"]) == (network, precision)}
        if "torch" not in own:
            continue
        cells = [_figures(own[side]) if side in own else "" for side in names]
        ahead = max(float(own[side]["of_torch"]) for side in ("tensorflow", "jax") if side in own)
        lines.append([f"{network}, {own['torch']['batch']}, {precision}", *cells, f"{ahead:.2f}x"])
    first = next(row for row in rows if row["side"] == "torch")
    caption = (
        f"resnet18 for 32x32 pixels, others 224x224; a batch beside each name; {first['rounds']} rounds, the sides in turn;"
        f" {machine_of(first)}, JAX {first['jax']}, torch {first['torch']} {source('step_torch')}"
    )
    heads = ["images/s, median (range)", *names.values(), "the faster Convoy, of the faster torch"]
    return table(heads, lines, caption)


def step_before() -> str:
    """Steps beside an earlier commit of Convoy."""
    rows, lines = rows_of("step_torch"), []
    for before in rows:
        if not before["side"].endswith(" before"):
            continue
        same = ("network", "precision", "date")
        side = before["side"].removesuffix(" before")
        now = next(row for row in rows if row["side"] == side and all(row[key] == before[key] for key in same))
        times = float(now["images_per_second"]) / float(before["images_per_second"])
        what = ", ".join((now["network"], now["batch"], now["precision"], side))
        lines.append([what, _figures(before), _figures(now), f"{times:.1f}x"])
    last = next(row for row in rows if row["side"].endswith(" before"))
    command = f"python benchmarks/step_torch.py {' '.join(MORE['step_before'])}"
    caption = f"Before is {last['notes']}; {last['rounds']} rounds, the sides in turn {source('step_torch', command)}"
    return table(["images/s, median (range)", "before", "now", ""], lines, caption)


def step_profile() -> str:
    """Kinds of operations: a kind a row, both sides of each precision in columns."""
    rows = rows_of("step_profile")
    precisions = list(dict.fromkeys(row["precision"] for row in rows))
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = {row["precision"]: row for row in rows if row["kind"] == kind}
        cells = [own[precision][column] for precision in precisions for column in ("convoy_ms", "torch_ms")]
        lines.append([kind, *cells])
    first = rows[0]
    caption = (
        f"Milliseconds of a step of {first['network']}, batch {first['batch']}, by kinds of operations;"
        f" {machine_of(first)}, torch {first['torch']} {source('step_profile')}"
    )
    heads = [f"{side}, {precision}" for precision in precisions for side in ("Convoy, TensorFlow", "torch")]
    return table(["kind", *heads], lines, caption)


def winograd() -> str:
    """A layer a row: with gradients, by both ways."""
    rows, lines = rows_of("winograd"), []
    engines = {"tensorflow": "TensorFlow", "jax": "JAX"}
    settings = list(dict.fromkeys((row["backend"], row["precision"]) for row in rows))
    for layer in dict.fromkeys((row["images"], row["side"], row["channels"]) for row in rows):
        own = [row for row in rows if (row["images"], row["side"], row["channels"]) == layer]
        cells = []
        for setting in settings:
            before, now = (row for row in own if (row["backend"], row["precision"]) == setting)
            times = f"{before['with_gradients_ms']} -> {now['with_gradients_ms']}"
            cells.append(f"**{times}**" if now["rule"] == "1" else times)
        lines.append([", ".join(layer), *cells])
    single = [row for row in rows if row["precision"] == "float32"]
    direct, ours = ([row["error"] for row in single if row["kernels"] == kernels] for kernels in ("2", "3"))
    first = rows[0]
    caption = (
        f"Milliseconds of a 3x3 convolution and both its gradients, by --kernels=2 and as Winograd's; bold where --kernels=3"
        f" has it. Root mean square error in float32, of the numbers' own: {_range(direct)}, as Winograd's {_range(ours)};"
        f" {first['rounds']} rounds in turn, {machine_of(first)}, JAX {first['jax']} {source('winograd')}"
    )
    heads = [f"{engines[backend]}, {precision}" for backend, precision in settings]
    return table(["images, side, channels", *heads], lines, caption)


def _range(figures: list[str]) -> str:
    return f"{min(figures, key=float)} to {max(figures, key=float)}"


def _figures(row: dict[str, str]) -> str:
    """Three digits: a step of a large network makes few images a second."""
    return f"{float(row['images_per_second']):.3g} ({float(row['least']):.3g} to {float(row['most']):.3g})"
