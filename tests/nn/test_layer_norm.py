"""pax.nn.LayerNorm."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError


def layer(channels: int = 3, axis: Any = -1, scale: bool = True, offset: bool = True, **options: Any) -> Any:
    options.setdefault("rng_key", jax.random.key(0))
    return pax.nn.LayerNorm(channels, axis, scale, offset, **options)


def normalized(x: Any, axes: Any, eps: float = 1e-5) -> Any:
    wide = np.asarray(x, np.float64)
    return (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + eps)


def batch(*shape: int) -> jax.Array:
    return 2 + 3 * jax.random.normal(jax.random.key(1), shape)


@pytest.mark.parametrize(
    ("shape", "axis", "axes"),
    [
        ((3,), -1, 0),
        ((4, 3), -1, 1),
        ((2, 4, 3), (1, 2), (1, 2)),
        ((2, 4, 3), [-1, -2], (1, 2)),
        ((2, 4, 3), slice(1, None), (1, 2)),
        ((2, 4, 3), slice(None), (0, 1, 2)),
        ((2, 4, 3), 0, 0),
        ((2, 4, 3), np.int64(1), 1),
        ((2, 4, 3), range(2), (0, 1)),
    ],
    ids=str,
)
def test_it_normalises_over_the_axes_and_scales_the_last(shape: tuple[int, ...], axis: Any, axes: Any) -> None:
    scale, offset = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.0, -0.5])
    norm, x = layer(axis=axis).replace(scale=scale, offset=offset), batch(*shape)
    want = normalized(x, axes) * np.asarray(scale) + np.asarray(offset)
    np.testing.assert_allclose(norm(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_both_modes_are_the_same(training: bool) -> None:
    norm = layer() if training else layer().eval()
    np.testing.assert_allclose(norm(batch(4, 3)), normalized(batch(4, 3), 1), rtol=1e-5, atol=1e-5)


def test_attributes() -> None:
    norm = layer(eps=1e-3)
    np.testing.assert_array_equal(norm.scale, np.ones(3, np.float32), strict=True)
    np.testing.assert_array_equal(norm.offset, np.zeros(3, np.float32), strict=True)
    assert (norm.num_channels, norm.axis, norm.create_scale, norm.create_offset) == (3, (-1,), True, True)
    assert norm.eps == 1e-3
    assert layer(axis=[0, 1]).axis == (0, 1)
    assert layer(axis=slice(1, None)).axis == slice(1, None)


@pytest.mark.parametrize(("create_scale", "create_offset"), [(True, False), (False, True), (False, False)])
def test_what_is_not_created_is_none(create_scale: bool, create_offset: bool) -> None:
    norm = layer(scale=create_scale, offset=create_offset)
    assert (norm.scale is None, norm.offset is None) == (not create_scale, not create_offset)
    np.testing.assert_allclose(norm(batch(4, 3)), normalized(batch(4, 3), 1), rtol=1e-5, atol=1e-5)


def test_scale_and_offset_at_call_time() -> None:
    norm, x = layer(scale=False, offset=False), batch(2, 4, 3)
    scale, offset = batch(2, 1, 3), batch(3)
    want = normalized(x, -1) * np.asarray(scale) + np.asarray(offset)
    np.testing.assert_allclose(norm(x, scale, offset), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(norm(x, scale=scale, offset=offset), want, rtol=1e-5, atol=1e-5)
    want = normalized(x, -1) * 2 + np.asarray(batch(4, 3))
    np.testing.assert_allclose(norm(x, 2.0, batch(4, 3)), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", ["scale", "offset"])
def test_a_layer_with_its_own_takes_no_other(what: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(name="ln")(batch(4, 3), **{what: jnp.ones(3)})
    lines = str(caught.value).splitlines()
    assert lines[0] == f"Cannot pass `{what}` at call time if `create_{what}=True`."
    assert "where: (ln) LayerNorm" in lines[1]
    assert f"fix:   LayerNorm(..., create_{what}=False)" in str(caught.value)


@pytest.mark.parametrize("what", ["scale", "offset"])
def test_an_initializer_of_what_is_not_created_is_an_error(what: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.LayerNorm(3, -1, False, False, **{f"{what}_init": jax.nn.initializers.ones})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"Cannot set `{what}_init` if `create_{what}=False`.\n  where: LayerNorm")
    assert f"fix:   create_{what}=True, or leave out {what}_init" in str(caught.value)


def test_initializers_get_the_two_halves_of_the_key() -> None:
    key = jax.random.key(3)
    norm = layer(scale_init=jax.random.normal, offset_init=jax.random.normal, rng_key=key)
    first, second = jax.random.split(key)
    np.testing.assert_array_equal(norm.scale, jax.random.normal(first, (3,)))
    np.testing.assert_array_equal(norm.offset, jax.random.normal(second, (3,)))
    only = layer(scale=False, offset_init=jax.random.normal, rng_key=key)
    np.testing.assert_array_equal(only.offset, norm.offset)


@pytest.mark.parametrize("create", [True, False])
def test_it_draws_one_global_key(create: bool) -> None:
    pax.seed_rng_key(5)
    pax.next_rng_key()
    want = pax.next_rng_key()
    pax.seed_rng_key(5)
    pax.nn.LayerNorm(3, -1, create, create)
    np.testing.assert_array_equal(pax.next_rng_key(), want)


def test_kd_47_initializers_are_not_kept() -> None:
    """KD-47: three builds with fresh initializers were three traces, and could not be pickled."""

    def build() -> Any:
        return layer(scale_init=lambda key, shape: jnp.full(shape, 2.0), offset_init=lambda key, shape: jnp.ones(shape))

    touch = TraceCounter(lambda norm, x: norm(x))
    for _ in range(3):
        touch(build(), batch(4, 3))
    assert touch.traces == 1
    assert pax.assert_structure_equal(build(), build())
    assert pax.assert_structure_equal(pickle.loads(pickle.dumps(build())), build())


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_dtypes_of_half_precision(dtype: Any) -> None:
    x = batch(4, 3).astype(dtype)
    assert layer()(x).dtype == jnp.float32
    assert layer(dtype=dtype)(x).dtype == dtype
    assert layer(dtype=dtype)(batch(4, 3)).dtype == dtype
    half = layer(param_dtype=dtype)
    assert half.scale.dtype == half.offset.dtype == half(x).dtype == dtype
    assert half(batch(4, 3)).dtype == jnp.float32
    assert layer(scale=False, offset=False)(x).dtype == dtype


def test_kd_62_large_values_in_float16() -> None:
    """KD-62: the variance was infinite in float16, and the output zero."""
    x = jnp.array([[10000.0, -10000.0, 20000.0]], jnp.float16)
    y = layer(dtype=jnp.float16)(x)
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(y.astype(jnp.float32), normalized(x, 1), rtol=2e-3)


def test_integers_are_normalised_in_the_default_float_dtype() -> None:
    x = np.array([[1, 2, 6]])
    y = layer(scale=False, offset=False)(x)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, normalized(x, 1), rtol=1e-5)


def test_x64() -> None:
    with x64():
        x = np.asarray(batch(4, 3), np.float64)
        y = layer()(x)
        assert y.dtype == layer().scale.dtype == jnp.float64
        np.testing.assert_allclose(y, normalized(x, 1), rtol=1e-12)


def test_repr_shows_a_slice_and_a_dtype() -> None:
    assert repr(layer()) == "LayerNorm(num_channels=3, axis=(-1,), create_scale=True, create_offset=True)"
    text = "(ln) LayerNorm(num_channels=3, axis=slice(1, None, None), create_scale=False, create_offset=True, dtype="
    assert repr(layer(axis=slice(1, None), scale=False, name="ln", dtype=jnp.float16)).startswith(text)


@pytest.mark.parametrize("axis", ["ab", None, 1.5, [], (), [1, 2.0], {"a": 1}], ids=str)
def test_an_axis_is_an_int_a_slice_or_ints(axis: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(axis=axis)
    headline = "`axis` should be an int, slice or iterable of ints.\n  where: LayerNorm"
    assert str(caught.value).startswith(headline)
    assert "fix:   axis=-1   # the last axis" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "axis", "headline"),
    [
        ((4, 2), -1, "Expecting 3 channels. Get 2 channels."),
        ((4, 1), -1, "Expecting 3 channels. Get 1 channels."),
        ((), -1, "Expecting an input with at least 1 axes. Get 0 axes."),
        ((4, 3), 2, "An input with 2 axes does not have all axes to normalise over."),
        ((4, 3), (-3, 1), "An input with 2 axes does not have all axes to normalise over."),
        ((4, 3), (1, -1), "An axis to normalise over is named twice."),
        ((3,), slice(1, None), "There is no axis to normalise over in an input with 1 axes."),
    ],
)
def test_inputs_are_checked(shape: tuple[int, ...], axis: Any, headline: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(axis=axis, name="ln")(jnp.ones(shape))
    lines = str(caught.value).splitlines()
    assert lines[0] == headline
    assert "where: (ln) LayerNorm" in lines[1]
    assert "want:" in str(caught.value)
    assert "fix:" in str(caught.value)


@pytest.mark.parametrize("shape", [(2,), (5, 3), (1, 4, 3)])
def test_a_scale_must_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(scale=False)(batch(4, 3), scale=jnp.ones(shape))
    assert str(caught.value).startswith("Expecting a `scale` that can be broadcast to the input.\n  where: LayerNorm")
    assert "want:  [3], or a shape that fits the last axes of float32[4,3]" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "headline"),
    [
        ({"channels": 0}, ArgumentError, "Expecting positive values for `num_channels`."),
        ({"eps": -1e-5}, ArgumentError, "Expecting a finite `eps` that is not negative."),
        ({"eps": float("nan")}, ArgumentError, "Expecting a finite `eps` that is not negative."),
        ({"eps": "small"}, ArgumentTypeError, "Expecting a number for `eps`."),
        ({"dtype": jnp.int32}, ArgumentTypeError, "Expecting a floating dtype for `dtype`."),
        ({"param_dtype": "text"}, ArgumentTypeError, "Expecting a dtype for `param_dtype`."),
        ({"rng_key": "key"}, ArgumentTypeError, "Expecting a PRNG key for `rng_key`."),
        (
            {"scale_init": lambda key, shape: jnp.ones(2)},
            ArgumentError,
            "The initializer of `scale` returned another shape than it was asked for.",
        ),
    ],
    ids=lambda value: "" if isinstance(value, dict) else None,
)
def test_arguments_are_checked(options: dict[str, Any], error: type[Exception], headline: str) -> None:
    with pytest.raises(error) as caught:
        layer(**options)
    assert str(caught.value).startswith(f"{headline}\n  where: LayerNorm\n")
