#!/usr/bin/env bash
# JAX's persistent compilation cache never replaces an entry that was cut short, as a full disk or a killed copy leaves it: every
# later start warns that it cannot read the entry, compiles anew, and leaves the file as it is.
#
# Seen with jax 0.10.2, Python 3.11, x86-64, CPU backend: after the entry was cut to half, three starts each printed one
# UserWarning "Error reading persistent compilation cache entry for 'jit_double'", and the entry kept its size.
# Why: LRUCache.put (jax/_src/lru_cache.py) returns if the file exists, "even if the value is different"; _cache_read
# (jax/_src/compiler.py) warns, and nothing removes what it could not read.
# Control: a whole entry is read without a warning, and a start after the cut one was deleted writes it anew.
# Exits with 1 if the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2
cat > "$place/start.py" <<'PYTHON'
"""A start of a program: prints how many warnings about the cache it met."""

import warnings

import jax

jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def double(x):
    return x * 2


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert jax.jit(double)(21.0) == 42
print(sum("Error reading persistent compilation cache entry" in str(warning.message) for warning in caught))
PYTHON
cat > "$place/look.py" <<'PYTHON'
import importlib.metadata
import os
import pathlib
import subprocess
import sys

place = pathlib.Path(sys.argv[1])
cache = place / "cache"
environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}


def start(what):
    done = subprocess.run([sys.executable, place / "start.py"], env=environment, capture_output=True, text=True, check=True)
    (entry,) = cache.glob("jit_double-*-cache")
    print(f"{what}: {done.stdout.strip()} warnings, the entry then has {entry.stat().st_size} bytes")
    return int(done.stdout), entry


print(f"JAX {importlib.metadata.version('jax')}")
warned, entry = start("first start")
whole = entry.stat().st_size
assert not warned
assert start("control, a whole entry") == (0, entry)

cut = whole // 2
entry.write_bytes(entry.read_bytes()[:cut])
for number in range(3):
    assert start(f"start {number + 1} after the entry was cut") == (1, entry)
    assert entry.stat().st_size == cut, "it was left as it was"

entry.unlink()
assert start("control, the cut entry deleted") == (0, entry)
assert entry.stat().st_size > cut
assert start("control, the new entry") == (0, entry)
PYTHON
"$place/venv/bin/python" "$place/look.py" "$place"
