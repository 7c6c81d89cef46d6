"""pax.nn.InstanceNorm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError


def layer(channels: int = 3, **options: Any) -> Any:
    options.setdefault("rng_key", jax.random.key(0))
    return pax.nn.InstanceNorm(channels, **options)


def batch(*shape: int) -> jax.Array:
    return 2 + 3 * jax.random.normal(jax.random.key(1), shape)


def normalized(x: Any, axes: Any, eps: float = 1e-5) -> Any:
    wide = np.asarray(x, np.float64)
    return (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + eps)


@pytest.mark.parametrize(
    ("shape", "data_format", "axes"),
    [
        ((2, 4, 3), "channels_last", (1,)),
        ((2, 4, 5, 3), "N...C", (1, 2)),
        ((2, 3, 4), "channels_first", (2,)),
        ((2, 3, 4, 5), "NC...", (2, 3)),
    ],
)
def test_each_channel_of_each_example(shape: tuple[int, ...], data_format: str, axes: tuple[int, ...]) -> None:
    scale, offset = np.array([1.0, 2.0, 3.0], np.float32), np.array([0.0, 1.0, -1.0], np.float32)
    norm, x = (
        layer(data_format=data_format).replace(scale=jnp.asarray(scale), offset=jnp.asarray(offset)),
        batch(*shape),
    )
    along = [-1 if axis == shape.index(3) else 1 for axis in range(len(shape))]
    want = normalized(x, axes) * scale.reshape(along) + offset.reshape(along)
    np.testing.assert_allclose(norm(x), want, rtol=1e-5, atol=1e-5)


def test_it_is_a_group_norm_with_one_channel_in_a_group() -> None:
    groups = pax.nn.GroupNorm(3, 3, rng_key=jax.random.key(0))
    np.testing.assert_allclose(layer()(batch(2, 4, 3)), groups(batch(2, 4, 3)), rtol=1e-5, atol=1e-6)


def test_attributes_and_repr() -> None:
    norm = layer(name="in", data_format="NC...")
    np.testing.assert_array_equal(norm.scale, np.ones(3, np.float32), strict=True)
    np.testing.assert_array_equal(norm.offset, np.zeros(3, np.float32), strict=True)
    assert (norm.num_channels, norm.eps, norm.channel_index, norm.data_format) == (3, 1e-5, 1, "NC...")
    assert repr(norm) == ("(in) InstanceNorm(num_channels=3, create_scale=True, create_offset=True, data_format=NC...)")
    bare = layer(create_scale=False, create_offset=False)
    assert bare.scale is None
    assert bare.offset is None


def test_a_style_at_call_time() -> None:
    x, scale, offset = batch(2, 4, 3), batch(2, 1, 3), batch(3)
    y = layer(create_scale=False, create_offset=False)(x, scale, offset)
    want = normalized(x, (1,)) * np.asarray(scale) + np.asarray(offset)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_dtypes_of_half_precision(dtype: Any) -> None:
    x = batch(2, 4, 3).astype(dtype)
    assert layer()(x).dtype == jnp.float32
    assert layer(dtype=dtype)(x).dtype == layer(param_dtype=dtype)(x).dtype == dtype


@pytest.mark.parametrize(
    ("shape", "data_format", "headline", "want"),
    [
        ((4, 3), "N...C", "Expecting an input with at least 3 axes. Get 2 axes.", "float[*,*,...,3]"),
        ((3, 4), "NC...", "Expecting an input with at least 3 axes. Get 2 axes.", "float[*,3,*,...]"),
        ((2, 4, 2), "N...C", "Expecting 3 channels. Get 2 channels.", "float[*,*,...,3]"),
        ((2, 4, 3), "NC...", "Expecting 3 channels. Get 4 channels.", "float[*,3,*,...]"),
    ],
)
def test_inputs_are_checked(shape: tuple[int, ...], data_format: str, headline: str, want: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(data_format=data_format)(jnp.ones(shape))
    assert str(caught.value).startswith(f"{headline}\n  where: InstanceNorm\n")
    assert f"want:  {want}" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "headline"),
    [
        ({"data_format": "NHWC"}, "Data format `NHWC` is not supported."),
        (
            {"create_scale": False, "scale_init": jax.nn.initializers.ones},
            "Cannot set `scale_init` if `create_scale=False`.",
        ),
        ({"eps": -1.0}, "Expecting a finite `eps` that is not negative."),
    ],
    ids=["data_format", "scale_init", "eps"],
)
def test_arguments_are_checked(options: dict[str, Any], headline: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(**options)
    assert str(caught.value).startswith(f"{headline}\n  where: InstanceNorm\n")
