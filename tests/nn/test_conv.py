"""pax.nn.Conv1D and pax.nn.Conv2D."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError


def conv1d(*arguments: Any, **options: Any) -> pax.nn.Conv1D:
    return pax.nn.Conv1D(*arguments, rng_key=jax.random.key(0), **options)


def conv2d(*arguments: Any, **options: Any) -> pax.nn.Conv2D:
    return pax.nn.Conv2D(*arguments, rng_key=jax.random.key(0), **options)


def direct_conv2d(
    x: np.ndarray, w: np.ndarray, stride: tuple[int, int], rate: tuple[int, int], pad: list[tuple[int, int]]
) -> np.ndarray:
    """A cross-correlation of NHWC images, written out as the sum that defines it."""
    x = np.pad(x, [(0, 0), *pad, (0, 0)])
    (kh, kw), (n, h, width, _) = w.shape[:2], x.shape
    out_h = (h - (kh - 1) * rate[0] - 1) // stride[0] + 1
    out_w = (width - (kw - 1) * rate[1] - 1) // stride[1] + 1
    y = np.zeros((n, out_h, out_w, w.shape[-1]))
    for i in range(out_h):
        for j in range(out_w):
            top, left = i * stride[0], j * stride[1]
            patch = x[:, top : top + kh * rate[0] : rate[0], left : left + kw * rate[1] : rate[1]]
            y[:, i, j] = np.einsum("nabc,abco->no", patch[:, :kh, :kw], w)
    return y


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("rate", [(1, 1), (2, 1)])
@pytest.mark.parametrize("padding", [[(0, 0), (0, 0)], [(1, 2), (0, 3)]])
def test_conv2d_is_a_cross_correlation(
    stride: tuple[int, int], rate: tuple[int, int], padding: list[tuple[int, int]]
) -> None:
    conv = conv2d(3, 4, (2, 3), stride, rate, padding)
    x = np.asarray(jax.random.normal(jax.random.key(1), (2, 7, 8, 3)))
    want = direct_conv2d(x, np.asarray(conv.weight), stride, rate, padding) + np.asarray(conv.bias)
    np.testing.assert_allclose(conv(x), want, rtol=1e-4, atol=1e-5)


def test_conv1d_is_a_conv2d_of_height_one() -> None:
    conv = conv1d(3, 4, 3, 2, 2, "VALID")
    x = np.asarray(jax.random.normal(jax.random.key(1), (2, 9, 3)))
    want = direct_conv2d(x[:, None], np.asarray(conv.weight)[None], (1, 2), (1, 2), [(0, 0), (0, 0)])[:, 0]
    np.testing.assert_allclose(conv(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("padding", "length"), [("SAME", 5), ("VALID", 4), ([(1, 0)], 5), (((2, 3),), 7)])
def test_output_lengths_of_paddings(padding: Any, length: int) -> None:
    assert conv1d(1, 1, 3, 2, 1, padding)(jnp.ones((1, 10, 1))).shape == (1, length, 1)


def test_channels_first_gives_the_same_numbers() -> None:
    last, first = conv2d(3, 4, 3), conv2d(3, 4, 3, data_format="NCHW")
    x = jax.random.normal(jax.random.key(1), (2, 5, 6, 3))
    np.testing.assert_array_equal(first.weight, last.weight)
    np.testing.assert_allclose(first(jnp.moveaxis(x, -1, 1)), jnp.moveaxis(last(x), -1, 1), rtol=1e-5, atol=1e-5)


def test_the_bias_is_added_to_the_channels() -> None:
    for options in ({}, {"data_format": "NCW"}):
        conv = conv1d(2, 3, 1, w_init=jax.nn.initializers.zeros, b_init=lambda key, shape: jnp.arange(3.0), **options)
        y = conv(jnp.ones((1, 2, 2)))
        channels = y if options else jnp.moveaxis(y, -1, 1)
        np.testing.assert_array_equal(channels[0], [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])


def test_groups_do_not_see_each_other() -> None:
    conv = conv1d(4, 6, 1, with_bias=False, feature_group_count=2)
    assert conv.weight.shape == (1, 2, 6)
    x = jnp.ones((1, 1, 4)).at[..., 2:].set(0.0)
    y = conv(x)[0, 0]
    np.testing.assert_array_equal(y[3:], [0.0, 0.0, 0.0])
    np.testing.assert_allclose(y[:3], conv.weight[0, :, :3].sum(0), rtol=1e-5)


def test_default_weights_are_a_cut_normal_with_the_stddev_of_fan_in() -> None:
    weight = np.asarray(conv2d(16, 400, 5, feature_group_count=2).weight)
    stddev = 1 / np.sqrt(5 * 5 * 8)
    # 80,000 values.
    assert abs(weight.std() / stddev - 1) < 0.01
    assert np.abs(weight).max() <= 2 * stddev / 0.87962566 * (1 + 1e-6)
    np.testing.assert_array_equal(conv2d(1, 2, 2).bias, [0.0, 0.0])


def test_weights_of_seed_42_are_stable() -> None:
    """The numbers of this implementation, so that a seeded model stays what it is."""
    pax.seed_rng_key(42)
    conv = pax.nn.Conv2D(1, 2, 2)
    w_key = jax.random.split(jax.random.PRNGKey(686579304))[0]
    want = jax.random.truncated_normal(w_key, -2.0, 2.0, (2, 2, 1, 2)) * 0.5 / 0.87962566
    np.testing.assert_allclose(conv.weight, want, rtol=1e-6)


def test_attributes() -> None:
    conv = conv2d(4, 6, [3, 2], 2, (1, 2), with_bias=False, feature_group_count=2)
    assert (conv.in_features, conv.out_features, conv.kernel_shape) == (4, 6, [3, 2])
    assert (conv.stride, conv.rate, conv.padding) == ((2, 2), (1, 2), "SAME")
    assert (conv.data_format, conv.kernel_format, conv.kernel_dilation) == ("NHWC", "HWIO", (1, 1))
    assert (conv.with_bias, conv.bias, conv.feature_group_count) == (False, None, 2)
    assert conv1d(1, 1, 1).kernel_format == "WIO"


@pytest.mark.parametrize(
    ("conv", "text"),
    [
        (
            conv2d(4, 6, 3, 2, 2, feature_group_count=2),
            "Conv2D(in_features=4, out_features=6, kernel_shape=(3, 3), padding=SAME, stride=(2, 2), rate=(2, 2), "
            "with_bias=True, data_format=NHWC, feature_group_count=2)",
        ),
        (
            conv2d(1, 2, [3, 3], padding=[(1, 1), (1, 1)], with_bias=False, name="c"),
            "(c) Conv2D(in_features=1, out_features=2, kernel_shape=[3, 3], padding=[(1, 1), (1, 1)], with_bias=False, "
            "data_format=NHWC)",
        ),
    ],
)
def test_repr(conv: pax.nn.Conv2D, text: str) -> None:
    assert repr(conv) == text


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int32])
def test_other_dtypes_meet_that_of_the_weights(dtype: Any) -> None:
    assert conv1d(2, 3, 1)(jnp.ones((1, 4, 2), dtype)).dtype == jnp.float32


def test_half_precision_weights_keep_half_precision_inputs() -> None:
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), conv1d(2, 3, 1))
    assert half(jnp.ones((1, 4, 2), jnp.bfloat16)).dtype == jnp.bfloat16


def test_it_is_the_same_under_jit_and_vmap() -> None:
    conv = conv2d(2, 3, 3)
    x = jax.random.normal(jax.random.key(1), (4, 2, 5, 5, 2))
    want = jnp.stack([conv(images) for images in x])
    np.testing.assert_allclose(jax.jit(lambda conv, x: conv(x))(conv, x[0]), want[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(conv)(x), want, rtol=1e-5, atol=1e-6)


def test_weight_and_bias_get_gradients() -> None:
    grads = pax.grad(lambda conv, x: conv(x).sum())(conv1d(1, 1, 1), jnp.arange(4.0).reshape(1, 4, 1))
    assert (float(grads.weight[0, 0, 0]), float(grads.bias[0])) == (6.0, 4.0)


def test_equal_layers_make_one_trace() -> None:
    call = TraceCounter(lambda conv, x: conv(x))
    for _ in range(3):
        call(conv2d(1, 1, [3, 3], padding=[(1, 1), (1, 1)]), jnp.ones((1, 4, 4, 1)))
    assert call.traces == 1


def test_numpy_integers_are_sizes() -> None:
    assert conv2d(1, 1, np.int64(3)).kernel_shape == (3, 3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"data_format": "NHWC"}, "Data format `NHWC` is not supported. Use `NWC` or `NCW`."),
        ({"in_features": 0}, "positive values\n  where: Conv1D\n  got:   in_features=0, out_features=6"),
        ({"out_features": -1}, "positive values"),
        ({"padding": "same"}, "Not supported padding `same`\n  where: Conv1D"),
        ({"padding": (1, 1)}, "Tuple type padding is not supported. Use `[ (int, int) ]` instead."),
        ({"padding": [1]}, "Not supported padding `[1]`"),
        ({"padding": [(1, 1), (1, 1)]}, "Expecting one padding pair per spatial axis."),
        ({"feature_group_count": 3}, "Expecting `in_features` to be divisible by `feature_group_count`."),
        ({"feature_group_count": 4}, "Expecting `out_features` to be divisible by `feature_group_count`."),
        ({"kernel_shape": (3, 3)}, "Expecting one value per spatial axis for `kernel_shape`."),
        ({"stride": 0}, "Expecting positive values for `stride`."),
        ({"rate": [-1]}, "Expecting positive values for `rate`."),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        conv1d(**({"in_features": 4, "out_features": 6, "kernel_shape": 3} | options))
    assert str(caught.value).startswith(text)


def test_data_formats_of_conv2d_are_named() -> None:
    with pytest.raises(ArgumentError, match="Use `NHWC` or `NCHW`"):
        conv2d(1, 1, 1, data_format="NWC")


def test_a_kernel_of_another_kind_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting an integer for `kernel_shape`"):
        conv2d(1, 1, 1.5)


@pytest.mark.parametrize(
    ("shape", "headline", "line"),
    [
        ((2, 8, 8, 7), "Expecting 3 input channels. Get 7 channels.", "fix:   Conv2D(7, ...)"),
        ((8, 8, 3), "Expecting an input with 4 axes. Get 3 axes.", "fix:   x[None]"),
        ((8, 3), "Expecting an input with 4 axes. Get 2 axes.", "want:  float32[*,*,*,3], the axes NHWC"),
    ],
)
def test_inputs_are_checked(shape: tuple[int, ...], headline: str, line: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        conv2d(3, 4, 3, name="stem")(jnp.ones(shape))
    text = str(caught.value)
    assert text.startswith(headline)
    assert "where: (stem) Conv2D\n" in text
    assert line in text
