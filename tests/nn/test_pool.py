"""pax.nn.max_pool and pax.nn.avg_pool."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError, ArgumentTypeError

IMAGE = jnp.arange(16.0).reshape(1, 4, 4, 1)
POOLS = [pax.nn.max_pool, pax.nn.avg_pool]


@pytest.mark.parametrize(
    ("pool", "padding", "want"),
    [
        (pax.nn.max_pool, "SAME", [[10, 11], [14, 15]]),
        (pax.nn.max_pool, "VALID", [[10]]),
        (pax.nn.avg_pool, "SAME", [[5, 6.5], [11, 12.5]]),
        (pax.nn.avg_pool, "VALID", [[5]]),
    ],
)
@pytest.mark.parametrize("size", [(3, 2), ((3, 3, 1), (2, 2, 1)), ([1, 3, 3, 1], [1, 2, 2, 1])])
def test_reference_values(pool: Any, padding: str, want: list[list[float]], size: Any) -> None:
    window, strides = size
    np.testing.assert_allclose(pool(IMAGE, window, strides, padding)[0, :, :, 0], want)


@pytest.mark.parametrize(
    ("channel_axis", "shape"),
    [(-1, (2, 4, 3, 6)), (1, (2, 8, 3, 3)), (-3, (2, 8, 3, 3)), (None, (2, 4, 3, 3)), (0, (2, 4, 3, 3))],
)
@pytest.mark.parametrize("pool", POOLS)
def test_an_integer_is_for_the_axes_besides_batch_and_channels(
    pool: Any, channel_axis: int | None, shape: tuple[int, ...]
) -> None:
    assert pool(jnp.ones((2, 8, 6, 6)), 2, 2, "VALID", channel_axis).shape == shape


@pytest.mark.parametrize("pool", POOLS)
def test_kd_59_a_short_sequence_is_for_the_last_axes_inside_vmap_too(pool: Any) -> None:
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    want = pool(images, (2, 2, 1), (2, 2, 1), "VALID")
    got = jax.vmap(lambda image: pool(image, (2, 2, 1), (2, 2, 1), "VALID"))(images)
    assert got.shape == (2, 4, 4, 3)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
def test_kd_59_an_integer_warns_of_nothing(pool: Any, recwarn: pytest.WarningsRecorder) -> None:
    pool(IMAGE, 2, 2, "SAME")
    jax.vmap(lambda image: pool(image, 2, 2, "SAME"))(IMAGE)
    assert not recwarn.list


@pytest.mark.parametrize("pool", POOLS)
def test_kd_59_the_documentation_says_what_an_integer_means_inside_vmap(pool: Any) -> None:
    text = " ".join((pax.nn.max_pool.__doc__ or "").split())
    assert "Inside ``jax.vmap``, where the batch is not visible, use a sequence." in text
    assert ":func:`max_pool`" in (pool.__doc__ or "") or pool is pax.nn.max_pool


def test_kd_59_a_channel_axis_of_0_is_the_batch() -> None:
    images = jnp.ones((2, 8, 6, 6))
    want = pax.nn.max_pool(images, 2, 2, "VALID", None).shape
    assert pax.nn.max_pool(images, 2, 2, "VALID", 0).shape == want == (2, 4, 3, 3)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.int8, jnp.uint8, jnp.bool_])
def test_max_pool_keeps_dtypes_and_padding_never_wins(dtype: Any) -> None:
    x = -jnp.ones((1, 3, 3, 1)) if dtype not in (jnp.uint8, jnp.bool_) else jnp.zeros((1, 3, 3, 1))
    y = pax.nn.max_pool(x.astype(dtype), 2, 2, "SAME")
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, jnp.broadcast_to(x.astype(dtype)[0, 0, 0, 0], (1, 2, 2, 1)))


@pytest.mark.parametrize(
    ("dtype", "want"), [(jnp.float16, jnp.float16), (jnp.bfloat16, jnp.bfloat16), (jnp.int32, jnp.float32)]
)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_avg_pool_dtypes(dtype: Any, want: Any, padding: str) -> None:
    y = pax.nn.avg_pool(IMAGE.astype(dtype), 3, 2, padding)
    assert y.dtype == want
    np.testing.assert_allclose(np.asarray(y[0, 0, 0, 0], np.float32), 5)


def test_avg_pool_sums_half_precision_in_float32() -> None:
    y = pax.nn.avg_pool(jnp.full((1, 64, 64, 1), 60000.0, jnp.float16), 64, 64, "VALID")
    np.testing.assert_allclose(np.asarray(y, np.float32).item(), 60000.0, rtol=1e-3)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_gradients_are_finite_and_sum_to_one_per_window(pool: Any, dtype: str) -> None:
    grad = jax.jit(jax.grad(lambda x: pool(x, 2, 2, "SAME").sum()))(IMAGE.astype(dtype))
    assert grad.dtype == dtype
    np.testing.assert_allclose(grad.sum().astype("float32"), 4.0)


def test_the_gradient_of_a_maximum_goes_to_one_element() -> None:
    grad = jax.grad(lambda x: pax.nn.max_pool(x, 3, 2, "SAME").sum())(IMAGE)[0, :, :, 0]
    np.testing.assert_array_equal(grad, np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]))


def test_the_gradient_of_a_mean_is_one_over_the_elements_that_exist() -> None:
    grad = jax.grad(lambda x: pax.nn.avg_pool(x, 3, 2, "SAME").sum())(IMAGE)[0, :, :, 0]
    per_axis = np.array([1 / 3, 1 / 3, 1 / 3 + 1 / 2, 1 / 2])
    np.testing.assert_allclose(grad, np.outer(per_axis, per_axis), rtol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
def test_second_derivatives_are_those_of_the_square(pool: Any) -> None:
    """The pools are linear near almost every point, so the Hessian of half the sum of squares is ``J' J``."""
    x = jax.random.normal(jax.random.key(0), (1, 4, 1))

    def pooled(x: jax.Array) -> Any:
        return pool(x, 3, 2, "SAME").ravel()

    hessian, jacobian = jax.jit(
        lambda x: (jax.hessian(lambda x: (pooled(x) ** 2).sum() / 2)(x), jax.jacrev(pooled)(x))
    )(x)
    matrix = np.asarray(jacobian).reshape(2, 4)
    np.testing.assert_allclose(hessian.reshape(4, 4), matrix.T @ matrix, rtol=1e-5, atol=1e-6)


def test_integers_pass_through_a_differentiated_function() -> None:
    labels = jnp.arange(4).reshape(1, 4, 1)
    grad = jax.grad(lambda w: (w * pax.nn.max_pool(labels, 2, 2, "VALID").astype(w.dtype)).sum())(jnp.array(1.0))
    assert float(grad) == 4.0


@pytest.mark.parametrize("pool", POOLS)
def test_numbers_that_are_none_stay_in_their_windows(pool: Any) -> None:
    y = pool(IMAGE.at[0, 0, 0, 0].set(jnp.nan), 2, 2, "VALID")
    np.testing.assert_array_equal(jnp.isnan(y[0, :, :, 0]), [[True, False], [False, False]])


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((2, 2, [(1, 1)]), "Invalid padding '[(1, 1)]', must be 'SAME' or 'VALID'."),
        ((2, 2, "same"), "Invalid padding 'same', must be 'SAME' or 'VALID'."),
        ((2, 2, "SAME", 9), "Invalid channel axis 9 for (1, 4, 4, 1)"),
        ((2, 2, "SAME", -4), "Invalid channel axis -4 for (1, 4, 4, 1)"),
        (((1, 1, 2, 2, 1), 2, "SAME"), "Expecting at most one number per axis for `window_shape`."),
        ((2, (1, 1, 2, 2, 1), "SAME"), "Expecting at most one number per axis for `strides`."),
        ((0, 2, "SAME"), "Expecting positive values for `window_shape`."),
        (((2, 2), 2, "VALID"), "A window is longer than the axis that it pools, so nothing would be left."),
        ((5, 2, "VALID"), "A window is longer than the axis that it pools, so nothing would be left."),
    ],
)
def test_kd_59_arguments_are_checked(pool: Any, arguments: tuple[Any, ...], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        pool(IMAGE, *arguments)
    assert str(caught.value).startswith(text)
    assert f"where: {pool.__name__}" in str(caught.value)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((2.5, 2, "SAME"), "window_shape"),
        (((2, 2.5, 1), 2, "SAME"), "window_shape"),
        ((2, None, "SAME"), "strides"),
        ((2, 2, "SAME", 1.0), "channel_axis"),
    ],
)
def test_kd_59_what_is_no_integer_is_refused(pool: Any, arguments: tuple[Any, ...], what: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"^Expecting an integer for `{what}`.\n  where: {pool.__name__}\n"):
        pool(IMAGE, *arguments)
