"""`pure`: what may change, where, for how long, and what gets out."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, Net
from helpers.tally import Tally, assign, rename
from pax.errors import ArgumentTypeError, MutationError, SharedNodeError, UnregisteredFieldError

# ---- what cannot change ----------------------------------------------------------------------------------------------


def test_the_error_names_the_path_of_a_submodule() -> None:
    net = Net()

    @pax.pure
    def train(net: Net) -> None:
        def inner(x: jax.Array) -> jax.Array:
            net.layers[0].bias = x
            return x

        jax.jit(inner)(jnp.ones(3))

    with pytest.raises(MutationError) as caught:
        train(net)
    assert "where: layers[0] (Linear), attribute `bias`" in str(caught.value)


def test_a_module_that_is_no_argument_is_immutable() -> None:
    bystander = Tally()

    @pax.pure
    def touch(module: Tally) -> None:
        bystander.note = "changed"

    with pytest.raises(MutationError, match=r"no input of the running `pax\.pure` function"):
        touch(Tally())


def test_the_original_is_immutable_inside() -> None:
    original = Tally()

    @pax.pure
    def touch(module: Tally) -> None:
        original.note = "changed"

    with pytest.raises(MutationError):
        touch(original)


def test_an_escaped_copy_is_immutable_in_the_next_call() -> None:
    escaped: list[Any] = []
    pax.pure(escaped.append)(Tally())

    @pax.pure
    def touch(module: Tally) -> None:
        escaped[0].note = "changed"

    with pytest.raises(MutationError):
        touch(Tally())


# ---- what can change -------------------------------------------------------------------------------------------------


def test_pure_leaves_the_original_unchanged() -> None:
    original = Tally()
    leaves = jax.tree.leaves(original)
    result = pax.pure(lambda module: (module.add(3), module)[1])(original)
    assert (int(result.count), int(result.inner.count)) == (3, 1)
    assert all(a is b for a, b in zip(jax.tree.leaves(original), leaves, strict=True))
    assert original.count == 0


def test_the_identity_gives_an_equal_module() -> None:
    net = Net()
    copy = pax.pure(lambda module: module)(net)
    assert copy == net
    assert copy is not net


def test_arrays_are_shared_with_the_copy() -> None:
    net = Net()
    assert pax.pure(lambda module: module.encoder.weight)(net) is net.encoder.weight


def test_modules_in_containers_are_copied_and_can_change() -> None:
    original: Any = {"a": [Tally()], "b": (Tally(), 3)}

    @pax.pure
    def touch(tree: Any) -> Any:
        tree["a"][0].note = "changed"
        tree["b"][0].note = "changed"
        tree["a"].append("more")
        return tree

    result = touch(original)
    assert (result["a"][0].note, result["b"][0].note, len(result["a"])) == ("changed", "changed", 2)
    assert (original["a"][0].note, len(original["a"])) == ("new", 1)


def test_submodules_can_change() -> None:
    @pax.pure
    def touch(net: Net) -> Net:
        net.layers[2].bias = jnp.ones(1)
        net.counter()
        return net

    net = touch(Net())
    assert (net.layers[2].bias.item(), net.counter.count.item()) == (1.0, 1)


def test_a_submodule_can_change_after_it_was_taken_out() -> None:
    @pax.pure
    def touch(tally: Tally) -> tuple[Tally, Counter]:
        inner = tally.inner
        tally.inner = Counter()
        inner()
        return tally, inner

    tally, inner = touch(Tally())
    assert (tally.inner.count.item(), inner.count.item()) == (0, 1)


@pytest.mark.parametrize(
    ("before", "after", "leaves"),
    [(3, jnp.ones(2), 1), (jnp.ones(2), 3, 0), ([], [jnp.ones(2)], 1), (None, pax.EmptyNode(), 0)],
    ids=["static to array", "array to static", "list", "empty node"],
)
def test_attributes_are_classified_at_the_end(before: Any, after: Any, leaves: int) -> None:
    result = assign(Holder(value=before), value=after)
    assert len(jax.tree.leaves(result)) == leaves


def test_a_container_changed_in_place_is_classified_at_the_end() -> None:
    @pax.pure
    def touch(module: Any) -> Any:
        module.history.append(jnp.ones(2))
        module.layers.append(Linear())
        return module

    result = touch(Holder(history=[], layers=[Linear()]))
    assert len(jax.tree.leaves(result)) == 5
    assert set(result.pytree_attributes) == {"history", "layers"}


def test_changes_are_seen_by_the_tree_at_once() -> None:
    @pax.pure
    def touch(module: Any) -> list[int]:
        counts = [len(jax.tree.leaves(module))]
        module.history.append(jnp.ones(2))
        counts.append(len(jax.tree.leaves(module)))
        module.more = jnp.ones(3)
        counts.append(len(jax.tree.leaves(module)))
        return counts

    assert touch(Holder(history=[jnp.ones(1)])) == [1, 2, 3]


# ---- nesting ---------------------------------------------------------------------------------------------------------


def test_an_inner_pure_function_copies_the_outer_copy() -> None:
    @pax.pure
    def outer(module: Tally) -> tuple[Tally, Tally]:
        module.note = "outer"
        return module, rename(module, "inner")

    outer_tally, inner_tally = outer(Tally())
    assert (outer_tally.note, inner_tally.note) == ("outer", "inner")


def test_pure_functions_can_call_themselves() -> None:
    @pax.pure
    def descend(module: Tally, depth: int) -> list[int]:
        module.count = module.count + 1
        below = descend(module, depth - 1) if depth else []
        module.count = module.count + 10
        return [int(module.count), *below]

    assert descend(Tally(), 3) == [11, 12, 13, 14]


def test_a_module_under_construction_is_immutable_in_a_nested_pure_function() -> None:
    class Nested(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            pax.pure(lambda other: setattr(self, "note", other))(3)

    with pytest.raises(MutationError):
        Nested()


def test_a_module_under_construction_that_escapes_from_a_failure_is_immutable() -> None:
    escaped: list[Any] = []

    class Failing(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            escaped.append(self)
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError):
        Failing()
    with pytest.raises(MutationError):
        escaped[0].note = "changed"


# ---- checks at entry and exit ----------------------------------------------------------------------------------------


def test_an_array_shared_by_a_change_outside_is_found_at_entry() -> None:
    array = jnp.ones(2)
    module = Holder(items=[array])
    module.items.append(array)
    with pytest.raises(SharedNodeError, match="Detected a shared ndarray"):
        pax.pure(lambda module: module)(module)


def test_an_array_shared_inside_is_found_at_exit() -> None:
    @pax.pure
    def touch(module: Any) -> Any:
        module.b = module.a
        return module

    with pytest.raises(SharedNodeError) as caught:
        touch(Holder(a=jnp.ones(2), b=jnp.ones(2)))
    assert str(caught.value).startswith("Detected a shared ndarray. This is not allowed.\nShape=(2,)\nDtype=float32\n")
    assert "where: `a` and `b`" in str(caught.value)


def test_a_module_shared_inside_is_found_at_exit() -> None:
    @pax.pure
    def touch(module: Any) -> Any:
        module.layers.append(module.layers[0])
        return module

    with pytest.raises(SharedNodeError) as caught:
        touch(Holder(layers=[Linear(1, 1)]))
    assert str(caught.value).startswith(
        "The module `Linear(in=1, out=1)` is shared between two nodes of the pytree.\n"
        "This is not allowed to prevent potential silence bugs."
    )
    assert "where: `layers[0]` and `layers[1]`" in str(caught.value)


def test_sharing_is_found_even_if_the_module_is_not_returned() -> None:
    @pax.pure
    def touch(module: Any) -> int:
        module.b = module.a
        return 0

    with pytest.raises(SharedNodeError):
        touch(Holder(a=jnp.ones(2), b=jnp.ones(2)))


def test_an_exception_inside_is_not_hidden_by_the_checks_at_exit() -> None:
    @pax.pure
    def touch(module: Any) -> None:
        module.b = module.a
        raise RuntimeError("the cause")

    with pytest.raises(RuntimeError, match="the cause"):
        touch(Holder(a=jnp.ones(2), b=jnp.ones(2)))


def test_an_array_in_a_class_attribute_is_found_at_entry() -> None:
    class Late(pax.Module):
        pass

    module = Late()
    Late.table = jnp.ones(2)
    with pytest.raises(UnregisteredFieldError, match="contains a ndarray leaf"):
        pax.pure(lambda module: module)(module)


def test_arrays_shared_between_two_arguments_are_no_mistake() -> None:
    module = Tally()
    a, b = pax.pure(lambda a, b: (a, b))(module, module.copy())
    assert a == b == module


# ---- exceptions ------------------------------------------------------------------------------------------------------


def test_an_exception_propagates_as_it_is() -> None:
    error = RuntimeError("enough")

    @pax.pure
    def fail(module: Tally) -> None:
        module.note = "changed"
        raise error

    tally = Tally()
    with pytest.raises(RuntimeError) as caught:
        fail(tally)
    assert caught.value is error
    assert tally.note == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, StopIteration])
def test_the_session_ends_with_any_exception(error: type[BaseException]) -> None:
    escaped: list[Any] = []

    @pax.pure
    def fail(module: Tally) -> None:
        escaped.append(module)
        raise error

    with pytest.raises(error):
        fail(Tally())
    assert not pax.extend.is_mutable(escaped[0])


# ---- what can be made pure -------------------------------------------------------------------------------------------


def test_pure_keeps_the_metadata_of_a_function() -> None:
    def train(model: Any) -> None:
        """Trains."""

    wrapped = pax.pure(train)
    assert (wrapped.__name__, wrapped.__doc__) == ("train", "Trains.")
    assert wrapped.__wrapped__ is train  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda tally: pax.pure(lambda module, amount: module.add(amount))(tally, 3), "added 3"),
        (lambda tally: pax.pure(Tally.add)(tally, 3), "added 3"),
        (lambda tally: pax.pure(tally.add)(3), "added 3"),
        (lambda tally: pax.pure(functools.partial(Tally.add, amount=3))(tally), "added 3"),
        (lambda tally: pax.pure(tally)(3), 3),
        (lambda tally: pax.pure(tally.__call__)(3), 3),
    ],
    ids=["lambda", "function", "bound method", "partial", "module", "bound __call__"],
)
def test_every_kind_of_callable_can_be_made_pure(call: Callable[[Tally], Any], expected: Any) -> None:
    tally = Tally()
    assert call(tally) == expected
    assert (int(tally.count), int(tally.inner.count)) == (0, 0)


def test_a_jitted_function_can_be_made_pure() -> None:
    @jax.jit
    def step(tally: Tally) -> Any:
        return rename(tally)

    tally = Tally()
    assert pax.pure(step)(tally).note == "changed"
    assert tally.note == "new"


def test_a_pure_function_can_be_jitted() -> None:
    @jax.jit
    @pax.pure
    def step(tally: Tally) -> Tally:
        tally.add(2)
        return tally

    assert step(step(Tally())).count == 4


def test_a_pure_function_can_be_made_pure_again() -> None:
    assert pax.pure(rename)(Tally()).note == "changed"


def test_a_module_held_by_a_partial_is_no_argument() -> None:
    with pytest.raises(MutationError):
        pax.pure(functools.partial(Tally.add, Tally()))(3)


@pytest.mark.parametrize("thing", [3, "text", None, [Tally()], Holder()])
def test_what_cannot_be_called_is_refused(thing: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^Not supported") as caught:
        pax.pure(thing)()
    assert isinstance(caught.value, ValueError)
    assert "fix:   pax.pure(lambda module, x: module(x))" in str(caught.value)


def _generator(module: Any) -> Iterator[int]:
    yield 1


async def _coroutine(module: Any) -> None: ...


async def _async_generator(module: Any) -> AsyncIterator[int]:
    yield 1


@functools.wraps(_generator)
def _wrapped_generator(module: Any) -> Any:
    return _generator(module)


_SUSPENDED: dict[str, Any] = {
    "generator": _generator,
    "coroutine": _coroutine,
    "asynchronous generator": _async_generator,
    "partial": functools.partial(_generator, 3),
    "wrapped": _wrapped_generator,
    "bound generator method": Tally().produce,
    "bound coroutine method": Tally().wait,
}


@pytest.mark.parametrize("function", _SUSPENDED.values(), ids=_SUSPENDED)
def test_functions_that_are_suspended_are_refused_at_decoration(function: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="A generator or coroutine function cannot be pure") as caught:
        pax.pure(function)
    assert "fix:   put what changes modules into a plain function" in str(caught.value)


@pytest.mark.parametrize("function", [_generator, _coroutine, _async_generator])
def test_module_and_value_refuses_functions_that_are_suspended(function: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="A generator or coroutine function cannot be pure"):
        pax.module_and_value(function)


def test_a_generator_that_a_pure_function_returns_cannot_change_the_module_later() -> None:
    def change(module: Tally) -> Iterator[None]:
        module.note = "late"
        yield

    later = pax.pure(lambda module: change(module))(Tally())
    with pytest.raises(MutationError):
        next(later)


# ---- sessions held by generators -------------------------------------------------------------------------------------


def _hold(module: Tally) -> Iterator[Tally]:
    copy = module.copy()
    with pax.extend.mutation_session(pax.extend.modules_in(copy)):
        while True:
            yield copy


def test_a_session_held_by_a_generator_does_not_disturb_a_pure_call() -> None:
    generator = _hold(Tally())
    held = next(generator)
    assert rename(Tally()).note == "changed"
    held.note = "changed too"
    generator.close()  # type: ignore[attr-defined]
    assert held.note == "changed too"


def test_a_session_opened_inside_of_pure_hides_its_modules_until_it_is_closed() -> None:
    @pax.pure
    def outer(module: Tally) -> Tally:
        generator = _hold(Tally())
        next(generator)
        with pytest.raises(MutationError):
            module.note = "hidden"
        generator.close()  # type: ignore[attr-defined]
        module.note = "changed"
        return module

    assert outer(Tally()).note == "changed"


def test_a_session_that_outlives_the_pure_function_does_not_close_another() -> None:
    generators: list[Any] = []

    @pax.pure
    def opens(module: Tally) -> Tally:
        generators.append(_hold(module))
        next(generators[0])
        return module

    @pax.pure
    def closes(module: Tally) -> Tally:
        generators[0].close()
        module.note = "changed"
        return module

    result = opens(Tally())
    assert not pax.extend.is_mutable(result)
    assert closes(Tally()).note == "changed"


def test_sessions_can_be_closed_in_any_order() -> None:
    first, second = _hold(Tally()), _hold(Tally())
    a, b = next(first), next(second)
    first.close()  # type: ignore[attr-defined]
    assert (pax.extend.is_mutable(a), pax.extend.is_mutable(b)) == (False, True)
    second.close()  # type: ignore[attr-defined]
    assert not pax.extend.is_mutable(b)


def test_a_session_closed_by_the_garbage_collector_leaves_nothing_open() -> None:
    generator = _hold(Tally())
    held = next(generator)
    del generator
    assert not pax.extend.is_mutable(held)


# ---- is_mutable ------------------------------------------------------------------------------------------------------


def test_is_mutable_tells_what_the_rules_say() -> None:
    tally = Tally()

    @pax.pure
    def look(module: Tally) -> list[bool]:
        under_trace: list[bool] = []
        jax.eval_shape(lambda: under_trace.append(pax.extend.is_mutable(module)))
        candidates = (module, module.inner, module.copy(), tally)
        return [*map(pax.extend.is_mutable, candidates), *under_trace]

    assert look(tally) == [True, True, False, False, False]
