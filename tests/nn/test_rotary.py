"""pax.nn.rotary_embedding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from pax.errors import ArgumentError, ArgumentTypeError


def draw(*shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return jax.random.normal(jax.random.key(0), shape, dtype)


def reference(x: Any, positions: Any, base: float, size: int) -> np.ndarray:
    """Multiplication of complex numbers, in float64 NumPy."""
    x = np.asarray(x, np.float64)
    half = size // 2
    angles = np.asarray(positions)[..., None] * base ** (-2 * np.arange(half) / size)
    z = (x[..., :half] + 1j * x[..., half:size]) * np.exp(1j * angles)[..., None, :]
    return np.concatenate([z.real, z.imag, x[..., size:]], axis=-1)


@pytest.mark.parametrize("base", [10000.0, 500000.0])
@pytest.mark.parametrize(("fraction", "size"), [(1.0, 8), (0.5, 4), (0.25, 2)])
def test_pairs_of_both_halves_turn_by_angles_of_their_position(base: float, fraction: float, size: int) -> None:
    x, positions = draw(2, 5, 3, 8), jnp.arange(5) + 3
    y = pax.nn.rotary_embedding(x, positions, base=base, fraction=fraction)
    np.testing.assert_allclose(y, reference(x, positions, base, size), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (2, 5)])
def test_positions_can_differ_from_sequence_to_sequence(shape: tuple[int, ...]) -> None:
    x = draw(2, 5, 3, 8)
    positions = jax.random.randint(jax.random.key(1), shape, 0, 100)
    want = reference(x, np.broadcast_to(positions, (2, 5)), 10000.0, 8)
    np.testing.assert_allclose(pax.nn.rotary_embedding(x, positions), want, rtol=1e-4, atol=1e-4)


def test_dot_products_depend_on_differences_of_positions_only() -> None:
    q, k = draw(2, 1, 1, 8)

    def dot(i: int, j: int) -> Any:
        turned = pax.nn.rotary_embedding(q, jnp.array([i])) * pax.nn.rotary_embedding(k, jnp.array([j]))
        return turned.sum()

    np.testing.assert_allclose(dot(7, 4), dot(103, 100), rtol=1e-4)
    assert not np.isclose(dot(7, 4), dot(7, 5))


def test_position_0_is_unchanged() -> None:
    x = draw(1, 2, 4)
    np.testing.assert_array_equal(pax.nn.rotary_embedding(x, jnp.zeros(1, jnp.int32)), x)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float16, 2e-3), (jnp.bfloat16, 2e-2), (jnp.float64, 1e-12)])
def test_the_dtype_is_kept_and_angles_are_exact(dtype: Any, tolerance: float) -> None:
    with x64(dtype == jnp.float64):
        x, positions = draw(5, 1, 4, dtype=dtype), jnp.arange(1000, 1005)
        y = pax.nn.rotary_embedding(x, positions)
        assert y.dtype == dtype
        np.testing.assert_allclose(np.asarray(y, np.float64), reference(x, positions, 10000.0, 4), atol=tolerance)


def test_numpy_arrays_jit_and_vmap() -> None:
    x, positions = draw(2, 5, 3, 4), np.arange(5)
    want = pax.nn.rotary_embedding(np.asarray(x), positions)
    np.testing.assert_allclose(jax.jit(pax.nn.rotary_embedding)(x, positions), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(pax.nn.rotary_embedding, (0, None))(x, positions), want, rtol=1e-5, atol=1e-6)


def test_the_derivative_turns_back() -> None:
    x, positions = draw(5, 1, 4), jnp.arange(5)
    y, vjp = jax.vjp(lambda x: pax.nn.rotary_embedding(x, positions), x)
    np.testing.assert_allclose(vjp(y)[0], x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "positions", "options", "error", "text"),
    [
        (jnp.ones((5, 1, 3)), jnp.arange(5), {}, ArgumentError, "Rotary embeddings need an even number of features"),
        (
            jnp.ones((5, 1, 4)),
            jnp.arange(5),
            {"fraction": 0.25},
            ArgumentError,
            "Rotary embeddings need an even number",
        ),
        (jnp.ones((5, 1, 4)), jnp.arange(5), {"fraction": 1.5}, ArgumentError, "Expecting a fraction of rotary"),
        (jnp.ones((5, 1, 4)), jnp.arange(5), {"base": -1.0}, ArgumentError, "Expecting a positive base of rotary"),
        (jnp.ones((5, 1, 4)), jnp.arange(4), {}, ArgumentError, "`positions` does not fit the input.\n"),
        (jnp.ones((5, 1, 4)), jnp.ones((2, 5), jnp.int32), {}, ArgumentError, "`positions` does not fit the input.\n"),
        (jnp.ones((2, 5, 1, 4)), jnp.ones((3, 5), int), {}, ArgumentError, "`positions` does not fit the input.\n"),
        (jnp.ones((5, 1, 4)), jnp.array(1), {}, ArgumentError, "`positions` does not fit the input.\n"),
        (jnp.ones((5, 4)), jnp.arange(5), {}, ArgumentError, "Expecting an input with at least 3 axes. Get 2 axes.\n"),
        (jnp.ones((5, 1, 4)), jnp.ones(5), {}, ArgumentTypeError, "Expecting integers for `positions`.\n"),
        (jnp.ones((5, 1, 4), jnp.int32), jnp.arange(5), {}, ArgumentTypeError, "Expecting a floating dtype for `x`.\n"),
    ],
)
def test_arguments_are_checked(x: Any, positions: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        pax.nn.rotary_embedding(x, positions, **options)
    assert str(caught.value).startswith(text)
    assert "\n  where: rotary_embedding\n" in str(caught.value)
