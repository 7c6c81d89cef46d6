"""The modules of the mlax dialect. They see their input first, and come back from the call."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from conformance.catalogue import Entry
from pax.experimental import mlax
from pax.experimental.mlax import nn as layers
from pax.nn import Linear

_KEY = jax.random.PRNGKey(0)


class Scale(mlax.Module):
    """Multiplies by a trained factor."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = mlax.Parameter(True)

    def setup(self, x: Any) -> None:
        self.factor.data = jnp.full(x.shape[-1], 1.5, x.dtype)

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Any = ()) -> Any:
        return x * self.factor.data[None]


def _batch() -> tuple[Any, ...]:
    return (jnp.array([[1.0, -2.0, 0.5], [0.5, 3.0, -1.0]]),)


def _two() -> tuple[Any, ...]:
    return ((*_batch(), *_batch()),)


def _steps() -> tuple[Any, ...]:
    return ((*_batch(), jnp.ones(())),)


def _tokens() -> tuple[Any, ...]:
    return (jnp.array([1, 2]),)


def _image() -> tuple[Any, ...]:
    return (jnp.arange(24.0).reshape(2, 4, 3) / 10,)


def _draw(x: Any, rng: Any) -> Any:
    return x + 1


def _cell(x: Any) -> Any:
    return x[0].sum() + x[1], x[1] * 0.5


def _series() -> layers.Series:
    return layers.Series(
        [layers.Linear(_KEY, 4), layers.Bias(_KEY, -1), layers.ZNorm(_KEY, 0), jax.nn.relu, Linear(4, 3, rng_key=_KEY)]
    )


def _linear_and_bias() -> list[Any]:
    return [layers.Linear(_KEY, 2), layers.Bias(_KEY, -1)]


def _entry(name: str, make: Callable[[], Any], inputs: Callable[[], tuple[Any, ...]], **options: Any) -> Entry:
    """An entry whose module has seen its first input."""
    return Entry(f"mlax.{name}", f"pax.experimental.mlax.{name}", lambda: make()(*inputs(), None)[1], inputs, **options)


ENTRIES = [
    Entry(
        "mlax.Parameter", "pax.experimental.mlax.Parameter", lambda: mlax.Parameter(True, jnp.arange(6.0).reshape(2, 3))
    ),
    _entry("Module", Scale, _batch),
    _entry("nn.Linear", lambda: layers.Linear(_KEY, 2), _batch),
    _entry("nn.Bias", lambda: layers.Bias(_KEY, -1), _batch),
    _entry("nn.Scaler", lambda: layers.Scaler(_KEY, -1), _batch),
    _entry("nn.Conv", lambda: layers.Conv(_KEY, 2, (2, 2)), _image),
    _entry("nn.Embed", lambda: layers.Embed(_KEY, 5, 2), _tokens),
    _entry("nn.ZNorm", lambda: layers.ZNorm(_KEY, 0), _batch, stateful=True),
    _entry("nn.F", lambda: layers.F(jax.nn.relu), _batch),
    _entry("nn.FRng", lambda: layers.FRng(_draw), _batch),
    _entry("nn.Series", _series, _batch, stateful=True),
    _entry("nn.SeriesRng", lambda: layers.SeriesRng(_linear_and_bias()), _batch),
    _entry("nn.Parallel", lambda: layers.Parallel(_linear_and_bias()), _two),
    _entry("nn.ParallelRng", lambda: layers.ParallelRng(_linear_and_bias()), _two),
    _entry("nn.Recurrent", lambda: layers.Recurrent(layers.F(_cell)), _steps),
    _entry("nn.RecurrentRng", lambda: layers.RecurrentRng(layers.F(_cell)), _steps),
]
