"""pax.nn.Linear."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from pax.errors import ArgumentError, ArgumentTypeError


def layer(in_dim: int = 2, out_dim: int = 3, **options: object) -> pax.nn.Linear:
    return pax.nn.Linear(in_dim, out_dim, rng_key=jax.random.key(0), **options)  # type: ignore[arg-type]


def test_default_weights_of_seed_42_are_the_reference_values() -> None:
    pax.seed_rng_key(42)
    fc = pax.nn.Linear(2, 3)
    weight = [-0.0305878, 0.8682196, 0.5714648, -2.0148001, 0.0621846, -0.0270394]
    np.testing.assert_allclose(fc.weight.ravel(), weight, atol=1e-6)
    np.testing.assert_allclose(fc.bias, [0.9498972, 0.5987744, 0.0135046], atol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (5, 2), (4, 5, 2), (0, 2)])
def test_kd_40_it_multiplies_the_last_axis_of_any_rank(shape: tuple[int, ...]) -> None:
    fc = layer()
    x = jax.random.normal(jax.random.key(1), shape)
    want = np.asarray(x) @ np.asarray(fc.weight) + np.asarray(fc.bias)
    np.testing.assert_allclose(fc(x), want, rtol=1e-5, atol=1e-6)


def test_without_a_bias_there_is_no_such_attribute() -> None:
    fc = layer(with_bias=False)
    assert not hasattr(fc, "bias")
    assert len(jax.tree.leaves(fc)) == 1
    np.testing.assert_allclose(fc(jnp.ones(2)), fc.weight.sum(0), rtol=1e-6)


def test_the_key_is_split_in_the_same_way_without_a_bias() -> None:
    np.testing.assert_array_equal(layer().weight, layer(with_bias=False).weight)


@pytest.mark.parametrize(
    ("key", "same"), [(jax.random.key(0), True), (jax.random.PRNGKey(0), True), (jax.random.key(1), False)]
)
def test_typed_and_legacy_keys_give_the_same_weights(key: jax.Array, same: bool) -> None:
    assert bool(jnp.array_equal(pax.nn.Linear(2, 3, rng_key=key).weight, layer().weight)) is same


def test_a_given_key_draws_nothing_from_the_global_generator() -> None:
    pax.seed_rng_key(7)
    layer()
    after = pax.next_rng_key()
    pax.seed_rng_key(7)
    np.testing.assert_array_equal(after, pax.next_rng_key())


def test_initializers_get_a_key_and_a_tuple() -> None:
    shapes = []

    def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        shapes.append((key.shape, shape))
        return jnp.full(shape, 2.0)

    fc = layer(w_init=init, b_init=init)
    assert shapes == [((), (2, 3)), ((), (3,))]
    assert float(fc(jnp.ones(2))[0]) == 6.0


@pytest.mark.parametrize(
    ("dtype", "want"),
    [(jnp.float32, jnp.float32), (jnp.bfloat16, jnp.float32), (jnp.float16, jnp.float32), (jnp.int8, jnp.float32)],
)
def test_other_dtypes_meet_that_of_the_weights(dtype: jnp.dtype, want: jnp.dtype) -> None:
    assert layer()(jnp.ones((1, 2), dtype)).dtype == want


def test_half_precision_weights_keep_half_precision_inputs() -> None:
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), layer())
    assert half(jnp.ones((1, 2), jnp.bfloat16)).dtype == jnp.bfloat16


def test_numpy_arrays_and_lists_are_inputs() -> None:
    fc = layer()
    want = fc(jnp.ones((1, 2)))
    np.testing.assert_array_equal(fc(np.ones((1, 2))), want)
    np.testing.assert_array_equal(fc([[1.0, 1.0]]), want)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [jnp.float64, "float64", np.complex128])
def test_a_dtype_of_64_bits_needs_them_switched_on(dtype: object) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer(dtype=dtype)
    assert str(caught.value).startswith("`dtype` has 64-bit numbers, which JAX has switched off.\n  where: Linear\n")
    assert 'fix:   jax.config.update("jax_enable_x64", True)' in str(caught.value)
    with x64():
        assert layer(dtype=dtype).dtype == jnp.dtype(dtype)  # type: ignore[call-overload]


def test_x64_weights_are_float64() -> None:
    with x64():
        assert layer().weight.dtype == jnp.float64


def test_all_arrays_are_parameters() -> None:
    fc = layer()
    assert fc.parameters() == fc


def test_repr() -> None:
    assert repr(layer(name="fc")) == "(fc) Linear(in_dim=2, out_dim=3, with_bias=True)"


def test_it_is_the_same_under_jit_and_vmap() -> None:
    fc = layer()
    x = jax.random.normal(jax.random.key(1), (5, 2))
    np.testing.assert_allclose(jax.jit(lambda fc, x: fc(x))(fc, x), fc(x), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(fc)(x), fc(x), rtol=1e-6)


def test_gradients_are_those_of_the_matrix_product() -> None:
    x = jax.random.normal(jax.random.key(1), (5, 2))
    grads = pax.grad(lambda fc, x: fc(x).sum())(layer(), x)
    np.testing.assert_allclose(grads.weight, np.repeat(x.sum(0)[:, None], 3, 1), rtol=1e-5)
    np.testing.assert_allclose(grads.bias, [5.0, 5.0, 5.0])


def test_vmap_of_the_constructor_stacks_weights() -> None:
    stacked = jax.vmap(lambda key: pax.nn.Linear(2, 3, rng_key=key))(jax.random.split(jax.random.key(0), 4))
    assert stacked.weight.shape == (4, 2, 3)


@pytest.mark.parametrize(
    ("x", "headline", "lines"),
    [
        (
            jnp.ones((4, 5)),
            "Expecting 2 input features. Get 5 features.",
            ["where: (fc) Linear\n", "got:   float32[4,5]", "want:  float32[*,2]", "fix:   Linear(5, 3)"],
        ),
        (jnp.array(1.0), "expecting an input of shape `...C`", ["where: (fc) Linear\n", "fix:   x[None]"]),
    ],
)
def test_an_input_of_another_size_is_refused(x: jax.Array, headline: str, lines: list[str]) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        layer(name="fc")(x)
    assert str(caught.value).startswith(headline)
    assert all(line in str(caught.value) for line in lines)
    assert isinstance(caught.value, TypeError | AssertionError)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((0, 1), ArgumentError, "Expecting positive values for `in_dim`."),
        ((1, -1), ArgumentError, "Expecting positive values for `out_dim`."),
        ((1.5, 1), ArgumentTypeError, "Expecting an integer for `in_dim`."),
    ],
)
def test_sizes_are_checked(arguments: tuple[int, int], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        pax.nn.Linear(*arguments)


def test_numpy_integers_are_sizes() -> None:
    fc = layer(np.int64(2), np.int32(3))  # type: ignore[arg-type]
    assert (type(fc.in_dim), type(fc.out_dim)) == (int, int)
    assert pax.assert_structure_equal(fc, layer())


@pytest.mark.parametrize("key", [0, jnp.zeros(2), jax.random.split(jax.random.key(0))])
def test_other_things_than_one_key_are_refused(key: object) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a PRNG key for `rng_key`.\n  where: Linear"):
        pax.nn.Linear(1, 1, rng_key=key)  # type: ignore[arg-type]


def test_an_initializer_of_another_shape_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"initializer of `bias`[^\n]*\n  where: Linear\n  got:   float32\[1\]"):
        layer(b_init=lambda key, shape: jnp.zeros(1))


@pytest.mark.parametrize("value", ["x", 0, {}, object()])
@pytest.mark.parametrize("argument", ["w_init", "b_init"])
def test_initializers_are_functions(argument: str, value: Any) -> None:
    """Those that are false, too: ``b_init=0`` is not the default."""
    attribute = "weight" if argument == "w_init" else "bias"
    with pytest.raises(ArgumentTypeError, match=f"function as the initializer of `{attribute}`.\n  where: Linear"):
        pax.nn.Linear(2, 3, **{argument: value})


@pytest.mark.parametrize("value", ["x", None, object(), [[1.0], [1.0, 2.0]]])
def test_what_is_no_array_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting an array.\n  where: Linear\n  got: "):
        pax.nn.Linear(2, 3)(value)
