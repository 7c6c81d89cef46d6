"""opax.scale, opax.scale_by_schedule and opax.identity."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
import pax
from helpers.modules import Linear
from helpers.precision import x64
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError


def test_identity_returns_the_object() -> None:
    updates = {"w": jnp.ones(2)}
    assert opax.identity()(updates)(updates) is updates


def test_scale_multiplies_and_needs_no_purecall() -> None:
    np.testing.assert_allclose(opax.scale(0.1)(jnp.ones(2))(jnp.array([1.0, 2.0])), [0.1, 0.2], rtol=1e-6)


def test_a_scalar_array_is_state_that_can_change_without_a_second_trace() -> None:
    step = TraceCounter(lambda optimizer: optimizer(jnp.ones(1)))
    optimizer = opax.scale(jnp.array(0.1))(jnp.ones(1))
    np.testing.assert_allclose(step(optimizer), [0.1], rtol=1e-6)
    np.testing.assert_allclose(step(optimizer.replace(scale=jnp.array(0.5))), [0.5])
    assert step.traces == 1


def test_an_optimizer_can_be_donated_and_its_factory_used_again() -> None:
    factory = opax.sgd(jnp.float32(0.1))
    step = jax.jit(lambda optimizer: opax.transform_gradients(jnp.ones(1), optimizer, jnp.ones(1)), donate_argnums=0)
    for _ in range(2):
        updates, _ = step(factory(jnp.ones(1)))
        np.testing.assert_allclose(updates, [0.1], rtol=1e-6)


def test_an_array_is_the_factor_of_several_parts() -> None:
    factory = opax.scale(jnp.float32(0.1))
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    optimizer = opax.partition(("a", factory), rest=factory)(params)
    assert optimizer[0].scale is not optimizer[1].scale


@pytest.mark.parametrize("factor", [1e-8, 1.1e-6])
def test_a_factor_too_small_for_half_precision_is_not_rounded(factor: float) -> None:
    updates = opax.scale(factor)(jnp.ones(1))(jnp.array([30000.0], jnp.float16))
    assert updates.dtype == jnp.float16
    np.testing.assert_allclose(np.float32(updates), [30000 * factor], rtol=2e-3)


@pytest.mark.parametrize("value", [np.array(0.5), jnp.float32(0.5), np.float64(0.5)])
def test_numbers_are_taken_of_every_kind(value: Any) -> None:
    assert opax.clip(value) == opax.clip(0.5)


def test_an_integer_too_large_for_a_float_is_infinite() -> None:
    assert opax.clip(10**400) == opax.clip(float("inf"))


@pytest.mark.parametrize("value", [jnp.asarray(1j), jnp.asarray(True), np.array("0.1"), np.ones(2), "1"])
def test_what_is_no_real_number_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a number for `max_delta`"):
        opax.clip(value)


@pytest.mark.parametrize("value", ["0.1", None, True, 1j, jnp.ones(2)])
def test_scale_refuses_other_things_than_numbers(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a number for `scale`.\n  where: scale"):
        opax.scale(value)


def test_the_first_step_of_a_schedule_is_count_1() -> None:
    optimizer = opax.scale_by_schedule(opax.schedule.exponential_decay(1.0, 10000))(jnp.ones(1))
    np.testing.assert_array_equal(optimizer.count, np.int32(0), strict=True)
    np.testing.assert_array_equal(optimizer.learning_rate, np.float32(1), strict=True)
    optimizer, updates = pax.purecall(optimizer, jnp.ones(1))
    np.testing.assert_allclose(updates, [0.9999307], rtol=1e-6)
    np.testing.assert_allclose(optimizer.learning_rate, 0.9999307, rtol=1e-6)
    assert int(optimizer.count) == 1


def test_schedules_get_an_int32_array() -> None:
    seen = []

    def schedule(count: jax.Array) -> float:
        seen.append((count.dtype, count.shape))
        return 0.1

    pax.purecall(opax.scale_by_schedule(schedule)(jnp.ones(1)), jnp.ones(1))
    # Before the first step, for the first one to be checked, and in it.
    assert seen == [(np.dtype(np.int32), ())] * 3


def test_a_schedule_that_returns_a_float_keeps_the_rate_an_array() -> None:
    """KD-95: the attribute became static."""

    def constant(count: jax.Array) -> float:
        return 0.1

    optimizer = opax.scale_by_schedule(constant)(jnp.ones(1))
    new, _ = pax.purecall(optimizer, jnp.ones(1))
    for state in (optimizer, new):
        assert (state.learning_rate.dtype, state.learning_rate.weak_type) == (np.dtype(np.float32), False)


def test_x64_updates_are_scaled_in_float64() -> None:
    with x64():
        optimizer = opax.scale_by_schedule(lambda count: 0.1)(jnp.ones(1))
        _, updates = pax.purecall(optimizer, jnp.ones(1))
        assert updates.dtype == jnp.float64
        np.testing.assert_allclose(updates, [0.1], rtol=1e-12)


def test_a_schedule_has_to_be_a_function() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a schedule function[^$]*fix:   opax.scale\(0.1\)"):
        opax.scale_by_schedule(0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.25, 1, np.float64(0.25), np.array(1), np.int8(1), jnp.asarray(0.25, jnp.bfloat16)])
def test_schedules_return_any_kind_of_number(value: Any) -> None:
    """KD-95: the kind of the number became that of the attribute."""
    with jax.numpy_dtype_promotion("strict"):
        optimizer = opax.sgd(lambda count: value, momentum=0.0)(jnp.ones(1))
        updates, new = opax.transform_gradients(jnp.ones(1), optimizer, jnp.ones(1))
    for state in (optimizer, new):
        rate: Any = state.learning_rate
        assert (rate.dtype, rate.shape, rate.weak_type) == (np.dtype(np.float32), (), False)
        assert float(rate) == float(value)
    assert (updates.dtype, float(updates[0])) == (jnp.float32, float(value))


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (jnp.ones(2), r"float32\[2\]"),
        (np.ones((1, 1)), r"numpy float64\[1,1\]"),
        (None, "None"),
        ("0.1", "'0.1'"),
        (1j, "1j"),
        (jnp.asarray(1j), r"complex64\[\]"),
        (True, "True"),
        (jnp.asarray(True), r"bool\[\]"),
        ([0.1], "a list of 1"),
        (np.array(None), r"numpy object\[\]"),
    ],
)
def test_a_schedule_has_to_return_a_number(value: Any, got: str) -> None:
    """KD-95."""

    def schedule(count: jax.Array) -> Any:
        return value

    text = (
        rf"returns a number, a scalar.\n  where: %s, attribute `schedule_fn`\n  got:   {got} from `.*schedule\[value="
    )
    with pytest.raises(ArgumentError, match=text % "ScaleBySchedule"):
        opax.scale_by_schedule(schedule)(jnp.ones(1))
    with pytest.raises(ArgumentError, match=text % r"transforms\[1\].transforms\[1\] \(ScaleBySchedule\)"):
        opax.chain(opax.clip(1.0), opax.adam(schedule))({"w": jnp.ones(1)})


def test_schedules_may_mix_dtypes_and_ranks() -> None:
    def schedule(count: jax.Array) -> jax.Array:
        return jnp.sum(jnp.ones((2, 3)) * jnp.arange(3)) * count

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        optimizer = opax.sgd(schedule)(jnp.ones(1))
        _, optimizer = opax.transform_gradients(jnp.ones(1), optimizer, jnp.ones(1))
    assert float(optimizer.learning_rate) == 6.0


def test_a_schedule_that_becomes_nonsense_later_is_refused_then() -> None:
    def schedule(count: jax.Array) -> Any:
        return 0.1 if int(count) < 2 else None

    optimizer = opax.sgd(schedule)(jnp.ones(1))
    _, optimizer = opax.transform_gradients(jnp.ones(1), optimizer, jnp.ones(1))
    with pytest.raises(ArgumentError, match=r"where: transforms\[1\] \(ScaleBySchedule\), attribute `schedule_fn`"):
        opax.transform_gradients(jnp.ones(1), optimizer, jnp.ones(1))


def test_errors_of_schedules_are_passed_on() -> None:
    def schedule(count: jax.Array) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="^'mine'$"):
        opax.sgd(schedule)(jnp.ones(1))


@pytest.mark.parametrize(
    ("schedule", "got"),
    [
        (lambda count: float("nan"), "nan for step 1"),
        (lambda count: jnp.where(count == 1, jnp.nan, 1.0), "nan for step 1"),
        (lambda count: -0.5, "-0.5 for step 0"),
        (lambda count: -0.5 * count, "-0.5 for step 1"),
        (lambda count: -jnp.inf, "-inf for step 0"),
        (optax.linear_schedule(0.0, -1.0, 2), "-0.5 for step 1"),
    ],
)
@pytest.mark.parametrize("make", [opax.adam, opax.sgd, opax.adamw])
def test_a_learning_rate_is_not_negative_in_the_first_step(schedule: Any, got: str, make: Any) -> None:
    text = rf"returns no learning rate.\n  where: .*\(ScaleBySchedule\), attribute `schedule_fn`\n  got:   {got} from `"
    with pytest.raises(ArgumentError, match=text):
        make(schedule)(jnp.ones(1))


def test_only_learning_rates_have_a_sign() -> None:
    optimizer = opax.scale_by_schedule(lambda count: -0.5 * count)(jnp.ones(1))
    np.testing.assert_array_equal(pax.purecall(optimizer, jnp.ones(1))[1], [-0.5])
    np.testing.assert_array_equal(opax.scale(-2)(jnp.ones(1))(jnp.ones(1)), [-2.0])
    with pytest.raises(ArgumentError, match=r"The schedule returns no number.[^$]*got:   nan for step 1"):
        opax.scale_by_schedule(lambda count: jnp.nan)(jnp.ones(1))


@pytest.mark.parametrize("schedule", [lambda count: 0.5 / count, lambda count: 0.5 * count / count])
def test_step_0_is_never_taken_and_may_be_anything(schedule: Any) -> None:
    optimizer = opax.sgd(schedule)(jnp.ones(1))
    assert not np.isfinite(optimizer.learning_rate)
    _, optimizer = opax.transform_gradients(jnp.ones(1), optimizer, jnp.ones(1))
    assert float(optimizer.learning_rate) == 0.5


def test_optimizers_are_created_under_jit_without_a_check() -> None:
    optimizer = jax.jit(opax.sgd(lambda count: -0.5 * count))(jnp.ones(1))
    assert int(optimizer[-1].count) == 0
    shapes = jax.eval_shape(opax.sgd(optax.cosine_decay_schedule(0.1, 10)), jnp.ones(1))
    assert shapes[-1].learning_rate.dtype == jnp.float32


@pytest.mark.parametrize("make", [opax.adam, opax.sgd, opax.adamw])
@pytest.mark.parametrize("value", [-1, -1e-3, np.float32(-1), np.array(-1.0), jnp.asarray(-1.0), float("nan")])
def test_a_constant_learning_rate_is_not_negative(make: Any, value: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"`learning_rate` is out of range.\n  where: argument `learning_rate`\n  got:   learn"
    ):
        make(value)


@pytest.mark.parametrize("value", ["0.1", None, True, 1j, jnp.ones(2), np.ones(1)])
def test_a_learning_rate_is_a_number_or_a_function(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting a number for `learning_rate`.\n  where: argument"):
        opax.adam(value)


def test_a_module_is_no_learning_rate_and_no_schedule() -> None:
    with pytest.raises(
        ArgumentTypeError, match=r"Expecting a schedule function.\n[^$]*got:   a `Linear`\n[^$]*no module"
    ):
        opax.scale_by_schedule(Linear(2, 2))
    with pytest.raises(ArgumentTypeError, match=r"Expecting a learning rate.\n[^$]*hyper-parameters first"):
        opax.adam(Linear(2, 2))


def test_a_learning_rate_can_be_traced() -> None:
    @jax.jit
    def step(rate: jax.Array) -> Any:
        return opax.transform_gradients(jnp.ones(1), opax.sgd(rate, 0.0)(jnp.ones(1)), jnp.ones(1))[0]

    np.testing.assert_allclose([step(rate)[0] for rate in (0.1, -0.1)], [0.1, -0.1], rtol=1e-6)
    with pytest.raises(
        ArgumentTypeError, match=r"Expecting a number for `scale`.\n  where: scale\n  got:   float32\[2\]"
    ):
        jax.jit(lambda scale: opax.scale(scale)(jnp.ones(1))(jnp.ones(1)))(jnp.ones(2))


def test_a_numpy_scalar_is_a_constant() -> None:
    for value in (np.array(0.5), np.float32(0.5), 0.5):
        assert opax.scale(value) == opax.scale(0.5)
        assert opax.sgd(value) == opax.sgd(0.5)


def test_a_learning_rate_in_an_array_changes_without_a_second_trace() -> None:
    step = TraceCounter(lambda optimizer: opax.transform_gradients(jnp.ones(1), optimizer, jnp.ones(1)))
    for rate in (0.1, 0.5, 0.25):
        updates, optimizer = step(opax.sgd(jnp.array(rate), 0.0)(jnp.ones(1)))
        np.testing.assert_allclose([updates[0], optimizer.learning_rate], rate, rtol=1e-6)
        step(optimizer)
    assert step.traces == 1


def test_a_schedule_that_cannot_be_compiled_is_explained() -> None:
    optimizer = opax.sgd(lambda step: 0.1 if step < 100 else 0.01)(jnp.ones(1))
    with pytest.raises(ArgumentError, match="Expecting a schedule that can be compiled") as caught:
        jax.jit(lambda optimizer: opax.transform_gradients(jnp.ones(1), optimizer, jnp.ones(1)))(optimizer)
    assert "fix:   jnp.where(" in str(caught.value)


@pytest.mark.parametrize("make", [opax.sgd, opax.scale_by_schedule])
def test_a_function_that_makes_a_schedule_is_none(make: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="A schedule takes one argument") as caught:
        make(opax.schedule.cosine_decay)
    assert "fix:   cosine_decay(...)" in str(caught.value)


def test_an_optimizer_is_no_learning_rate() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a learning rate"):
        opax.sgd(cast(Any, opax.adam(0.1)))
