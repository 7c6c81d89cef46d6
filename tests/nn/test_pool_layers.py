"""The layers for pooling: windows, adaptive and global."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError

IMAGE = jnp.arange(16.0).reshape(1, 4, 4, 1)
DATA_FORMATS = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}


def layer(kind: str, axes: int, *arguments: Any, **options: Any) -> Any:
    return getattr(pax.nn, f"{kind}Pool{axes}D")(*arguments, **options)


def volume(axes: int) -> jax.Array:
    return jax.random.normal(jax.random.key(0), (2, *(6, 5, 4)[:axes], 3))


def to_first(x: jax.Array | np.ndarray) -> jax.Array:
    return jnp.moveaxis(x, -1, 1)


# ---- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("kind", "function"), [("Max", pax.nn.max_pool), ("Avg", pax.nn.avg_pool)], ids=["max", "avg"])
def test_a_layer_is_the_function_in_both_data_formats(axes: int, kind: str, function: Any) -> None:
    x, window, strides = volume(axes), (3, 2, 2)[:axes], (2, 1, 3)[:axes]
    want = function(x, (*window, 1), (*strides, 1), "SAME")
    last, first = DATA_FORMATS[axes]
    np.testing.assert_array_equal(layer(kind, axes, window, strides, "SAME")(x), want)
    np.testing.assert_array_equal(layer(kind, axes, window, strides, "SAME", last)(x), want)
    np.testing.assert_allclose(
        layer(kind, axes, window, strides, "SAME", first)(to_first(x)), to_first(want), rtol=1e-6
    )


def test_windows_touch_and_are_full_by_default() -> None:
    pool = pax.nn.MaxPool2D((2, 3))
    assert (pool.window_shape, pool.strides, pool.padding, pool.data_format) == ((2, 3), (2, 3), "VALID", "NHWC")
    np.testing.assert_array_equal(pool(IMAGE)[0, :, :, 0], [[6], [14]])


@pytest.mark.parametrize(("kind", "reduce"), [("Max", np.nanmax), ("Avg", np.nanmean)], ids=["max", "avg"])
@pytest.mark.parametrize("padding", [[(1, 2), (1, 2)], ((1, 2), (1, 2))], ids=["list", "tuple"])
def test_pairs_of_padding_never_count(kind: str, reduce: Any, padding: Any) -> None:
    windows = np.pad(np.asarray(IMAGE[0, :, :, 0]), [(1, 2), (1, 2)], constant_values=np.nan)
    want = [[reduce(windows[i : i + 3, j : j + 3]) for j in (0, 2, 4)] for i in (0, 2, 4)]
    np.testing.assert_allclose(layer(kind, 2, 3, 2, padding)(IMAGE)[0, :, :, 0], want, rtol=1e-6)
    np.testing.assert_allclose(
        layer(kind, 2, 3, 2, padding)(IMAGE - 100)[0, :, :, 0], np.subtract(want, 100), rtol=1e-6
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint8", "bool"])
def test_max_pooling_keeps_the_dtype(dtype: str) -> None:
    x = jnp.zeros((1, 4, 1), dtype)
    y = pax.nn.MaxPool1D(2, padding=[(1, 1)])(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, jnp.zeros((1, 3, 1), dtype))


@pytest.mark.parametrize(("dtype", "want"), [("float16", "float16"), ("bfloat16", "bfloat16"), ("int32", "float32")])
def test_average_pooling_gives_floats(dtype: str, want: str) -> None:
    y = pax.nn.AvgPool1D(4)(jnp.arange(4).reshape(1, 4, 1).astype(dtype))
    assert y.dtype == want
    assert float(y[0, 0, 0]) == 1.5


@pytest.mark.parametrize("pool", [pax.nn.MaxPool1D(2), pax.nn.AvgPool1D(2)], ids=["max", "avg"])
def test_gradients_sum_to_one_per_window(pool: Any) -> None:
    grad = jax.grad(lambda x: pool(x).sum())(jnp.arange(6.0).reshape(1, 6, 1))
    np.testing.assert_allclose(grad.reshape(3, 2).sum(1), np.ones(3), rtol=1e-6)


@pytest.mark.parametrize(
    ("pool", "text"),
    [
        (
            pax.nn.MaxPool2D(3, 2, [(1, 1), (0, 1)], "NCHW", name="p"),
            "(p) MaxPool2D(window_shape=(3, 3), strides=(2, 2), padding=[(1, 1), (0, 1)], data_format=NCHW)",
        ),
        (pax.nn.AvgPool1D([2]), "AvgPool1D(window_shape=[2], strides=[2], padding=VALID, data_format=NWC)"),
        (pax.nn.AdaptiveAvgPool2D((3, 1)), "AdaptiveAvgPool2D(output_shape=(3, 1), data_format=NHWC)"),
        (pax.nn.GlobalAvgPool(), "GlobalAvgPool(data_format=channels_last)"),
        (pax.nn.GlobalMaxPool("NC...", True), "GlobalMaxPool(data_format=NC..., keepdims=True)"),
    ],
    ids=["MaxPool2D", "AvgPool1D", "AdaptiveAvgPool2D", "GlobalAvgPool", "GlobalMaxPool"],
)
def test_repr(pool: pax.Module, text: str) -> None:
    assert repr(pool) == text


def test_equal_layers_make_one_trace() -> None:
    call = TraceCounter(lambda pools, x: [pool(x) for pool in pools])
    for _ in range(3):
        pools = [
            pax.nn.MaxPool2D([2, 2], padding=[(1, 1), (0, 0)]),
            pax.nn.AdaptiveMaxPool2D(3),
            pax.nn.GlobalAvgPool(),
        ]
        call(pools, IMAGE)
    assert call.traces == 1


@pytest.mark.parametrize("kind", ["Max", "Avg"])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0,), "Expecting positive values for `window_shape`."),
        (((2, 2, 2),), "Expecting one value per spatial axis for `window_shape`."),
        ((2, 0), "Expecting positive values for `strides`."),
        ((2, (1,)), "Expecting one value per spatial axis for `strides`."),
        ((2, 2, "same"), "Not supported padding `same`"),
        ((2, 2, [(1, 1)]), "Expecting one padding pair per spatial axis."),
        ((2, 2, [(1, 1), (2, 0)]), "Expecting padding that is shorter than the window."),
        ((2, 2, [(-1, 1), (0, 0)]), "Expecting padding that is shorter than the window."),
        ((2, 2, "SAME", "NWC"), "Data format `NWC` is not supported. Use `NHWC` or `NCHW`."),
    ],
)
def test_arguments_are_checked(kind: str, arguments: tuple[Any, ...], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(kind, 2, *arguments)
    assert str(caught.value).startswith(f"{text}\n  where: {kind}Pool2D\n")


@pytest.mark.parametrize(("arguments", "what"), [((2.0,), "window_shape"), ((2, "2"), "strides")])
def test_sizes_that_are_no_integers_are_refused(arguments: tuple[Any, ...], what: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"^Expecting an integer for `{what}`.\n  where: MaxPool1D\n"):
        pax.nn.MaxPool1D(*arguments)


@pytest.mark.parametrize("pool", [pax.nn.MaxPool2D(2), pax.nn.AdaptiveAvgPool2D(2)], ids=["windows", "adaptive"])
def test_the_rank_of_inputs_is_checked(pool: Any) -> None:
    with pytest.raises(ArgumentError, match="^Expecting an input with 4 axes. Get 3 axes.") as caught:
        pool(jnp.ones((4, 4, 1)))
    text = str(caught.value)
    assert f"where: {type(pool).__name__}\n" in text
    assert "want:  float32[*,*,*,*], the axes NHWC" in text
    assert "fix:   x[None]   # a batch of one" in text


# ---- adaptive --------------------------------------------------------------------------------------------------------


def direct_adaptive(x: np.ndarray, output: int, reduce: Any) -> np.ndarray:
    """Bins along axis 1, as the formula says."""
    n = x.shape[1]
    bins = [x[:, int(np.floor(i * n / output)) : int(np.ceil((i + 1) * n / output))] for i in range(output)]
    return np.stack([reduce(values, axis=1) for values in bins], 1)


@pytest.mark.parametrize("output", [1, 2, 3, 4, 6, 7, 9])
@pytest.mark.parametrize("kind", ["Avg", "Max"])
def test_adaptive_bins_of_sequences(kind: str, output: int) -> None:
    x = volume(1)
    want = direct_adaptive(np.asarray(x, np.float64), output, {"Avg": np.mean, "Max": np.max}[kind])
    np.testing.assert_allclose(layer(f"Adaptive{kind}", 1, output)(x), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["Avg", "Max"])
def test_adaptive_bins_of_images_in_both_data_formats(kind: str) -> None:
    x, reduce = volume(2), {"Avg": np.mean, "Max": np.max}[kind]
    rows = direct_adaptive(np.asarray(x, np.float64), 4, reduce)
    want = direct_adaptive(rows.swapaxes(1, 2), 2, reduce).swapaxes(1, 2)
    np.testing.assert_allclose(layer(f"Adaptive{kind}", 2, (4, 2))(x), want, rtol=1e-5, atol=1e-6)
    got = layer(f"Adaptive{kind}", 2, (4, 2), "NCHW")(to_first(x))
    np.testing.assert_allclose(got, to_first(want), rtol=1e-5, atol=1e-6)


def test_an_image_of_another_size_gets_the_same_shape() -> None:
    pool = pax.nn.AdaptiveAvgPool2D((3, 2))
    shapes = {jax.eval_shape(pool, jnp.ones((1, size, size, 2))).shape for size in (1, 2, 5, 12)}
    assert shapes == {(1, 3, 2, 2)}


@pytest.mark.parametrize("size", [6, 7], ids=["bins that touch", "bins that overlap"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "bool"])
def test_adaptive_dtypes(size: int, dtype: str) -> None:
    x = jnp.ones((1, size, 1), dtype)
    avg, top = pax.nn.AdaptiveAvgPool1D(3)(x), pax.nn.AdaptiveMaxPool1D(3)(x)
    assert avg.dtype == (dtype if "float" in dtype else "float32")
    assert top.dtype == dtype
    np.testing.assert_array_equal(avg.astype("float32"), np.ones((1, 3, 1)))


@pytest.mark.parametrize("size", [64, 65], ids=["bins that touch", "bins that overlap"])
def test_half_precision_is_summed_in_float32(size: int) -> None:
    y = pax.nn.AdaptiveAvgPool2D(1 + size % 2)(jnp.full((1, size, size, 1), 60000.0, jnp.float16))
    np.testing.assert_allclose(np.asarray(y, np.float32), 60000.0, rtol=1e-3)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("kind", ["Avg", "Max"])
def test_numbers_that_are_none_stay_in_their_bins(kind: str, value: float) -> None:
    x = jnp.zeros((1, 5, 1)).at[0, 0, 0].set(value)
    y = layer(f"Adaptive{kind}", 1, 3)(x)[0, :, 0]
    np.testing.assert_array_equal(jnp.isfinite(y), [False, True, True])


def test_the_gradient_of_an_adaptive_mean_shares_overlaps() -> None:
    # Bins {0, 1} and {1, 2} of three elements.
    grad = jax.grad(lambda x: (pax.nn.AdaptiveAvgPool1D(2)(x)[0, :, 0] * jnp.array([2.0, 4.0])).sum())(
        jnp.ones((1, 3, 1))
    )
    np.testing.assert_allclose(grad[0, :, 0], [1.0, 3.0, 2.0])


def test_equal_maxima_share_the_gradient_of_an_adaptive_maximum() -> None:
    grad = jax.grad(lambda x: pax.nn.AdaptiveMaxPool1D(1)(x).sum())(jnp.array([1.0, 3.0, 3.0]).reshape(1, 3, 1))
    np.testing.assert_allclose(grad[0, :, 0], [0.0, 0.5, 0.5])


@pytest.mark.parametrize("kind", ["AdaptiveAvg", "AdaptiveMax"])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0,), "Expecting positive values for `output_shape`."),
        (((2, 2, 2),), "Expecting one value per spatial axis for `output_shape`."),
        ((2, "NWC"), "Data format `NWC` is not supported. Use `NHWC` or `NCHW`."),
    ],
)
def test_adaptive_arguments_are_checked(kind: str, arguments: tuple[Any, ...], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(kind, 2, *arguments)
    assert str(caught.value).startswith(f"{text}\n  where: {kind}Pool2D\n")


def test_an_output_shape_that_is_no_integer_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="^Expecting an integer for `output_shape`."):
        pax.nn.AdaptiveAvgPool1D(None)  # type: ignore[arg-type]


# ---- global ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Avg", "Max"])
def test_global_pooling_is_over_all_spatial_axes(kind: str, axes: int) -> None:
    x, make = volume(axes), getattr(pax.nn, f"Global{kind}Pool")
    reduce: Any = {"Avg": np.mean, "Max": np.max}[kind]
    want = reduce(np.asarray(x, np.float64), axis=tuple(range(1, axes + 1)))
    for data_format in ("channels_last", "N...C"):
        np.testing.assert_allclose(make(data_format)(x), want, rtol=1e-5, atol=1e-6)
    for data_format in ("channels_first", "NC..."):
        np.testing.assert_allclose(make(data_format)(to_first(x)), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("data_format", "shape"), [("channels_last", (2, 1, 1, 3)), ("channels_first", (2, 6, 1, 1))])
@pytest.mark.parametrize("make", [pax.nn.GlobalAvgPool, pax.nn.GlobalMaxPool])
def test_global_pooling_keeps_axes(make: Any, data_format: str, shape: tuple[int, ...]) -> None:
    assert make(data_format, keepdims=True)(volume(2)).shape == shape


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "bool"])
def test_global_dtypes(dtype: str) -> None:
    x = jnp.ones((1, 4, 2), dtype)
    assert pax.nn.GlobalAvgPool()(x).dtype == (dtype if "float" in dtype else "float32")
    assert pax.nn.GlobalMaxPool()(x).dtype == dtype


def test_a_global_mean_sums_half_precision_in_float32() -> None:
    y = pax.nn.GlobalAvgPool()(jnp.full((1, 64, 1), 60000.0, jnp.float16))
    np.testing.assert_allclose(np.asarray(y, np.float32), 60000.0, rtol=1e-3)


def test_a_data_format_of_another_kind_is_refused() -> None:
    with pytest.raises(
        ArgumentError, match=r"^Data format `NHWC` is not supported.\n  where: GlobalAvgPool\n"
    ) as caught:
        pax.nn.GlobalAvgPool("NHWC")
    assert 'fix:   data_format="channels_last"' in str(caught.value)
    with pytest.raises(ArgumentError, match='fix:   data_format="channels_first"'):
        pax.nn.GlobalAvgPool("NCHW")


@pytest.mark.parametrize(
    ("pool", "shape", "lines"),
    [
        (
            pax.nn.GlobalAvgPool(),
            (4, 3),
            [
                "Expecting an input with at least one spatial axis. Get 2 axes.",
                "spatial axes ..., channels)",
                "x[None]",
            ],
        ),
        (
            pax.nn.GlobalMaxPool("channels_first"),
            (4,),
            ["Expecting an input with at least one spatial axis. Get 1 axes.", "(batch, channels, spatial axes ...)"],
        ),
        (
            pax.nn.GlobalMaxPool(),
            (2, 0, 3),
            ["Expecting an input with at least one element along each spatial axis.", "got:   float32[2,0,3]"],
        ),
        (
            pax.nn.AdaptiveMaxPool1D(2),
            (2, 0, 3),
            ["Expecting an input with at least one element along each spatial axis.", "got:   float32[2,0,3]"],
        ),
    ],
    ids=["avg", "max", "empty", "adaptive"],
)
def test_inputs_without_anything_to_pool_are_refused(pool: Any, shape: tuple[int, ...], lines: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        pool(jnp.ones(shape))
    text = str(caught.value)
    assert text.startswith(lines[0])
    assert f"where: {type(pool).__name__}\n" in text
    assert all(line in text for line in lines)
