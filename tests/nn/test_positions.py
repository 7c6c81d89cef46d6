"""pax.nn.SinusoidalPositions, pax.nn.LearnedPositions and pax.nn.sinusoidal_positions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64
from pax.errors import ArgumentError, ArgumentTypeError


def reference(positions: Any, dim: int, max_period: float = 10_000.0) -> np.ndarray:
    """Section 3.5 of the paper, element by element in float64."""
    positions = np.asarray(positions, np.float64)
    found = np.empty((*positions.shape, dim))
    for i in range(dim // 2):
        angle = positions / max_period ** (2 * i / dim)
        found[..., 2 * i], found[..., 2 * i + 1] = np.sin(angle), np.cos(angle)
    return found


def learned(max_length: int = 6, dim: int = 4, **options: Any) -> pax.nn.LearnedPositions:
    return pax.nn.LearnedPositions(max_length, dim, rng_key=jax.random.key(0), **options)


MODULES: Any = {"sinusoidal": pax.nn.SinusoidalPositions, "learned": learned}
each_module = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES.keys())


# ---- the function ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [7, np.arange(20), np.array([[0.5, 3.0]]), np.zeros((0,))], ids=str)
@pytest.mark.parametrize("max_period", [10_000.0, 50.0])
def test_sines_and_cosines_are_those_of_the_paper(positions: Any, max_period: float) -> None:
    got = pax.nn.sinusoidal_positions(positions, 8, max_period)
    np.testing.assert_allclose(got, reference(positions, 8, max_period), atol=2e-6)


def test_large_positions_are_as_exact_as_float32_allows() -> None:
    """An angle of 1e5 has an error of 2**-8 in float32; in bfloat16 it would be anything."""
    got = pax.nn.sinusoidal_positions(jnp.array(100_000), 8, dtype=jnp.bfloat16)
    np.testing.assert_allclose(np.asarray(got, np.float64), reference(100_000, 8), atol=0.01)
    with x64():
        np.testing.assert_allclose(pax.nn.sinusoidal_positions(100_000, 8), reference(100_000, 8), atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((7,), ArgumentError, "Expecting an even size for `dim`.\n  where: sinusoidal_positions\n  got:   dim=7"),
        ((0,), ArgumentError, "Expecting positive values for `dim`."),
        ((2.0,), ArgumentTypeError, "Expecting an integer for `dim`."),
        ((2, 1.0), ArgumentError, "Expecting a number above 1 for `max_period`.\n  where: sinusoidal_positions"),
        ((2, float("nan")), ArgumentError, "Expecting a number above 1 for `max_period`."),
    ],
)
def test_arguments_of_the_function_are_checked(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        pax.nn.sinusoidal_positions(jnp.arange(3), *arguments)


# ---- the modules -----------------------------------------------------------------------------------------------------


def test_sinusoidal_positions_are_added() -> None:
    x = jax.random.normal(jax.random.key(1), (2, 5, 8))
    layer = pax.nn.SinusoidalPositions(100.0)
    np.testing.assert_allclose(layer(x), np.asarray(x) + reference(np.arange(5), 8, 100.0), atol=2e-6)
    assert jax.tree.leaves(layer) == []
    assert repr(layer) == "SinusoidalPositions(max_period=100.0)"


def test_learned_positions_are_added() -> None:
    x, layer = jax.random.normal(jax.random.key(1), (2, 5, 4)), learned()
    np.testing.assert_allclose(layer(x), np.asarray(x) + np.asarray(layer.weight)[:5], rtol=1e-6)
    assert repr(layer) == "LearnedPositions(max_length=6, dim=4)"
    assert layer.parameters() == layer


def test_learned_positions_start_at_a_standard_deviation_of_0_02() -> None:
    weight = np.asarray(learned(400, 250).weight)
    # 100,000 values: the standard error of the standard deviation is about 5e-5.
    assert abs(weight.std() - 0.02) < 2e-4
    assert np.abs(weight).max() < 0.0456


@each_module
@pytest.mark.parametrize("jit", [False, True], ids=["python", "jit"])
def test_decoding_step_by_step_is_the_whole_sequence(make: Any, jit: bool) -> None:
    layer, x = make(), jax.random.normal(jax.random.key(1), (2, 5, 4))
    call: Any = jax.jit(lambda layer, x, offset: layer(x, offset)) if jit else lambda layer, x, offset: layer(x, offset)
    steps = [call(layer, x[:, t : t + 1], t) for t in range(5)]
    np.testing.assert_allclose(jnp.concatenate(steps, 1), layer(x), rtol=1e-5, atol=1e-6)


@each_module
def test_each_example_may_have_its_own_offset(make: Any) -> None:
    layer, x = make(), jax.random.normal(jax.random.key(1), (2, 3, 4))
    got = layer(x, jnp.array([3, 0]))
    np.testing.assert_allclose(got[0], layer(x[0], 3), rtol=1e-6)
    np.testing.assert_allclose(got[1], layer(x[1], np.int64(0)), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(layer)(x, jnp.array([3, 0])), got, rtol=1e-6)


@each_module
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.int32])
def test_dtypes(make: Any, dtype: Any) -> None:
    y = make()(jnp.ones((3, 4), dtype))
    kept = make is pax.nn.SinusoidalPositions and dtype != jnp.int32
    assert y.dtype == (dtype if kept else jnp.float32)


def test_dtype_and_param_dtype_of_learned_positions() -> None:
    layer = learned(dtype=jnp.bfloat16, param_dtype=jnp.float16)
    assert layer(jnp.ones((3, 4))).dtype == jnp.bfloat16
    assert layer.weight.dtype == jnp.float16
    assert repr(layer) == "LearnedPositions(max_length=6, dim=4, dtype=bfloat16)"
    assert learned(param_dtype=jnp.float16)(jnp.ones((3, 4), jnp.float16)).dtype == jnp.float16


def test_the_gradient_of_a_position_is_the_sum_over_examples() -> None:
    grads = pax.grad(lambda layer: layer(jnp.ones((3, 2, 4)), 1).sum())(learned())
    np.testing.assert_array_equal(grads.weight[:, 0], [0, 3, 3, 0, 0, 0])


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "offset", "got"), [(7, 0, "float32[7,4] at offset 0"), (3, 4, "float32[3,4] at offset 4")]
)
def test_too_long_sequences_are_refused(time: int, offset: int, got: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        learned(name="p")(jnp.ones((time, 4)), offset)
    assert str(caught.value) == (
        f"Expecting at most 6 positions. Get 7 positions.\n  where: (p) LearnedPositions\n  got:   {got}\n"
        "  want:  0 <= offset, and offset + time <= 6"
    )


def test_positions_that_are_found_missing_too_late_give_nan() -> None:
    y = jax.jit(learned())(jnp.zeros((2, 3, 4)), jnp.array([4, -1]))
    np.testing.assert_array_equal(jnp.isnan(y).all(-1), [[False, False, True], [True, False, False]])


@each_module
@pytest.mark.parametrize(
    ("shape", "offset", "error", "headline"),
    [
        ((4,), 0, ArgumentError, "Expecting an input with at least 2 axes. Get 1 axes."),
        ((3, 4), -1, ArgumentError, "Expecting an offset that is not negative."),
        ((3, 4), 1.0, ArgumentTypeError, "Expecting integers for `offset`."),
        ((3, 4), jnp.array(1.0), ArgumentTypeError, "Expecting integers for `offset`."),
        ((3, 4), "1", ArgumentTypeError, "Expecting integers for `offset`."),
        ((2, 3, 4), jnp.array([1, 2, 3]), ArgumentError, "Expecting one offset, or one for each example."),
    ],
    ids=["rank", "negative", "float", "float array", "text", "shape"],
)
def test_inputs_and_offsets_are_checked(
    make: Any, shape: Any, offset: Any, error: type[Exception], headline: str
) -> None:
    with pytest.raises(error) as caught:
        make()(jnp.ones(shape), offset)
    assert str(caught.value).startswith(f"{headline}\n  where: ")


def test_an_odd_number_of_features_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Expecting an even number of features.\n  where: SinusoidalPositions\n"):
        pax.nn.SinusoidalPositions()(jnp.ones((2, 3)))


def test_another_number_of_features_is_refused() -> None:
    text = r"Expecting 4 input features. Get 5 features.\n  where: LearnedPositions\n  got:   float32\[2,5\]"
    with pytest.raises(ArgumentError, match=text):
        learned()(jnp.ones((2, 5)))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: learned(0), ArgumentError, "Expecting positive values for `max_length`."),
        (lambda: learned(2, 1.5), ArgumentTypeError, "Expecting an integer for `dim`."),  # type: ignore[arg-type]
        (lambda: pax.nn.SinusoidalPositions(0.5), ArgumentError, "above 1 for `max_period`.\n  where: SinusoidalPos"),
    ],
    ids=["max_length", "dim", "max_period"],
)
def test_arguments_of_the_modules_are_checked(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def test_a_period_is_a_number() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `max_period`.\n  where: SinusoidalPositions"):
        pax.nn.SinusoidalPositions("1e4")  # type: ignore[arg-type]
