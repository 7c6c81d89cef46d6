"""Modules with a policy in JAX transformations, and the programs that they compile to."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.experimental import apply_mp_policy, default_mp_policy, unwrap_mp_policy

HALF = "p=f32,c=f16,o=f32"
X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)


def _half_linear() -> Any:
    return apply_mp_policy(pax.Linear(3, 3), HALF)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def _in_half(layer: Any, x: Any) -> Any:
    return _cast(layer, jnp.float16)(x.astype(jnp.float16)).astype(jnp.float32)


def _mlp() -> pax.Sequential:
    return pax.Sequential(pax.Linear(3, 8), pax.LayerNorm(8, -1, True, True), jax.nn.relu, pax.Linear(8, 2))


def _mlp_by_hand(net: Any, x: Any) -> Any:
    first, norm, _, last = net.modules
    return net, _in_half(last, jax.nn.relu(norm(_in_half(first, x))))


def _conv() -> pax.Sequential:
    return pax.Sequential(pax.Conv2D(3, 4, 3), pax.BatchNorm2D(4))


@pax.pure
def _conv_by_hand(net: Any, x: Any) -> Any:
    conv, norm = net.modules
    return net, norm(_in_half(conv, x))


def _operations(function: Callable[..., Any], *args: Any) -> tuple[Counter[str], Counter[str]]:
    """Returns how often each operation is in the lowered program, and in the compiled one."""
    lowered = jax.jit(function).lower(*args)
    compiled = lowered.compile().as_text() or ""
    return (
        Counter(re.findall(r"stablehlo\.\w+", lowered.as_text())),
        Counter(re.findall(r" = \S+ ([\w-]+)\(", compiled)),
    )


CASES: list[Any] = [
    pytest.param(
        lambda: pax.Sequential(pax.Linear(3, 4)), lambda net, x: (net, _in_half(net.modules[0], x)), X, 4, id="Linear"
    ),
    pytest.param(_mlp, _mlp_by_hand, X, 8, id="Linear and LayerNorm"),
    pytest.param(_conv, _conv_by_hand, jnp.ones((2, 5, 5, 3)), 4, id="Conv2D and BatchNorm2D"),
]


@pytest.mark.parametrize(("make", "by_hand", "x", "converts"), CASES)
def test_the_program_is_that_of_casts_by_hand(make: Any, by_hand: Any, x: Any, converts: int) -> None:
    net = make()
    lowered, compiled = _operations(lambda net, x: net % x, net.apply(default_mp_policy), x)
    lowered_by_hand, compiled_by_hand = _operations(by_hand, net, x)
    assert lowered == lowered_by_hand
    assert compiled == compiled_by_hand
    assert lowered["stablehlo.convert"] == converts
    got, want = net.apply(default_mp_policy) % x, by_hand(net, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("make", "by_hand", "x", "converts"), CASES)
def test_the_program_of_gradients_is_that_of_casts_by_hand(make: Any, by_hand: Any, x: Any, converts: int) -> None:
    net = make()

    def gradient(forward: Any) -> Any:
        return lambda net, x: jax.grad(lambda p: forward(net | p, x)[1].sum())(net.parameters())

    lowered, _ = _operations(gradient(lambda net, x: net % x), net.apply(default_mp_policy), x)
    assert lowered == _operations(gradient(by_hand), net, x)[0]


TRANSFORMS: dict[str, Callable[[Any, Any], Any]] = {
    "plain": lambda m, x: m(x),
    "jit": lambda m, x: jax.jit(lambda m, x: m(x))(m, x),
    "jit of a constant": lambda m, x: jax.jit(lambda x: m(x))(x),
    "vmap": lambda m, x: jax.vmap(m, in_axes=0)(x),
    "vmap of the module": lambda m, x: jax.vmap(lambda m: m(x))(jax.tree.map(lambda a: a[None], m))[0],
    "remat": lambda m, x: jax.checkpoint(lambda m, x: m(x))(m, x),
    "scan": lambda m, x: jax.lax.scan(lambda c, row: (c, m(row)), 0, x)[1],
    "scan over the module": lambda m, x: jax.lax.scan(lambda m, row: (m, m(row)), m, x)[1],
    "cond": lambda m, x: jax.lax.cond(x.sum() > -1, lambda m: m(x), lambda m: 2 * m(x), m),
    "pure": lambda m, x: pax.pure(lambda m, x: m(x))(m, x),
    "purecall": lambda m, x: (m % x)[1],
    "nn.Remat": lambda m, x: pax.nn.Remat(m)(x),
    "linearize": lambda m, x: jax.linearize(lambda x: m(x), x)[0],
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transformations_give_the_same_result(name: str) -> None:
    linear = _half_linear()
    y = TRANSFORMS[name](linear, X)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, _in_half(unwrap_mp_policy(linear), X), rtol=2e-3, atol=2e-3)


def test_shapes_can_be_evaluated() -> None:
    linear = _half_linear()
    shapes = jax.eval_shape(lambda m, x: m % x, linear, X)
    assert (shapes[1].shape, shapes[1].dtype) == ((4, 3), jnp.float32)
    assert treedef(shapes[0]) == treedef(linear)


def test_a_policy_can_be_applied_under_eval_shape_and_jit() -> None:
    abstract: Any = jax.eval_shape(lambda: apply_mp_policy(pax.Linear(3, 3, rng_key=jax.random.key(0)), "f16"))
    assert abstract.weight.dtype == jnp.float16
    made = jax.jit(lambda: apply_mp_policy(pax.Linear(3, 3, rng_key=jax.random.key(0)), "f16"))()
    assert treedef(made) == treedef(abstract)
    assert treedef(unwrap_mp_policy(abstract)) == treedef(pax.Linear(3, 3))


def test_gradients_have_parameter_dtype() -> None:
    linear = _half_linear()
    grads = pax.grad(lambda m: m(X).sum())(linear)
    assert treedef(grads) == treedef(linear.parameters())
    assert grads.weight.dtype == grads.bias.dtype == jnp.float32
    frozen = pax.grad(lambda m: m(X).sum())(pax.freeze_parameters(linear))
    assert jax.tree.leaves(frozen) == []


def test_a_scan_carries_a_module_with_states() -> None:
    norm = apply_mp_policy(pax.BatchNorm1D(3), "p=f32,c=bf16,o=f32")
    new, ys = jax.lax.scan(lambda m, x: m % x, norm, jnp.stack([X[None], 2 * X[None]]))
    step, y = norm % X[None]
    again, y2 = step % (2 * X[None])
    np.testing.assert_allclose(ys, jnp.stack([y, y2]), atol=2e-2)
    np.testing.assert_allclose(new.ema_var.averages, again.ema_var.averages, rtol=1e-2)


def test_structures_stay_the_same_through_training_and_one_trace_is_enough() -> None:
    net = _mlp().apply(default_mp_policy)
    optimizer = opax.adam(1e-2)(net.parameters())

    def loss(net: Any, x: Any) -> Any:
        net, y = net % x
        return jnp.square(y - 1).mean(), (jnp.square(y - 1).mean(), net)

    step = TraceCounter(pax.build_update_fn(loss))
    before, losses = treedef(net), []
    for _ in range(30):
        net, optimizer, value = step(net, optimizer, X)
        losses.append(float(value))
    assert treedef(net) == before
    assert step.traces == 1
    assert losses[-1] < losses[0] / 2
    assert {leaf.dtype for leaf in jax.tree.leaves(net)} == {jnp.dtype("float32")}


def test_an_eager_call_traces_nothing_anew() -> None:
    linear = _half_linear()
    seen = TraceCounter(lambda m, x: m(x))
    for _ in range(3):
        seen(linear.copy(), X)
        seen(jax.tree.map(lambda a: a + 1, linear), X)
    assert seen.traces == 1


def test_a_compiled_call_inside_a_method_traces_once() -> None:
    traced: list[Any] = []

    @jax.jit
    def inner(module: Any, x: Any) -> Any:
        traced.append(module)
        return module.weight.sum() + x

    linear: Any = _half_linear().replace_method(total=lambda self, x: inner(self, x))
    for _ in range(3):
        assert linear.total(jnp.ones(())).dtype == jnp.float32
    assert len(traced) == 1
