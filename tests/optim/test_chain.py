"""opax.chain."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


class Halve(opax.GradientTransformation):
    """A transformation of a user."""

    def __call__(self, updates: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda leaf: leaf / 2, updates)


def test_transformations_are_called_in_order() -> None:
    optimizer = opax.chain(opax.clip(1.0), opax.scale(10.0))(jnp.ones(1))
    np.testing.assert_array_equal(optimizer(jnp.array([5.0])), [10.0])


def test_an_empty_chain_is_the_identity() -> None:
    updates = object()
    optimizer = opax.chain()(PARAMS)
    assert optimizer(updates) is updates
    assert len(optimizer) == 0


def test_indexing() -> None:
    """KD-98: there was no ``len``."""
    optimizer = opax.chain(opax.clip_by_global_norm(1.0), opax.adam(opax.schedule.exponential_decay(0.1, 10)))(PARAMS)
    assert isinstance(optimizer.transforms, list)
    assert len(optimizer) == 2
    assert repr(optimizer[0]) == "clip_by_global_norm.<locals>.ClipByGlobalNorm"
    assert optimizer[-2] is optimizer[np.int64(0)] is optimizer.transforms[0]
    assert int(optimizer[-1][0].count) == 0
    assert float(optimizer[-1][-1].learning_rate) == pytest.approx(0.1)
    assert optimizer[:1] == optimizer.transforms[:1]
    assert optimizer[::-1] == [optimizer[1], optimizer[0]]
    assert optimizer[5:] == []
    assert [repr(part) for part in optimizer] == [repr(optimizer[0]), repr(optimizer[1])]
    first, second = optimizer
    assert (first, second) == (optimizer[0], optimizer[1])


@pytest.mark.parametrize("index", [2, -3, 100])
def test_an_index_that_is_too_large(index: int) -> None:
    with pytest.raises(IndexError) as caught:
        opax.adam()(PARAMS)[index]
    assert isinstance(caught.value, ArgumentError)
    assert f"got:   optimizer[{index}]\n  want:  -2 <= index < 2" in str(caught.value)
    with pytest.raises(IndexError, match="the chain is empty"):
        opax.chain()(PARAMS)[index]


@pytest.mark.parametrize("index", ["mu", None, 1.0, (0, 1)])
def test_an_index_of_another_kind(index: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Expecting the number of a transformation.\n  where: Chain\n"):
        opax.adam()(PARAMS)[index]


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


@pytest.mark.parametrize("inner", [opax.chain(opax.adam()), opax.chain(opax.chain(opax.chain(opax.trace(0.9))))])
def test_inner_chains_of_a_flat_chain_work_on_lists(inner: Any) -> None:
    optimizer = opax.chain(opax.identity(), inner)(Linear(2, 2).parameters(), flatten=True)
    assert not [module for module in pax.extend.modules_in(optimizer) if isinstance(module, Linear)]
    assert (optimizer[1].flatten, optimizer[1].strict) == (False, None)
    with pytest.raises(ArgumentError, match=r"Cannot set `flatten=True`[^$]*where: transforms\[0\] \(Chain\)"):
        opax.chain(lambda params: inner(params, flatten=True, strict=True))(PARAMS)


@pytest.mark.parametrize("options", [{"flatten": True}, {"strict": False}])
def test_another_number_of_leaves_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(StructureError, match=r"different numbers of leaves.\n  where: Chain\n  got:   1 updates"):
        opax.transform_gradients(LEAVES[:1], opax.sgd()(PARAMS, **options), PARAMS)
    with pytest.raises(StructureError, match="different structures"):
        opax.transform_gradients(LEAVES[:1], opax.sgd()(PARAMS, **options), None)


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (opax.scale(0.1)(PARAMS), "fix:   give opax.scale(0.1), not opax.scale(0.1)(params)"),
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


STRICT = [{}, {"strict": True}]
FLAT = [{"flatten": True}, {"strict": False}]
NESTED = {"a": jnp.ones(2), "b": {"c": jnp.ones(3)}}


@pytest.mark.parametrize("stateful", [opax.adam(), opax.sgd(), opax.chain(opax.clip(1.0), opax.chain(opax.trace(0.9)))])
@pytest.mark.parametrize("params", [NESTED, None])
@pytest.mark.parametrize(
    ("grads", "texts"),
    [
        (
            {"a": jnp.ones(2)},
            ("['b']: got nothing, want a dict of 1", "1 updates", "[1]: got nothing, want float32[3]"),
        ),
        (
            {**NESTED, "d": jnp.ones(1)},
            ("['d']: got float32[1], want nothing", "3 updates", "[2]: got float32[1], want nothing"),
        ),
        (
            {"a": jnp.ones(2), "b": {"c": jnp.ones((3, 1))}},
            (
                "['b']['c']\n  got:   float32[3,1]\n  want:  float32[3]",
                "[1]\n  got:   float32[3,1]\n  want:  float32[3]",
            ),
        ),
        (None, ("the root: got None, want a dict of 2", "0 updates", "[0]: got nothing, want float32[2]")),
    ],
    ids=["missing", "extra", "shape", "None"],
)
def test_gradients_that_do_not_fit_are_one_clear_error(stateful: Any, params: Any, grads: Any, texts: Any) -> None:
    for options in STRICT + FLAT:
        with pytest.raises(StructureError) as caught:
            opax.transform_gradients(grads, stateful(NESTED, **options), params)
        lines = str(caught.value).splitlines()
        assert lines[0].startswith("The updates and ")
        assert lines[1].startswith(("  where: Chain", "  where: transforms["))
        expected = texts[:1] if options in STRICT else texts[1:]
        assert any(text in str(caught.value) for text in expected), str(caught.value)


SHAPES: list[tuple[int, ...]] = [(), (2,), (2, 3), (0,)]
PARTS: dict[str, Any] = {
    "identity": opax.identity(),
    "scale": opax.scale(0.5),
    "schedule": opax.scale_by_schedule(opax.schedule.linear(1.0, 0.5, 4)),
    "clip": opax.clip(0.3),
    "clip_by_global_norm": opax.clip_by_global_norm(0.5),
    "trace": opax.trace(0.9),
    "adam": opax.scale_by_adam(),
    "decay": opax.add_decayed_weights(0.1),
    "rms": opax.scale_by_rms(),
    "class": Halve,
}


def _arrays(shape: tuple[int, ...], dtype: Any, seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def _module(weight: Any, bias: Any) -> Any:
    return Linear(1, 1).replace(weight=weight, bias=bias).parameters()


_leaves = st.builds(_arrays, st.sampled_from(SHAPES), st.sampled_from([jnp.float32, jnp.bfloat16]), st.integers(0, 99))
_trees = st.recursive(
    _leaves | st.none() | st.just(pax.EmptyNode()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.builds(_module, _leaves, _leaves)
    ),
    max_leaves=6,
)
_chains = st.recursive(
    st.sampled_from(sorted(PARTS)).map(PARTS.__getitem__),
    lambda inner: st.lists(inner, max_size=4).map(lambda parts: opax.chain(*parts)),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(_chains, _trees, st.integers(0, 99))
def test_random_chains_compute_the_same_in_all_modes(part: Any, params: Any, seed: int) -> None:
    factory = opax.chain(part)
    shapes = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(params)]
    steps = [[_arrays(*shape, seed + 7 * step + i) for i, shape in enumerate(shapes)] for step in range(2)]
    found = []
    for options in STRICT + FLAT:
        optimizer, updates = factory(params, **options), None
        for leaves in steps:
            grads = jax.tree.unflatten(jax.tree.structure(params), leaves)
            updates, optimizer = opax.transform_gradients(grads, optimizer, params)
        pax.assert_structure_equal(updates, params)
        pax.assert_structure_equal(optimizer, factory(params, **options))
        found.append((updates, optimizer))
    want, state = (jax.tree.leaves(tree) for tree in found[0])
    for updates, optimizer in found[1:]:
        for got, expected in zip(jax.tree.leaves(updates) + jax.tree.leaves(optimizer), want + state, strict=True):
            np.testing.assert_array_equal(got, expected, strict=True)


@pytest.mark.parametrize(
    ("factory", "place"),
    [
        (opax.chain(opax.clip(1.0), opax.differentially_private_aggregate(1.0, 1.0, 0)), "first"),
        (opax.chain(opax.clip(1.0), opax.chain(opax.differentially_private_aggregate(1.0, 1.0, 0))), "first"),
        (opax.chain(opax.params_ema(0.9), opax.sgd(0.1)), "last"),
        (opax.chain(opax.lookahead(opax.sgd(0.1)), opax.scale(0.1)), "last"),
        (opax.chain(opax.chain(opax.sgd(0.1), opax.params_ema(0.9)), opax.scale(0.1)), "last"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"flatten": True}])
def test_transformations_in_a_wrong_place_are_refused(factory: Any, place: str, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=f"has to be the {place} one of a chain") as caught:
        factory(PARAMS, **options)
    assert "where: Chain, transforms[" in str(caught.value)


def test_what_keeps_updates_may_follow_what_has_to_be_last() -> None:
    factory = opax.chain(opax.lookahead(opax.sgd(0.1)), opax.params_ema(0.9))
    assert len(factory(PARAMS)) == 2


class ReturnsNothing(opax.GradientTransformation):
    """Forgot to return."""

    def __call__(self, updates: Any, params: Any = None) -> Any:
        pass


def test_a_transformation_that_returns_another_tree_is_named() -> None:
    optimizer = opax.chain(opax.scale(0.1), ReturnsNothing, opax.scale(0.1))(PARAMS)
    with pytest.raises(StructureError, match="has to return a tree like the updates") as caught:
        optimizer(PARAMS)
    assert "transforms[1], ReturnsNothing" in str(caught.value)


@pytest.mark.parametrize(
    ("function", "fix"),
    [(opax.identity, "opax.identity(...)"), (optax.adam, "opax.from_optax(optax.adam, ...)")],
)
def test_functions_that_were_not_called_are_refused(function: Any, fix: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        opax.chain(function)(PARAMS)
    assert f"fix:   {fix}" in str(caught.value)


def test_options_may_be_given_by_position() -> None:
    pax.assert_structure_equal(opax.adam(0.1)(PARAMS, True), opax.adam(0.1)(PARAMS, flatten=True))
    pax.assert_structure_equal(opax.adam(0.1).init(PARAMS, False, False), opax.adam(0.1)(PARAMS, strict=False))
    with pytest.raises(ArgumentTypeError, match="There is no such option"):
        opax.adam(0.1)(PARAMS, True, flatten=True)
    with pytest.raises(ArgumentTypeError, match="Only chains have options"):
        opax.scale(0.1)(PARAMS, flatten=True)
