"""opax.masked, and selectors inside of chains."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import cloudpickle
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import opax
import pax
from helpers.modules import Linear, Net
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, SelectorError, StructureError

PARAMS = {"a": jnp.ones(2), "b": jnp.ones((2, 3)), "c": jnp.ones(())}
GRADS = jax.tree.map(lambda p: 0.5 * p, PARAMS)
MODES = pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}], ids=["plain", "flat", "loose"])


def is_matrix(leaf: Any) -> bool:
    return bool(leaf.ndim > 1)


def is_encoder_weight(path: Any, leaf: Any) -> bool:
    return jax.tree_util.keystr(path) == ".encoder.weight"


SELECTORS = {
    "pattern": "encoder/weight",
    "code": "encoder.weight",
    "path": is_encoder_weight,
    "lambda": lambda path, leaf: "encoder.weight" in jax.tree_util.keystr(path),
    "bools": jax.tree.map(lambda leaf: leaf.shape == (2, 3), Net().parameters()),
}


def test_only_selected_updates_are_transformed_and_have_state() -> None:
    optimizer = opax.masked(opax.trace(0.5), is_matrix)(PARAMS)
    optimizer, updates = pax.purecall(optimizer, GRADS)
    optimizer, updates = pax.purecall(optimizer, GRADS)
    np.testing.assert_array_equal(updates["b"], np.full((2, 3), 0.75, np.float32))
    assert updates["a"] is GRADS["a"]
    assert updates["c"] is GRADS["c"]
    assert optimizer.inner.trace["a"] == optimizer.inner.trace["c"] == pax.EmptyNode()
    assert optimizer.mask == (False, True, False)
    assert repr(optimizer) == "masked.<locals>.Masked"


@MODES
@pytest.mark.parametrize("kind", SELECTORS)
def test_every_kind_of_selector_works_in_every_mode(kind: str, options: dict[str, Any]) -> None:
    params = Net().parameters()
    optimizer = opax.chain(opax.masked(opax.scale(3.0), SELECTORS[kind]), opax.trace(0.5))(params, **options)
    updates, _ = opax.transform_gradients(params, optimizer, params)
    want = params.replace(encoder=params.encoder.replace(weight=3.0 * params.encoder.weight))
    jax.tree.map(np.testing.assert_array_equal, updates, want)


@MODES
def test_a_class_selects_in_every_mode(options: dict[str, Any]) -> None:
    params = Net().parameters()
    optimizer = opax.chain(opax.masked(opax.scale(0.0), Linear))(params, **options)
    updates, _ = opax.transform_gradients(params, optimizer, params)
    assert [bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(updates)] == [False, False, True, *[False] * 4]


@MODES
def test_selectors_inside_of_a_part_speak_of_the_whole_tree(options: dict[str, Any]) -> None:
    params = Net().parameters()
    inner = opax.chain(opax.scale(2.0), opax.masked(opax.scale(5.0), "encoder/bias"))
    optimizer = opax.chain(opax.chain(opax.masked(inner, Linear)))(params, **options)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = opax.transform_gradients(ones, optimizer, params)
    assert [float(leaf.ravel()[0]) for leaf in jax.tree.leaves(updates)] == [2, 10, 1, 2, 2, 2, 2]
    with pytest.raises(SelectorError, match="norm"):
        opax.chain(opax.masked(opax.chain(opax.masked(opax.scale(5.0), "norm")), Linear))(params, **options)


@MODES
def test_maths_is_that_of_optax(options: dict[str, Any]) -> None:
    optimizer = opax.chain(opax.masked(opax.clip_by_global_norm(0.1), is_matrix), opax.sgd(0.1))(PARAMS, **options)
    theirs = optax.chain(
        optax.masked(optax.clip_by_global_norm(0.1), jax.tree.map(is_matrix, PARAMS)), optax.sgd(0.1, momentum=0.9)
    )
    state = theirs.init(PARAMS)
    params = want = PARAMS
    for _ in range(3):
        updates, optimizer = opax.transform_gradients(GRADS, optimizer, params)
        params = opax.apply_updates(params, updates)
        expected, state = theirs.update(GRADS, state, want)
        want = optax.apply_updates(want, expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, want)


@hypothesis.given(
    shapes=st.lists(st.sampled_from([(), (2,), (2, 3)]), min_size=1, max_size=6),
    data=st.data(),
    options=st.sampled_from([{}, {"flatten": True}, {"strict": False}]),
)
@hypothesis.settings(max_examples=25)
def test_any_mask_of_any_tree(shapes: list[Any], data: Any, options: dict[str, Any]) -> None:
    params = {f"p{i}": [np.full(shape, float(i + 1), np.float32)] for i, shape in enumerate(shapes)}
    mask = data.draw(st.lists(st.booleans(), min_size=len(shapes), max_size=len(shapes)).filter(any))
    bools = {f"p{i}": flag for i, flag in enumerate(mask)}
    optimizer = opax.chain(opax.masked(opax.chain(opax.trace(0.5), opax.scale(2.0)), bools))(params, **options)
    updates, optimizer = opax.transform_gradients(params, optimizer, params)
    updates, optimizer = opax.transform_gradients(params, optimizer, params)
    assert len(jax.tree.leaves(optimizer[0].inner[0].trace)) == sum(mask)
    for i, flag in enumerate(mask):
        np.testing.assert_array_equal(updates[f"p{i}"][0], params[f"p{i}"][0] * (3.0 if flag else 1.0))


def test_equal_factories_are_equal_and_give_one_trace() -> None:
    """KD-02: each call made a new class, and a new trace."""
    step = TraceCounter(lambda optimizer: opax.transform_gradients(GRADS, optimizer, PARAMS))
    makers: list[Callable[[], Any]] = [
        lambda: opax.masked(opax.adam(0.1), "b"),
        lambda: opax.masked(opax.adam(0.1), is_matrix),
        lambda: opax.masked(opax.adam(0.1), lambda leaf: leaf.ndim > 1),
    ]
    for make in makers:
        assert make() == make()
        assert hash(make()) == hash(make())
        step(make()(PARAMS))
        step(step(make()(PARAMS))[1])
    # What counts is what is selected, however.
    assert step.traces == 1
    assert opax.masked(opax.adam(0.1), "b") != opax.masked(opax.adam(0.1), "a")
    assert treedef(opax.masked(opax.scale(0.1), "b")(PARAMS)) != treedef(opax.masked(opax.scale(0.1), "a")(PARAMS))


def test_predicates_with_other_contents_are_other_predicates() -> None:
    def larger_than(size: int) -> Any:
        return opax.masked(opax.scale(0.1), lambda leaf: leaf.size > size)

    assert larger_than(1) == larger_than(1)
    assert larger_than(1) != larger_than(2)


def test_pickling() -> None:
    for selector in ("b", is_matrix, {"a": False, "b": True, "c": False}):
        factory = opax.masked(opax.adam(0.1), selector)
        assert pickle.loads(pickle.dumps(factory)) == factory
    factory = opax.masked(opax.adam(0.1), lambda leaf: leaf.ndim > 1)
    assert cloudpickle.loads(cloudpickle.dumps(factory))(PARAMS).mask == (False, True, False)
    with pytest.raises(ArgumentTypeError, match='select by a pattern such as "encoder'):
        pickle.dumps(factory)
    # The optimizer itself holds no predicate.
    again = pickle.loads(pickle.dumps(factory(PARAMS)))
    pax.assert_structure_equal(again, factory(PARAMS))


def test_a_tree_of_bools_that_cannot_be_hashed_makes_comparable_optimizers() -> None:
    factories = [opax.masked(opax.adam(0.1), {"a": False, "b": True, "c": False}) for _ in range(2)]
    assert factories[0] == factories[1]
    assert treedef(factories[0](PARAMS)) == treedef(opax.masked(opax.adam(0.1), is_matrix)(PARAMS))
    with pytest.raises(TypeError, match="unhashable"):
        hash(factories[0])


def test_it_works_under_jit_scan_and_vmap() -> None:
    factory = opax.masked(opax.adam(0.1), is_matrix)

    def run(params: Any, grads: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            updates, optimizer = opax.transform_gradients(grads, carry[1], carry[0])
            return (opax.apply_updates(carry[0], updates), optimizer), None

        return jax.lax.scan(step, (params, factory(params)), None, length=3)[0][0]

    want, optimizer = PARAMS, factory(PARAMS)
    for _ in range(3):
        updates, optimizer = opax.transform_gradients(GRADS, optimizer, want)
        want = opax.apply_updates(want, updates)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5)  # noqa: E731
    jax.tree.map(close, jax.jit(run)(PARAMS, GRADS), want)
    two = [jax.tree.map(lambda x: jnp.stack([x, x]), tree) for tree in (PARAMS, GRADS)]
    jax.tree.map(close, jax.tree.map(lambda x: x[1], jax.vmap(run)(*two)), want)


def test_gradients_pass_through_it() -> None:
    def loss(params: Any) -> jax.Array:
        _, updates = pax.purecall(opax.masked(opax.scale(3.0), "b")(params), params)
        return jnp.sum(updates["a"]) + jnp.sum(updates["b"])

    grads = jax.grad(loss)(PARAMS)
    assert float(grads["a"][0]) == 1
    assert float(grads["b"][0, 0]) == 3


def test_dtypes_of_updates_stay_and_state_has_full_precision() -> None:
    """KD-97."""
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    with jax.numpy_dtype_promotion("strict"):
        optimizer = opax.masked(opax.adam(0.1), is_matrix)(half)
        updates, optimizer = opax.transform_gradients(half, optimizer, half)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    assert optimizer.inner[0].nu["b"].dtype == jnp.float32


@pytest.mark.parametrize("params", [jnp.ones(3), [jnp.ones(3), None], (jnp.ones(3), pax.EmptyNode())])
@MODES
def test_any_tree_is_a_tree_of_parameters(params: Any, options: dict[str, Any]) -> None:
    optimizer = opax.chain(opax.masked(opax.scale(2.0), "*" if isinstance(params, list | tuple) else True))(
        params, **options
    )
    updates, _ = opax.transform_gradients(params, optimizer, params)
    pax.assert_structure_equal(updates, params)
    assert float(jax.tree.leaves(updates)[0][0]) == 2


@pytest.mark.parametrize("selector", ["encoder", is_matrix, Linear])
@pytest.mark.parametrize("empty", [(), {}, pax.freeze_parameters(Net()).parameters()], ids=["tuple", "dict", "frozen"])
@MODES
def test_a_tree_without_leaves_needs_no_selection(selector: Any, empty: Any, options: dict[str, Any]) -> None:
    optimizer = opax.chain(opax.masked(opax.adam(0.1), selector))(empty, **options)
    assert optimizer[0].mask == ()
    updates, _ = opax.transform_gradients(empty, optimizer, empty)
    pax.assert_structure_equal(updates, empty)


def test_a_selection_of_nothing_lists_the_leaves() -> None:
    with pytest.raises(SelectorError) as caught:
        opax.chain(opax.masked(opax.scale(0.1), "enc"))(Net().parameters(), flatten=True)
    assert "where: masked\n  got:   'enc'" in str(caught.value)
    assert "layers/2/bias: float32[1]" in str(caught.value)


OTHER = {key: GRADS[key] for key in "ab"}


@pytest.mark.parametrize(
    ("updates", "params", "text"),
    [
        (OTHER, None, "The updates have other leaves"),
        (GRADS, OTHER, "The parameters have other leaves"),
        ({**OTHER, "d": jnp.ones(())}, None, "got:   also `['d']`\n         no `['c']`"),
        (list(GRADS.values()), None, "got:   also `[0]`"),
        (None, None, "got:   no `['a']`"),
        (OrderedDict([("b", GRADS["b"]), ("a", GRADS["a"]), ("c", GRADS["c"])]), None, "got:   another order"),
    ],
)
def test_other_trees_are_refused(updates: Any, params: Any, text: str) -> None:
    optimizer = opax.masked(opax.scale(0.1), is_matrix)(PARAMS)
    with pytest.raises(StructureError) as caught:
        optimizer(updates, params)
    assert text in str(caught.value)
    assert "where: Masked" in str(caught.value)
    assert "fix:   create the optimizer anew after freezing" in str(caught.value)


@pytest.mark.parametrize("options", [{"flatten": True}, {"strict": False}])
def test_another_number_of_leaves_is_refused_in_flat_chains(options: dict[str, Any]) -> None:
    optimizer = opax.chain(opax.masked(opax.scale(0.1), is_matrix))(PARAMS, **options)
    with pytest.raises(StructureError, match=r"got:   no `\[2\]`"):
        opax.transform_gradients(OTHER, optimizer, OTHER)


def test_missing_parameters_are_one_clear_error() -> None:
    """KD-93."""
    optimizer = opax.chain(opax.masked(opax.add_decayed_weights(0.1), is_matrix))(PARAMS, flatten=True)
    with pytest.raises(ArgumentError, match="expecting params argument"):
        optimizer(GRADS)


def test_a_transformation_has_to_return_all_of_its_updates() -> None:
    class Forgetful(opax.GradientTransformation):
        def __call__(self, updates: Any, params: Any = None) -> Any:
            return {}

    with pytest.raises(StructureError, match=r"as many updates as it gets.\n  where: Masked\n  got:   0 updates"):
        opax.masked(Forgetful, is_matrix)(PARAMS)(GRADS)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("b", opax.scale(0.1)), "Expecting a selector in the place of this transformation.\n  where: masked"),
        ((opax.GradientTransformation, opax.GradientTransformation), "Expecting a selector in the place"),
        ((opax.scale(0.1), 3), "This is no selector.\n  where: masked"),
        ((3, "b"), "Expecting functions that return a `GradientTransformation`.\n  where: masked"),
        ((opax.scale(0.1)(PARAMS), "b"), "Expecting transformations without parameters.\n  where: masked"),
    ],
)
def test_other_arguments_are_refused(arguments: Any, text: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        opax.masked(*arguments)(PARAMS)
    assert text in str(caught.value)
