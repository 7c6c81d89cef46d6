"""pax.nn.initializers."""

import math
import pickle
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.compilations import count_compilations
from helpers.precision import x64
from pax.errors import ArgumentError, ArgumentTypeError
from pax.nn.initializers import (
    Constant,
    Normal,
    TruncatedNormal,
    VarianceScaling,
    truncated_normal_with_stddev,
    use_numpy,
)

# The standard deviation of a standard normal distribution that is cut at -2 and 2.
CUT = 0.87962566
KEY = jax.random.PRNGKey(3)
SHAPE = (200, 500)
DRAWN = [
    Normal(0.3),
    TruncatedNormal(0.3),
    VarianceScaling(18.0, "fan_in", "normal"),
    VarianceScaling(45.0, "fan_out", "truncated_normal"),
    VarianceScaling(31.5, "fan_avg", "uniform"),
]


def _values(init: Any, mode: str) -> np.ndarray:
    if mode == "jax":
        return np.asarray(init(KEY, SHAPE))
    with use_numpy():
        return np.asarray(pax.nn.Linear(*SHAPE, w_init=init, rng_key=KEY).weight)


@pytest.mark.parametrize("mode", ["jax", "numpy"])
@pytest.mark.parametrize("init", DRAWN, ids=repr)
def test_values_have_mean_0_and_the_stddev(init: Any, mode: str) -> None:
    values = _values(init, mode)
    # 100,000 values: the standard error of the standard deviation is below 0.0007.
    assert abs(values.std() - 0.3) < 0.003
    assert abs(values.mean()) < 0.004
    assert values.dtype == np.float32


@pytest.mark.parametrize("mode", ["jax", "numpy"])
def test_cut_is_at_two_sigma_of_the_distribution_before_it(mode: str) -> None:
    values = _values(TruncatedNormal(0.3), mode)
    assert 0.99 * 0.6 / CUT < np.abs(values).max() <= 0.6 / CUT * (1 + 1e-6)


@pytest.mark.parametrize("mode", ["jax", "numpy"])
def test_shape_of_the_distributions(mode: str) -> None:
    """The share of values within one standard deviation, and the largest."""
    inside = {"normal": 0.6827, "truncated_normal": 0.6504, "uniform": math.sqrt(1 / 3)}
    limit = {"normal": 6.0, "truncated_normal": 2 / CUT, "uniform": math.sqrt(3)}
    for distribution, share in inside.items():
        init: Any = VarianceScaling(18.0, "fan_in", distribution)  # type: ignore[arg-type]
        values: np.ndarray = np.abs(_values(init, mode)) / 0.3
        assert abs((values < 1).mean() - share) < 0.007
        assert values.max() <= limit[distribution] * (1 + 1e-6)


@pytest.mark.parametrize("enable_x64", [False, True])
@pytest.mark.parametrize("stddev", [0.1, 0.25, 3**-0.5])
def test_normal_is_that_of_jax_random_to_the_bit(stddev: float, enable_x64: bool) -> None:
    with x64(enable_x64):
        expected = np.asarray(jax.random.normal(KEY, (7, 30))) * np.asarray(stddev, jnp.result_type(float))
        np.testing.assert_array_equal(Normal(stddev)(KEY, (7, 30)), expected)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
def test_variance_scaling_is_that_of_jax(mode: Any, distribution: Any) -> None:
    for shape in ((6, 10), (3, 2, 4, 8)):
        expected = jax.nn.initializers.variance_scaling(0.7, mode, distribution)(KEY, shape)
        np.testing.assert_allclose(VarianceScaling(0.7, mode, distribution)(KEY, shape), expected, rtol=3e-7)


def test_truncated_normal_is_that_of_jax() -> None:
    expected = jax.nn.initializers.truncated_normal(0.3 / CUT)(KEY, (6, 10))
    np.testing.assert_allclose(TruncatedNormal(0.3)(KEY, (6, 10)), expected, rtol=3e-7)


@pytest.mark.parametrize("init", [*DRAWN, Constant(0.5)], ids=repr)
def test_dtypes(init: Any) -> None:
    assert init(KEY, [2, 3]).dtype == jnp.float32
    assert init(KEY, (2, 3), jnp.bfloat16).dtype == jnp.bfloat16
    with x64():
        assert init(KEY, (2, 3)).dtype == jnp.float64
        assert init(KEY, (2, 3), "float32").dtype == jnp.float32


def test_typed_keys_draw_the_same() -> None:
    np.testing.assert_array_equal(Normal(0.5)(jax.random.key(3), (4,)), Normal(0.5)(KEY, (4,)))


@pytest.mark.parametrize("init", [*DRAWN, Constant(0.5)], ids=repr)
def test_initializers_are_values(init: Any) -> None:
    copy = pickle.loads(pickle.dumps(init))
    assert copy == init
    assert hash(copy) == hash(init)
    assert init != Normal(0.4)


def test_other_stddevs_do_not_compile_again() -> None:
    Normal(0.123)(KEY, (3, 5))
    with count_compilations() as count:
        Normal(0.456)(KEY, (3, 5))
    assert count() == 0


@pytest.mark.parametrize("stddev", [-1.0, float("nan")])
@pytest.mark.parametrize("make", [truncated_normal_with_stddev, TruncatedNormal, Normal])
def test_other_stddevs_are_refused(make: Any, stddev: float) -> None:
    with pytest.raises(ArgumentError, match="not negative"):
        make(stddev)


def test_other_scales_modes_and_distributions_are_refused() -> None:
    with pytest.raises(ArgumentError, match="Expecting a scale that is not negative"):
        VarianceScaling(-1.0)
    with pytest.raises(ArgumentError, match="There is no such mode"):
        VarianceScaling(1.0, "fan")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="There is no such distribution"):
        VarianceScaling(1.0, "fan_in", "gaussian")  # type: ignore[arg-type]


def test_shapes_without_inputs_and_outputs_are_refused() -> None:
    with pytest.raises(ArgumentError, match="A shape without inputs and outputs"):
        VarianceScaling(1.0)(KEY, (3,))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64])
@pytest.mark.parametrize("init", [Normal(1.0), Constant(1.0)], ids=repr)
def test_other_dtypes_are_refused(init: Any, dtype: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="floating dtype"):
        init(KEY, (3,), dtype)


def test_a_base_class_draws_nothing() -> None:
    from pax.nn.initializers import _Drawn

    with pytest.raises(NotImplementedError):
        _Drawn()(KEY, (3,))
    with pytest.raises(NotImplementedError):
        _Drawn()._factor((3,), np.dtype("float32"))


def test_constants_are_the_same_with_numpy() -> None:
    with use_numpy():
        fc = pax.nn.Linear(2, 3, w_init=Constant(2), b_init=Constant(0.5))
    np.testing.assert_array_equal(fc.weight, np.full((2, 3), 2, np.float32))
    np.testing.assert_array_equal(fc.bias, np.full(3, 0.5, np.float32))
    assert fc.weight.dtype == jnp.float32


def _weight() -> np.ndarray:
    return np.asarray(pax.nn.Linear(3, 4, rng_key=KEY).weight)


def test_numpy_draws_other_values_that_depend_on_the_key() -> None:
    outside = _weight()
    with use_numpy():
        inside, again = _weight(), _weight()
        other = np.asarray(pax.nn.Linear(3, 4, rng_key=jax.random.PRNGKey(4)).weight)
        typed = np.asarray(pax.nn.Linear(3, 4, rng_key=jax.random.key(3)).weight)
    assert (inside != outside).all()
    assert (inside != other).all()
    np.testing.assert_array_equal(inside, again)
    np.testing.assert_array_equal(inside, typed)
    np.testing.assert_array_equal(_weight(), outside)


def test_numpy_depends_on_the_global_seed_and_takes_as_many_keys() -> None:
    found = []
    for _ in range(2):
        pax.seed_rng_key(5)
        with use_numpy():
            found.append(np.asarray(pax.nn.Conv1D(2, 3, 3).weight))
        after = np.asarray(pax.next_rng_key())
    np.testing.assert_array_equal(found[0], found[1])
    pax.seed_rng_key(5)
    pax.nn.Conv1D(2, 3, 3)
    np.testing.assert_array_equal(after, pax.next_rng_key())


def test_numpy_is_left_after_errors_and_may_be_nested() -> None:
    outside = _weight()

    def fail() -> None:
        with use_numpy():
            raise KeyError

    with use_numpy():
        inside = _weight()
        with use_numpy():
            np.testing.assert_array_equal(_weight(), inside)
        with pytest.raises(KeyError):
            fail()
        np.testing.assert_array_equal(_weight(), inside)
    with pytest.raises(KeyError):
        fail()
    np.testing.assert_array_equal(_weight(), outside)


def test_numpy_is_for_one_thread() -> None:
    outside, found = _weight(), []
    with use_numpy():
        thread = threading.Thread(target=lambda: found.append(_weight()))
        thread.start()
        thread.join()
    np.testing.assert_array_equal(found[0], outside)


def test_numpy_leaves_other_initializers_and_traced_keys_to_jax() -> None:
    outside = _weight()
    with use_numpy():
        own = pax.nn.Linear(3, 4, w_init=jax.nn.initializers.uniform(1.0), rng_key=KEY)
        traced = jax.jit(lambda key: pax.nn.Linear(3, 4, rng_key=key).weight)(KEY)
        shape = jax.eval_shape(lambda: pax.nn.Linear(3, 4)).weight
    assert 0 <= float(own.weight.min())
    np.testing.assert_allclose(traced, outside, rtol=1e-6)
    assert isinstance(shape, jax.ShapeDtypeStruct)


def test_numpy_takes_your_own_initializer() -> None:
    class Sevens:
        def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            raise AssertionError

        def draw_with_numpy(self, generator: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
            return np.full(shape, 7, dtype)

    with use_numpy():
        fc = pax.nn.Linear(3, 4, w_init=Sevens(), param_dtype=jnp.bfloat16)
    assert fc.weight.dtype == jnp.bfloat16
    assert (fc.weight == 7).all()


@pytest.mark.parametrize("init", [jax.nn.initializers.ones, Constant(1)], ids=["jax", "pax"])
def test_arrays_of_one_value_are_not_shared(init: Any) -> None:
    fc = pax.nn.Linear(3, 3, w_init=init, b_init=init)
    other = pax.nn.Linear(3, 3, w_init=init, b_init=init)
    assert (fc.weight == 1).all()
    assert fc.weight is not other.weight
    jax.jit(lambda weight: weight + 1, donate_argnums=0)(fc.weight)
    assert (other.weight == 1).all()


def test_standard_deviations_are_numbers() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `stddev`.\n  where: Normal"):
        pax.nn.initializers.Normal("1")  # type: ignore[arg-type]
