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
def test_a_short_sequence_is_for_the_last_axes_inside_vmap_too(pool: Any) -> None:
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    want = pool(images, (2, 2, 1), (2, 2, 1), "VALID")
    got = jax.vmap(lambda image: pool(image, (2, 2, 1), (2, 2, 1), "VALID"))(images)
    assert got.shape == (2, 4, 4, 3)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
def test_an_integer_warns_of_nothing(pool: Any, recwarn: pytest.WarningsRecorder) -> None:
    pool(IMAGE, 2, 2, "SAME")
    assert not recwarn.list


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
def test_gradients_are_finite_and_sum_to_one_per_window(pool: Any) -> None:
    grad = jax.jit(jax.grad(lambda x: pool(x, 2, 2, "SAME").sum()))(IMAGE)
    np.testing.assert_allclose(grad.sum(), 4.0)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((2, 2, "same"), "Invalid padding 'same', must be 'SAME' or 'VALID'."),
        ((2, 2, "SAME", 9), "Invalid channel axis 9 for (1, 4, 4, 1)"),
        ((2, 2, "SAME", -4), "Invalid channel axis -4 for (1, 4, 4, 1)"),
        (((1, 1, 2, 2, 1), 2, "SAME"), "Expecting at most one number per axis for `window_shape`."),
        ((2, (1, 1, 2, 2, 1), "SAME"), "Expecting at most one number per axis for `strides`."),
        ((0, 2, "SAME"), "Expecting positive values for `window_shape`."),
    ],
)
def test_arguments_are_checked(pool: Any, arguments: tuple[Any, ...], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        pool(IMAGE, *arguments)
    assert str(caught.value).startswith(text)
    assert f"where: {pool.__name__}" in str(caught.value)


def test_a_window_that_is_no_number_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting an integer for `window_shape`"):
        pax.nn.max_pool(IMAGE, 2.5, 2, "SAME")  # type: ignore[arg-type]
