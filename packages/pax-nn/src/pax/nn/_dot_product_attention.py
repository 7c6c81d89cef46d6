"""Attention itself: weighted sums of values, by the similarity of queries and keys."""

import functools
import math
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from pax.nn._attention_mask import position_mask
from pax.nn._dropout import dropout
from pax.nn._dtypes import promote_dtypes

Implementation = Literal["xla", "cudnn"]
"""The names of the kernels of ``jax.nn.dot_product_attention``."""
IMPLEMENTATIONS: tuple[str, ...] = get_args(Implementation)


@functools.partial(jax.jit, static_argnames=("causal", "window", "dropout_rate", "implementation"))
def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    start: jax.Array | None,
    rng_key: jax.Array | None,
    *,
    causal: bool,
    window: int | None,
    dropout_rate: float,
    implementation: Implementation | None,
) -> jax.Array:
    """Returns one weighted sum of values for each query and head; zeros where a query sees no key at all.

    One compiled function, so that the layers of a deep network are traced and lowered once.

    Args:
        query: ``(batch, queries, heads, head_size)``.
        key: ``(batch, keys, kv_heads, head_size)``, in the dtype of ``query``; ``kv_heads`` divides ``heads``.
        value: the same.
        mask: booleans of four axes that broadcast to ``(batch, heads, queries, keys)``; ``None`` hides nothing.
        start: the position of the first query among the keys; ``None`` is 0.
        rng_key: used for dropout.
        causal: see :func:`position_mask`.
        window: see :func:`position_mask`.
        dropout_rate: the probability of dropping a weight; 0 in eval mode.
        implementation: see ``jax.nn.dot_product_attention``.
    """
    num_queries, num_keys = query.shape[1], key.shape[1]
    if num_keys == 0:
        return jnp.zeros_like(query)
    # Every query of a sequence sees itself: no mask is needed, and kernels know these two cases.
    by_flags = mask is None and start is None and (causal or window is None) and (not causal or num_queries == num_keys)
    explicit = dropout_rate > 0 or (implementation != "cudnn" and not _xla_is_right_for(query.dtype))
    if by_flags and not explicit:
        local_window = None if window is None else (window - 1, 0)
        return _kernel(query, key, value, implementation, is_causal=causal, local_window_size=local_window)
    visible = position_mask(num_queries, num_keys, start=start, causal=causal, window=window)
    if mask is not None:
        visible = mask if visible is None else mask & visible
    if explicit:
        y = _explicit_attention(query, key, value, visible, rng_key, dropout_rate)
    else:
        # Kernels want all queries and keys in a mask.
        full = None if visible is None else jnp.broadcast_to(visible, (*visible.shape[:2], num_queries, num_keys))
        y = _kernel(query, key, value, implementation, mask=full)
    if by_flags or visible is None:
        return y
    sees_any = jnp.any(visible, axis=-1).swapaxes(1, 2)[..., None]
    return jnp.where(sees_any, y, jnp.zeros((), y.dtype))


def _xla_is_right_for(dtype: jnp.dtype) -> bool:
    """Whether ``jax.nn.dot_product_attention`` computes what it should everywhere, without ``"cudnn"``.

    It takes the softmax of float64 in float32. Of CPUs, it asks a product of float16 that they do not have. And the
    derivative of its product of bfloat16 cannot be compiled in JAX's mode of strict dtype promotion.
    """
    if dtype != jnp.bfloat16:
        return bool(dtype == jnp.float32)
    try:
        jnp.promote_types(dtype, jnp.float32)
    except ValueError:  # strict promotion
        return False
    return True


def _kernel(
    query: jax.Array, key: jax.Array, value: jax.Array, implementation: Implementation | None, **options: Any
) -> jax.Array:
    # It relies on the implicit promotion of half precision.
    with jax.numpy_dtype_promotion("standard"):
        y: jax.Array = jax.nn.dot_product_attention(query, key, value, implementation=implementation, **options)
        return y


def _explicit_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    visible: jax.Array | None,
    rng_key: jax.Array | None,
    dropout_rate: float,
) -> jax.Array:
    """What ``jax.nn.dot_product_attention`` computes, with dropout of the weights, and in float64 where it is wanted.

    Products are accumulated, and the softmax is taken, in float32 at least.
    """
    batch, num_queries, num_heads, size = query.shape
    num_kv_heads = key.shape[2]
    dtype = promote_dtypes(query.dtype, jnp.dtype(jnp.float32))
    grouped = query.reshape(batch, num_queries, num_kv_heads, num_heads // num_kv_heads, size)
    logits = jnp.einsum("bqkgd,bskd->bkgqs", grouped, key, preferred_element_type=dtype) / math.sqrt(size)
    if visible is not None:
        # Finite, so that a row without any key gives no NaN, and its gradients neither.
        lowest = jnp.array(0.7 * float(np.finfo(dtype).min), dtype)
        logits = jnp.where(_split_heads(visible, num_kv_heads), logits, lowest)
    weights = jax.nn.softmax(logits, axis=-1)
    weights = dropout(rng_key, dropout_rate, weights).astype(value.dtype)
    y = jnp.einsum("bkgqs,bskd->bqkgd", weights, value)
    return y.reshape(query.shape)


def _split_heads(mask: jax.Array, num_kv_heads: int) -> jax.Array:
    """Makes two axes of that of the heads: the key heads, and the query heads of each."""
    batch, num_heads, *rest = mask.shape
    return mask.reshape(batch, *((1, 1) if num_heads == 1 else (num_kv_heads, num_heads // num_kv_heads)), *rest)
