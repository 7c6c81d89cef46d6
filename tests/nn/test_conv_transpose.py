"""pax.nn.Conv1DTranspose, Conv2DTranspose and Conv3DTranspose."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError

LAYERS = {1: pax.nn.Conv1DTranspose, 2: pax.nn.Conv2DTranspose, 3: pax.nn.Conv3DTranspose}
DATA_FORMATS = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}


def conv1d(*arguments: Any, **options: Any) -> Any:
    return pax.nn.Conv1DTranspose(*arguments, rng_key=jax.random.key(0), **options)


def impulse_response(kernel: list[float], stride: int, padding: Any, position: int, length: int) -> np.ndarray:
    conv = conv1d(1, 1, len(kernel), stride, padding, w_init=lambda key, shape: jnp.array(kernel).reshape(shape))
    x = jnp.zeros((1, length, 1)).at[0, position].set(1.0)
    return np.asarray(conv(x)[0, :, 0])


def direct_conv1d_transpose(x: np.ndarray, w: np.ndarray, stride: int, before: int, after: int) -> np.ndarray:
    """Zeros between the elements of ``[N, W, C]``, zeros around them, then the sum that is a cross-correlation."""
    (n, length, channels), kernel = x.shape, w.shape[0]
    stretched = np.zeros((n, (length - 1) * stride + 1, channels))
    stretched[:, ::stride] = x
    padded = np.pad(stretched, [(0, 0), (before, after), (0, 0)])
    windows = [padded[:, i : i + kernel] for i in range(padded.shape[1] - kernel + 1)]
    return np.stack([np.einsum("nkc,koc->no", window, w) for window in windows], 1)


# The table of the specification: (kernel, stride, padding) -> zeros before and after.
PADS = [
    (3, 1, "SAME", 1, 1),
    (4, 1, "SAME", 2, 1),
    (3, 2, "SAME", 2, 1),
    (4, 2, "SAME", 2, 2),
    (2, 3, "SAME", 1, 2),
    (1, 3, "SAME", 0, 2),
    (3, 1, "VALID", 2, 2),
    (3, 2, "VALID", 2, 2),
    (2, 3, "VALID", 1, 2),
    (4, 4, "VALID", 3, 3),
    (3, 2, [(1, 0)], 1, 0),
    (3, 2, ((0, 4),), 0, 4),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "before", "after"), PADS)
def test_it_is_a_cross_correlation_of_the_stretched_input(
    kernel: int, stride: int, padding: Any, before: int, after: int
) -> None:
    conv = conv1d(2, 3, kernel, stride, padding, b_init=lambda key, shape: jnp.arange(3.0))
    x = np.asarray(jax.random.normal(jax.random.key(1), (2, 4, 2)))
    want = direct_conv1d_transpose(x, np.asarray(conv.weight), stride, before, after) + np.arange(3.0)
    np.testing.assert_allclose(conv(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 1), (3, 2), (5, 2), (2, 2), (2, 3), (1, 4)])
def test_output_lengths(kernel: int, stride: int) -> None:
    x = jax.ShapeDtypeStruct((1, 5, 1), jnp.float32)
    lengths = {
        padding: jax.eval_shape(conv1d(1, 1, kernel, stride, padding), x).shape[1] for padding in ("SAME", "VALID")
    }
    assert lengths == {"SAME": 5 * stride, "VALID": 5 * stride + max(kernel - stride, 0)}


def test_kd_50_the_kernel_is_not_flipped() -> None:
    np.testing.assert_array_equal(impulse_response([1.0, 2.0, 3.0], 1, "VALID", 1, 4), [0, 3, 2, 1, 0, 0])
    np.testing.assert_array_equal(impulse_response([1.0, 2.0, 3.0], 1, "SAME", 1, 4), [3, 2, 1, 0])


def test_kd_50_the_documentation_says_so() -> None:
    assert all("is **not** flipped" in " ".join((layer.__doc__ or "").split()) for layer in LAYERS.values())


@pytest.mark.parametrize("stride", [(1, 1), (2, 3), (4, 1)], ids=str)
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (1, 2)], ids=str)
@pytest.mark.parametrize("padding", ["SAME", "VALID", [(1, 0), (2, 1)]], ids=str)
def test_it_is_the_function_of_jax(stride: tuple[int, int], kernel: tuple[int, int], padding: Any) -> None:
    conv = pax.nn.Conv2DTranspose(2, 3, kernel, stride, padding, rng_key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 4, 3, 2))
    want = jax.lax.conv_transpose(x, conv.weight, stride, padding, dimension_numbers=("NHWC", "HWOI", "NHWC"))
    np.testing.assert_array_equal(conv(x), want)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_channels_first_gives_the_same_numbers(axes: int) -> None:
    last, first = (
        LAYERS[axes](2, 3, 3, 2, rng_key=jax.random.key(0), data_format=data_format)
        for data_format in DATA_FORMATS[axes]
    )
    x = jax.random.normal(jax.random.key(1), (2, *(4, 3, 2)[:axes], 2))
    np.testing.assert_array_equal(first.weight, last.weight)
    assert last.weight.shape == (3,) * axes + (3, 2)
    np.testing.assert_allclose(first(jnp.moveaxis(x, -1, 1)), jnp.moveaxis(last(x), -1, 1), rtol=1e-5, atol=1e-5)


def test_three_axes_are_two_axes_for_each_slice_of_a_kernel_of_depth_one() -> None:
    conv = pax.nn.Conv3DTranspose(2, 3, (1, 3, 2), (1, 2, 1), rng_key=jax.random.key(0))
    flat = pax.nn.Conv2DTranspose(2, 3, (3, 2), (2, 1), w_init=lambda key, shape: conv.weight[0])
    x = jax.random.normal(jax.random.key(1), (2, 4, 3, 2, 2))
    want = jnp.stack([flat(plane) for plane in jnp.moveaxis(x, 1, 0)], 1)
    np.testing.assert_allclose(conv(x), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        # As in the original, but for the cut: the first values that the key of the weight gives.
        (lambda: pax.nn.Conv1DTranspose(2, 1, 2), (2, 1, 2)),
        (lambda: pax.nn.Conv2DTranspose(1, 1, 2), (2, 2, 1, 1)),
    ],
    ids=["Conv1DTranspose", "Conv2DTranspose"],
)
def test_weights_of_seed_42_are_stable(layer: Any, shape: tuple[int, ...]) -> None:
    pax.seed_rng_key(42)
    w_key = jax.random.split(jax.random.PRNGKey(686579304))[0]
    want = jax.random.truncated_normal(w_key, -2.0, 2.0, shape) / 0.87962566 / np.float32(np.sqrt(shape[0] * 2))
    np.testing.assert_allclose(layer().weight, want, rtol=1e-6)


def test_the_keys_are_those_of_the_original() -> None:
    """With its initializer the weights are the reference values of the specification."""
    pax.seed_rng_key(42)
    conv = pax.nn.Conv1DTranspose(2, 1, 2, w_init=jax.nn.initializers.normal(0.5))
    want = [-0.0216288, 0.6139240, 0.4040866, -1.4246788]
    np.testing.assert_allclose(conv.weight.ravel(), want, atol=1e-6)


def test_default_weights_are_a_cut_normal_with_the_stddev_of_fan_in() -> None:
    weight = np.asarray(pax.nn.Conv2DTranspose(16, 200, 5, 2, rng_key=jax.random.key(0)).weight)
    stddev = 1 / np.sqrt(5 * 5 * 16)
    # 80,000 values.
    assert abs(weight.std() / stddev - 1) < 0.01
    assert np.abs(weight).max() <= 2 * stddev / 0.87962566 * (1 + 1e-6)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_kd_48_without_bias_there_is_no_bias_parameter(axes: int) -> None:
    conv = LAYERS[axes](1, 2, 1, with_bias=False, rng_key=jax.random.key(0))
    assert conv.bias is None
    assert len(jax.tree.leaves(conv)) == 1
    assert set(LAYERS[axes](1, 2, 1).state_dict()) == {"weight", "bias"}
    np.testing.assert_array_equal(conv(jnp.zeros((1,) * (axes + 2))), jnp.zeros((1,) * (axes + 1) + (2,)))


def test_the_key_is_split_in_the_same_way_without_a_bias() -> None:
    np.testing.assert_array_equal(conv1d(2, 3, 3).weight, conv1d(2, 3, 3, with_bias=False).weight)


def test_attributes() -> None:
    conv = pax.nn.Conv2DTranspose(4, 6, [3, 2], 2, "VALID", data_format="NCHW", rng_key=jax.random.key(0))
    assert (conv.in_features, conv.out_features, conv.kernel_shape) == (4, 6, [3, 2])
    assert (conv.stride, conv.padding, conv.with_bias, conv.dtype) == ((2, 2), "VALID", True, None)
    assert (conv.data_format, conv.kernel_format, conv.kernel_dilation) == ("NCHW", "HWOI", (1, 1))
    assert conv1d(1, 1, 1).kernel_format == "WOI"
    assert not hasattr(conv, "rate")
    np.testing.assert_array_equal(conv.bias, np.zeros(6))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "padding=SAME, stride=(1,), with_bias=True)"),
        ({"padding": [(1, 2)], "stride": [2]}, "padding=[(1, 2)], stride=[2], with_bias=True)"),
        ({"with_bias": False, "dtype": "float16"}, "padding=SAME, stride=(1,), with_bias=False, dtype=float16)"),
    ],
)
def test_repr(options: dict[str, Any], text: str) -> None:
    assert repr(conv1d(4, 6, 3, **options)) == f"Conv1DTranspose(in_features=4, out_features=6, data_format=NWC, {text}"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32"])
def test_kd_41_other_dtypes_meet_that_of_the_weights(dtype: str) -> None:
    x = jnp.arange(8).reshape(1, 4, 2).astype(dtype)
    conv = conv1d(2, 3, 3, 2)
    y = conv(x)
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, conv(x.astype(jnp.float32)))


def test_kd_41_x64_weights_are_float64() -> None:
    with x64():
        conv = conv1d(2, 3, 1)
        assert conv.weight.dtype == conv.bias.dtype == jnp.float64
        assert conv(jnp.ones((1, 4, 2), jnp.float32)).dtype == jnp.float64


def test_dtype_and_param_dtype_are_those_of_output_and_weights() -> None:
    conv = conv1d(2, 3, 1, dtype="bfloat16", param_dtype="float16")
    assert (conv.weight.dtype, conv.bias.dtype) == (jnp.float16, jnp.float16)
    assert conv(jnp.ones((1, 4, 2))).dtype == jnp.bfloat16


def test_gradients_are_those_of_the_convolution_that_it_transposes() -> None:
    """A layer without bias is the gradient of the convolution with the flipped kernel, and the other way round."""
    conv = conv1d(2, 3, 3, 2, "VALID", with_bias=False)
    x, y = jax.random.normal(jax.random.key(1), (1, 4, 2)), jax.random.normal(jax.random.key(2), (1, 9, 3))
    forward = pax.nn.Conv1D(3, 2, 3, 2, padding="VALID", w_init=lambda key, shape: conv.weight[::-1], with_bias=False)
    got, want = jax.grad(lambda x: jnp.vdot(conv(x), y))(x), forward(y)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_equal_layers_make_one_trace() -> None:
    call = TraceCounter(lambda conv, x: conv(x))
    for _ in range(3):
        call(conv1d(1, 1, [3], [2], [(1, 1)]), jnp.ones((1, 4, 1)))
    assert call.traces == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"data_format": "NHWC"}, "Data format `NHWC` is not supported. Use `NWC` or `NCW`.\n  where: Conv1DTranspose"),
        ({"in_features": 0}, "positive values\n  where: Conv1DTranspose\n  got:   in_features=0, out_features=6"),
        ({"out_features": -1}, "positive values"),
        ({"padding": "same"}, "Not supported padding `same`\n  where: Conv1DTranspose"),
        ({"padding": (1, 1)}, "Tuple type padding is not supported. Use `[ (int, int) ]` instead."),
        ({"padding": [(1, 1), (1, 1)]}, "Expecting one padding pair per spatial axis."),
        ({"kernel_shape": (3, 3)}, "Expecting one value per spatial axis for `kernel_shape`."),
        ({"kernel_shape": 0}, "Expecting positive values for `kernel_shape`."),
        ({"stride": 0}, "Expecting positive values for `stride`."),
    ],
)
def test_kd_49_arguments_are_checked(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        conv1d(**({"in_features": 4, "out_features": 6, "kernel_shape": 3} | options))
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("option", ["in_features", "out_features", "kernel_shape", "stride"])
def test_sizes_that_are_no_integers_are_refused(option: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"^Expecting an integer for `{option}`.\n  where: Conv1DTranspose\n"):
        conv1d(**({"in_features": 1, "out_features": 1, "kernel_shape": 1} | {option: 1.5}))


@pytest.mark.parametrize(
    ("shape", "headline", "line"),
    [
        ((2, 8, 8, 7), "Expecting 3 input channels. Get 7 channels.", "fix:   Conv2DTranspose(7, ...)"),
        ((8, 8, 3), "Expecting an input with 4 axes. Get 3 axes.", "fix:   x[None]"),
        ((3,), "Expecting an input with 4 axes. Get 1 axes.", "want:  float32[*,*,*,3], the axes NHWC"),
    ],
)
def test_kd_49_inputs_are_checked(shape: tuple[int, ...], headline: str, line: str) -> None:
    conv = pax.nn.Conv2DTranspose(3, 4, 3, name="up", rng_key=jax.random.key(0))
    with pytest.raises(ArgumentError) as caught:
        conv(jnp.ones(shape))
    text = str(caught.value)
    assert text.startswith(headline)
    assert "where: (up) Conv2DTranspose\n" in text
    assert line in text
