"""opax.partition."""

import pickle
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
from helpers.modules import Linear, Net, Norm
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, SelectorError, StructureError

PARAMS = {"encoder": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, "head": jnp.ones(3), "scale": jnp.ones(())}
GRADS = jax.tree.map(lambda p: 0.5 * p, PARAMS)
MODES = pytest.mark.parametrize("options", [{}, {"flatten": True}, {"strict": False}], ids=["plain", "flat", "loose"])


def is_scalar(leaf: Any) -> bool:
    return bool(leaf.ndim == 0)


def in_three_parts() -> Any:
    return opax.partition(("encoder", opax.adam(0.1)), (is_scalar, opax.sgd(0.5, 0.0)), rest=opax.sgd(0.01))


def test_each_part_has_its_own_transformation() -> None:
    optimizer = in_three_parts()(PARAMS)
    assert repr(optimizer) == "partition.<locals>.Partition"
    assert len(optimizer) == 3
    assert optimizer.owners == (0, 0, 2, 1)
    assert optimizer[1:] == optimizer.parts[1:]
    assert treedef(optimizer[0][0].mu["encoder"]) == treedef(PARAMS["encoder"])
    assert optimizer[0][0].mu["head"] == optimizer[-1][0].trace["encoder"]["w"] == pax.EmptyNode()
    updates, optimizer = opax.transform_gradients(GRADS, optimizer, PARAMS)
    np.testing.assert_allclose(updates["encoder"]["w"], np.full((2, 3), 0.1), rtol=1e-5)
    np.testing.assert_allclose(updates["scale"], 0.25)
    np.testing.assert_allclose(updates["head"], np.full(3, 0.005), rtol=1e-6)
    assert int(optimizer[0][0].count) == 1


def test_each_part_has_its_own_learning_rate() -> None:
    schedule = opax.schedule.exponential_decay(0.1, 10)
    optimizer = opax.partition(("encoder", opax.adam(schedule)), rest=opax.sgd(0.5))(PARAMS)
    for _ in range(2):
        _, optimizer = opax.transform_gradients(GRADS, optimizer, PARAMS)
    assert float(optimizer[0].learning_rate) == pytest.approx(0.1 * 2**-0.2)
    assert float(optimizer[-1].learning_rate) == 0.5


@MODES
def test_maths_is_that_of_optax(options: dict[str, Any]) -> None:
    labels = {"encoder": {"w": 0, "b": 0}, "head": 2, "scale": 1}
    theirs = optax.multi_transform({0: optax.adam(0.1), 1: optax.sgd(0.5), 2: optax.sgd(0.01, momentum=0.9)}, labels)
    optimizer, state = opax.chain(in_three_parts())(PARAMS, **options), theirs.init(PARAMS)
    params = want = PARAMS
    for _ in range(5):
        updates, optimizer = opax.transform_gradients(params, optimizer, params)
        params = opax.apply_updates(params, updates)
        expected, state = theirs.update(want, state, want)
        want = optax.apply_updates(want, expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, want)


@MODES
def test_the_first_selector_that_selects_a_leaf_gets_it(options: dict[str, Any]) -> None:
    params = jax.tree.map(jnp.ones_like, Net().parameters())
    factory = opax.partition(
        ("**/weight", opax.scale(2.0)),
        (lambda path, leaf: "layers[2]" in jax.tree_util.keystr(path), opax.scale(3.0)),
        (Linear, opax.scale(5.0)),
        (jax.tree.map(lambda _: True, params), opax.scale(7.0)),
    )
    optimizer = opax.chain(factory)(params, **options)
    updates, _ = opax.transform_gradients(params, optimizer, params)
    paths = [".encoder.weight", ".encoder.bias", ".norm.scale", ".layers[0].weight", ".layers[0].bias"]
    paths += [".layers[2].weight", ".layers[2].bias"]
    found = {jax.tree_util.keystr(path): float(x.ravel()[0]) for path, x in jax.tree.leaves_with_path(updates)}
    assert found == dict(zip(paths, [2, 5, 7, 2, 5, 2, 3], strict=True))


@MODES
def test_partitions_nest(options: dict[str, Any]) -> None:
    params = jax.tree.map(jnp.ones_like, Net().parameters())
    inner = opax.partition(
        ("encoder", opax.scale(2.0)), ("layers/0", opax.chain(opax.scale(3.0))), rest=opax.scale(5.0)
    )
    optimizer = opax.chain(opax.partition((Linear, opax.chain(inner)), (Norm, opax.scale(7.0))))(params, **options)
    updates, _ = opax.transform_gradients(params, optimizer, params)
    assert [float(x.ravel()[0]) for x in jax.tree.leaves(updates)] == [2, 2, 7, 3, 3, 5, 5]
    assert repr(optimizer[0][0][0][-1]) == "scale.<locals>.Scale"


@MODES
def test_a_part_may_keep_its_state_flat(options: dict[str, Any]) -> None:
    def flat(params: Any) -> Any:
        return opax.chain(opax.masked(opax.sgd(0.1), "encoder/b"))(params, flatten=True)

    optimizer = opax.chain(opax.partition(("encoder", flat), rest=opax.scale(0.0)))(PARAMS, **options)
    updates, _ = opax.transform_gradients(GRADS, optimizer, PARAMS)
    np.testing.assert_allclose(updates["encoder"]["b"], np.full(3, 0.05), rtol=1e-6)
    np.testing.assert_array_equal(updates["encoder"]["w"], GRADS["encoder"]["w"])
    assert isinstance(optimizer[0][0][0].inner[0].trace, list)


@hypothesis.given(
    owners=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    options=st.sampled_from([{}, {"flatten": True}, {"strict": False}]),
)
@hypothesis.settings(max_examples=25)
def test_any_partition_of_any_tree(owners: list[int], options: dict[str, Any]) -> None:
    params = {f"p{i}": [np.full((i % 3 + 1,), float(i + 1), np.float32)] for i in range(len(owners))}
    used = sorted(set(owners))
    parts = [
        (
            {f"p{i}": owner == part for i, owner in enumerate(owners)},
            opax.chain(opax.trace(0.5), opax.scale(part + 1.0)),
        )
        for part in used
    ]
    optimizer = opax.chain(opax.partition(*parts))(params, **options)
    updates, optimizer = opax.transform_gradients(params, optimizer, params)
    updates, optimizer = opax.transform_gradients(params, optimizer, params)
    for i, owner in enumerate(owners):
        np.testing.assert_array_equal(updates[f"p{i}"][0], params[f"p{i}"][0] * 1.5 * (owner + 1))
    kept = [len(jax.tree.leaves(optimizer[0][i][0].trace)) for i in range(len(used))]
    assert kept == [owners.count(part) for part in used]


def test_norms_are_those_of_a_part() -> None:
    optimizer = opax.partition(("encoder", opax.clip_by_global_norm(1.0)), rest=opax.clip_by_global_norm(1.0))(PARAMS)
    _, optimizer = opax.transform_gradients(GRADS, optimizer, None)
    norms = [float(optimizer[index].global_norm) for index in (0, 1)]
    np.testing.assert_allclose(norms, [0.5 * 9**0.5, 0.5 * 4**0.5], rtol=1e-6)


@pytest.mark.parametrize("make", [in_three_parts, lambda: opax.partition(("**", opax.adamw(0.1)))])
def test_equal_factories_are_equal_and_give_one_trace(make: Any) -> None:
    """KD-02: each call made a new class, and a new trace."""
    assert make() == make()
    assert hash(make()) == hash(make())
    assert pickle.loads(pickle.dumps(make())) == make()
    step = TraceCounter(lambda optimizer: opax.transform_gradients(GRADS, optimizer, PARAMS))
    for factory in (make(), pickle.loads(pickle.dumps(make()))):
        optimizer = factory(PARAMS)
        pax.assert_structure_equal(pickle.loads(pickle.dumps(optimizer)), optimizer)
        pax.assert_structure_equal(cloudpickle.loads(cloudpickle.dumps(optimizer)), optimizer)
        step(step(optimizer)[1])
    assert step.traces == 1


def test_other_parts_make_other_structures() -> None:
    a, b = (opax.partition((name, opax.scale(0.1)), rest=opax.scale(0.2)) for name in ("encoder", "head"))
    assert a != b
    assert treedef(a(PARAMS)) != treedef(b(PARAMS))


def test_it_works_under_jit_scan_vmap_and_donation() -> None:
    def step(carry: Any, grads: Any) -> Any:
        params, optimizer = carry
        updates, optimizer = opax.transform_gradients(grads, optimizer, params)
        return (opax.apply_updates(params, updates), optimizer), None

    many = jax.tree.map(lambda g: jnp.stack([g, -g, 2 * g]), GRADS)
    want = (PARAMS, in_three_parts()(PARAMS))
    donated = jax.jit(step, donate_argnums=0)
    carry = jax.tree.map(jnp.copy, want)
    for index in range(3):
        grads = jax.tree.map(lambda g, index=index: g[index], many)
        want, carry = step(want, grads)[0], donated(carry, grads)[0]
    jitted = jax.jit(lambda params: jax.lax.scan(step, (params, in_three_parts()(params)), many)[0])
    vmapped = jax.vmap(jitted)(jax.tree.map(lambda x: jnp.stack([x, x]), PARAMS))
    for got in (carry, jitted(PARAMS), jax.tree.map(lambda x: x[1], vmapped)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, want)


def test_dtypes_of_updates_stay_and_state_is_strongly_typed() -> None:
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    with jax.numpy_dtype_promotion("strict"):
        optimizer = in_three_parts()(half)
        updates, new = opax.transform_gradients(half, optimizer, half)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    kinds = [[(x.dtype, x.shape, x.weak_type) for x in jax.tree.leaves(tree)] for tree in (optimizer, new)]
    assert kinds[0] == kinds[1]


def test_nothing_is_trainable() -> None:
    """KD-99: moments of a module's shape counted as trainable."""
    optimizer = opax.partition((Linear, opax.adam(0.1)), rest=opax.sgd())(Net().parameters())
    assert jax.tree.leaves(optimizer.parameters()) == []


def test_state_dicts() -> None:
    _, optimizer = opax.transform_gradients(GRADS, in_three_parts()(PARAMS), PARAMS)
    again = in_three_parts()(PARAMS).load_state_dict(optimizer.state_dict())
    jax.tree.map(np.testing.assert_array_equal, again, optimizer)


def test_rest_may_be_empty_or_all() -> None:
    optimizer = opax.partition((True, opax.scale(2.0)), rest=opax.adam(0.1))(PARAMS)
    assert jax.tree.leaves(optimizer[-1][0].mu) == []
    updates, _ = opax.transform_gradients(GRADS, optimizer, PARAMS)
    assert float(updates["scale"]) == 1.0
    assert opax.partition(rest=opax.scale(2.0))(PARAMS).owners == (0, 0, 0, 0)
    assert opax.partition()({})({}) == {}


@pytest.mark.parametrize("empty", [(), {}, pax.freeze_parameters(Net()).parameters()], ids=["tuple", "dict", "frozen"])
@MODES
def test_a_tree_without_leaves_has_empty_parts(empty: Any, options: dict[str, Any]) -> None:
    factory = opax.partition(("encoder", opax.adamw(0.1)), (Linear, opax.sgd()))
    optimizer = opax.chain(factory)(empty, **options)
    updates, _ = opax.transform_gradients(empty, optimizer, empty)
    pax.assert_structure_equal(updates, empty)


def test_leaves_of_no_part_are_an_error_that_lists_them() -> None:
    with pytest.raises(ArgumentError) as caught:
        opax.chain(opax.partition(("encoder", opax.adam(0.1))))(PARAMS, flatten=True)
    assert str(caught.value).startswith(
        "Some parameters belong to no part.\n  where: partition\n  got:   no part selects\n"
        "         ['head']: float32[3]\n         ['scale']: float32[]\n  want:"
    )
    assert "pax.freeze_parameters" in str(caught.value)
    assert "rest=opax.scale(0.0)" in str(caught.value)


def test_long_lists_are_cut() -> None:
    with pytest.raises(ArgumentError, match="and 91 more"):
        opax.partition(([i == 0 for i in range(102)], opax.scale(0.1)))([1.0] * 102)


def test_a_part_for_which_nothing_is_left_is_an_error() -> None:
    with pytest.raises(ArgumentError) as caught:
        opax.partition(("encoder", opax.sgd()), ("head", opax.sgd()), ("*", opax.sgd()), ("*/b", opax.adam()))(PARAMS)
    assert str(caught.value).startswith(
        "Nothing is left for a part: earlier ones take all that it selects.\n  where: partition, part 3\n"
        "  got:   these leaves, taken by part 0:\n         ['encoder']['b']: float32[3]"
    )


def test_a_selection_of_nothing_names_the_part() -> None:
    with pytest.raises(SelectorError, match=r"selects nothing.\n  where: partition, part 1\n  got:   'enc'"):
        opax.partition(("encoder", opax.sgd()), ("enc", opax.adam(0.1)), rest=opax.sgd())(PARAMS)


def test_a_tree_of_bools_has_to_fit() -> None:
    with pytest.raises(StructureError, match=r"no prefix of the tree it selects from.\n  where: partition, part 0"):
        opax.partition(({"encoder": True}, opax.sgd()))(PARAMS)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (
            "encoder",
            "A part is a pair of a selector and a transformation.\n  where: partition, part 0\n  got:   'encoder'",
        ),
        (opax.adam(0.1), "A part is a pair"),
        (("encoder", opax.adam(0.1), 3), "got:   a tuple of 3"),
        (
            (opax.adam(0.1), "encoder"),
            "Expecting a selector in the place of this transformation.\n  where: partition, p",
        ),
        ((None, opax.adam(0.1)), "This is no selector.\n  where: partition, part 0"),
        (("encoder", 3), "Expecting functions that return a `GradientTransformation`.\n  where: partition\n  got:   3"),
        (("encoder", opax.adam(0.1)(PARAMS)), "Expecting transformations without parameters.\n  where: partition"),
    ],
)
def test_other_things_than_parts_are_refused(part: Any, text: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        opax.partition(part, rest=opax.sgd())(PARAMS)
    assert text in str(caught.value)


@pytest.mark.parametrize("options", [{"flatten": True}, {"strict": False}])
def test_other_leaves_are_refused(options: dict[str, Any]) -> None:
    fewer = {**GRADS, "encoder": {"w": GRADS["encoder"]["w"]}}
    with pytest.raises(StructureError, match=r"got:   no `\['encoder'\]\['b'\]`"):
        in_three_parts()(PARAMS)(fewer)
    with pytest.raises(StructureError, match="The parameters have other leaves"):
        in_three_parts()(PARAMS)(GRADS, fewer)
    with pytest.raises(StructureError, match="where: .*Partition"):
        opax.transform_gradients(fewer, opax.chain(in_three_parts())(PARAMS, **options), fewer)
