"""pax.nn.Ensemble."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, MutationError, StructureError

X = jax.random.normal(jax.random.key(0), (2, 3))


class Member(pax.Module):
    """A layer with batch normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = pax.nn.Linear(3, 4)
        self.norm = pax.nn.BatchNorm1D(4, data_format="NWC")
        self.drop = pax.nn.Dropout(0.5)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.drop(self.norm(self.fc(x)))


def seeded(make: Any) -> Any:
    pax.seed_rng_key(7)
    return make()


def linears(size: int = 3) -> Any:
    return seeded(lambda: pax.nn.Ensemble(lambda: pax.nn.Linear(3, 4), size))


def assert_close(got: Any, want: Any) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_seeded_values_are_those_of_members_built_one_after_the_other() -> None:
    members = seeded(lambda: [Member() for _ in range(3)])
    ensemble = seeded(lambda: pax.nn.Ensemble(Member, 3))
    assert_close(list(ensemble), members)
    assert treedef(list(ensemble)) == treedef(members)


def test_a_key_is_split_into_one_for_each_member() -> None:
    key = jax.random.key(1)

    def make(rng_key: jax.Array) -> pax.nn.Linear:
        return pax.nn.Linear(3, 4, rng_key=rng_key)

    assert_close(list(pax.nn.Ensemble(make, 2, rng_key=key)), [make(own) for own in jax.random.split(key)])


def test_all_members_get_the_same_input() -> None:
    ensemble = linears()
    assert_close(ensemble(X), jnp.stack([member(X) for member in ensemble]))


def test_each_member_gets_its_own_input() -> None:
    ensemble, xs = linears(), jnp.stack([X, 2 * X, 3 * X])
    want = jnp.stack([member(x) for member, x in zip(ensemble, xs, strict=True)])
    assert_close(ensemble(xs, in_axes=0), want)
    assert_close(ensemble(jnp.moveaxis(xs, 0, 1), in_axes=(1,)), want)


def test_gradients_are_those_of_each_member() -> None:
    ensemble = linears()
    gradients = pax.grad(lambda module: (module(X) ** 2).sum())(ensemble)
    assert_close(list(gradients), [pax.grad(lambda module: (module(X) ** 2).sum())(member) for member in ensemble])


def test_members_have_states_and_random_numbers_of_their_own() -> None:
    ensemble = seeded(lambda: pax.nn.Ensemble(Member, 3))
    x = jax.random.normal(jax.random.key(1), (4, 5, 3))
    call = jax.jit(pax.purecall)
    updated, outputs = call(ensemble, x)
    pairs = [call(member, x) for member in ensemble]
    assert_close(outputs, jnp.stack([output for _, output in pairs]))
    assert_close(list(updated), [member for member, _ in pairs])
    dropped = np.asarray(outputs) == 0
    assert (dropped[0] != dropped[1]).any()
    assert pax.purecall(ensemble, x)[0].parameters() == ensemble.parameters()
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        ensemble(x)
    assert ensemble.eval()(x).shape == (3, 4, 5, 4)


def test_from_modules_and_names() -> None:
    members = [pax.nn.Linear(3, 4) for _ in range(2)]
    ensemble = pax.nn.Ensemble.from_modules(members, name="committee")
    assert ensemble.summary() == "(committee) Ensemble(size=2)\n└── Linear(in_dim=3, out_dim=4, with_bias=True)"
    assert_close(list(ensemble), members)
    assert len(ensemble) == 2


def test_an_ensemble_of_stacks() -> None:
    ensemble = pax.nn.Ensemble(lambda: pax.nn.Stack(lambda: pax.nn.Linear(3, 3), 2), 4)
    assert_close(ensemble(X), jnp.stack([member(X) for member in ensemble]))


def test_what_is_no_ensemble_is_refused() -> None:
    with pytest.raises(ArgumentError, match="Expecting positive values for `size`"):
        pax.nn.Ensemble(Member, 0)
    with pytest.raises(ArgumentTypeError, match="Expecting a function that makes a module"):
        pax.nn.Ensemble(Member(), 2)
    with pytest.raises(StructureError, match="where: Ensemble, module 1"):
        pax.nn.Ensemble.from_modules([pax.nn.Linear(3, 4), pax.nn.Linear(3, 5)])
    with pytest.raises(StructureError, match=r"first axis of size 3.\n  where: Ensemble, member, weight"):
        linears().replace(member=pax.nn.Linear(3, 4).replace(weight=jnp.ones((4, 4))))(X)


def test_errors_of_members_name_their_place() -> None:
    with pytest.raises(ArgumentTypeError, match=r"where: modules\[0\].member \(Linear\)"):
        pax.purecall(pax.nn.Sequential(linears()), jnp.ones((2, 5)))


@pytest.mark.parametrize(
    ("in_axes", "kind", "text"),
    [
        ("a", ArgumentTypeError, "Expecting an axis for `in_axes`."),
        ((0, 0), ArgumentError, "Expecting one axis per input for `in_axes`."),
        (0, ArgumentError, "Expecting an input with an axis for the members.\n  where: Ensemble, input 0\n  got: "),
        ((-3,), ArgumentError, "length 2 along axis -3"),
    ],
)
def test_axes_of_members_are_checked(in_axes: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind) as caught:
        pax.nn.Ensemble(lambda: pax.nn.Linear(2, 2), 2)(jnp.ones((3, 2)), in_axes=in_axes)
    assert text in str(caught.value)


def test_an_ensemble_can_be_made_from_an_iterator() -> None:
    modules: Any = (pax.nn.Linear(2, 2) for _ in range(3))
    assert len(pax.nn.Ensemble.from_modules(modules)) == 3
