"""How long does ``import pax`` take when JAX is there already?

Every sample is a process of its own, which imports JAX and then, with a clock running, one library.
"""

import importlib.util
import os
import subprocess
import sys

from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import Timing
from benchmarks._settings import Settings

_MODULES = {
    "PAX": "pax",
    "PAX, pax.nn": "pax.nn",
    "PAX, opax": "opax",
    "Equinox": "equinox",
    "Flax NNX": "flax.nnx",
    "Haiku": "haiku",
}
_PROGRAM = """
import importlib, sys, time
import jax
wall, cpu = time.perf_counter(), time.thread_time()
importlib.import_module(sys.argv[1])
print(time.thread_time() - cpu, time.perf_counter() - wall)
"""
TARGETS = (Target("import", "value", 30e-3, frozenset({"pax"})),)


def run(settings: Settings) -> list[Figure]:
    """Measures the imports in turns, after one import of each that does not count: it may write byte code."""
    modules = {label: module for label, module in _MODULES.items() if _is_installed(module)}
    samples: dict[str, list[tuple[float, float]]] = {label: [] for label in modules}
    for number in range(settings.processes + 1):
        for label, module in modules.items():
            seconds = _import_seconds(module)
            if number > 0:
                samples[label].append(seconds)
    figures = []
    for label, pairs in samples.items():
        timing = {label: Timing(*zip(*pairs, strict=True))}
        figures += timed_figures("import_time", "import", modules[label], timing, reference=None)
    return figures


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False


def _import_seconds(module: str) -> tuple[float, float]:
    # An installed package has byte code: without it, the time to compile the sources would be measured.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.run(
        [sys.executable, "-c", _PROGRAM, module],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=environment,
    )
    cpu, wall = process.stdout.split()
    return float(cpu), float(wall)
