"""What the devices of a mesh can do at best, beside which a step is measured; what its operations are called."""

from __future__ import annotations

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from convoy.trainer.engines.jax.devices import SHARDED
from convoy.trainer.engines.runtime import Runtime

_INSTRUCTION = re.compile(r'^ *(?:ROOT )?%?([\w.-]+) = .*? ([\w-]+)\(.*?(?:op_name="([^"]*)".*)?$')
_ONLY_CALL_OTHERS = ("while", "conditional", "call", "async-start", "async-done")  # which a trace has, too


def products(runtime: Runtime, side: int, dtype: str) -> Callable[[int], None]:
    """A function that multiplies two matrices [side, side] so many times on every device of this process, and waits."""
    mesh = runtime.strategy_or_mesh
    sharding = NamedSharding(mesh, SHARDED)
    shape = (runtime.replicas, side, side)
    make = jax.jit(lambda number: jnp.full(shape, number, dtype), out_shardings=sharding)
    # It stays what it is: side * 1 / side.
    matrix, ones = make(1 / side), make(1.0)
    specs = {"in_specs": (SHARDED, SHARDED), "out_specs": SHARDED}
    # A call for each: XLA's CPU backend is slower inside a loop.
    multiply = jax.jit(jax.shard_map(lambda a, b: jnp.matmul(a[0], b[0])[None], mesh=mesh, **specs))

    def multiply_and_wait(count: int) -> None:
        product = ones
        for _ in range(count):
            product = multiply(matrix, product)
        product.block_until_ready()

    return multiply_and_wait


def operations(program: str) -> dict[str, str]:
    """Instruction -> the scopes in which JAX traced it, "" where XLA does not say, of a compiled program's text."""
    matches = (_INSTRUCTION.match(line) for line in program.splitlines())
    return {match[1]: match[3] or "" for match in matches if match and match[2] not in _ONLY_CALL_OTHERS}


def flops(program: jax.stages.Compiled) -> float | None:
    """Of a step by XLA's own account, which counts the body of a loop once; None where it gives none."""
    analysis = program.cost_analysis()
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    return float(analysis["flops"]) if analysis and analysis.get("flops", 0) > 0 else None
