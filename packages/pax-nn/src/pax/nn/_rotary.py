"""Rotary position embeddings."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._dtypes import AnyArray, as_array, promote_dtypes
from pax.nn._numbers import real_number


def rotary_embedding(
    x: Float[AnyArray, "*batch length heads head_size"],
    positions: Int[AnyArray, "*#batch length"],
    *,
    base: float = 10000.0,
    fraction: float = 1.0,
) -> Float[Array, "*batch length heads head_size"]:
    """Rotates the features of each position by angles that grow with the position.

    Feature ``i`` and feature ``i + r / 2`` of a head are the two coordinates of a point, for ``i`` below ``r / 2``,
    where ``r = fraction * head_size`` features take part. The point turns by ``position * base ** (-2 * i / r)``
    radians. The dot product of a rotated query and a rotated key depends on the *difference* of their positions only.

    This is the half-split pairing of GPT-NeoX and Llama. The paper, and GPT-J, pair neighbouring features instead
    (``2 * i`` with ``2 * i + 1``): their weights need a permutation of the features.

    Args:
        x: queries or keys, ``(..., length, heads, head_size)``.
        positions: the position of each row, ``(..., length)`` or just ``(length,)``; integers.
        base: the larger, the slower the last pairs turn, above 0.
        fraction: which part of the features takes part, in (0, 1]; the others stay as they are. ``fraction *
            head_size`` is rounded to an integer, which has to be even.

    Returns:
        An array of the shape and dtype of ``x``; the angles are computed in float32 at least.

    Raises:
        ArgumentError: ``x`` has less than three axes, ``positions`` does not fit, or the number of features that take
            part is odd or 0.
        ArgumentTypeError: ``x`` has no floating, or ``positions`` no integer dtype, or ``base`` or ``fraction`` is no
            number.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> x = jnp.array([[[1.0, 0.0]], [[1.0, 0.0]]])  # two positions, one head, one pair of features
    >>> y = pax.nn.rotary_embedding(x, jnp.array([0, 1]))
    >>> [round(float(value), 4) for value in y.ravel()]  # the second is (cos 1, sin 1)
    [1.0, 0.0, 0.5403, 0.8415]

    References:
        Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021,
        https://arxiv.org/abs/2104.09864 (section 3.2, with the other pairing).
    """
    where = "rotary_embedding"
    x, positions = as_array(x, where=where), as_array(positions, where=where)
    _check_arrays(x, positions, where=where)
    num_rotated = rotated_size(x.shape[-1], base, fraction, where=where)
    y: Array = _rotate(x, positions, base=base, num_rotated=num_rotated)
    return y


def rotated_size(head_size: int, base: float, fraction: float, *, where: str) -> int:
    """Returns how many features of a head take part.

    Raises:
        ArgumentError: the number is odd or 0, or ``base`` is not above 0.
        ArgumentTypeError: ``base`` or ``fraction`` is no number.
    """
    base = real_number(base, what="base", where=where)
    fraction = real_number(fraction, what="fraction", where=where)
    if not base > 0:
        raise ArgumentError(
            "Expecting a positive base of rotary embeddings.", where=where, got=f"base={base}", want="base > 0"
        )
    if not 0 < fraction <= 1:
        raise ArgumentError(
            "Expecting a fraction of rotary embeddings in (0, 1].",
            where=where,
            got=f"fraction={fraction}",
            want="0 < fraction <= 1, the part of the features that is rotated",
        )
    size = round(head_size * fraction)
    if size == 0 or size % 2 != 0:
        raise ArgumentError(
            "Rotary embeddings need an even number of features in each head.",
            where=where,
            got=f"{size} of {head_size} features",
            want="a positive multiple of 2",
            fix="an even head size, or a fraction of it that is even",
        )
    return size


@functools.partial(jax.jit, inline=True, static_argnames=("base", "num_rotated"))
def _rotate(x: jax.Array, positions: jax.Array, *, base: float, num_rotated: int) -> jax.Array:
    dtype = promote_dtypes(x.dtype, jnp.dtype(jnp.float32))
    half = num_rotated // 2
    frequencies = jnp.asarray(base ** (-np.arange(half) / half), dtype)
    angles = jnp.expand_dims(positions.astype(dtype), -1) * jnp.expand_dims(frequencies, range(positions.ndim))
    angles = jnp.expand_dims(angles, -2)  # the same for all heads
    angles = jnp.expand_dims(angles, range(x.ndim - angles.ndim))
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = x[..., :half].astype(dtype), x[..., half:num_rotated].astype(dtype)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
    return turned if num_rotated == x.shape[-1] else jnp.concatenate([turned, x[..., num_rotated:]], axis=-1)


def _check_arrays(x: Any, positions: Any, *, where: str) -> None:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ArgumentTypeError(
            "Expecting a floating dtype for `x`.", where=where, got=describe(x), want="float[*,length,heads,head_size]"
        )
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        raise ArgumentTypeError(
            "Expecting integers for `positions`.", where=where, got=describe(positions), want="int[length]"
        )
    if x.ndim < 3:
        raise ArgumentError(
            f"Expecting an input with at least 3 axes. Get {x.ndim} axes.",
            where=where,
            got=describe(x),
            want="float[*,length,heads,head_size]",
        )
    if not _fits(positions.shape, x.shape[:-2]):
        raise ArgumentError(
            "`positions` does not fit the input.",
            where=where,
            got=f"positions={describe(positions)}, x={describe(x)}",
            want=f"one position for each of the {x.shape[-3]} rows: int[{x.shape[-3]}]",
        )


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return shape[-1:] == target[-1:] and np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False
