"""The transformer of pax-nn."""

from typing import Any

import jax

import pax
from conformance.catalogue import Entry


def _transformer(dropout_rate: float = 0.0, **options: Any) -> Any:
    return pax.nets.Transformer(8, 2, 2, dropout_rate, **{"rng_key": jax.random.key(1), **options})


def _with_dropout(**options: Any) -> Any:
    return _transformer(0.5, **options)


def _with_remat(**options: Any) -> Any:
    return _transformer(remat=True, rotary=True, num_kv_heads=1, window=2, **options)


def _sequences() -> tuple[Any, ...]:
    return (jax.random.normal(jax.random.key(0), (2, 3, 8)),)


ENTRIES = [
    Entry("Transformer", "pax.nets.Transformer", _transformer, _sequences),
    Entry("Transformer with dropout", "pax.nets.Transformer", _with_dropout, _sequences, stateful=True),
    Entry("Transformer, rematerialised", "pax.nets.Transformer", _with_remat, _sequences),
]
