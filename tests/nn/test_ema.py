"""pax.nn.EMA."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from pax.errors import ArgumentError, ArgumentTypeError, MutationError, StructureError


def averages(ema: pax.nn.EMA, *values: Any) -> list[Any]:
    found = []
    for value in values:
        ema, average = pax.purecall(ema, value)
        found.append(average)
    return found


@pytest.mark.parametrize(
    ("debias", "values", "want"), [(False, (2.0, 1.0), (1.1, 1.09)), (True, (2.0, 1.0, 1.0), (2.0, 1.9, 1.81))]
)
def test_reference_values(debias: bool, values: tuple[float, ...], want: tuple[float, ...]) -> None:
    found = averages(pax.nn.EMA(jnp.array(1.0), 0.9, debias), *map(jnp.array, values))
    np.testing.assert_allclose(found, want, rtol=1e-6)


def test_state_attributes() -> None:
    initial = {"a": jnp.ones(2)}
    ema = pax.nn.EMA(initial, 0.9, debias=True)
    assert ema.averages["a"] is initial["a"]
    np.testing.assert_array_equal(ema.debias, np.float32(0), strict=True)
    ema, _ = pax.purecall(ema, initial)
    np.testing.assert_array_equal(ema.debias, np.float32(1), strict=True)
    assert pax.nn.EMA(initial, 0.9).debias is None
    assert repr(ema) == "EMA"


def test_eval_mode_returns_the_averages_and_needs_no_purecall() -> None:
    ema = pax.nn.EMA(jnp.array(1.0), 0.9).eval()
    assert float(ema(jnp.array(5.0))) == 1.0


def test_train_mode_needs_purecall() -> None:
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        pax.nn.EMA(jnp.array(1.0), 0.9)(jnp.array(5.0))


def test_kd_53_python_numbers_are_values() -> None:
    np.testing.assert_allclose(averages(pax.nn.EMA(1.0, 0.9), 2.0)[0], 1.1, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
@pytest.mark.parametrize("debias", [True, False])
def test_kd_53_averages_keep_their_dtype(dtype: Any, debias: bool) -> None:
    ema = pax.nn.EMA(jnp.ones(2, dtype), 0.5, debias)
    found = averages(ema, jnp.full(2, 3.0), jnp.full(2, 3.0))
    assert all(average.dtype == dtype for average in found)
    np.testing.assert_allclose(np.asarray(found[1], complex).real, 3.0 if debias else 2.5)


def test_half_precision_is_updated_in_float32() -> None:
    # 1.199 is nearest to 1.1953125. In bfloat16 0.999 would be 1, and the sum 1.2, which is nearest to 1.203125.
    (found,) = averages(pax.nn.EMA(jnp.array(1.0, jnp.bfloat16), 0.999), jnp.array(200.0))
    assert float(found) == 1.1953125


def test_integers_take_the_newest_value_if_allowed() -> None:
    initial = {"i": jnp.array(1, jnp.int16), "b": jnp.array(False), "f": jnp.array(0.0)}
    ema = pax.nn.EMA(initial, 0.5, allow_int=True)
    (found,) = averages(ema, {"i": jnp.array(7, jnp.int16), "b": jnp.array(True), "f": jnp.array(1.0)})
    assert (int(found["i"]), found["i"].dtype, bool(found["b"]), float(found["f"])) == (7, jnp.int16, True, 0.5)


def test_integers_are_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        pax.nn.EMA({"i": jnp.array(1)}, 0.5)
    assert str(caught.value).startswith(
        "There are integer arrays in the initial value.\nUse `allow_int=True` to allow this.\n  where: EMA, ['i']"
    )


@pytest.mark.parametrize("training", [True, False])
def test_new_integers_are_refused_in_both_modes(training: bool) -> None:
    ema = pax.nn.EMA(jnp.array(1.0), 0.5)
    with pytest.raises(ArgumentError, match=r"There are integer arrays in the new value\.\nUse `allow_int=True`"):
        pax.purecall(ema if training else ema.eval(), jnp.array(1))


def test_kd_53_an_average_of_a_module_is_a_submodule_and_not_trained() -> None:
    fc = pax.nn.Linear(2, 2)
    ema = pax.nn.EMA(fc, 0.9)
    assert ema.summary() == "EMA\n└── Linear(in_dim=2, out_dim=2, with_bias=True)"
    assert jax.tree.leaves(ema.parameters()) == []
    assert ema.parameters().summary() == ema.summary()
    assert ema.update_parameters(ema) == ema
    ema, average = pax.purecall(ema, jax.tree.map(jnp.zeros_like, fc))
    np.testing.assert_allclose(average.weight, 0.9 * fc.weight, rtol=1e-6)


def test_it_works_in_scan_under_jit() -> None:
    def step(ema: pax.nn.EMA, x: jax.Array) -> tuple[pax.nn.EMA, jax.Array]:
        return pax.purecall(ema, x)

    _, found = jax.jit(lambda ema, xs: jax.lax.scan(step, ema, xs))(
        pax.nn.EMA(jnp.zeros(()), 0.9, debias=True), jnp.array([2.0, 1.0])
    )
    np.testing.assert_allclose(found, [2.0, 1.9], rtol=1e-6)


@pytest.mark.parametrize("decay_rate", [1.9, -0.1, float("nan")])
def test_kd_53_decay_rates_are_checked(decay_rate: Any) -> None:
    with pytest.raises(ArgumentError, match=r"Expecting a decay rate in \[0, 1\].\n  where: EMA"):
        pax.nn.EMA(jnp.array(1.0), decay_rate)


def test_kd_53_another_shape_is_refused() -> None:
    with pytest.raises(StructureError, match=r"another shape.\n  where: EMA, \['a'\]\n  got:   float32\[3\]"):
        pax.purecall(pax.nn.EMA({"a": jnp.ones(())}, 0.5), {"a": jnp.ones(3)})


def test_kd_53_complex_numbers_are_averaged() -> None:
    """They were "integer arrays"."""
    (found,) = averages(pax.nn.EMA(jnp.array(1j), 0.5), jnp.array(1.0 + 0j))
    np.testing.assert_allclose(found, 0.5 + 0.5j)


def test_kd_53_an_average_may_have_a_name() -> None:
    assert repr(pax.nn.EMA(1.0, 0.9, name="a")) == "(a) EMA"


def test_kd_53_another_structure_is_refused() -> None:
    with pytest.raises(StructureError, match="different structures"):
        pax.purecall(pax.nn.EMA({"a": jnp.ones(())}, 0.5), {"b": jnp.ones(())})


@pytest.mark.parametrize("debias", [False, True])
def test_averages_of_python_numbers_are_traced_once(debias: bool) -> None:
    traces = 0

    @jax.jit
    def step(ema: pax.nn.EMA, x: Any) -> pax.nn.EMA:
        nonlocal traces
        traces += 1
        return pax.purecall(ema, x)[0]

    ema = pax.nn.EMA({"a": 1.0, "b": 1}, 0.9, debias, allow_int=True)
    for _ in range(2):
        ema = step(ema, {"a": 2.0, "b": 2})
    assert traces == 1
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(ema))


@pytest.mark.parametrize("debias", [False, True])
def test_keys_take_the_newest_value_if_allowed(debias: bool) -> None:
    old, new = jax.random.key(0), jax.random.key(1)
    _, key = pax.purecall(pax.nn.EMA(old, 0.9, debias, allow_int=True), new)
    assert key.dtype == old.dtype
    np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(new))


def test_a_key_is_no_value_for_an_average_of_numbers() -> None:
    with pytest.raises(StructureError, match=r"is of another kind.\n  where: EMA\n  got:   key<fry>\[\]"):
        pax.purecall(pax.nn.EMA(jnp.array(1), 0.9, allow_int=True), jax.random.key(0))


def test_averages_of_numpy_arrays_become_jax_arrays() -> None:
    _, average = pax.purecall(pax.nn.EMA(np.ones(3), 0.9), np.ones(3))
    assert isinstance(average, jax.Array)
    assert average.dtype == jnp.result_type(float)


def test_texts_are_no_values() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting an array.\n  got:   'one'\n  want:  a JAX or NumPy array"):
        pax.nn.EMA("one", 0.9)


@pytest.mark.parametrize("decay_rate", ["0.9", None, [0.9]])
def test_decay_rates_are_numbers(decay_rate: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `decay_rate`.\n  where: EMA"):
        pax.nn.EMA(1.0, decay_rate)
