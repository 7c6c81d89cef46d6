"""pax.nn.Conv1D, Conv2D and Conv3D."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError


def conv1d(*arguments: Any, **options: Any) -> Any:
    return pax.nn.Conv1D(*arguments, rng_key=jax.random.key(0), **options)


def conv2d(*arguments: Any, **options: Any) -> Any:
    return pax.nn.Conv2D(*arguments, rng_key=jax.random.key(0), **options)


def conv3d(*arguments: Any, **options: Any) -> Any:
    return pax.nn.Conv3D(*arguments, rng_key=jax.random.key(0), **options)


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


def test_conv3d_is_the_sum_of_conv2ds_along_its_first_axis() -> None:
    conv = conv3d(2, 3, (2, 3, 2), (2, 1, 2), padding=[(0, 0), (1, 0), (0, 1)])
    x = np.asarray(jax.random.normal(jax.random.key(1), (2, 5, 4, 4, 2)))
    weight = np.asarray(conv.weight)
    planes = [
        sum(direct_conv2d(x[:, 2 * i + k], weight[k], (1, 2), (1, 1), [(1, 0), (0, 1)]) for k in range(2))
        for i in range(2)
    ]
    np.testing.assert_allclose(conv(x), np.stack(planes, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("padding", "length"), [("SAME", 5), ("VALID", 4), ([(1, 0)], 5), (((2, 3),), 7)])
def test_output_lengths_of_paddings(padding: Any, length: int) -> None:
    assert conv1d(1, 1, 3, 2, 1, padding)(jnp.ones((1, 10, 1))).shape == (1, length, 1)


@pytest.mark.parametrize(
    ("make", "data_format", "sizes"),
    [(conv1d, "NCW", (5,)), (conv2d, "NCHW", (5, 6)), (conv3d, "NCDHW", (3, 4, 2))],
    ids=["Conv1D", "Conv2D", "Conv3D"],
)
def test_channels_first_gives_the_same_numbers(make: Any, data_format: str, sizes: tuple[int, ...]) -> None:
    last, first = make(3, 4, 3), make(3, 4, 3, data_format=data_format)
    x = jax.random.normal(jax.random.key(1), (2, *sizes, 3))
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
    assert (conv3d(1, 1, 1).kernel_format, conv3d(1, 1, 1).data_format) == ("DHWIO", "NDHWC")


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
        (
            conv3d(1, 2, 1, with_bias=False, dtype=jnp.bfloat16, data_format="NCDHW"),
            "Conv3D(in_features=1, out_features=2, kernel_shape=(1, 1, 1), padding=SAME, with_bias=False, "
            "data_format=NCDHW, dtype=bfloat16)",
        ),
    ],
    ids=["strides", "list", "dtype"],
)
def test_repr(conv: pax.Module, text: str) -> None:
    assert repr(conv) == text


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "uint8", "bool"])
def test_kd_41_other_dtypes_meet_that_of_the_weights(dtype: str) -> None:
    x = jnp.arange(8).reshape(1, 4, 2).astype(dtype)
    conv = conv1d(2, 3, 1)
    y = conv(x)
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, conv(x.astype(jnp.float32)))


@pytest.mark.parametrize("x_dtype", ["float32", "float64"])
def test_kd_41_x64_weights_are_float64(x_dtype: str) -> None:
    with x64():
        conv = conv1d(2, 3, 1)
        assert conv.weight.dtype == conv.bias.dtype == jnp.float64
        assert conv(jnp.ones((1, 4, 2), x_dtype)).dtype == jnp.float64


@pytest.mark.parametrize("x_dtype", ["float32", "bfloat16", "int32"])
def test_dtype_is_that_of_the_output(x_dtype: str) -> None:
    conv = conv1d(2, 3, 1, dtype="bfloat16")
    assert (conv.weight.dtype, conv.bias.dtype) == (jnp.float32, jnp.float32)
    assert conv(jnp.ones((1, 4, 2), x_dtype)).dtype == jnp.bfloat16


def test_param_dtype_is_that_of_the_weights() -> None:
    conv = conv1d(2, 3, 1, param_dtype=jnp.bfloat16)
    assert (conv.weight.dtype, conv.bias.dtype, conv.dtype) == (jnp.bfloat16, jnp.bfloat16, None)
    assert conv(jnp.ones((1, 4, 2), jnp.bfloat16)).dtype == jnp.bfloat16
    assert conv(jnp.ones((1, 4, 2))).dtype == jnp.float32
    np.testing.assert_array_equal(conv.weight, conv1d(2, 3, 1).weight.astype(jnp.bfloat16))


@pytest.mark.parametrize("option", ["dtype", "param_dtype"])
def test_a_dtype_of_integers_is_refused(option: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"Expecting a floating dtype for `{option}`.\n  where: Conv1D"):
        conv1d(2, 3, 1, **{option: jnp.int32})


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


def test_kd_49_numpy_integers_are_sizes() -> None:
    conv = conv2d(np.int32(2), np.int64(4), np.int64(3), (np.int8(1), 2), feature_group_count=np.int64(2))
    assert (conv.kernel_shape, conv.stride, conv.in_features, conv.out_features) == ((3, 3), (1, 2), 2, 4)
    assert pax.assert_structure_equal(conv, conv2d(2, 4, 3, (1, 2), feature_group_count=2))


@pytest.mark.parametrize("pads", [((1, 2), (0, 3)), ([1, 2], [0, 3])])
def test_kd_49_pairs_come_in_lists_and_tuples(pads: Any) -> None:
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 1))
    want = conv2d(1, 1, 3, padding=[(1, 2), (0, 3)])(x)
    np.testing.assert_array_equal(conv2d(1, 1, 3, padding=pads)(x), want)


def test_an_axis_shorter_than_the_kernel_gives_an_empty_one() -> None:
    assert conv1d(1, 2, 3, padding="VALID")(jnp.ones((4, 2, 1))).shape == (4, 0, 2)


def test_kd_49_the_rank_error_of_sequences_says_which_axes() -> None:
    with pytest.raises(ArgumentError, match=r"Expecting an input with 3 axes. Get 4 axes.") as caught:
        conv1d(3, 4, 3, data_format="NCW")(jnp.ones((1, 3, 5, 5)))
    assert "want:  float32[*,3,*], the axes NCW" in str(caught.value)


@pytest.mark.parametrize(
    ("data_format", "rest", "with_width"), [("NWC", "WC", "x[:, None]"), ("NCW", "CW", "x[..., None]")]
)
def test_a_vector_for_each_example_lacks_the_width(data_format: str, rest: str, with_width: str) -> None:
    conv, x = conv1d(3, 4, 1, data_format=data_format), jnp.ones((2, 3))
    with pytest.raises(ArgumentError, match=r"Expecting an input with 3 axes. Get 2 axes.") as caught:
        conv(x)
    assert str(caught.value).endswith(
        f"\n  fix:   x[None]   # a batch of one, if it has the axes {rest}"
        f"\n         {with_width}   # a width of one, if it has the axes NC"
    )
    assert conv(eval(with_width)).shape[0] == 2


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
        ({"feature_group_count": 0}, "Expecting positive values for `feature_group_count`."),
        ({"padding": None}, "Not supported padding `None`"),
        ({"padding": [(1, 1.5)]}, "Not supported padding `[(1, 1.5)]`"),
        ({"data_format": None}, "Data format `None` is not supported."),
        ({"feature_group_count": 4}, "Expecting `out_features` to be divisible by `feature_group_count`."),
        ({"kernel_shape": (3, 3)}, "Expecting one value per spatial axis for `kernel_shape`."),
        ({"stride": 0}, "Expecting positive values for `stride`."),
        ({"rate": [-1]}, "Expecting positive values for `rate`."),
    ],
)
def test_kd_49_arguments_are_checked(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        conv1d(**({"in_features": 4, "out_features": 6, "kernel_shape": 3} | options))
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("make", "padding", "fix"),
    [
        (conv1d, "same", 'padding="SAME"'),
        (conv2d, "Smae", 'padding="SAME"'),
        (conv2d, "valid ", 'padding="VALID"'),
        (conv2d, "REFLECT", "padding=[(1, 1), (1, 1)]"),
        (conv2d, (1, 1), "padding=[(1, 1), (1, 1)]"),
        (conv2d, (0, 2), "padding=[(0, 0), (2, 2)]"),
        (conv2d, 3, "padding=[(3, 3), (3, 3)]"),
        (conv2d, (1, 2, 3), "padding=[(1, 1), (1, 1)]"),
        (conv1d, (1, 2), "padding=[(1, 2)]"),
        (conv1d, [2], "padding=[(2, 2)]"),
        (conv1d, [(1, 1.5)], "padding=[(1, 1)]"),
    ],
)
def test_wrong_paddings_come_with_a_right_one(make: Any, padding: Any, fix: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make(1, 1, 3, padding=padding)
    got = repr(padding) if isinstance(padding, str) else padding
    assert str(caught.value).endswith(
        f"\n  got:   padding={got}"
        '\n  want:  "SAME", "VALID", or a list or tuple with one (before, after) pair per spatial axis'
        f"\n  fix:   {fix}"
    )
    make(1, 1, 3, padding=eval(fix.removeprefix("padding=")))


@pytest.mark.parametrize(
    ("make", "text"),
    [(conv1d, "`NWC` or `NCW`"), (conv2d, "`NHWC` or `NCHW`"), (conv3d, "`NDHWC` or `NCDHW`")],
    ids=["Conv1D", "Conv2D", "Conv3D"],
)
def test_data_formats_are_named(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make(1, 1, 1, data_format="NHC")
    assert str(caught.value).startswith(
        f"Data format `NHC` is not supported. Use {text}.\n  where: {make(1, 1, 1)!r:.6}"
    )


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"kernel_shape": 1.5}, "kernel_shape"),
        ({"kernel_shape": "3"}, "kernel_shape"),
        ({"kernel_shape": (3, None)}, "kernel_shape"),
        ({"stride": 2.0}, "stride"),
        ({"rate": None}, "rate"),
        ({"in_features": 1.0}, "in_features"),
        ({"out_features": "1"}, "out_features"),
        ({"feature_group_count": 1.0}, "feature_group_count"),
    ],
)
def test_sizes_that_are_no_integers_are_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"^Expecting an integer for `{what}`.\n  where: Conv2D\n"):
        conv2d(**({"in_features": 1, "out_features": 1, "kernel_shape": 1} | options))


def test_an_initializer_of_another_shape_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"initializer of `weight`[^\n]*\n  where: Conv1D\n  got:   float32\[1\]"):
        conv1d(1, 1, 1, w_init=lambda key, shape: jnp.zeros(1))


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a PRNG key for `rng_key`.\n  where: Conv2D"):
        pax.nn.Conv2D(1, 1, 1, rng_key=jnp.zeros(2))


@pytest.mark.parametrize(
    ("shape", "headline", "line"),
    [
        ((2, 8, 8, 7), "Expecting 3 input channels. Get 7 channels.", "fix:   Conv2D(7, ...)"),
        ((8, 8, 3), "Expecting an input with 4 axes. Get 3 axes.", "fix:   x[None]"),
        ((8, 3), "Expecting an input with 4 axes. Get 2 axes.", "want:  float32[*,*,*,3], the axes NHWC"),
    ],
)
def test_kd_49_inputs_are_checked(shape: tuple[int, ...], headline: str, line: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        conv2d(3, 4, 3, name="stem")(jnp.ones(shape))
    text = str(caught.value)
    assert text.startswith(headline)
    assert "where: (stem) Conv2D\n" in text
    assert line in text


def test_initializers_may_return_numpy_arrays() -> None:
    conv = pax.nn.Conv1D(1, 1, 1, w_init=lambda key, shape: np.ones(shape))  # type: ignore[arg-type,return-value]
    assert isinstance(conv.weight, jax.Array)
    assert conv(jnp.ones((1, 2, 1))).dtype == jnp.result_type(float)


def test_initializers_that_are_false_are_not_the_default() -> None:
    for options in ({"w_init": 0}, {"b_init": 0}):
        with pytest.raises(ArgumentTypeError, match="Expecting a function as the initializer of"):
            pax.nn.Conv1D(1, 1, 1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "data_format", "fix"),
    [
        ((2, 3, 8, 8), "NHWC", "jnp.moveaxis(x, 1, -1), or data_format='NCHW'"),
        ((2, 8, 8, 3), "NCHW", "jnp.moveaxis(x, -1, 1), or data_format='NHWC'"),
    ],
)
def test_an_input_whose_channels_are_at_another_axis_is_told_so(
    shape: tuple[int, ...], data_format: str, fix: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.Conv2D(3, 4, 3, data_format=data_format)(jnp.ones(shape))
    assert str(caught.value).startswith("Expecting 3 input channels. Get 8 channels.")
    assert f"fix:   {fix}" in str(caught.value)
