"""The trace state: where it is found on each version of JAX, what it tells, and what happens without it."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from pax._jax_compat import _find_trace_state, is_tracer, trace_state

_HOMES = ("jax.extend.core", "jax.core", "jax._src.core")


def _hide(monkeypatch: pytest.MonkeyPatch, *homes: str) -> None:
    for home in homes:
        # Not by `delattr`: where the name is deprecated, looking at it is a warning.
        monkeypatch.setitem(vars(importlib.import_module(home)), "get_opaque_trace_state", None)


def test_the_state_is_the_same_until_a_transformation_is_entered() -> None:
    outside = trace_state()
    inside: list[Any] = []
    jax.jit(lambda: inside.extend([trace_state(), trace_state()]))()
    assert trace_state() == outside
    assert inside[0] == inside[1]
    assert inside[0] != outside


def test_nested_transformations_have_states_of_their_own() -> None:
    states: list[Any] = []

    def note(x: jax.Array) -> jax.Array:
        states.append(trace_state())
        return x

    note(jnp.ones(2))
    jax.jit(lambda x: jax.vmap(note)(note(x)))(jnp.ones(2))
    assert len(states) == 3
    assert all(a != b for index, a in enumerate(states) for b in states[:index])


def test_a_state_without_the_newest_home_is_found_in_an_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "jax.extend.core", "jax.core")
    state = _find_trace_state()
    outside = state()
    inside: list[Any] = []
    jax.jit(lambda: inside.append(state()))()
    assert state() == outside
    assert inside[0] != outside


def test_without_any_home_there_is_a_warning_and_one_state_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, *_HOMES)
    with pytest.warns(RuntimeWarning, match="offers no trace state: PAX checks the purity of modules per thread only"):
        state = _find_trace_state()
    inside: list[Any] = []
    jax.jit(lambda: inside.append(state()))()
    assert inside == [state()]


def test_arguments_of_a_transformed_function_are_tracers() -> None:
    found: list[bool] = []
    jax.jit(lambda x: found.append(is_tracer(x)))(jnp.ones(1))
    assert found == [True]


@pytest.mark.parametrize("value", [jnp.ones(1), jax.random.key(0), 3, None], ids=["array", "key", "int", "None"])
def test_concrete_values_are_no_tracers(value: Any) -> None:
    assert not is_tracer(value)
