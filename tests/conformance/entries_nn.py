"""The layers of pax-nn."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import pax
from conformance.catalogue import Entry

_KEY = jax.random.key(1)


def _normal(*shape: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (jax.random.normal(jax.random.key(0), shape),)


def _dropout() -> Any:
    pax.seed_rng_key(1)
    return pax.nn.Dropout(0.5)


def _sequential() -> Any:
    return pax.nn.Sequential(
        pax.nn.Linear(3, 4, rng_key=_KEY),
        pax.nn.BatchNorm1D(4, data_format="NWC"),
        jax.nn.relu,
        pax.nn.Linear(4, 2, rng_key=_KEY),
    )


ENTRIES = [
    Entry("Linear", "pax.nn.Linear", lambda: pax.nn.Linear(3, 2, rng_key=_KEY), _normal(4, 3)),
    Entry("Linear without bias", "pax.nn.Linear", lambda: pax.nn.Linear(3, 2, False, rng_key=_KEY), _normal(4, 3)),
    Entry("Conv1D", "pax.nn.Conv1D", lambda: pax.nn.Conv1D(3, 4, 3, rng_key=_KEY), _normal(2, 5, 3)),
    Entry(
        "Conv1D, channels first, stride 2",
        "pax.nn.Conv1D",
        lambda: pax.nn.Conv1D(3, 4, 3, 2, data_format="NCW", rng_key=_KEY),
        _normal(2, 3, 6),
    ),
    Entry("Conv2D", "pax.nn.Conv2D", lambda: pax.nn.Conv2D(3, 4, 3, rng_key=_KEY), _normal(2, 5, 5, 3)),
    Entry(
        "Conv2D in groups, without bias",
        "pax.nn.Conv2D",
        lambda: pax.nn.Conv2D(4, 4, (3, 1), padding="VALID", with_bias=False, feature_group_count=2, rng_key=_KEY),
        _normal(2, 5, 5, 4),
    ),
    Entry("BatchNorm1D", "pax.nn.BatchNorm1D", lambda: pax.nn.BatchNorm1D(3), _normal(4, 5, 3), stateful=True),
    Entry(
        "BatchNorm2D, channels first",
        "pax.nn.BatchNorm2D",
        lambda: pax.nn.BatchNorm2D(3, data_format="NCHW"),
        _normal(4, 3, 2, 2),
        stateful=True,
    ),
    Entry(
        "BatchNorm2D without parameters",
        "pax.nn.BatchNorm2D",
        lambda: pax.nn.BatchNorm2D(3, create_scale=False, create_offset=False),
        _normal(4, 2, 2, 3),
        stateful=True,
    ),
    Entry("Dropout", "pax.nn.Dropout", _dropout, _normal(4, 3), stateful=True),
    Entry("Sequential", "pax.nn.Sequential", _sequential, _normal(4, 5, 3), stateful=True),
    Entry("Lambda", "pax.nn.Lambda", lambda: pax.nn.Lambda(jax.nn.relu), _normal(4, 3)),
    Entry("Identity", "pax.nn.Identity", pax.nn.Identity, _normal(4, 3)),
    Entry("EMA", "pax.nn.EMA", lambda: pax.nn.EMA(jnp.ones(3), 0.9), _normal(3), stateful=True),
    Entry(
        "EMA of a tree, debiased",
        "pax.nn.EMA",
        lambda: pax.nn.EMA({"a": jnp.zeros(2), "b": [jnp.ones(())]}, 0.5, debias=True),
        lambda: ({"a": jnp.array([1.0, 2.0]), "b": [jnp.array(3.0)]},),
        stateful=True,
    ),
]

EXCUSED: dict[str, str] = {}
