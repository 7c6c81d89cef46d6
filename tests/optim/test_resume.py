"""An optimizer that was saved and loaded continues as if nothing had happened, bit for bit."""

import functools
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
from helpers.treedefs import treedef
from optim.trajectories import CASES
from optim.trajectory import Trajectory, gradients, start
from pax.errors import ArgumentTypeError

BEFORE, AFTER = 5, 5

ALL = pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])


def by_pickle(optimizer: Any, factory: Any) -> Any:
    return pickle.loads(pickle.dumps(optimizer))


def by_cloudpickle(optimizer: Any, factory: Any) -> Any:
    return cloudpickle.loads(cloudpickle.dumps(optimizer))


def by_state_dict(optimizer: Any, factory: Any) -> Any:
    # As in a file: NumPy arrays, and nothing else of JAX.
    saved = pickle.dumps(jax.tree.map(np.asarray, optimizer.state_dict()))
    return factory(start()).load_state_dict(pickle.loads(saved))


def one_step() -> tuple[Callable[..., Any], list[int]]:
    """Returns a compiled train step, and a list of which each trace makes one item."""
    traces: list[int] = []

    @jax.jit
    def advance(params: Any, optimizer: Any, number: jax.Array) -> Any:
        traces.append(1)
        updates, optimizer = opax.transform_gradients(gradients(params, number), optimizer, params)
        return opax.apply_updates(params, updates), optimizer

    return advance, traces


def can_be_pickled(optimizer: Any) -> bool:
    try:
        pickle.dumps(optimizer)
    except ArgumentTypeError as error:
        if error.headline != "Cannot pickle a function that another function made.":
            raise
        return False
    return True


def assert_same(runs: list[Any]) -> None:
    for run in runs[1:]:
        assert treedef(run) == treedef(runs[0])
        jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), run, runs[0])


@ALL
def test_it_goes_on_as_without_the_break(case: Trajectory) -> None:
    advance, traces = one_step()
    factory = case.ours()
    params, optimizer = start(), factory(start())
    for number in range(BEFORE):
        params, optimizer = advance(params, optimizer, jnp.asarray(number))
    ways = [by_cloudpickle, by_state_dict] + ([by_pickle] if can_be_pickled(optimizer) else [])
    runs = [(params, optimizer)] + [(params, way(optimizer, factory)) for way in ways]
    assert_same(runs)
    for number in range(BEFORE, BEFORE + AFTER):
        runs = [advance(*run, jnp.asarray(number)) for run in runs]
    assert_same(runs)
    assert len(traces) == 1, "what was loaded is another optimizer to jax.jit"


def test_every_kind_can_be_pickled() -> None:
    """One of optax that is built already holds functions made by others, which cloudpickle alone can pickle."""
    can = {case.id: can_be_pickled(case.ours()(start())) for case in CASES}
    assert {case.of for case in CASES} == {case.of for case in CASES if can[case.id]}


@pytest.mark.parametrize("options", [{"flatten": True}, {"strict": False}], ids=str)
@pytest.mark.parametrize("way", [by_pickle, by_cloudpickle])
def test_flat_chains(options: dict[str, Any], way: Callable[..., Any]) -> None:
    advance, traces = one_step()
    inner = opax.chain(opax.multi_steps(opax.adamw(0.1), 2), opax.params_ema(0.9))
    params, optimizer = start(), opax.chain(inner)(start(), **options)
    for number in range(BEFORE):
        params, optimizer = advance(params, optimizer, jnp.asarray(number))
    runs = [(params, optimizer), (params, way(optimizer, None))]
    for number in range(BEFORE, BEFORE + AFTER):
        runs = [advance(*run, jnp.asarray(number)) for run in runs]
    assert_same(runs)
    assert len(traces) == 1
