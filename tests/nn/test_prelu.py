"""pax.nn.PReLU."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from pax.errors import ArgumentError, ArgumentTypeError


def test_one_slope_for_any_shape() -> None:
    prelu = pax.nn.PReLU()
    assert prelu.weight.shape == ()
    np.testing.assert_array_equal(prelu(jnp.array([[-4.0, 0.0], [3.0, -2.0]])), [[-1.0, 0.0], [3.0, -0.5]])
    assert float(prelu(jnp.array(-4.0))) == -1.0


@pytest.mark.parametrize("axis", [1, -2])
def test_one_slope_per_channel(axis: int) -> None:
    prelu = pax.nn.PReLU(3, axis=axis).replace(weight=jnp.array([0.0, 1.0, 2.0]))
    x = -jnp.ones((2, 3, 4))
    np.testing.assert_array_equal(prelu(x), jnp.broadcast_to(-jnp.arange(3.0)[:, None][None], x.shape))


def test_the_first_value_can_be_chosen() -> None:
    np.testing.assert_array_equal(pax.nn.PReLU(2, 0.5).weight, [0.5, 0.5])


def test_the_slopes_are_parameters() -> None:
    prelu = pax.nn.PReLU(2)
    assert prelu.parameters() == prelu


def test_gradients() -> None:
    x = jnp.array([-4.0, 0.0, 3.0])
    d_prelu, d_x = jax.grad(lambda prelu, x: prelu(x).sum(), (0, 1))(pax.nn.PReLU(), x)
    assert float(d_prelu.weight) == -4.0
    np.testing.assert_array_equal(d_x, [0.25, 0.25, 1.0])


def test_an_infinite_input_leaves_the_gradient_of_the_slope_finite() -> None:
    gradients = pax.grad(lambda prelu: prelu(jnp.array([jnp.inf, -1.0])).sum())(pax.nn.PReLU())
    assert float(gradients.weight) == -1.0


@pytest.mark.parametrize(
    ("x_dtype", "options", "want"),
    [
        ("float32", {}, "float32"),
        ("bfloat16", {}, "float32"),
        ("int32", {}, "float32"),
        ("float16", {"param_dtype": "float16"}, "float16"),
        ("float32", {"dtype": "bfloat16"}, "bfloat16"),
    ],
)
def test_dtypes(x_dtype: str, options: dict[str, Any], want: str) -> None:
    prelu = pax.nn.PReLU(**options)
    assert prelu.weight.dtype == options.get("param_dtype", "float32")
    assert prelu(jnp.ones(2).astype(x_dtype)).dtype == want


def test_x64_slopes_are_float64() -> None:
    with x64():
        assert pax.nn.PReLU().weight.dtype == jnp.float64


def test_it_draws_no_key() -> None:
    pax.seed_rng_key(7)
    want = pax.next_rng_key()
    pax.seed_rng_key(7)
    pax.nn.PReLU(3)
    np.testing.assert_array_equal(pax.next_rng_key(), want)


@pytest.mark.parametrize(
    ("prelu", "text"),
    [
        (pax.nn.PReLU(), "PReLU()"),
        (pax.nn.PReLU(3, axis=1, name="p", dtype="float16"), "(p) PReLU(num_channels=3, axis=1, dtype=float16)"),
    ],
    ids=["one", "channels"],
)
def test_repr(prelu: pax.nn.PReLU, text: str) -> None:
    assert repr(prelu) == text


@pytest.mark.parametrize("shape", [(), (3, 4), (4, 3, 2)])
def test_the_channels_of_inputs_are_checked(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="^Expecting 3 channels along axis -1.\n  where: PReLU\n") as caught:
        pax.nn.PReLU(3)(jnp.ones(shape))
    assert "want:  an axis -1 of length 3" in str(caught.value)
    assert "fix:   PReLU(), one slope" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_channels": 0}, ArgumentError, "Expecting positive values for `num_channels`."),
        ({"num_channels": 1.0}, ArgumentTypeError, "Expecting an integer for `num_channels`."),
        ({"axis": "C"}, ArgumentTypeError, "Expecting an integer for `axis`."),
        ({"init_value": "0.25"}, ArgumentTypeError, "Expecting a number for `init_value`."),
        ({"init_value": [0.1, 0.2]}, ArgumentTypeError, "Expecting a number for `init_value`."),
        ({"dtype": "int32"}, ArgumentTypeError, "Expecting a floating dtype for `dtype`."),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        pax.nn.PReLU(**options)
    assert str(caught.value).startswith(f"{text}\n  where: PReLU\n")
