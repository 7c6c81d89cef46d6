"""pax.nn.Flatten."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError, ArgumentTypeError


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ((), (2, 60)),
        ((0,), (120,)),
        ((2,), (2, 3, 20)),
        ((1, 2), (2, 12, 5)),
        ((-2,), (2, 3, 20)),
        ((0, -2), (24, 5)),
        ((3,), (2, 3, 4, 5)),
    ],
)
def test_axes_are_joined_in_order(arguments: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x = np.arange(120).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(pax.nn.Flatten(*arguments)(x), x.reshape(shape))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "bool"])
def test_dtypes_stay(dtype: str) -> None:
    assert pax.nn.Flatten()(jnp.ones((2, 3, 4), dtype)).dtype == dtype


def test_empty_batches_have_a_shape() -> None:
    assert pax.nn.Flatten()(jnp.ones((0, 3, 4))).shape == (0, 12)


def test_inside_vmap_all_axes_are_joined_from_0() -> None:
    x = jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(jax.vmap(pax.nn.Flatten(0))(x), pax.nn.Flatten()(x))


@pytest.mark.parametrize(
    ("flatten", "text"),
    [
        (pax.nn.Flatten(), "Flatten()"),
        (pax.nn.Flatten(name="f"), "(f) Flatten()"),
        (pax.nn.Flatten(0), "Flatten(start_axis=0, end_axis=-1)"),
    ],
    ids=["default", "name", "axes"],
)
def test_repr(flatten: pax.nn.Flatten, text: str) -> None:
    assert repr(flatten) == text


@pytest.mark.parametrize(
    ("arguments", "shape", "headline", "fix"),
    [
        ((), (3,), "Expecting an input with the axes 1 to -1. Get 1 axes.", "fix:   x[None]   # a batch of one"),
        ((0,), (), "Expecting an input with the axes 0 to -1. Get 0 axes.", "where: Flatten"),
        ((1, 3), (2, 3, 4), "Expecting an input with the axes 1 to 3. Get 3 axes.", "where: Flatten"),
        ((2, 1), (2, 3, 4), "Expecting an input with the axes 2 to 1. Get 3 axes.", "where: Flatten"),
        ((-4,), (2, 3, 4), "Expecting an input with the axes -4 to -1. Get 3 axes.", "got:   float32[2,3,4]"),
    ],
)
def test_inputs_are_checked(arguments: tuple[int, ...], shape: tuple[int, ...], headline: str, fix: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.Flatten(*arguments)(jnp.ones(shape))
    assert str(caught.value).startswith(headline)
    assert fix in str(caught.value)


@pytest.mark.parametrize("options", [{"start_axis": 1.0}, {"end_axis": None}])
def test_axes_that_are_no_integers_are_refused(options: dict[str, Any]) -> None:
    (what,) = options
    with pytest.raises(ArgumentTypeError, match=f"^Expecting an integer for `{what}`.\n  where: Flatten\n"):
        pax.nn.Flatten(**options)
