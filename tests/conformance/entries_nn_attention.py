"""Attention, and what belongs to it."""

from typing import Any

import jax

import pax
from conformance.catalogue import Entry

_KEY = jax.random.key(1)


def _attention(**options: Any) -> Any:
    return pax.nn.MultiHeadAttention(2, 4, 1.0, **{"rng_key": _KEY, **options})


def _modern(**options: Any) -> Any:
    return _attention(causal=True, num_kv_heads=1, rotary=True, window=2, with_bias=False, **options)


def _with_dropout(**options: Any) -> Any:
    return _attention(dropout_rate=0.5, **options)


def _with_cache() -> Any:
    return _attention(causal=True, rotary=True).init_cache(2, max_length=12)


def _cache(**options: Any) -> Any:
    return pax.nn.KVCache(2, 4, num_heads=2, head_size=3, **options)


def _sequences() -> tuple[Any, ...]:
    x, y, z = jax.random.normal(jax.random.key(0), (3, 2, 3, 8))
    return x, y, z


ENTRIES = [
    Entry("MultiHeadAttention", "pax.nn.MultiHeadAttention", _attention, _sequences),
    Entry("MultiHeadAttention, causal, grouped, rotary, windowed", "pax.nn.MultiHeadAttention", _modern, _sequences),
    Entry("MultiHeadAttention with dropout", "pax.nn.MultiHeadAttention", _with_dropout, _sequences, stateful=True),
    Entry(
        "MultiHeadAttention with a cache",
        "pax.nn.MultiHeadAttention",
        _with_cache,
        _sequences,
        stateful=True,
        excused={
            "nothing_is_converted_implicitly": "calls it in eval mode without purecall; a cache changes there, too"
        },
    ),
    Entry("KVCache", "pax.nn.KVCache", _cache),
]
