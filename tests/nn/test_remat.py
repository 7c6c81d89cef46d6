"""pax.nn.remat and pax.nn.Remat."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import pax
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, MutationError

X = jax.random.normal(jax.random.key(0), (2, 3))
KEY = jax.random.key(1)


class Deep(pax.Module):
    """Two layers, the value between them named."""

    def __init__(self) -> None:
        super().__init__()
        first, second = jax.random.split(KEY)
        self.first = pax.nn.Linear(3, 8, rng_key=first)
        self.second = pax.nn.Linear(8, 3, rng_key=second)

    def __call__(self, x: jax.Array, *, scale: float = 1.0) -> jax.Array:
        hidden = jnp.sin(jnp.sin(self.first(x)))
        return self.second(checkpoint_name(hidden, "hidden")) * scale


class Stateful(pax.Module):
    """Batch normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        pax.seed_rng_key(3)
        self.norm = pax.nn.BatchNorm1D(3, data_format="NWC")
        self.drop = pax.nn.Dropout(0.5)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.drop(self.norm(x))


def loss(module: Any, x: jax.Array, **kwargs: Any) -> Any:
    module, y = pax.purecall(module, x, **kwargs)
    return (y**2).sum(), module


def saved(function: Any, *args: Any) -> int:
    """How many numbers the forward pass hands over to the backward pass."""
    _, pullback = jax.vjp(function, *args)
    return sum(leaf.size for leaf in jax.tree.leaves(pullback) if hasattr(leaf, "size"))


def assert_close(got: Any, want: Any) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


POLICIES = [None, "dots_saveable", "dots_with_no_batch_dims_saveable", "nothing_saveable", ("hidden",)]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_values_and_gradients_are_those_of_the_module(policy: Any) -> None:
    plain = Deep()
    (value, _), gradients = pax.value_and_grad(loss, has_aux=True)(pax.nn.remat(plain, policy=policy), X)
    (want, _), want_gradients = pax.value_and_grad(loss, has_aux=True)(plain, X)
    assert_close(value, want)
    assert_close(gradients.module, want_gradients)


def test_states_are_those_of_the_module() -> None:
    x = jax.random.normal(jax.random.key(2), (4, 2, 3))
    for call in (loss, jax.jit(loss)):
        value, updated = call(pax.nn.remat(Stateful()), x)
        want, module = call(Stateful(), x)
        assert_close((value, updated.module), (want, module))
        assert treedef(updated.module) == treedef(module)
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        pax.nn.remat(Stateful())(x)
    assert_close(pax.nn.remat(Stateful()).eval()(x), Stateful().eval()(x))


def test_gradients_through_a_stateful_module() -> None:
    x = jax.random.normal(jax.random.key(2), (4, 2, 3))
    got = jax.grad(lambda x: loss(pax.nn.remat(Stateful()), x)[0])(x)
    assert_close(got, jax.grad(lambda x: loss(Stateful(), x)[0])(x))


def test_less_is_kept_for_the_backward_pass() -> None:
    module = Deep()
    plain, all_again, named = (
        saved(lambda m, x: m(x), wrapped, X)
        for wrapped in (module, pax.nn.remat(module), pax.nn.remat(module, policy=("hidden",)))
    )
    assert all_again < named < plain


def primitives(function: Any, *args: Any) -> set[str]:
    return {eqn.primitive.name for eqn in jax.make_jaxpr(function)(*args).jaxpr.eqns}


def test_it_is_the_checkpoint_of_jax() -> None:
    checkpointed = primitives(jax.checkpoint(lambda x: jnp.sin(x)), X)
    assert primitives(pax.nn.remat(Deep()), X) == checkpointed
    assert primitives(pax.nn.remat(jnp.sin), X) == checkpointed


def test_functions_and_methods() -> None:
    deep = Deep()
    rematerialised = pax.nn.remat(deep.__call__)
    assert rematerialised.__name__ == "__call__"
    assert_close(jax.grad(lambda x: rematerialised(x).sum())(X), jax.grad(lambda x: deep(x).sum())(X))
    assert_close(
        jax.grad(lambda m: pax.nn.remat(lambda m, x, flag: m(x) if flag == "yes" else x)(m, X, "yes").sum())(deep),
        jax.grad(lambda m: m(X).sum())(deep),
    )


def test_arguments_that_are_no_arrays() -> None:
    assert_close(pax.nn.remat(Deep())(X, scale=2.0), Deep()(X, scale=2.0))


def test_the_module_stays_a_submodule() -> None:
    wrapped = pax.nn.remat(Deep())
    assert wrapped.summary() == (
        "Remat\n└── Deep\n    ├── Linear(in_dim=3, out_dim=8, with_bias=True)\n"
        "    └── Linear(in_dim=8, out_dim=3, with_bias=True)"
    )
    assert wrapped.module == Deep().load_state_dict(wrapped.state_dict()["module"])


def test_repr_shows_what_is_set() -> None:
    assert repr(pax.nn.remat(Deep(), prevent_cse=False)) == "Remat(prevent_cse=False)"
    assert repr(pax.nn.remat(Deep(), policy=["a", "b"])) == "Remat(policy=('a', 'b'))"  # type: ignore[call-overload]
    assert repr(pax.nn.remat(Deep(), policy=jax.checkpoint_policies.dots_saveable)) == "Remat(policy=dots_saveable)"
    assert repr(pax.nn.Remat(Deep(), name="body")) == "(body) Remat"


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_modules_built_apart_are_traced_once(policy: Any) -> None:
    call = TraceCounter(lambda module, x: module(x))
    for _ in range(3):
        call(pax.nn.remat(Deep(), policy=policy), X)
    assert call.traces == 1


def test_a_policy_function_made_anew_is_another_one() -> None:
    call = TraceCounter(lambda module, x: module(x))
    for _ in range(2):
        call(pax.nn.remat(Deep(), policy=lambda *_, **__: False), X)
    assert call.traces == 2


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        ("hidden", ArgumentError, r"no policy of this name(.|\n)*fix:   policy=\('hidden',\)"),
        (
            "dots",
            ArgumentError,
            r"fix:   policy='dots_saveable'\n +policy='dots_with_no_batch_dims_saveable'\n +policy=\('dots',\)",
        ),
        ("everything_savable", ArgumentError, r"fix:   policy='everything_saveable'\n"),
        (3, ArgumentTypeError, "Expecting a policy for `policy`(.|\n)*got:   3\n  want:  one of 'everything_saveable'"),
        ((), ArgumentTypeError, "Expecting a policy"),
    ],
    ids=["unknown", "part of a name", "misspelt", "number", "no names"],
)
def test_unknown_policies_are_refused(policy: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        pax.nn.remat(Deep(), policy=policy)
    with pytest.raises(error):
        pax.nn.remat(jnp.sin, policy=policy)
    with pytest.raises(error):
        pax.nn.Stack(Deep, 2, remat=policy)


@pytest.mark.parametrize("value", [3, Deep], ids=["number", "class"])
def test_what_is_no_function_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a module or a function"):
        pax.nn.remat(value)


@pytest.mark.parametrize("value", [3, pax.RngSeq(seed=0)], ids=["number", "module"])
def test_what_cannot_be_called_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Expecting a callable module"):
        pax.nn.Remat(value)


def test_errors_of_the_module_name_its_place() -> None:
    model = pax.nn.Sequential(pax.nn.remat(Deep()))
    with pytest.raises(ArgumentTypeError, match=r"where: modules\[0\].module.first \(Linear\)"):
        pax.purecall(model, jnp.ones((2, 5)))


def test_errors_of_a_module_outside_name_no_place_inside() -> None:
    outside = pax.nn.Sequential(Deep())

    class CallsOutside(pax.Module):
        def __call__(self, x: jax.Array) -> Any:
            return pax.purecall(outside, x)[1]

    with pytest.raises(ArgumentTypeError, match=r"where: modules\[0\].first \(Linear\)"):
        pax.nn.remat(CallsOutside())(jnp.ones((2, 5)))
