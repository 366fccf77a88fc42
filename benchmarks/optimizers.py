"""What an optimizer's step costs: `python benchmarks/optimizers.py`.

The variables of resnet50, float32, gradients that do not change, no forward pass: the step that each engine makes, alone. All
optimizers of a backend lie in one process and take turns; seconds are the median of 15 steps, after 3. `passes` is the least
number of times that a step must read or write one number for each weight: what a step takes at the speed of memory. optax,
where it is installed, is beside Convoy's on JAX. Writes results/optimizers.csv.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from rows import HERE, describe, write

STEPS, WARM = 15, 3
# Reads and writes of w, g and slots: momentum 3 + 2; Adam 4 + 3; a norm needs its inputs before the update can begin.
PASSES = {
    "sgd": 5, "sgd l2": 5, "adamw": 7, "lars": 7, "lamb": 10, "keras_lamb": 10, "optax lars": 7, "optax lamb": 10,
}  # fmt: skip


def options_of(name: str) -> dict[str, object]:
    if name == "sgd l2":
        return {"optimizer": "sgd", "weight_decay_mode": "l2"}
    return {"optimizer": name}


def stepper(backend: str, name: str) -> tuple[Callable[[], None], int]:
    """(a function that makes one step and waits for it, bytes of all weights)."""
    import keras

    from convoy.trainer.config import RunConfig
    from convoy.trainer.models.build import build_model
    from convoy.trainer.optimizers.build import build_optimizer
    from convoy.trainer.schedules.schedule import build_schedule

    model = build_model("resnet50", (224, 224, 3), 1000)
    variables = model.trainable_variables
    size = sum(variable.value.nbytes if backend == "jax" else variable.numpy().nbytes for variable in variables)
    gradients = [keras.random.normal(variable.shape, stddev=1e-3, seed=1) for variable in variables]
    if name.startswith("optax"):
        return optax_step(name.split()[1], [variable.value for variable in variables], gradients), size
    config = RunConfig(learning_rate=0.1, weight_decay=1e-4, **options_of(name))
    optimizer = build_optimizer(config, build_schedule(config, 10_000), model)
    if backend == "tensorflow":
        import tensorflow as tf

        apply = tf.function(lambda: optimizer.apply(gradients, variables), autograph=False)

        def step() -> None:
            apply()
            variables[0].numpy()

        return step, size
    import jax

    state = [[v.value for v in variables], [v.value for v in optimizer.variables]]
    compiled = jax.jit(
        lambda trainable, own, given: optimizer.stateless_apply(own, given, trainable), donate_argnums=(0, 1)
    )

    def jax_step() -> None:
        state[:] = jax.block_until_ready(compiled(*state, gradients))

    return jax_step, size


def optax_step(name: str, weights: list, gradients: list) -> Callable[[], None]:
    import jax
    import optax

    mask = [weight.ndim > 1 for weight in weights]
    if name == "lars":
        transformation = optax.lars(0.1, 1e-4, mask, trust_ratio_mask=mask)
    else:
        transformation = optax.chain(
            optax.scale_by_adam(eps=1e-6),
            optax.add_decayed_weights(1e-4, mask),
            optax.masked(optax.scale_by_trust_ratio(), mask),
            optax.scale_by_learning_rate(0.1),
        )
    state = [list(map(jax.numpy.copy, weights)), transformation.init(weights)]

    def update(weights: list, state: object, given: list) -> tuple[list, object]:
        updates, state = transformation.update(given, state, weights)
        return optax.apply_updates(weights, updates), state

    compiled = jax.jit(update, donate_argnums=(0, 1))

    def step() -> None:
        state[:] = jax.block_until_ready(compiled(*state, gradients))

    return step


def measure(backend: str) -> list[dict[str, object]]:
    names = ["sgd", "sgd l2", "adamw", "lars", "lamb", "keras_lamb"]
    if backend == "jax":
        try:
            import optax  # noqa: F401

            names += ["optax lars", "optax lamb"]
        except ImportError:
            print("optax is not installed: its rows are left out", file=sys.stderr)
    steppers = {name: stepper(backend, name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(WARM + STEPS):
        for name, (step, _) in steppers.items():
            begun = time.perf_counter()
            step()
            if number >= WARM:
                seconds[name].append(time.perf_counter() - begun)
    rows = []
    for name, (_, size) in steppers.items():
        low, median, high = min(seconds[name]), statistics.median(seconds[name]), max(seconds[name])
        rows.append(
            {
                "optimizer": name,
                "milliseconds": round(1000 * median, 1),
                "low": round(1000 * low, 1),
                "high": round(1000 * high, 1),
                "passes": PASSES[name],
                "gigabytes_per_second": round(PASSES[name] * size / median / 1e9, 1),
            }
        )
    return rows


def main() -> None:
    if len(sys.argv) > 1:
        from convoy.trainer.engines import choose

        choose(sys.argv[1])
        print(json.dumps(measure(sys.argv[1])))
        return
    rows = []
    for backend in ("tensorflow", "jax"):
        done = subprocess.run([sys.executable, __file__, backend], stdout=subprocess.PIPE, text=True, check=True)
        for row in json.loads(done.stdout.splitlines()[-1]):
            rows.append({**describe(), "backend": backend, **row})
            print(rows[-1], flush=True)
    write(HERE / "results" / "optimizers.csv", rows)


if __name__ == "__main__":
    main()
