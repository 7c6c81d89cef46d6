"""opax.scale_by_rms, opax.scale_by_stddev and opax.rmsprop."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.compilations import count_compilations
from helpers.modules import Linear
from helpers.traces import TraceCounter
from pax.errors import ArgumentError, ArgumentTypeError, StructureError

BOTH = pytest.mark.parametrize("factory", [opax.scale_by_rms, opax.scale_by_stddev])


@pytest.mark.parametrize(("factory", "want"), [(opax.scale_by_rms, 3.1622777), (opax.scale_by_stddev, 3.3333333)])
def test_reference_values(factory: Any, want: float) -> None:
    _, updates = pax.purecall(factory(0.9, 1e-8, 0)(jnp.zeros(1)), jnp.array([2.0]))
    np.testing.assert_allclose(updates, [want], rtol=1e-6)


def test_the_means_are_the_state() -> None:
    optimizer = opax.scale_by_stddev(0.75, initial_scale=4.0)({"w": jnp.zeros(1)})
    assert optimizer.pytree_attributes == ("mu", "nu")
    np.testing.assert_array_equal([optimizer.mu["w"], optimizer.nu["w"]], [[0.0], [4.0]])
    optimizer, _ = pax.purecall(optimizer, {"w": jnp.array([2.0])})
    np.testing.assert_array_equal([optimizer.mu["w"], optimizer.nu["w"]], [[0.5], [4.0]])

    rms = opax.scale_by_rms(0.75, initial_scale=8.0)({"w": jnp.zeros(1)})
    assert rms.pytree_attributes == ("nu",)
    rms, updates = pax.purecall(rms, {"w": jnp.array([2.0])})
    np.testing.assert_array_equal(rms.nu["w"], [7.0])
    np.testing.assert_allclose(updates["w"], [2 / np.sqrt(7)], rtol=1e-6)


@BOTH
def test_creating_the_state_compiles_nothing(factory: Any) -> None:
    params = [jnp.ones((7, 11, size)) for size in range(1, 6)]
    with count_compilations() as compilations:
        optimizer = factory(initial_scale=0.5)(params)
        assert compilations() == 0
    for nu, param in zip(optimizer.nu, params, strict=True):
        np.testing.assert_array_equal(nu, np.full(param.shape, 0.5, np.float32), strict=True)


def test_a_variance_that_is_rounded_below_zero_is_zero() -> None:
    # As it happens in float32 with gradients that hardly change.
    optimizer = opax.scale_by_stddev(eps=1e-8)(jnp.zeros(1)).replace(mu=jnp.array([11.0]), nu=jnp.array([120.9999]))
    optimizer, updates = pax.purecall(optimizer, jnp.array([11.0]))
    assert float(optimizer.nu[0] - optimizer.mu[0] ** 2) < -1e-8
    np.testing.assert_allclose(updates, [11.0 / 1e-4], rtol=1e-5)


def test_a_nan_stays_one() -> None:
    _, updates = pax.purecall(opax.scale_by_stddev()(jnp.zeros(2)), jnp.array([jnp.nan, 1.0]))
    np.testing.assert_array_equal(np.isnan(updates), [True, False])


@BOTH
def test_complex_updates_are_divided_by_real_numbers(factory: Any) -> None:
    grads = jnp.array([3 + 4j])
    optimizer = factory(0.75)(grads)
    assert optimizer.nu.dtype == jnp.complex64
    optimizer, updates = pax.purecall(optimizer, grads)
    np.testing.assert_allclose(optimizer.nu, [25 / 4], rtol=1e-6)
    want = grads / np.sqrt(25 / 4 if factory is opax.scale_by_rms else 25 / 4 - 25 / 16)
    np.testing.assert_allclose(updates, want, rtol=1e-6)
    assert updates.dtype == jnp.complex64


@BOTH
def test_updates_of_another_structure_are_refused(factory: Any) -> None:
    with pytest.raises(StructureError, match="The updates and the optimizer's state have different structures"):
        pax.purecall(factory()([jnp.ones(1)]), (jnp.ones(1),))


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({}, ["scale_by_rms.<locals>.ScaleByRms", "scale.<locals>.Scale", "identity.<locals>.Identity"]),
        (
            {"centered": True, "momentum": 0.5},
            ["scale_by_stddev.<locals>.ScaleByStddev", "scale.<locals>.Scale", "trace.<locals>.Trace"],
        ),
        ({"momentum": 0.0}, ["scale_by_rms.<locals>.ScaleByRms", "scale.<locals>.Scale", "trace.<locals>.Trace"]),
        (
            {"learning_rate": lambda step: 0.1},
            [
                "scale_by_rms.<locals>.ScaleByRms",
                "scale_by_schedule.<locals>.ScaleBySchedule",
                "identity.<locals>.Identity",
            ],
        ),
    ],
)
def test_rmsprop_is_a_chain_of_three(options: Any, want: list[str]) -> None:
    assert [repr(step) for step in opax.rmsprop(**options)(jnp.ones(1))[:]] == want


def test_the_state_of_a_module_is_a_module_of_its_class() -> None:
    optimizer = opax.rmsprop(centered=True)(Linear(2, 3).parameters())
    assert isinstance(optimizer[0].mu, Linear)
    assert isinstance(optimizer[0].nu, Linear)


def test_reference_value_of_rmsprop() -> None:
    _, updates = pax.purecall(opax.rmsprop(1.0, momentum=0.5)(jnp.zeros(1)), jnp.ones(1))
    np.testing.assert_allclose(updates, [3.1622775], rtol=1e-6)


def test_momentum_follows_the_learning_rate() -> None:
    # The rate falls to 0 after the first step: what remains is the momentum of that step.
    def rate(step: Any) -> Any:
        return jnp.where(step == 1, 1.0, 0.0)

    optimizer = opax.rmsprop(rate, momentum=0.5)(jnp.zeros(1))
    optimizer, first = pax.purecall(optimizer, jnp.ones(1))
    optimizer, second = pax.purecall(optimizer, jnp.ones(1))
    np.testing.assert_allclose([first, second], [[3.1622775], [1.5811387]], rtol=1e-6)


def test_one_trace_for_all_steps() -> None:
    params = {"w": jnp.asarray(1.0), "b": 1.0 * jnp.ones(2)}  # weakly typed parameters must not make weak state
    assert params["w"].weak_type
    grads = {"w": jnp.ones(()), "b": jnp.ones(2)}
    step = TraceCounter(lambda optimizer: opax.transform_gradients(grads, optimizer, params)[1])
    for factory in (opax.rmsprop(0.1, centered=True, momentum=0.9), opax.rmsprop(0.1, centered=True, momentum=0.9)):
        optimizer = factory(params)
        for _ in range(2):
            optimizer = step(optimizer)
    assert step.traces == 1


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"decay_rate": 1.0}, ArgumentError, "`decay_rate` is out of range.\n  where: scale_by_rms\n"),
        ({"decay_rate": -0.1, "centered": True}, ArgumentError, "`decay_rate` is out of range.\n  where: scale_by_std"),
        ({"eps": -1.0}, ArgumentError, "`eps` is out of range."),
        ({"initial_scale": -1.0}, ArgumentError, "`initial_scale` is out of range."),
        ({"momentum": -1.0}, ArgumentError, "`decay_rate` is out of range.\n  where: trace"),
        ({"centered": 0.9}, ArgumentTypeError, "Expecting a boolean for `centered`.\n  where: rmsprop\n  got:   0.9"),
        ({"state_dtype": jnp.int32}, ArgumentTypeError, "Expecting a floating-point dtype for `state_dtype`."),
    ],
)
def test_arguments_are_checked(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        opax.rmsprop(**options)
    assert str(caught.value).startswith(text)
