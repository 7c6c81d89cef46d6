"""pax.nn.DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D and SeparableConv2D."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError

DEPTHWISE = {1: pax.nn.DepthwiseConv1D, 2: pax.nn.DepthwiseConv2D}
SEPARABLE = {1: pax.nn.SeparableConv1D, 2: pax.nn.SeparableConv2D}
FIRST = {1: "NCW", 2: "NCHW"}


def depthwise(axes: int, *arguments: Any, **options: Any) -> Any:
    return DEPTHWISE[axes](*arguments, rng_key=jax.random.key(0), **options)


def separable(axes: int, *arguments: Any, **options: Any) -> Any:
    return SEPARABLE[axes](*arguments, rng_key=jax.random.key(0), **options)


@pytest.mark.parametrize("axes", [1, 2])
def test_each_channel_is_convolved_by_itself(axes: int) -> None:
    conv = depthwise(axes, 3, 2, 3, 2, 1, "VALID")
    assert conv.weight.shape == (3,) * axes + (1, 6)
    x = jax.random.normal(jax.random.key(1), (2, *(7, 6)[:axes], 3))
    single = (pax.nn.Conv1D, pax.nn.Conv2D)[axes - 1](1, 2, 3, 2, 1, "VALID", rng_key=jax.random.key(0))
    channels = [single.replace(weight=conv.weight[..., 2 * c : 2 * c + 2])(x[..., c : c + 1]) for c in range(3)]
    np.testing.assert_allclose(conv(x), jnp.concatenate(channels, -1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("make", [depthwise, separable], ids=["depthwise", "separable"])
def test_channels_first_gives_the_same_numbers(make: Any, axes: int) -> None:
    last, first = make(axes, 3, 2, 3), make(axes, 3, 2, 3, data_format=FIRST[axes])
    x = jax.random.normal(jax.random.key(1), (2, *(5, 4)[:axes], 3))
    np.testing.assert_allclose(first(jnp.moveaxis(x, -1, 1)), jnp.moveaxis(last(x), -1, 1), rtol=1e-5, atol=1e-5)


def test_a_depthwise_convolution_is_a_convolution_in_groups() -> None:
    conv = depthwise(2, 3, 2, 1)
    assert issubclass(pax.nn.DepthwiseConv2D, pax.nn.Conv2D)
    assert (conv.in_features, conv.channel_multiplier, conv.out_features, conv.feature_group_count) == (3, 2, 6, 3)
    same = pax.nn.Conv2D(3, 6, 1, feature_group_count=3, rng_key=jax.random.key(0))
    np.testing.assert_array_equal(conv.weight, same.weight)


def test_default_depthwise_weights_have_the_stddev_of_the_kernel() -> None:
    weight = np.asarray(depthwise(2, 100, 32, 5).weight)
    # 80,000 values.
    assert abs(weight.std() * 5 - 1) < 0.01


@pytest.mark.parametrize("axes", [1, 2])
def test_a_separable_convolution_is_one_after_the_other(axes: int) -> None:
    conv = separable(axes, 3, 4, 3, 2, 1, "VALID", b_init=lambda key, shape: jnp.arange(4.0), channel_multiplier=2)
    x = jax.random.normal(jax.random.key(1), (2, *(7, 6)[:axes], 3))
    y = conv.depthwise(x)
    want = jnp.einsum("...i,io->...o", y, conv.pointwise.weight.reshape(6, 4), precision="highest") + jnp.arange(
        4.0
    ).reshape((1,) * (axes + 1) + (4,))
    assert conv(x).shape == (2, *(3, 2)[:axes], 4)
    np.testing.assert_allclose(conv(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_only_bias_of_a_separable_convolution_is_the_last(with_bias: bool) -> None:
    conv = separable(1, 3, 4, 3, with_bias=with_bias)
    assert conv.depthwise.bias is None
    assert (conv.pointwise.bias is not None) == with_bias


def test_the_steps_of_a_separable_convolution_have_keys_of_their_own() -> None:
    first, second = jax.random.split(jax.random.key(0))
    conv = separable(1, 3, 4, 3)
    np.testing.assert_array_equal(conv.depthwise.weight, pax.nn.DepthwiseConv1D(3, 1, 3, rng_key=first).weight)
    np.testing.assert_array_equal(conv.pointwise.weight, pax.nn.Conv1D(3, 4, 1, rng_key=second).weight)


@pytest.mark.parametrize("make", [pax.nn.DepthwiseConv1D, pax.nn.SeparableConv2D])
def test_one_global_key_is_drawn(make: Any) -> None:
    pax.seed_rng_key(7)
    pax.next_rng_key()
    want = pax.next_rng_key()
    pax.seed_rng_key(7)
    make(2, 2, 1)
    np.testing.assert_array_equal(pax.next_rng_key(), want)


def test_initializers_reach_their_weights() -> None:
    ones, twos = jax.nn.initializers.ones, jax.nn.initializers.constant(2.0)
    conv = separable(1, 1, 1, 1, depthwise_init=ones, pointwise_init=twos, b_init=ones)
    assert float(conv(jnp.full((1, 1, 1), 5.0))[0, 0, 0]) == 11.0


@pytest.mark.parametrize("make", [depthwise, separable], ids=["depthwise", "separable"])
def test_dtype_and_param_dtype_are_those_of_output_and_weights(make: Any) -> None:
    conv = make(1, 2, 3, 1, dtype="float16", param_dtype="bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(conv)} == {"bfloat16"}
    assert conv(jnp.ones((1, 4, 2))).dtype == jnp.float16


@pytest.mark.parametrize(
    ("conv", "text"),
    [
        (
            depthwise(2, 3, 2, 3, (2, 1), dtype="bfloat16"),
            "DepthwiseConv2D(in_features=3, channel_multiplier=2, kernel_shape=(3, 3), padding=SAME, stride=(2, 1), "
            "with_bias=True, data_format=NHWC, dtype=bfloat16)",
        ),
        (
            depthwise(1, 3, 1, 3, 1, 2, with_bias=False, name="d"),
            "(d) DepthwiseConv1D(in_features=3, channel_multiplier=1, kernel_shape=(3,), padding=SAME, rate=(2,), "
            "with_bias=False, data_format=NWC)",
        ),
        (separable(1, 3, 4, 5), "SeparableConv1D(in_features=3, out_features=4, kernel_shape=(5,))"),
        (
            separable(2, 3, 4, 5, channel_multiplier=2, dtype="float16"),
            "SeparableConv2D(in_features=3, out_features=4, kernel_shape=(5, 5), channel_multiplier=2, dtype=float16)",
        ),
    ],
    ids=["DepthwiseConv2D", "DepthwiseConv1D", "SeparableConv1D", "SeparableConv2D"],
)
def test_repr(conv: pax.Module, text: str) -> None:
    assert repr(conv) == text


@pytest.mark.parametrize("make", [depthwise, separable], ids=["depthwise", "separable"])
def test_equal_layers_make_one_trace(make: Any) -> None:
    call = TraceCounter(lambda conv, x: conv(x))
    for _ in range(3):
        call(make(1, 2, 3, [3]), jnp.ones((1, 4, 2)))
    assert call.traces == 1


@pytest.mark.parametrize("make", [depthwise, separable], ids=["depthwise", "separable"])
@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((0, 2, 3), {}, ("Expecting positive values for `in_features`.",)),
        ((2, 0, 3), {}, ("Expecting positive values for `channel_multiplier`.", "positive values")),
        ((2, 2, (3, 3)), {}, ("Expecting one value per spatial axis for `kernel_shape`.",)),
        ((2, 2, 3), {"padding": "same"}, ("Not supported padding `same`",)),
        ((2, 2, 3), {"stride": 0}, ("Expecting positive values for `stride`.",)),
        ((2, 2, 3), {"rate": 0}, ("Expecting positive values for `rate`.",)),
        ((2, 2, 3), {"data_format": "NHWC"}, ("Data format `NHWC` is not supported. Use `NWC` or `NCW`.",)),
    ],
)
def test_arguments_are_checked(
    make: Any, arguments: tuple[Any, ...], options: dict[str, Any], text: tuple[str, ...]
) -> None:
    with pytest.raises(ArgumentError) as caught:
        make(1, *arguments, **options)
    assert str(caught.value).startswith(text)


def test_the_channel_multiplier_of_a_separable_convolution_is_checked() -> None:
    with pytest.raises(ArgumentError, match="Expecting positive values for `channel_multiplier`"):
        separable(1, 2, 2, 3, channel_multiplier=0)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((0, 2, 3), {}),
        ((2, 0, 3), {}),
        ((2, 2, 0), {}),
        ((2, 2, 3), {"padding": "same"}),
        ((2, 2, 3), {"data_format": "NHWC"}),
        ((2, 2, 3), {"depthwise_init": lambda key, shape: jnp.zeros(1)}),
        ((2, 2, 3), {"b_init": lambda key, shape: jnp.zeros(7)}),
    ],
    ids=["in", "out", "kernel", "padding", "data_format", "depthwise_init", "b_init"],
)
def test_errors_in_the_making_name_the_separable_convolution(arguments: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=r"\n  where: SeparableConv1D") as caught:
        separable(1, *arguments, **options)
    assert "DepthwiseConv" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "headline"),
    [
        ((2, 8, 8, 7), "Expecting 3 input channels. Get 7 channels."),
        ((8, 8, 3), "Expecting an input with 4 axes. Get 3 axes."),
    ],
)
def test_errors_of_calls_name_the_separable_convolution(shape: tuple[int, ...], headline: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        separable(2, 3, 4, 3)(jnp.ones(shape))
    assert str(caught.value).startswith(f"{headline}\n  where: SeparableConv2D\n")
    assert "DepthwiseConv" not in str(caught.value)


@pytest.mark.parametrize("arguments", [("2", 2, 3), (2, 1.5, 3), (2, 2, 3.0)])
@pytest.mark.parametrize("make", [depthwise, separable], ids=["depthwise", "separable"])
def test_sizes_that_are_no_integers_are_refused(make: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ArgumentTypeError, match="^Expecting an integer for `"):
        make(2, *arguments)


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a PRNG key for `rng_key`.\n  where: SeparableConv1D"):
        pax.nn.SeparableConv1D(1, 1, 1, rng_key=jnp.zeros(2))


@pytest.mark.parametrize(
    ("make", "where"), [(depthwise, "where: DepthwiseConv1D\n"), (separable, "where: SeparableConv1D\n")]
)
def test_inputs_are_checked(make: Any, where: str) -> None:
    with pytest.raises(ArgumentError, match="^Expecting 3 input channels. Get 7 channels.") as caught:
        make(1, 3, 2, 3)(jnp.ones((1, 5, 7)))
    assert where in str(caught.value)
