"""pax.nn.RMSNorm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError


def layer(channels: int = 3, **options: Any) -> Any:
    options.setdefault("rng_key", jax.random.key(0))
    return pax.nn.RMSNorm(channels, **options)


def batch(*shape: int) -> jax.Array:
    return 2 + 3 * jax.random.normal(jax.random.key(1), shape)


def normalized(x: Any, axes: Any, eps: float = 1e-6) -> Any:
    wide = np.asarray(x, np.float64)
    return wide / np.sqrt((wide**2).mean(axes, keepdims=True) + eps)


@pytest.mark.parametrize(
    ("shape", "axis", "axes"),
    [((3,), -1, 0), ((4, 3), -1, 1), ((2, 4, 3), (-2, -1), (1, 2)), ((2, 4, 3), slice(1, None), (1, 2))],
    ids=str,
)
def test_it_divides_by_the_root_of_the_mean_square(shape: tuple[int, ...], axis: Any, axes: Any) -> None:
    scale = jnp.array([1.0, 2.0, 3.0])
    norm, x = layer(axis=axis).replace(scale=scale), batch(*shape)
    np.testing.assert_allclose(norm(x), normalized(x, axes) * np.asarray(scale), rtol=1e-5)


def test_attributes_and_repr() -> None:
    norm = layer(name="rms")
    np.testing.assert_array_equal(norm.scale, np.ones(3, np.float32), strict=True)
    assert (norm.num_channels, norm.axis, norm.create_scale, norm.eps) == (3, (-1,), True, 1e-6)
    assert repr(norm) == "(rms) RMSNorm(num_channels=3, axis=(-1,), create_scale=True)"
    assert layer(create_scale=False).scale is None


def test_scale_at_call_time() -> None:
    x, scale = batch(2, 4, 3), batch(2, 1, 3)
    np.testing.assert_allclose(layer(create_scale=False)(x, scale), normalized(x, -1) * np.asarray(scale), rtol=1e-5)
    with pytest.raises(
        ArgumentError, match="Cannot pass `scale` at call time if `create_scale=True`.\n  where: RMSNorm"
    ):
        layer()(x, scale)


def test_an_initializer_gets_the_first_half_of_the_key() -> None:
    norm = layer(scale_init=jax.random.normal, rng_key=jax.random.key(3))
    np.testing.assert_array_equal(norm.scale, jax.random.normal(jax.random.split(jax.random.key(3))[0], (3,)))
    with pytest.raises(ArgumentError, match="Cannot set `scale_init` if `create_scale=False`.\n  where: RMSNorm"):
        layer(create_scale=False, scale_init=jax.nn.initializers.ones)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_dtypes_of_half_precision(dtype: Any) -> None:
    x = (1e4 * batch(4, 3) / 10).astype(dtype)
    assert layer()(x).dtype == jnp.float32
    assert layer(param_dtype=dtype)(x).dtype == dtype
    y = layer(dtype=dtype)(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(jnp.float32), normalized(x.astype(jnp.float32), -1), rtol=1e-2)


@pytest.mark.parametrize(
    ("shape", "headline"),
    [
        ((4, 2), "Expecting 3 channels. Get 2 channels."),
        ((), "Expecting an input with at least 1 axes. Get 0 axes."),
    ],
)
def test_inputs_are_checked(shape: tuple[int, ...], headline: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(name="rms")(jnp.ones(shape))
    assert str(caught.value).startswith(f"{headline}\n  where: (rms) RMSNorm\n")
