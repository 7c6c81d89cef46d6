"""`mutable`: what may change in the block, what may not, and what is checked at its end."""

import threading
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from pax.errors import ArgumentTypeError, MutationError, SharedNodeError
from pax.experimental import mutable


class Counter(pax.StateModule):
    """Counts its calls, and holds what a test puts in."""

    count: Any
    limit: Any
    mode: str

    def __init__(self) -> None:
        super().__init__()
        self.count = jnp.array(0)
        self.limit = 3

    def __call__(self) -> Any:
        self.count = self.count + 1
        return self.count


class Pair(pax.Module):
    """Two counters, one of them in a list."""

    history: list[jax.Array]

    def __init__(self) -> None:
        super().__init__()
        self.first = Counter()
        self.rest = [Counter()]


def test_the_copy_changes_and_the_original_does_not() -> None:
    counter = Counter()
    with mutable(counter) as copy:
        copy.count = jnp.array([1.0, 2.0])
    assert copy.count.shape == (2,)
    assert counter.count == 0
    assert copy is not counter


def test_the_documented_example_changes_a_linear_layer() -> None:
    net = pax.Linear(1, 2)
    with mutable(net) as copy:
        copy.bias = jnp.array(0.0)
    assert copy.bias.item() == 0.0
    assert net.bias.shape == (2,)


def test_an_unchanged_copy_equals_the_original() -> None:
    counter = Counter()
    with mutable(counter) as copy:
        pass
    assert copy == counter


def test_submodules_change_too() -> None:
    with mutable(Pair()) as pair:
        pair.first.count = jnp.array(5)
        pair.rest[0].count = jnp.array(6)
    assert [int(leaf) for leaf in jax.tree.leaves(pair)] == [5, 6]


def test_a_stateful_module_can_be_called_in_the_block() -> None:
    with mutable(Counter()) as counter:
        assert counter() == 1
        assert counter() == 2
    assert counter.count == 2


def test_static_attributes_can_be_set_and_deleted() -> None:
    with mutable(Counter()) as counter:
        del counter.limit
        counter.mode = "slow"
    assert not hasattr(counter, "limit")
    assert counter.mode == "slow"


def test_changes_reach_the_tree() -> None:
    with mutable(Counter()) as counter:
        counter.limit = jnp.array(7)
    assert set(counter.pytree_attributes) == {"count", "limit"}
    assert sorted(int(leaf) for leaf in jax.tree.leaves(counter)) == [0, 7]


def test_a_container_changed_in_place_is_classified_at_the_end() -> None:
    with mutable(Pair()) as pair:
        pair.rest.append(Counter())
        pair.history = []
        pair.history.append(jnp.array(9))
    assert len(jax.tree.leaves(pair)) == 4
    assert "history" in pair.pytree_attributes


def test_the_copy_is_immutable_after_the_block() -> None:
    with mutable(Counter()) as counter:
        pass
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        counter.limit = 4


def test_the_copy_is_immutable_after_an_exception() -> None:
    block = mutable(Counter())
    counter = block.__enter__()
    assert not block.__exit__(RuntimeError, RuntimeError("enough"), None)
    with pytest.raises(MutationError):
        counter.limit = 4


def test_the_original_is_immutable_in_the_block() -> None:
    counter = Counter()
    with mutable(counter), pytest.raises(MutationError):
        counter.limit = 4


def test_a_submodule_assigned_in_the_block_is_immutable() -> None:
    with mutable(Pair()) as pair:
        pair.first = Counter()
        with pytest.raises(MutationError):
            pair.first.limit = 4


def test_a_copy_of_the_copy_is_immutable() -> None:
    with mutable(Counter()) as counter, pytest.raises(MutationError):
        counter.copy().limit = 4


def test_only_the_innermost_block_can_change_its_module() -> None:
    with mutable(Counter()) as outer:
        with mutable(Counter()) as inner:
            inner.limit = 1
            with pytest.raises(MutationError):
                outer.limit = 1
        outer.limit = 2
    assert (inner.limit, outer.limit) == (1, 2)


def test_the_copy_is_mutable_again_after_a_nested_call_and_a_construction() -> None:
    with mutable(Counter()) as counter:
        pax.purecall(Counter())
        counter.limit = 1
        Counter()
        counter.count = jnp.array(1)
    assert (counter.limit, int(counter.count)) == (1, 1)


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap, jax.checkpoint])
def test_a_transformation_in_the_block_cannot_change_the_copy(transform: Any) -> None:
    with mutable(Counter()) as counter:

        def function(x: jax.Array) -> jax.Array:
            counter.limit = 4
            return x

        x = jnp.ones(2) if transform is jax.vmap else jnp.array(1.0)
        with pytest.raises(MutationError):
            transform(function)(x)
    assert counter.limit == 3


def test_mutable_works_inside_jit() -> None:
    @jax.jit
    def increase(counter: Counter) -> Counter:
        with mutable(counter) as copy:
            copy.count = copy.count + 1
        return copy

    assert increase(increase(Counter())).count == 2


def test_another_thread_cannot_change_the_copy() -> None:
    caught: list[Exception] = []

    def change(counter: Counter) -> None:
        try:
            counter.limit = 4
        except Exception as error:
            caught.append(error)

    with mutable(Counter()) as counter:
        thread = threading.Thread(target=change, args=(counter,))
        thread.start()
        thread.join()
    assert [type(error) for error in caught] == [MutationError]


def test_a_shared_array_is_found_at_the_end() -> None:
    with pytest.raises(SharedNodeError, match="Detected a shared ndarray"), mutable(Pair()) as pair:
        pair.first.count = pair.rest[0].count


def test_an_exception_in_the_block_is_not_hidden_by_the_check() -> None:
    """KD-35."""

    def share_and_fail() -> None:
        with mutable(Pair()) as pair:
            pair.first.count = pair.rest[0].count
            raise RuntimeError("the cause")

    with pytest.raises(RuntimeError, match="the cause"):
        share_and_fail()


def test_a_block_left_open_by_a_generator_does_not_outlive_it() -> None:
    def hold(counter: Counter) -> Any:
        with mutable(counter) as copy:
            yield copy

    generator = hold(Counter())
    held = next(generator)
    with mutable(Counter()) as counter:
        generator.close()
        counter.limit = 4
    assert counter.limit == 4
    with pytest.raises(MutationError):
        held.limit = 4


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a PAX module") as caught, mutable({"a": 1}):  # type: ignore[type-var]
        pass
    assert "got:   " in str(caught.value)
    assert "fix:   with pax.experimental.mutable(net) as net:" in str(caught.value)
