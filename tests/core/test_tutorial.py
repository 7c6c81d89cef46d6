"""The tutorial "JAX transformations" on modules with states, step by step."""

import jax
import jax.numpy as jnp
import pytest

import pax

_TEXT = (
    "Cannot modify a module in immutable mode.\nPlease do this computation inside a function decorated by `pax.pure`."
)


class Counter(pax.StateModule):
    count: jax.Array

    def __init__(self) -> None:
        self.count = jnp.array(0)

    def __call__(self, x: jax.Array) -> jax.Array:
        self.count = self.count + 1
        return x


class WrongRnn(pax.Module):
    counter: Counter

    def __init__(self) -> None:
        self.counter = Counter()

    def __call__(self, xs: jax.Array) -> jax.Array:
        def scan_fn(counter: Counter, x: jax.Array) -> tuple[Counter, jax.Array]:
            y = counter(x)
            return counter, y

        self.counter, y = jax.lax.scan(scan_fn, init=self.counter, xs=xs)
        return y


class Rnn(pax.Module):
    counter: Counter

    def __init__(self) -> None:
        self.counter = Counter()

    def __call__(self, xs: jax.Array) -> jax.Array:
        def scan_fn(counter: Counter, x: jax.Array) -> tuple[Counter, jax.Array]:
            counter, y = pax.purecall(counter, x)
            return counter, y

        self.counter, y = jax.lax.scan(scan_fn, init=self.counter, xs=xs)
        return y


class BadModule(pax.Module):
    counter: Counter

    def __init__(self) -> None:
        self.counter = Counter()

    def __call__(self, x: jax.Array) -> jax.Array:
        @jax.jit
        def fn(x: jax.Array) -> jax.Array:
            return self.counter(x)

        y: jax.Array = fn(x)
        return y


class GoodModule(pax.Module):
    counter: Counter

    def __init__(self) -> None:
        self.counter = Counter()

    def __call__(self, x: jax.Array) -> jax.Array:
        @jax.jit
        def fn(counter: Counter, x: jax.Array) -> tuple[Counter, jax.Array]:
            counter, y = pax.purecall(counter, x)
            return counter, y

        y: jax.Array
        self.counter, y = fn(self.counter, x)
        return y


def test_step_1_jit_works_on_a_copy_of_a_dictionary() -> None:
    inside: list[int] = []

    @jax.jit
    def increase(counters: dict[str, jax.Array]) -> None:
        counters["counter"] = counters["counter"] + 1
        inside.append(id(counters))

    counters = {"counter": jnp.array(1)}
    increase(counters)
    assert inside != [id(counters)]
    assert counters["counter"] == 1


def test_step_2_a_counter_needs_no_constructor_of_its_base() -> None:
    counter = Counter()
    assert counter.count.dtype == jnp.int32
    assert counter.count.weak_type


def test_step_3_a_counter_called_in_a_scan_without_purecall_is_refused() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        pax.purecall(WrongRnn(), jnp.arange(0, 10))
    assert str(caught.value).startswith(_TEXT)
    assert any(entry.name == "__call__" and "self.count = " in str(entry.statement) for entry in caught.traceback)


def test_step_4_a_counter_called_by_purecall_in_a_scan_counts() -> None:
    rnn, ys = pax.purecall(Rnn(), jnp.arange(0, 10))
    assert int(rnn.counter.count) == 10
    assert rnn.counter.count.dtype == jnp.int32
    assert rnn.counter.count.weak_type
    assert (ys.dtype, ys.tolist()) == (jnp.int32, list(range(10)))


def test_step_5_a_counter_that_a_compiled_function_closes_over_is_refused() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        pax.purecall(BadModule(), jnp.array(0.0))
    assert str(caught.value).startswith(_TEXT)


def test_step_6_a_counter_passed_through_a_compiled_function_counts() -> None:
    module = GoodModule()
    new, y = pax.purecall(module, jnp.array(0.0))
    assert (int(module.counter.count), int(new.counter.count), float(y)) == (0, 1, 0.0)
