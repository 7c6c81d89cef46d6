"""FLOPs of `pax.tabulate`: XLA's numbers, loops counted as often as they run, by module."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Linear

X = jax.ShapeDtypeStruct((5, 4), jnp.float32)
LINEAR = 2 * 5 * 4 * 4 + 5 * 4
"""`Linear(4, 4)` for 5 examples: the product and the bias."""


class Apply(pax.Module):
    """Calls a function with a layer and the input."""

    def __init__(self, func: Any) -> None:
        super().__init__()
        self.func = func
        self.fc = Linear(4, 4)

    def __call__(self, x: jax.Array) -> Any:
        return self.func(self.fc, x)


def flops(func: Any) -> tuple[int, int]:
    """Those of the whole, and of the layer."""
    table = pax.tabulate(Apply(func), X)
    return table.totals["flops"], table.rows[1]["flops"]


@pytest.mark.parametrize(
    ("func", "whole", "layer"),
    [
        (lambda fc, x: fc(x), LINEAR, LINEAR),
        (lambda fc, x: fc(x) + x, LINEAR + 20, LINEAR),
        (lambda fc, x: fc(fc(x)), 2 * LINEAR, 2 * LINEAR),
        (lambda fc, x: jax.nn.relu(fc(x)), LINEAR + 20, LINEAR),
        (lambda fc, x: (fc(x), x)[1], LINEAR - LINEAR, 0),
        (lambda fc, x: x.reshape(-1), 0, 0),
        (lambda fc, x: jax.lax.scan(lambda c, _: (fc(c), None), x, None, length=7)[0], 7 * LINEAR, 7 * LINEAR),
        (lambda fc, x: jax.lax.fori_loop(0, 7, lambda _, c: fc(c), x), 7 * LINEAR, 7 * LINEAR),
        (lambda fc, x: jax.vmap(lambda row: fc(row[None])[0])(x), LINEAR, LINEAR),
        (lambda fc, x: jax.checkpoint(fc.__call__)(x), LINEAR, LINEAR),
        (lambda fc, x: jax.jit(lambda a: fc(a))(x), LINEAR, LINEAR),
        (lambda fc, x: jax.lax.cond(x.shape[0] > 3, lambda a: fc(fc(a)), fc.__call__, x), 2 * LINEAR, 2 * LINEAR),
    ],
    ids=["call", "rest", "twice", "relu", "unused", "moves", "scan", "fori", "vmap", "remat", "jit", "cond"],
)
def test_flops_count_for_the_module_that_is_called(func: Any, whole: int, layer: int) -> None:
    got = flops(func)
    # A loop counts its index, too.
    assert got[1] == layer
    assert whole <= got[0] <= whole + 20


def test_nested_scans_multiply() -> None:
    def func(fc: Any, x: jax.Array) -> jax.Array:
        def outer(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jax.lax.scan(lambda c, _: (fc(c), None), carry, None, length=3)[0], None

        return jax.lax.scan(outer, x, None, length=5)[0]

    assert flops(func) == (15 * LINEAR, 15 * LINEAR)


def test_the_backward_pass_counts_for_its_module() -> None:
    whole, layer = flops(lambda fc, x: jax.grad(lambda a: jnp.sum(fc(a)))(x))
    assert layer >= 2 * 5 * 4 * 4  # the product with the transposed weight
    assert whole >= layer


def test_a_loop_of_unknown_length_is_noted() -> None:
    table = pax.tabulate(Apply(lambda fc, x: jax.lax.while_loop(lambda a: a[0, 0] < 3, fc.__call__, x)), X)
    assert table.rows[1]["flops"] == LINEAR
    assert "Note: a loop of unknown length counts as one round." in str(table)


def test_what_cannot_be_analysed_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pax._tabulate_flops._known", {})

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr("jax.stages.Lowered.cost_analysis", fail)
    table = pax.tabulate(Apply(lambda fc, x: x @ x.T), X)
    assert table.totals["flops"] == 0
    assert "count as nothing: dot_general" in str(table)


def test_random_keys_give_no_notes() -> None:
    table = pax.tabulate(Apply(lambda fc, x: x + jax.random.normal(jax.random.split(jax.random.key(0))[0], x.shape)), X)
    assert "Note" not in str(table)
    assert table.totals["flops"] > 20


def test_the_sum_is_the_number_of_the_whole_program() -> None:
    def func(fc: Any, x: jax.Array) -> jax.Array:
        hidden = jax.nn.gelu(fc(x))
        return jax.nn.softmax(hidden @ x.T) * jnp.mean(fc(hidden))

    net = Apply(func)
    analysis: Any = jax.jit(lambda net, x: net(x)).lower(net, X).cost_analysis()
    assert pax.tabulate(net, X).totals["flops"] == analysis["flops"]
