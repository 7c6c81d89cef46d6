"""``optimizer.learning_rate``, for logging."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
import pax
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, MutationError

PARAMS = {"a": jnp.ones(2), "b": jnp.ones(3)}
GRADS = jax.tree.map(lambda p: 0.5 * p, PARAMS)
RATE = opax.schedule.linear(1.0, 0.0, 4)
modes = pytest.mark.parametrize("options", [{}, {"strict": True}, {"flatten": True}, {"strict": False}])


class Own(opax.GradientTransformation):
    """A transformation of a user."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.learning_rate = jnp.asarray(0.25)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        return updates


class Wrapper(opax.GradientTransformation):
    """A transformation with another one inside."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.inner = opax.sgd(0.5)(params)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        return self.inner(updates, params)


@modes
@pytest.mark.parametrize(
    "factory",
    [
        opax.sgd(RATE),
        opax.adamw(RATE),
        opax.chain(opax.scale(3.0), opax.chain(opax.chain(opax.adam(RATE)), opax.clip(1.0)), opax.identity()),
        # As in `rmsprop`, momentum after the learning rate.
        opax.chain(opax.scale_by_schedule(RATE), opax.trace(0.9)),
        opax.chain(opax.sgd(0.5), opax.adam(optax.linear_schedule(1.0, 0.0, 4))),
    ],
)
def test_it_follows_the_schedule_in_every_mode(factory: Any, options: dict[str, Any]) -> None:
    optimizer = factory(PARAMS, **options)
    step = jax.jit(lambda optimizer: opax.transform_gradients(GRADS, optimizer, PARAMS)[1])
    found = [optimizer.learning_rate]
    for _ in range(5):
        optimizer = step(optimizer)
        found.append(optimizer.learning_rate)
    assert {(rate.dtype, rate.shape) for rate in found} == {(jnp.dtype(jnp.float32), ())}
    np.testing.assert_allclose(found, [1.0, 0.75, 0.5, 0.25, 0.0, 0.0], atol=1e-7)


@modes
def test_a_constant_is_the_number_itself(options: dict[str, Any]) -> None:
    optimizer = opax.adam(0.1)(PARAMS, **options)
    _, new = opax.transform_gradients(GRADS, optimizer, PARAMS)
    assert optimizer.learning_rate == new.learning_rate == 0.1
    rate = jnp.asarray(0.1)
    assert opax.adam(rate)(PARAMS, **options).learning_rate == rate


def test_the_last_one_counts() -> None:
    assert opax.chain(opax.sgd(0.1), opax.scale(0.5))(PARAMS).learning_rate == 0.5
    assert opax.chain(opax.scale(0.5), opax.sgd(0.1))(PARAMS).learning_rate == 0.1
    assert opax.scale(0.5)(PARAMS).learning_rate == 0.5


def test_transformations_of_users_may_have_one() -> None:
    assert float(opax.chain(opax.sgd(0.1), Own)(PARAMS).learning_rate) == 0.25
    assert opax.chain(Wrapper, opax.clip(1.0))(PARAMS).learning_rate == 0.5


def test_a_part_that_finds_none_is_passed_over() -> None:
    class Nothing(opax.GradientTransformation):
        @property
        def learning_rate(self) -> float:
            raise ArgumentError("there is none")

    assert opax.chain(opax.sgd(0.1), Nothing, opax.chain(), opax.clip(1.0))(PARAMS).learning_rate == 0.1


def test_it_is_read_under_jit_and_in_scan() -> None:
    def step(optimizer: Any, _: Any) -> Any:
        _, optimizer = opax.transform_gradients(GRADS, optimizer, PARAMS)
        return optimizer, optimizer.learning_rate

    _, rates = jax.lax.scan(step, opax.adam(RATE)(PARAMS), length=3)
    np.testing.assert_allclose(rates, [0.75, 0.5, 0.25])
    assert float(jax.jit(lambda optimizer: optimizer.learning_rate)(opax.adam(0.5)(PARAMS))) == 0.5


def test_of_several_optimizers_under_vmap() -> None:
    rates = jnp.array([0.1, 0.5])
    optimizers = jax.vmap(lambda rate: opax.sgd(rate)(PARAMS))(rates)
    np.testing.assert_array_equal(optimizers.learning_rate, rates)


@modes
@pytest.mark.parametrize("factory", [opax.chain(), opax.chain(opax.clip(1.0), opax.chain(opax.scale_by_adam()))])
def test_without_one_it_is_an_error(factory: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="The optimizer has no learning rate") as caught:
        factory(PARAMS, **options).learning_rate  # noqa: B018
    assert "where: Chain, attribute `learning_rate`" in str(caught.value)
    assert "fix:   optimizer[i].learning_rate" in str(caught.value)
    assert len(factory(PARAMS)) == 0 or "clip.<locals>.Clip, chain.<locals>.Chain" in str(caught.value)


@modes
@pytest.mark.parametrize(
    "factory", [opax.adam, lambda rate: opax.chain(opax.clip(1.0), opax.multi_steps(opax.sgd(rate), 2))]
)
def test_it_can_be_replaced_where_it_is_constant(factory: Any, options: dict[str, Any]) -> None:
    optimizer = factory(0.1)(PARAMS, **options)
    new = optimizer.replace(learning_rate=0.5)
    assert (optimizer.learning_rate, new.learning_rate) == (0.1, 0.5)
    pax.assert_structure_equal(new, factory(0.5)(PARAMS, **options))


def test_replacing_an_array_compiles_nothing_anew() -> None:
    optimizer = opax.sgd(jnp.asarray(0.1), momentum=0.0)(PARAMS)
    step = TraceCounter(lambda optimizer: opax.transform_gradients(GRADS, optimizer, PARAMS))
    updates, _ = step(optimizer)
    twice, _ = step(optimizer.replace(learning_rate=0.2))
    assert step.traces == 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(2 * a, b, rtol=1e-6), updates, twice)


def test_a_learning_rate_that_is_computed_cannot_be_replaced() -> None:
    optimizer = opax.adam(opax.schedule.linear(1.0, 0.0, 4))(PARAMS)
    with pytest.raises(ArgumentError, match="This learning rate is no constant") as caught:
        optimizer.replace(learning_rate=0.5)
    assert "scale_by_schedule.<locals>.ScaleBySchedule, which computes it" in str(caught.value)
    with pytest.raises(ArgumentError, match="`learning_rate` is out of range"):
        opax.adam(0.1)(PARAMS).replace(learning_rate=-0.5)


def test_it_cannot_be_assigned_from_outside() -> None:
    optimizer = opax.adam(0.1)(PARAMS)
    with pytest.raises(MutationError):
        optimizer.learning_rate = 0.5
    assert optimizer.learning_rate == 0.1
