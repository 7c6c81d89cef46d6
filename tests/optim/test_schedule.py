"""opax.schedule."""

import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opax
from helpers.precision import x64
from helpers.traces import TraceCounter
from opax import schedule
from opax.schedule import exponential_decay
from pax.errors import ArgumentError, ArgumentTypeError

STEPS = np.arange(130)


def half(step: Any) -> Any:
    return 0.5 * step


# What opax makes, and what optax has of the same kind.
CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]] = {
    "constant": (lambda: schedule.constant(0.3), lambda: optax.constant_schedule(0.3)),
    "linear": (lambda: schedule.linear(0.1, 0.01, 100), lambda: optax.linear_schedule(0.1, 0.01, 100)),
    "polynomial": (
        lambda: schedule.polynomial(0.1, 0.01, 3, 100),
        lambda: optax.polynomial_schedule(0.1, 0.01, 3, 100),
    ),
    "cosine_decay": (
        lambda: schedule.cosine_decay(0.1, 100, 0.02, 2.0),
        lambda: optax.cosine_decay_schedule(0.1, 100, 0.2, 2.0),
    ),
    "exponential_decay": (
        lambda: exponential_decay(1.0, 10, 3.0, 0.2),
        lambda: optax.exponential_decay(1.0, 10, 1 / 3, end_value=0.2),
    ),
    "warmup_cosine_decay": (
        lambda: schedule.warmup_cosine_decay(0.1, 10, 100, 0.001, 0.01, 2.0),
        lambda: optax.warmup_cosine_decay_schedule(0.001, 0.1, 10, 100, 0.01, 2.0),
    ),
    "warmup_linear_decay": (
        lambda: schedule.warmup_linear_decay(0.1, 10, 100, 0.001, 0.01),
        lambda: optax.join_schedules(
            [optax.linear_schedule(0.001, 0.1, 10), optax.linear_schedule(0.1, 0.01, 90)], [10]
        ),
    ),
    "inverse_sqrt": (
        lambda: schedule.inverse_sqrt(0.1, 16),
        lambda: lambda step: 0.1 * min(step / 16, 4 / max(step, 1) ** 0.5),  # optax has none
    ),
    "one_cycle": (lambda: schedule.one_cycle(0.1, 100), lambda: optax.cosine_onecycle_schedule(100, 0.1)),
    "piecewise_constant": (
        lambda: schedule.piecewise_constant([1.0, 0.5, 0.125], [10, 50]),
        lambda: optax.piecewise_constant_schedule(1.0, {10: 0.5, 50: 0.25}),
    ),
    "join": (
        lambda: schedule.join([half, schedule.linear(0.5, 0.0, 20), optax.constant_schedule(0.1)], [10, 60]),
        lambda: optax.join_schedules(
            [half, optax.linear_schedule(0.5, 0.0, 20), optax.constant_schedule(0.1)], [10, 60]
        ),
    ),
}
every_schedule = pytest.mark.parametrize("name", CASES)


def test_every_public_schedule_is_tested() -> None:
    assert set(CASES) | {"ScheduleFn", "ScheduleOrFloat"} == set(schedule.__all__)


@every_schedule
def test_the_values_are_those_of_optax(name: str) -> None:
    ours, theirs = CASES[name]
    assert theirs is not None
    want = np.array([float(theirs()(int(step))) for step in STEPS])
    np.testing.assert_allclose(ours()(STEPS), want, rtol=1e-5, atol=1e-7 * np.abs(want).max())


@every_schedule
def test_all_kinds_and_shapes_of_numbers_are_steps(name: str) -> None:
    rate = CASES[name][0]()
    want = rate(STEPS)
    assert (want.dtype, want.shape, want.weak_type) == (jnp.float32, STEPS.shape, False)
    for kind in (int, float, np.int32, np.int64, np.float32, jnp.int32, jnp.float32, lambda x: jnp.asarray(int(x))):
        for step in (0, 7, 10, 129):
            value = rate(kind(step))
            assert (value.dtype, value.shape, value.weak_type) == (jnp.float32, (), False)
            np.testing.assert_allclose(value, want[step], rtol=1e-5, atol=1e-8)
    for steps in (STEPS.reshape(2, 5, 13), jnp.asarray(STEPS, jnp.int32), STEPS.astype(np.float32), STEPS[:0]):
        np.testing.assert_allclose(rate(steps), want[: steps.size].reshape(steps.shape), rtol=1e-5, atol=1e-8)


@every_schedule
def test_it_works_under_jit_and_strict_promotion_and_in_float64(name: str) -> None:
    rate = CASES[name][0]()
    want = rate(STEPS)
    with jax.numpy_dtype_promotion("strict"):
        np.testing.assert_allclose(jax.jit(rate)(jnp.asarray(STEPS)), want, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(jax.vmap(rate)(jnp.asarray(STEPS)), want, rtol=1e-5, atol=1e-8)
    with x64():
        wide = rate(STEPS)
        assert wide.dtype == jnp.float64
        np.testing.assert_allclose(wide, want, rtol=1e-5, atol=1e-7)


@every_schedule
def test_equal_schedules_are_equal_and_picklable(name: str) -> None:
    make = CASES[name][0]
    found = make()
    assert len({found, make(), make()}) == 1
    if name == "join":  # it holds a closure of optax
        assert cloudpickle.loads(cloudpickle.dumps(found)) == found
        assert pickle.loads(pickle.dumps(schedule.join([half, found.schedules[1]], [3])))(2) == 1.0
    else:
        again = pickle.loads(pickle.dumps(found))
        assert again == found
        assert hash(again) == hash(found)
    assert found not in [CASES[other][0]() for other in CASES if other != name]
    assert name == "join" or "0x" not in repr(found)


@every_schedule
def test_three_optimizers_are_one_trace(name: str) -> None:
    params = {"w": jnp.ones(2)}
    step = TraceCounter(lambda optimizer: opax.transform_gradients(params, optimizer, params))
    rates = []
    for _ in range(3):
        optimizer = opax.sgd(CASES[name][0](), 0.0)(params)
        for _ in range(2):
            updates, optimizer = step(optimizer)
            rates.append(float(updates["w"][0]))
    assert step.traces == 1
    np.testing.assert_allclose(rates, list(CASES[name][0]()(STEPS[1:3])) * 3, rtol=1e-5)


def test_integers_and_floats_are_the_same_argument() -> None:
    assert schedule.cosine_decay(1, 100) == schedule.cosine_decay(np.float32(1.0), 100.0)  # type: ignore[arg-type]
    assert schedule.piecewise_constant([1, 0], [3]) == schedule.piecewise_constant((1.0, 0.0), np.array([3]))  # type: ignore[arg-type]
    assert schedule.cosine_decay(1.0, 100) != schedule.cosine_decay(1.0, 101)


_value = st.floats(-4, 4, width=32)
_length = st.integers(1, 50)


@settings(max_examples=25, deadline=None)
@given(_value, _value, _length, st.sampled_from([0.5, 1.0, 3.0]))
def test_one_piece_goes_from_one_end_to_the_other_and_stays(
    first: float, last: float, steps: int, power: float
) -> None:
    for rate in (
        schedule.linear(first, last, steps),
        schedule.polynomial(first, last, power, steps),
        schedule.cosine_decay(first, steps, last, power),
    ):
        values = np.asarray(rate(np.arange(54)))
        np.testing.assert_allclose(values[0], first, atol=1e-5)
        np.testing.assert_allclose(values[steps:], last, atol=1e-5)
        moves = np.diff(values) * np.sign(last - first)
        assert np.all(moves >= -1e-5), "it goes one way only"
        np.testing.assert_array_less(np.abs(values), max(abs(first), abs(last)) + 1e-4)


@settings(max_examples=25, deadline=None)
@given(_value, _value, _value, st.integers(1, 20), st.integers(1, 50))
def test_joined_pieces_meet(first: float, peak: float, last: float, warmup: int, rest: int) -> None:
    steps = warmup + rest
    for rate in (
        schedule.warmup_cosine_decay(peak, warmup, steps, first, last),
        schedule.warmup_linear_decay(peak, warmup, steps, first, last),
        schedule.one_cycle(peak, steps, warmup, first, last),
    ):
        np.testing.assert_allclose(rate(np.array([0, warmup, steps, steps + 9])), [first, peak, last, last], atol=1e-5)
        # No jump: a thousandth of a step changes little.
        near = np.asarray(rate(np.asarray([warmup - 1e-3, warmup, warmup + 1e-3], np.float32)))
        assert np.all(np.abs(np.diff(near)) < 0.05)
    if warmup:
        rate = schedule.inverse_sqrt(peak, warmup, first)
        np.testing.assert_allclose(rate(np.array([0, warmup, 4 * warmup])), [first, peak, peak / 2], atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(_value, min_size=1, max_size=5), st.data())
def test_stairs_have_exactly_their_values(values: list[float], data: st.DataObject) -> None:
    size = len(values) - 1
    boundaries = sorted(data.draw(st.lists(st.integers(1, 60), min_size=size, max_size=size, unique=True)))
    steps = np.arange(70)
    want = np.asarray(values, np.float32)[np.searchsorted(boundaries, steps, side="right")]
    np.testing.assert_array_equal(schedule.piecewise_constant(values, boundaries)(steps), want)


def test_before_step_0_is_as_at_step_0() -> None:
    for name in ("constant", "linear", "polynomial", "cosine_decay", "warmup_cosine_decay", "one_cycle"):
        rate = CASES[name][0]()
        np.testing.assert_allclose(rate(-5), rate(0), rtol=1e-6)


def test_no_warm_up_is_the_decay_alone() -> None:
    assert schedule.warmup_cosine_decay(0.1, 0, 10) == schedule.cosine_decay(0.1, 10)
    assert schedule.warmup_linear_decay(0.1, 0, 10) == schedule.linear(0.1, 0.0, 10)


def test_a_short_cycle_rises_nonetheless() -> None:
    np.testing.assert_allclose(schedule.one_cycle(1.0, 2, initial_value=0.0)(0.6), 1.0, rtol=1e-6)


@pytest.mark.parametrize(("step", "want"), [(0, 1.0), (1, 0.9330330), (10, 0.5), (20, 0.25)])
@pytest.mark.parametrize("kind", [int, float, np.int32, jnp.int32])
def test_reference_values_for_all_kinds_of_numbers(step: int, want: float, kind: type) -> None:
    """KD-95: it took arrays only."""
    np.testing.assert_allclose(exponential_decay(1.0, 10)(kind(step)), want, rtol=1e-6)


def test_the_minimum_limits_from_below() -> None:
    """KD-92: it was given to ``jnp.clip`` by a name that is gone."""
    assert float(exponential_decay(1.0, 10, min_value=0.3)(20)) == pytest.approx(0.3)
    assert float(exponential_decay(1.0, 10, min_value=0.3)(10)) == pytest.approx(0.5)


def test_a_factor_below_one_grows() -> None:
    assert float(exponential_decay(1.0, 10, reduce_factor=0.5)(10)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: exponential_decay(1.0, 0), "step_size"),
        (lambda: exponential_decay(1.0, 1, reduce_factor=-1.0), "reduce_factor"),
        (lambda: schedule.linear(1.0, 0.0, 0), "steps"),
        (lambda: schedule.linear(float("nan"), 0.0, 1), "initial_value"),
        (lambda: schedule.polynomial(1.0, 0.0, 0, 10), "power"),
        (lambda: schedule.cosine_decay(1.0, -1), "steps"),
        (lambda: schedule.cosine_decay(1.0, 1, exponent=0.0), "exponent"),
        (lambda: schedule.warmup_cosine_decay(1.0, -1, 10), "warmup_steps"),
        (lambda: schedule.warmup_linear_decay(1.0, -1, 10), "warmup_steps"),
        (lambda: schedule.inverse_sqrt(1.0, 0), "warmup_steps"),
        (lambda: schedule.one_cycle(1.0, 0), "steps"),
        (lambda: schedule.one_cycle(1.0, 10, 0), "warmup_steps"),
        (lambda: schedule.piecewise_constant([1.0, 0.5], [0]), r"boundaries\[0\]"),
        (lambda: schedule.join([half, half], [-3]), r"boundaries\[0\]"),
    ],
)
def test_arguments_have_ranges(make: Any, argument: str) -> None:
    with pytest.raises(ArgumentError, match=rf"`{argument}` is out of range.\n  where: \w+\n"):
        make()


@pytest.mark.parametrize(
    ("make", "argument", "where"),
    [
        (lambda value: exponential_decay(value, 1.0), "initial_value", "exponential_decay"),
        (lambda value: schedule.constant(value), "value", "constant"),
        (lambda value: schedule.linear(0.1, value, 3), "end_value", "linear"),
        (lambda value: schedule.polynomial(value, 0.1, 2, 3), "initial_value", "polynomial"),
        (lambda value: schedule.cosine_decay(value, 3), "initial_value", "cosine_decay"),
        (lambda value: schedule.warmup_cosine_decay(value, 1, 3), "peak_value", "warmup_cosine_decay"),
        (lambda value: schedule.warmup_cosine_decay(0.1, 1, 3, value), "initial_value", "warmup_cosine_decay"),
        (lambda value: schedule.warmup_linear_decay(0.1, 1, 3, end_value=value), "end_value", "warmup_linear_decay"),
        (lambda value: schedule.inverse_sqrt(value, 1), "peak_value", "inverse_sqrt"),
        (lambda value: schedule.one_cycle(value, 3), "peak_value", "one_cycle"),
        (lambda value: schedule.piecewise_constant([value], []), r"values\[0\]", "piecewise_constant"),
    ],
)
@pytest.mark.parametrize("value", [None, "0.1", True, 1j, jnp.ones(2)], ids=str)
def test_arguments_are_numbers(make: Any, argument: str, where: str, value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=rf"Expecting a number for `{argument}`.\n  where: {where}\n"):
        make(value)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: schedule.warmup_cosine_decay(0.1, 10, 10), "got:   warmup_steps=10, steps=10"),
        (lambda: schedule.warmup_linear_decay(0.1, 10, 9), "fix:   steps=10 + the number of steps after the warm-up"),
        (lambda: schedule.one_cycle(0.1, 10, 11), "The warm-up is not shorter than the whole schedule."),
        (lambda: schedule.piecewise_constant([1.0, 0.5], []), "got:   2 values, 0 boundaries"),
        (lambda: schedule.piecewise_constant([1.0, 0.5], [1, 2]), "got:   2 values, 2 boundaries"),
        (lambda: schedule.piecewise_constant([1.0, 0.5, 0.1], [2, 1]), "`boundaries` do not rise."),
        (lambda: schedule.piecewise_constant([], []), "Expecting a list for `values`."),
        (lambda: schedule.piecewise_constant(0.1, []), "Expecting a list for `values`."),  # type: ignore[arg-type]
        (lambda: schedule.piecewise_constant([0.1], None), "Expecting a list for `boundaries`."),  # type: ignore[arg-type]
        (lambda: schedule.join([half, 0.1], [1]), "fix:   opax.schedule.constant(0.1)"),  # type: ignore[list-item]
        (lambda: schedule.join(half, [1]), "Expecting a list for `schedules`."),  # type: ignore[arg-type]
        (lambda: schedule.join([half, half], [1, 2]), "got:   2 schedules, 2 boundaries"),
        (lambda: schedule.join("ab", [1]), "Expecting a list for `schedules`."),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_is_refused(make: Any, text: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError)) as caught:
        make()
    assert text in str(caught.value)
