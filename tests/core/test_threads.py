"""Threads: sessions, lazily filled modules and the structures of equal modules, in several threads at once."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Holder, Net
from helpers.traces import TraceCounter
from pax.errors import MutationError

_THREADS = 16
_CALLS = 1_000


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    """Makes the interpreter change threads as often as it can, so that a race shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _in_threads(work: Callable[[int], Any], threads: int = _THREADS) -> list[Any]:
    """Runs ``work(number)`` in that many threads, which start together; returns the results, raises the first error."""
    barrier = threading.Barrier(threads, timeout=60)

    def start(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(start, range(threads)))


class Meter(pax.StateModule):
    """Counts in a static attribute and in a NumPy array: a call needs no compiled code."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.calls = 0
        self.total = np.zeros((), np.int64)
        self.inner: Any = Holder(log=[])

    def __call__(self, amount: int) -> int:
        self.calls += 1
        self.total = self.total + np.array(amount)
        self.inner.log.append(amount)
        self.inner.log = self.inner.log[-3:]
        return self.calls


def test_pure_calls_on_modules_of_their_own_do_not_interfere() -> None:
    def work(number: int) -> tuple[int, int, int, list[int]]:
        meter = Meter(number)
        for _ in range(_CALLS):
            meter, _ = pax.purecall(meter, number)
        return meter.number, meter.calls, int(meter.total), meter.inner.log

    results = _in_threads(work)
    assert results == [(number, _CALLS, number * _CALLS, [number] * 3) for number in range(_THREADS)]


def test_a_class_can_gain_an_attribute_while_it_is_checked() -> None:
    class Meddler:
        @property  # type: ignore[misc]  # what `isinstance` asks for
        def __class__(self) -> Any:
            type.__setattr__(Meddled, f"_pax_extra_{len(vars(Meddled))}", ())  # as another thread may do
            return Meddler

    class Meddled(pax.Module):
        meddler: Any

    Meddled.meddler = Meddler()
    assert Meddled().training


def test_pure_calls_on_one_shared_module_do_not_interfere() -> None:
    shared = Meter(7)
    leaves = jax.tree.leaves(shared)

    def work(number: int) -> set[tuple[int, int, tuple[int, ...]]]:
        seen = set()
        for _ in range(_CALLS):
            meter, _ = pax.purecall(shared, number)
            seen.add((meter.calls, int(meter.total), tuple(meter.inner.log)))
        return seen

    results = _in_threads(work)
    assert results == [{(1, number, (number,))} for number in range(_THREADS)]
    assert (shared.calls, int(shared.total), shared.inner.log) == (0, 0, [])
    assert all(a is b for a, b in zip(jax.tree.leaves(shared), leaves, strict=True))


def test_exceptions_in_some_threads_do_not_disturb_the_others() -> None:
    shared = Meter(0)

    @pax.pure
    def step(meter: Meter, fail: bool) -> int:
        calls = meter(1)
        if fail:
            raise RuntimeError("enough")
        return meter(1) + calls

    def work(number: int) -> int:
        failures = 0
        for _ in range(100):
            try:
                assert step(shared, number % 2 == 0) == 3
            except RuntimeError:
                failures += 1
        return failures

    assert _in_threads(work) == [100 if number % 2 == 0 else 0 for number in range(_THREADS)]


def test_a_session_is_not_seen_in_other_threads() -> None:
    @pax.pure
    def outer(meter: Meter) -> list[bool]:
        assert pax.extend.is_mutable(meter)
        return _in_threads(lambda _: pax.extend.is_mutable(meter), threads=4)

    assert outer(Meter(0)) == [False] * 4


def test_a_thread_started_inside_of_pure_cannot_change_its_modules() -> None:
    def change(meter: Meter) -> None:
        with pytest.raises(MutationError):
            meter.calls = 5

    @pax.pure
    def outer(meter: Meter) -> Meter:
        _in_threads(lambda _: change(meter), threads=2)
        return meter

    assert outer(Meter(0)).calls == 0


def test_a_thread_started_inside_of_pure_can_make_pure_calls() -> None:
    @pax.pure
    def outer(meter: Meter) -> Meter:
        updated = _in_threads(lambda number: pax.purecall(meter, number)[0], threads=4)
        assert [int(one.total) for one in updated] == [0, 1, 2, 3]
        meter(10)
        return meter

    assert outer(Meter(0)).total == 10


def test_constructors_run_at_the_same_time() -> None:
    nets = _in_threads(
        lambda number: [Holder(number=number, layers=[Holder(k=k) for k in range(5)]) for _ in range(20)]
    )
    assert [{net.number for net in group} for group in nets] == [{number} for number in range(_THREADS)]
    assert all([layer.k for layer in net.layers] == list(range(5)) for group in nets for net in group)


def test_a_module_whose_attributes_are_filled_in_by_several_threads_is_the_same_for_all() -> None:
    original = Net()
    for _ in range(20):
        module = jax.tree.map(lambda leaf: leaf, original)  # its attributes are not filled in yet

        def look(_: int, module: Net = module) -> tuple[Any, ...]:
            layers = module.layers
            return id(layers), id(layers[0]), id(layers[0].weight), module.rate, len(vars(module)), module.training

        assert len(set(_in_threads(look, threads=4))) == 1
        assert module == original


def test_a_module_is_flattened_by_one_thread_while_another_one_fills_it_in() -> None:
    original = Net()
    structure: Any = jax.tree.structure(original)
    for _ in range(20):
        module = jax.tree.map(lambda leaf: leaf, original)

        def work(number: int, module: Net = module) -> bool:
            if number % 2:
                return bool(module.layers[2].bias is original.layers[2].bias)
            return bool(jax.tree.structure(module) == structure)

        assert all(_in_threads(work, threads=4))


def test_equal_modules_built_in_several_threads_are_traced_once() -> None:
    total = TraceCounter(lambda module: sum(leaf.sum() for leaf in jax.tree.leaves(module)))
    total(Holder(k=3, weight=jnp.ones(2)))
    results = _in_threads(lambda _: float(total(Holder(k=3, weight=jnp.ones(2)))))
    assert results == [2.0] * _THREADS
    assert total.traces == 1


def test_freezing_in_several_threads_gives_equal_structures() -> None:
    net = Net()
    structures = _in_threads(lambda _: jax.tree.structure(pax.freeze_parameters(net)))
    assert all(structure == structures[0] for structure in structures)


def test_replacing_a_method_in_several_threads_gives_one_class() -> None:
    def call(self: Any) -> int:
        return 1

    modules = _in_threads(lambda _: Holder().replace_method(__call__=call))
    assert len({type(module) for module in modules}) == 1


def test_jitted_pure_calls_run_in_several_threads() -> None:
    step = jax.jit(lambda net, x: pax.purecall(net, x))
    net, x = Net(), jnp.ones((2, 2))
    step(net, x)

    def work(_: int) -> int:
        updated = net
        for _ in range(10):
            updated, _ = step(updated, x)
        return int(updated.counter.count)

    assert _in_threads(work, threads=8) == [10] * 8
    assert net.counter.count == 0
