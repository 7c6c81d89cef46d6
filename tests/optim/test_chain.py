"""opax.chain."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from helpers.modules import Holder, Linear
from pax.errors import ArgumentError, ArgumentTypeError, StructureError

PARAMS = {"a": jnp.ones(2), "b": jnp.ones(3)}
LEAVES = [jnp.ones(2), jnp.ones(3)]


class Recorder(pax.Module):
    """A model that stores an activation in its forward pass: its structure changes in the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = Linear().replace(weight=jnp.ones((2, 2)))

    def __call__(self, x: jax.Array) -> jax.Array:
        self.activation = self.fc(x)
        return self.activation


def test_transformations_are_called_in_order() -> None:
    optimizer = opax.chain(opax.clip(1.0), opax.scale(10.0))(jnp.ones(1))
    np.testing.assert_array_equal(optimizer(jnp.array([5.0])), [10.0])


def test_an_empty_chain_is_the_identity() -> None:
    updates = object()
    optimizer = opax.chain()(PARAMS)
    assert optimizer(updates) is updates
    assert len(optimizer) == 0


def test_indexing() -> None:
    optimizer = opax.chain(opax.clip_by_global_norm(1.0), opax.adam(opax.schedule.exponential_decay(0.1, 10)))(PARAMS)
    assert isinstance(optimizer.transforms, list)
    assert len(optimizer) == 2
    assert repr(optimizer[0]) == "clip_by_global_norm.<locals>.ClipByGlobalNorm"
    assert int(optimizer[-1][0].count) == 0
    assert float(optimizer[-1][-1].learning_rate) == pytest.approx(0.1)
    assert optimizer[:1] == optimizer.transforms[:1]
    with pytest.raises(IndexError):
        optimizer[2]


def test_classes_and_functions_are_transformations() -> None:
    class Negate(opax.GradientTransformation):
        def __call__(self, updates: Any, params: Any = None) -> Any:
            return jax.tree.map(jnp.negative, updates)

    optimizer = opax.chain(Negate, lambda params: opax.scale(2.0)(params))(PARAMS)
    np.testing.assert_array_equal(optimizer(PARAMS)["a"], [-2.0, -2.0])
    assert repr(optimizer[0]).endswith("Negate")


@pytest.mark.parametrize("options", [{}, {"strict": True}])
def test_by_default_the_state_has_the_structure_of_the_parameters(options: dict[str, Any]) -> None:
    optimizer = opax.adam().init(PARAMS, **options)
    assert set(optimizer[0].mu) == {"a", "b"}
    with pytest.raises(StructureError, match="different structures"):
        opax.transform_gradients(LEAVES, optimizer, PARAMS)


def test_a_flat_state_is_a_list_and_only_the_leaves_have_to_match() -> None:
    optimizer = opax.chain(opax.adam(), opax.trace(0.9))(Linear(2, 2).parameters(), flatten=True)
    assert isinstance(optimizer[0][0].mu, list)
    assert "Linear" not in optimizer.summary()
    grads = {"x": jnp.ones((2, 2)), "y": jnp.ones(2)}
    updates, new = opax.transform_gradients(grads, optimizer, None)
    assert set(updates) == {"x", "y"}
    pax.assert_structure_equal(new, optimizer)


@pytest.mark.parametrize("factory", [opax.adamw(0.1), opax.sgd(0.1), opax.chain(opax.adam(0.1), opax.adam(0.1))])
@pytest.mark.parametrize("options", [{"flatten": True}, {"strict": False}])
def test_all_modes_give_the_same_numbers(factory: Any, options: dict[str, Any]) -> None:
    want, _ = opax.transform_gradients(PARAMS, factory(PARAMS), PARAMS)
    got, _ = opax.transform_gradients(PARAMS, factory(PARAMS, **options), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_structures_of_results() -> None:
    flat = opax.sgd()(PARAMS, flatten=True)
    loose = opax.sgd()(PARAMS, strict=False)
    updates, _ = opax.transform_gradients(LEAVES, flat, PARAMS)
    assert isinstance(updates, list)
    updates, _ = opax.transform_gradients(LEAVES, loose, PARAMS)
    assert isinstance(updates, dict)
    _, updates = pax.purecall(loose, LEAVES)
    assert isinstance(updates, list)


def test_a_model_that_changes_its_structure_in_training() -> None:
    def loss(model: Recorder, x: jax.Array) -> tuple[jax.Array, Recorder]:
        model, y = pax.purecall(model, x)
        return jnp.sum(y**2), model

    model = Recorder()
    optimizer = opax.adam(0.1)(model.parameters(), strict=False)
    losses = []
    for _ in range(3):
        (value, model), grads = pax.value_and_grad(loss, has_aux=True)(model, jnp.ones((1, 2)))
        model, optimizer = opax.apply_gradients(model, optimizer, grads)
        losses.append(float(value))
    assert losses[2] < losses[1] < losses[0]
    assert model.activation.shape == (1, 2)


def test_flatten_and_strict_exclude_each_other() -> None:
    with pytest.raises(ArgumentError, match=r"Cannot set `flatten=True` in strict mode.\n  where: Chain"):
        opax.sgd().init(PARAMS, flatten=True, strict=True)


@pytest.mark.parametrize("options", [{"flatten": True}, {"strict": False}])
def test_another_number_of_leaves_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(StructureError, match=r"different numbers of leaves.\n  where: Chain\n  got:   1 updates"):
        opax.transform_gradients(LEAVES[:1], opax.sgd()(PARAMS, **options), PARAMS)
    with pytest.raises(StructureError, match="different structures"):
        opax.transform_gradients(LEAVES[:1], opax.sgd()(PARAMS, **options), None)


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (opax.scale(0.1)(PARAMS), "fix:   opax.chain(opax.scale(0.1))(params)"),
        (3, "got:   3"),
        (lambda params: params, "which returns a dict of 2"),
        (lambda params: Holder(), "which returns a `Holder`"),
    ],
)
def test_other_things_than_transformations_are_refused(item: Any, line: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        opax.chain(item)(PARAMS)
    assert "where: chain" in str(caught.value)
    assert line in str(caught.value)
