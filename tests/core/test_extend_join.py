"""Modules that join a session when they become part of a module that may change; and what is frozen."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Net
from pax.errors import MutationError
from pax.extend import frozen_paths, is_mutable, join_session


@pax.pure
def _grow(holder: Any, value: Any) -> Any:
    holder.new = join_session(holder, value)
    return holder


def test_a_module_that_joins_may_change_at_once() -> None:
    @pax.pure
    def grow(holder: Any) -> Any:
        holder.new = join_session(holder, Counter())
        holder.new.count = jnp.array(3)
        return holder

    assert grow(Holder(values=[])).new.count == 3


def test_without_it_the_module_may_not_change() -> None:
    @pax.pure
    def grow(holder: Any) -> None:
        holder.new = Counter()
        holder.new.count = jnp.array(3)

    with pytest.raises(MutationError):
        grow(Holder(values=[]))


def test_all_modules_of_a_tree_join() -> None:
    found = []

    @pax.pure
    def grow(holder: Any) -> Any:
        holder.new = join_session(holder, {"nets": [Net(), Net()], "array": jnp.ones(2), "text": "a"})
        found.append([is_mutable(module) for module in pax.extend.modules_in(holder.new)])
        return holder

    grown = grow(Holder(values=[]))
    assert len(found[0]) > 2
    assert all(found[0])
    assert grown.new["text"] == "a"


def test_it_is_a_copy_that_joins() -> None:
    """Who holds the module that was passed in must not see it change."""
    counter = Counter()

    @pax.pure
    def grow(holder: Any) -> Any:
        holder.new = join_session(holder, counter)
        holder.new.count = jnp.array(3)
        return holder

    assert grow(Holder(values=[])).new.count == 3
    assert counter.count == 0
    assert _grow(Holder(values=[]), counter).new == counter


def test_nothing_joins_an_immutable_module() -> None:
    holder = Holder(values=[])
    joined = join_session(holder, Counter())
    assert not is_mutable(joined)
    found = []

    @pax.pure
    def other(_: Any) -> None:
        found.append(is_mutable(join_session(holder, Counter())))

    other(Counter())
    assert found == [False]


def test_what_joined_is_immutable_afterwards_and_a_pytree() -> None:
    grown = _grow(Holder(values=[]), Counter())
    assert len(jax.tree.leaves(grown)) == 1
    with pytest.raises(MutationError):
        grown.new.count = jnp.array(3)


def test_the_paths_of_own_frozen_arrays() -> None:
    net = Net()
    assert frozen_paths(pax.freeze_parameters(net, "encoder/weight").encoder) == ("weight",)
    assert frozen_paths(pax.freeze_parameters(net, "encoder/weight")) == ()
    assert frozen_paths(net) == ()
    assert frozen_paths(pax.freeze_parameters(net)) is True
    assert frozen_paths(pax.unfreeze_parameters(pax.freeze_parameters(net))) == ()
