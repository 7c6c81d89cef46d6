"""pax.nn.GroupNorm."""

import itertools
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentError

LAST, FIRST = ("channels_last", "N...C"), ("channels_first", "NC...")


def layer(groups: int = 2, channels: int = 4, axis: Any = slice(1, None), **options: Any) -> Any:
    options.setdefault("rng_key", jax.random.key(0))
    return pax.nn.GroupNorm(groups, channels, axis, **options)


def batch(*shape: int) -> jax.Array:
    return 2 + 3 * jax.random.normal(jax.random.key(1), shape)


def normalized(x: Any, groups: int, axes: tuple[int, ...], channel_axis: int, eps: float = 1e-5) -> Any:
    """Group by group, in float64; all numbers count from 0."""
    wide = np.asarray(x, np.float64)
    parts = np.split(wide, groups, channel_axis)
    done = [(part - part.mean(axes, keepdims=True)) / np.sqrt(part.var(axes, keepdims=True) + eps) for part in parts]
    return np.concatenate(done, channel_axis)


def along_channels(values: Any, ndim: int, channel_axis: int) -> Any:
    return np.asarray(values, np.float64).reshape([-1 if axis == channel_axis else 1 for axis in range(ndim)])


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("data_format", LAST + FIRST)
def test_groups_never_mix(groups: int, data_format: str) -> None:
    channel_axis = 1 if data_format in FIRST else 3
    x = batch(2, 4, 3, 4)
    want = normalized(x, groups, (1, 2, 3), channel_axis)
    np.testing.assert_allclose(layer(groups, data_format=data_format)(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 4), (2, 2, 2, 2, 4)])
def test_any_number_of_axes(shape: tuple[int, ...]) -> None:
    axes = tuple(range(1, len(shape)))
    want = normalized(batch(*shape), 2, axes, len(shape) - 1)
    np.testing.assert_allclose(layer()(batch(*shape)), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_kd_44_scale_and_offset_act_on_the_channels(data_format: str) -> None:
    """KD-44: with channels first they acted on the last axis, an error or wrong numbers (here both have length 4)."""
    channel_axis = 1 if data_format == "channels_first" else 2
    scale, offset = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([0.0, 1.0, 0.0, -1.0])
    norm = layer(data_format=data_format).replace(scale=scale, offset=offset)
    x = batch(2, 4, 4)
    want = normalized(x, 2, (1, 2), channel_axis) * along_channels(scale, 3, channel_axis)
    want = want + along_channels(offset, 3, channel_axis)
    np.testing.assert_allclose(norm(x), want, rtol=1e-5, atol=1e-5)
    free = layer(data_format=data_format, create_scale=False, create_offset=False)
    np.testing.assert_allclose(free(x, scale, offset), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "axes", [axes for n in (1, 2, 3) for axes in itertools.combinations((1, 2, 3), n)] + [(0, 1, 2, 3)], ids=str
)
def test_kd_45_negative_axes_are_those_of_the_input(data_format: str, axes: tuple[int, ...]) -> None:
    """KD-45: negative axes were counted after the channels had become two, and could mean the batch."""
    channel_axis = 1 if data_format == "channels_first" else 3
    x = batch(2, 4, 3, 4)
    want = normalized(x, 2, axes, channel_axis)
    negative = [axis - 4 for axis in axes]
    for axis in (axes, negative, negative[::-1]):
        y = layer(axis=axis, data_format=data_format, create_scale=False)(x)
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)


def test_kd_46_the_layer_knows_its_channels_and_shows_itself() -> None:
    """KD-46: there was no `num_channels`, and `repr` was only the name of the class."""
    norm = layer(name="gn", data_format="NC...")
    assert norm.num_channels == 4
    assert repr(norm) == (
        "(gn) GroupNorm(groups=2, num_channels=4, axis=slice(1, None, None), create_scale=True, create_offset=True, "
        "data_format=NC...)"
    )
    assert repr(layer(dtype=jnp.float16)).endswith("data_format=channels_last, dtype=float16)")


def test_kd_46_groups_must_divide_the_channels() -> None:
    """KD-46: this was found at the first call only."""
    with pytest.raises(ArgumentError) as caught:
        layer(3, 4)
    headline = "The number of channels must be divisible by the number of groups, was channels=4, groups=3"
    assert str(caught.value).startswith(f"{headline}\n  where: GroupNorm\n")
    assert "want:  groups to be a divisor of 4" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "data_format", "headline"),
    [
        ((2, 5, 6), "channels_last", "Expecting 4 channels. Get 6 channels."),
        ((2, 5, 1), "channels_last", "Expecting 4 channels. Get 1 channels."),
        ((2, 6, 4), "NC...", "Expecting 4 channels. Get 6 channels."),
        ((4,), "NC...", "Expecting an input with at least 2 axes. Get 1 axes."),
        ((4,), "N...C", "There is no axis to normalise over in an input with 1 axes."),
    ],
)
def test_kd_46_the_channels_of_the_input_are_checked(shape: tuple[int, ...], data_format: str, headline: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(data_format=data_format, name="gn")(jnp.ones(shape))
    lines = str(caught.value).splitlines()
    assert lines[0] == headline
    assert "where: (gn) GroupNorm" in lines[1]
    assert "fix:" in str(caught.value)


def test_the_error_text_shows_where_the_channels_are() -> None:
    with pytest.raises(ArgumentError, match=r"want:  float\[\*,4,\.\.\.\]"):
        layer(data_format="NC...")(jnp.ones((2, 6, 5)))
    with pytest.raises(ArgumentError, match=r"want:  float\[\.\.\.,4\]"):
        layer()(jnp.ones((2, 5, 6)))


def test_kd_47_initializers_are_not_kept() -> None:
    """KD-47: a fresh initializer for each build meant a trace for each build."""

    def build() -> Any:
        return layer(scale_init=lambda key, shape: jnp.full(shape, 2.0))

    touch = TraceCounter(lambda norm, x: norm(x))
    for _ in range(3):
        touch(build(), batch(2, 3, 4))
    assert touch.traces == 1
    assert pax.assert_structure_equal(pickle.loads(pickle.dumps(build())), build())


def test_attributes() -> None:
    norm = layer(eps=1e-3)
    np.testing.assert_array_equal(norm.scale, np.ones(4, np.float32), strict=True)
    np.testing.assert_array_equal(norm.offset, np.zeros(4, np.float32), strict=True)
    assert (norm.groups, norm.eps, norm.data_format, norm.axis) == (2, 1e-3, "channels_last", slice(1, None))
    assert (norm.create_scale, norm.create_offset) == (True, True)
    assert [layer(data_format=name).channel_index for name in LAST + FIRST] == [-1, -1, 1, 1]
    assert layer(axis=[1, 2]).axis == [1, 2]
    assert layer(axis=-1).axis == (-1,)


@pytest.mark.parametrize(("create_scale", "create_offset"), [(True, False), (False, True), (False, False)])
def test_what_is_not_created_is_no_attribute(create_scale: bool, create_offset: bool) -> None:
    norm = layer(create_scale=create_scale, create_offset=create_offset)
    assert (hasattr(norm, "scale"), hasattr(norm, "offset")) == (create_scale, create_offset)
    assert len(jax.tree.leaves(norm)) == create_scale + create_offset
    np.testing.assert_allclose(norm(batch(2, 3, 4)), normalized(batch(2, 3, 4), 2, (1, 2), 2), rtol=1e-5, atol=1e-5)


def test_initializers_get_the_two_halves_of_the_key() -> None:
    norm = layer(scale_init=jax.random.normal, offset_init=jax.random.normal, rng_key=jax.random.key(3))
    first, second = jax.random.split(jax.random.key(3))
    np.testing.assert_array_equal(norm.scale, jax.random.normal(first, (4,)))
    np.testing.assert_array_equal(norm.offset, jax.random.normal(second, (4,)))


def test_an_initializer_of_what_is_not_created_is_not_used() -> None:
    assert not hasattr(layer(create_scale=False, scale_init=jax.nn.initializers.ones), "scale")


@pytest.mark.parametrize("create", [True, False])
def test_it_draws_one_global_key(create: bool) -> None:
    pax.seed_rng_key(5)
    pax.next_rng_key()
    want = pax.next_rng_key()
    pax.seed_rng_key(5)
    pax.nn.GroupNorm(2, 4, create_scale=create, create_offset=create)
    np.testing.assert_array_equal(pax.next_rng_key(), want)


@pytest.mark.parametrize("what", ["scale", "offset"])
def test_a_layer_with_its_own_takes_no_other(what: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer()(batch(2, 3, 4), **{what: jnp.ones(4)})
    headline = f"Cannot pass `{what}` at call time if `create_{what}=True`.\n  where: GroupNorm"
    assert str(caught.value).startswith(headline)
    assert f"fix:   GroupNorm(..., create_{what}=False)" in str(caught.value)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 1, 4), (2, 3, 1), (3, 4)], ids=str)
def test_scale_at_call_time_broadcasts_to_the_input(shape: tuple[int, ...]) -> None:
    scale, x = batch(*shape), batch(2, 3, 4)
    want = normalized(x, 2, (1, 2), 2) * np.asarray(scale, np.float64)
    np.testing.assert_allclose(layer(create_scale=False)(x, scale), want, rtol=1e-5, atol=1e-5)


def test_a_scale_per_example_with_channels_first() -> None:
    scale, x = batch(2, 4, 1), batch(2, 4, 3)
    want = normalized(x, 2, (1, 2), 1) * np.asarray(scale, np.float64)
    np.testing.assert_allclose(layer(create_scale=False, data_format="NC...")(x, scale), want, rtol=1e-5, atol=1e-5)


def test_a_scale_that_does_not_fit() -> None:
    with pytest.raises(ArgumentError, match="Expecting a `scale` that can be broadcast to the input.\n  where: Group"):
        layer(create_scale=False)(batch(2, 3, 4), jnp.ones(2))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_dtypes_of_half_precision(dtype: Any) -> None:
    x = batch(2, 3, 4).astype(dtype)
    assert layer()(x).dtype == jnp.float32
    assert layer(dtype=dtype)(x).dtype == layer(param_dtype=dtype)(x).dtype == dtype
    assert layer(create_scale=False, create_offset=False)(x).dtype == dtype


def test_x64() -> None:
    with x64():
        y = layer()(np.asarray(batch(2, 3, 4), np.float64))
        assert y.dtype == layer().scale.dtype == jnp.float64
        np.testing.assert_allclose(y, normalized(batch(2, 3, 4), 2, (1, 2), 2), rtol=1e-10)


@pytest.mark.parametrize("data_format", ["NHWC", "first", None])
def test_other_data_formats_are_an_error(data_format: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(data_format=data_format)
    assert str(caught.value).startswith(f"Data format `{data_format}` is not supported.\n  where: GroupNorm")


@pytest.mark.parametrize("axis", ["ab", None, 1.5, []], ids=str)
def test_an_axis_is_an_int_a_slice_or_ints(axis: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(axis=axis)
    assert str(caught.value).startswith("`axis` should be an int, slice or iterable of ints.\n  where: GroupNorm")
