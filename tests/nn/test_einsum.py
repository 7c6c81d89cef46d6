"""pax.nn.Einsum."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError, ArgumentTypeError

_SIZES = {"b": 2, "t": 3, "d": 4, "h": 5, "k": 6, "...": 7}


def layer(equation: str, bias_axes: str | None = None, **options: Any) -> pax.nn.Einsum:
    weight = equation.split(",")[1].split("->")[0].strip()
    shape = [_SIZES[axis] for axis in weight]
    return pax.nn.Einsum(equation, shape, bias_axes, rng_key=jax.random.key(0), **options)


@pytest.mark.parametrize(
    ("equation", "bias_axes", "x_shape", "bias_axes_of_y"),
    [
        ("...d,dk->...k", "k", (4,), "k"),
        ("...d,dk->...k", "k", (2, 3, 4), "k"),
        ("...td,dhk->...htk", "hk", (2, 3, 4), "h1k"),
        ("...td,dhk->...htk", "kh", (3, 4), "h1k"),
        ("...htk,hkd->...td", None, (2, 5, 3, 6), ""),
        ("bthk,hkd->btd", "d", (2, 3, 5, 6), "d"),
        ("t...d,dk->k...t", "k", (3, 7, 4), "k11"),
        ("bhd, hdk -> bhk", "h", (2, 5, 4), "h1"),
        ("...d,d->...d", "d", (3, 4), "d"),
        ("bt,dk->btdk", None, (2, 3), ""),
        ("btd,dk->bk", "k", (2, 3, 4), "k"),
    ],
)
def test_it_is_an_einsum_plus_a_bias(
    equation: str, bias_axes: str | None, x_shape: tuple[int, ...], bias_axes_of_y: str
) -> None:
    einsum = layer(equation, bias_axes)
    x = jax.random.normal(jax.random.key(1), x_shape)
    want = np.einsum(equation, np.asarray(x, np.float64), np.asarray(einsum.weight, np.float64))
    if bias_axes is not None:
        shape = [1 if axis == "1" else _SIZES[axis] for axis in bias_axes_of_y]
        want = want + np.asarray(einsum.bias).reshape(shape)
    np.testing.assert_allclose(einsum(x), want, rtol=1e-5, atol=1e-5)


def test_the_simplest_one_is_linear() -> None:
    einsum = pax.nn.Einsum("...i,io->...o", (4, 6), "o", rng_key=jax.random.key(3))
    fc = pax.nn.Linear(4, 6, rng_key=jax.random.key(3))
    x = jax.random.normal(jax.random.key(1), (2, 4))
    np.testing.assert_array_equal(einsum.weight, fc.weight)
    np.testing.assert_array_equal(einsum.bias, fc.bias)
    np.testing.assert_allclose(einsum(x), fc(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("equation", "shape", "fan_in"),
    [
        ("...d,dhk->...hk", (100, 10, 20), 100),
        ("...hk,hkd->...d", (10, 20, 100), 200),
        ("...hd,hdk->...hk", (50, 20, 20), 20),
        ("...d,d->...d", (20_000,), 1),
    ],
)
def test_the_default_scale_comes_from_the_axes_that_are_summed(
    equation: str, shape: tuple[int, ...], fan_in: int
) -> None:
    einsum = pax.nn.Einsum(equation, shape, equation[-1], rng_key=jax.random.key(0))
    # 20,000 values: the standard error of the standard deviation is 0.5 %.
    np.testing.assert_allclose(np.asarray(einsum.weight).std() * fan_in**0.5, 1, rtol=0.03)


def test_without_bias_axes_there_is_no_bias() -> None:
    einsum = layer("...d,dk->...k")
    assert not hasattr(einsum, "bias")
    np.testing.assert_array_equal(einsum.weight, layer("...d,dk->...k", "k").weight)


def test_spaces_make_no_difference() -> None:
    assert layer(" ...d , dk -> ...k ").equation == "...d,dk->...k"


def test_initializers_get_a_key_and_a_tuple() -> None:
    shapes = []

    def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        shapes.append((key.shape, shape))
        return jnp.ones(shape)

    layer("...td,dhk->...htk", "kh", w_init=init, b_init=init)
    assert shapes == [((), (4, 5, 6)), ((), (5, 6))]


def test_dtype_and_param_dtype() -> None:
    half = layer("...d,dk->...k", "k", dtype=jnp.bfloat16)
    assert half(jnp.ones(4)).dtype == jnp.bfloat16
    assert half.weight.dtype == jnp.float32
    assert repr(half) == "Einsum(equation=...d,dk->...k, shape=(4, 6), bias_axes=k, dtype=bfloat16)"
    stored = layer("...d,dk->...k", "k", param_dtype=jnp.float16)
    assert {stored.bias.dtype, stored(jnp.ones(4, jnp.int8)).dtype} == {jnp.dtype(jnp.float16)}
    assert stored(jnp.ones(4)).dtype == jnp.float32


def test_it_can_be_pickled() -> None:
    einsum = layer("...d,dk->...k", "k")
    pax.assert_structure_equal(pickle.loads(pickle.dumps(einsum)), einsum)


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("equation", "headline"),
    [
        ("...d,dk", "Expecting an equation of an input, a weight and an output."),
        ("...d->...d", "Expecting an equation of an input, a weight and an output."),
        ("a,b,c->abc", "Expecting an equation of an input, a weight and an output."),
        ("...1,1k->...k", "Expecting letters for the axes of the input."),
        ("....d,dk->...k", "Expecting letters for the axes of the input."),
        ("...d,dk->..k", "Expecting letters for the axes of the output."),
        ("dd,dk->dk", "An axis of the input has the letter of another one."),
        ("d,dkk->dk", "An axis of the weight has the letter of another one."),
        ("...d,...dk->...k", "The weight cannot have `...`."),
        ("...d,dk->k", "Expecting `...` in both input and output, or in none."),
        ("d,dk->...k", "Expecting `...` in both input and output, or in none."),
        ("...d,dk->...kz", "The output has an axis `z` that input and weight have not."),
        ("...d,dkz->...k", "The weight has an axis `z` that input and output have not."),
    ],
)
def test_malformed_equations_are_refused(equation: str, headline: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.Einsum(equation, (4, 6))
    text = str(caught.value)
    assert text.startswith(f'{headline}\n  where: Einsum\n  got:   equation="{equation}"\n  want:  ')


def test_an_equation_is_a_string() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a string for `equation`.\n  where: Einsum\n  got:   3"):
        pax.nn.Einsum(3, (4, 6))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "error", "headline"),
    [
        (
            (4,),
            ArgumentError,
            "Expecting a size for each axis of the weight.\n  where: Einsum\n  got:   shape=(4,) for",
        ),
        ((4, 0), ArgumentError, "Expecting positive values for `shape`."),
        ((4, "k"), ArgumentTypeError, "Expecting an integer for `shape`."),
    ],
    ids=str,
)
def test_shapes_are_checked(shape: Any, error: type[Exception], headline: str) -> None:
    with pytest.raises(error) as caught:
        pax.nn.Einsum("...d,dk->...k", shape)
    assert str(caught.value).startswith(headline)


def test_one_size_is_a_shape() -> None:
    assert pax.nn.Einsum("...d,d->...d", 4).shape == (4,)  # type: ignore[arg-type]


@pytest.mark.parametrize("bias_axes", ["", "d", "kk", "z", 3, "..."])
def test_bias_axes_are_checked(bias_axes: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.Einsum("...d,dk->...k", (4, 6), bias_axes)
    assert str(caught.value) == (
        "Expecting axes that weight and output have for `bias_axes`.\n  where: Einsum\n"
        f"  got:   bias_axes={bias_axes!r}\n  want:  some of the letters 'k', or None for no bias"
    )


@pytest.mark.parametrize(
    ("equation", "x_shape", "headline", "want"),
    [
        ("...td,dk->...tk", (4,), "Expecting an input with at least 2 axes. Get 1 axes.", "float32[...,t,4]"),
        ("btd,dk->btk", (2, 4), "Expecting an input with 3 axes. Get 2 axes.", "float32[b,t,4]"),
        ("...td,dk->...tk", (3, 5), "Expecting size 4 for the axis `d`. Get 5.", "float32[...,t,4]"),
        ("d...t,dk->k...t", (3, 2, 2), "Expecting size 4 for the axis `d`. Get 3.", "float32[4,...,t]"),
    ],
)
def test_inputs_are_checked(equation: str, x_shape: tuple[int, ...], headline: str, want: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(equation, name="e")(jnp.ones(x_shape))
    got = ",".join(map(str, x_shape))
    assert str(caught.value) == f"{headline}\n  where: (e) Einsum\n  got:   float32[{got}]\n  want:  {want}"


def test_a_list_is_no_equation() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a string for `equation`.\n  where: Einsum"):
        pax.nn.Einsum(["...i,io->...o"], (2, 3))  # type: ignore[arg-type]
