"""What libraries on top of PAX build on: sessions of their own, and questions about modules."""

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net
from pax.errors import MutationError
from pax.extend import is_mutable, modules_in, mutation_session


def test_modules_of_a_session_may_change_inside_the_block_only() -> None:
    counter = Counter().copy()
    with mutation_session([counter]):
        counter.count = jnp.array(3)
    assert counter.count == 3
    with pytest.raises(MutationError):
        counter.count = jnp.array(4)


def test_submodules_are_not_included() -> None:
    net = Net().copy()
    with mutation_session([net]), pytest.raises(MutationError, match=r"where: counter \(Counter\), attribute `count`"):
        net.counter.count = jnp.array(3)


def test_a_module_can_be_added_to_a_session() -> None:
    counter, more = Counter().copy(), Counter().copy()
    with mutation_session([counter]) as session:
        session.add(more)
        more.count = jnp.array(3)
    assert more.count == 3


def test_attributes_are_classified_when_the_session_ends() -> None:
    holder = Holder(values=[]).copy()
    with mutation_session([holder]):
        holder.values.append(jnp.ones(1))
        holder.new = jnp.ones(2)
    assert len(jax.tree.leaves(holder)) == 2


def test_a_session_ends_with_an_error_too() -> None:
    counter = Counter().copy()
    with pytest.raises(RuntimeError, match="mine"), mutation_session([counter]):
        raise RuntimeError("mine")
    assert not is_mutable(counter)


def test_a_module_is_mutable_in_its_session_and_under_its_trace_only() -> None:
    counter = Counter().copy()
    found = [is_mutable(counter)]
    with mutation_session([counter]):
        found.append(is_mutable(counter))
        jax.jit(lambda: found.append(is_mutable(counter)))()
    assert found == [False, True, False]


def test_an_argument_of_a_pure_function_is_mutable() -> None:
    assert pax.pure(is_mutable)(Counter())


def test_modules_of_a_tree_are_listed_parents_first() -> None:
    inner = Linear()
    outer = Holder(layers=[inner, 3])
    other = Counter()
    assert modules_in({"a": outer, "b": (1, other)}) == [outer, inner, other]


def test_a_tree_without_modules_has_none() -> None:
    assert modules_in({"a": jnp.ones(1)}) == []
