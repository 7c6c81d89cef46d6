"""How long does it take to build a large model with its weights, the first time in a process and after that?

Every case runs in processes of its own. ``cold`` is the first model, and includes what XLA compiles; ``compilations``
counts that; ``warm`` is the next ones. All draw from the same distributions; the reference is plain JAX with a key for
each array. "PAX, NumPy" is ``pax.nn.initializers.use_numpy``, "PAX, abstract" is ``jax.eval_shape`` of the constructor.
Time is that on the wall, with JAX and the library imported and the device started before.
"""

# The other libraries may be absent where types are checked; everything of them is Any there.
# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-return-any

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import Timing
from benchmarks._settings import Settings

_COLD, _WARM, _COMPILATIONS = "cold", "warm", "compilations"
_WARM_BUILDS = 5
_PLAIN = "plain JAX"
# Label and the package that has to be there.
_LABELS = {
    _PLAIN: "jax",
    "PAX": "pax.nets",
    "PAX, NumPy": "pax.nets",
    "PAX, abstract": "pax.nets",
    "Flax NNX": "flax",
    "Equinox": "equinox",
    "Haiku": "haiku",
}
_SIZES = {"transformer": "transformer, 12 layers of 256", "resnet50": "ResNet50"}
TARGETS = (
    Target(_COLD, "ratio", 1.1),
    Target(_WARM, "ratio", 1.2, libraries=frozenset({"PAX", "PAX, abstract"})),
    Target(_COLD, "ratio", 0.1, libraries=frozenset({"PAX, NumPy"})),
    Target(_COMPILATIONS, "value", 0, libraries=frozenset({"PAX, NumPy", "PAX, abstract"})),
)


def run(settings: Settings) -> list[Figure]:
    """Builds every model with every library, in turns."""
    figures = []
    for model in settings.constructions:
        labels = [label for label, module in _LABELS.items() if _is_installed(module)]
        if settings.model_libraries is not None:
            labels = [label for label in labels if label == _PLAIN or label.startswith("PAX")]
        labels = [label for label in labels if (label, model) in _BUILDERS]
        samples: dict[str, list[Any]] = {label: [] for label in labels}
        for _ in range(settings.cold_processes):
            for label in labels:
                samples[label].append(_process(label, model))
        for measure in (_COLD, _WARM):
            seconds = {label: tuple(one[measure] for one in ones) for label, ones in samples.items()}
            timings = {label: Timing(times, times) for label, times in seconds.items()}
            figures += timed_figures("construction", measure, _SIZES[model], timings, _PLAIN, clock="wall")
        for label, ones in samples.items():
            figures.append(Figure.count("construction", _COMPILATIONS, _SIZES[model], label, ones[0][_COMPILATIONS]))
    return figures


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False


def _process(label: str, model: str) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.construction", label, model],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )
    if process.returncode != 0:
        raise RuntimeError(f"construction of {model} with {label} failed:\n{process.stderr}")
    sample: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return sample


def measure_here(label: str, model: str) -> dict[str, Any]:
    """Builds a model several times in this process."""
    import statistics
    import time

    import jax

    compilations = 0

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        nonlocal compilations
        compilations += event == "/jax/core/compile/backend_compile_duration"

    build = _BUILDERS[label, model]()
    jax.device_put(0.0).block_until_ready()
    jax.monitoring.register_event_duration_secs_listener(listen)
    seconds = []
    for _ in range(1 + _WARM_BUILDS):
        start = time.perf_counter()
        arrays = [leaf for leaf in jax.tree.leaves(build()) if isinstance(leaf, jax.Array)]
        jax.block_until_ready(arrays)
        seconds.append(time.perf_counter() - start)
        if len(seconds) == 1:
            counted = compilations
    return {_COLD: seconds[0], _WARM: statistics.median(seconds[1:]), _COMPILATIONS: counted}


def _plain(model: str) -> Callable[[], Any]:
    from benchmarks.models import resnet_weights, transformer_weights
    from benchmarks.models._weights import resnet_averages

    def resnet() -> Any:
        weights = resnet_weights((3, 4, 6, 3), 1000, bottleneck=True)
        return weights, resnet_averages(weights)

    return resnet if model == "resnet50" else lambda: transformer_weights(12, 256)


def _pax(model: str) -> Callable[[], Any]:
    from pax import nets

    return (lambda: nets.ResNet50(3, 1000)) if model == "resnet50" else lambda: nets.Transformer(256, 8, 12, 0.1)


def _pax_numpy(model: str) -> Callable[[], Any]:
    import pax

    build = _pax(model)

    def drawn_with_numpy() -> Any:
        with pax.nn.initializers.use_numpy():
            return build()

    return drawn_with_numpy


def _pax_abstract(model: str) -> Callable[[], Any]:
    import jax

    build = _pax(model)
    return lambda: jax.eval_shape(build)


def _nnx() -> Callable[[], Any]:
    """Returns a transformer with the constructors of Flax, which draw from its own distributions."""
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.norm1, self.norm2 = nnx.LayerNorm(256, rngs=rngs), nnx.LayerNorm(256, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(8, 256, rngs=rngs)
            self.fc1, self.fc2 = nnx.Linear(256, 1024, rngs=rngs), nnx.Linear(1024, 256, rngs=rngs)

    def build() -> Any:
        rngs = nnx.Rngs(0)
        return nnx.state(nnx.List([*(Block(rngs) for _ in range(12)), nnx.LayerNorm(256, rngs=rngs)]), nnx.Param)

    return build


def _equinox() -> Callable[[], Any]:
    """Likewise with Equinox."""
    import equinox as eqx
    import jax

    biases: dict[str, Any] = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}

    def block(key: jax.Array) -> list[Any]:
        keys = jax.random.split(key, 3)
        return [
            eqx.nn.LayerNorm(256),
            eqx.nn.MultiheadAttention(8, 256, **biases, key=keys[0]),
            eqx.nn.LayerNorm(256),
            eqx.nn.Linear(256, 1024, key=keys[1]),
            eqx.nn.Linear(1024, 256, key=keys[2]),
        ]

    return lambda: [*map(block, jax.random.split(jax.random.PRNGKey(0), 12)), eqx.nn.LayerNorm(256)]


def _haiku() -> Callable[[], Any]:
    """Likewise with Haiku, which runs the network in order to build it."""
    import haiku as hk
    import jax
    import jax.numpy as jnp

    def forward(x: jax.Array) -> jax.Array:
        for _ in range(12):
            y = hk.LayerNorm(-1, True, True)(x)
            x = x + hk.MultiHeadAttention(8, 32, w_init_scale=2 / 12)(y, y, y)
            y = jax.nn.gelu(hk.Linear(1024)(hk.LayerNorm(-1, True, True)(x)))
            x = x + hk.Linear(256)(y)
        return hk.LayerNorm(-1, True, True)(x)

    init = hk.transform(forward).init
    return lambda: init(jax.random.PRNGKey(0), jnp.ones((1, 2, 256)))


_BUILDERS: dict[tuple[str, str], Callable[[], Callable[[], Any]]] = {
    ("Flax NNX", "transformer"): _nnx,
    ("Equinox", "transformer"): _equinox,
    ("Haiku", "transformer"): _haiku,
}
for _label, _builder in ((_PLAIN, _plain), ("PAX", _pax), ("PAX, NumPy", _pax_numpy), ("PAX, abstract", _pax_abstract)):
    for _model in _SIZES:
        _BUILDERS[_label, _model] = functools.partial(_builder, _model)

if __name__ == "__main__":
    print(json.dumps(measure_here(*sys.argv[1:])))
