"""Laws that hold for every tree of modules, tried on random ones."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

import pax
from helpers.modules import Linear
from helpers.trees import Recipe, module_recipes, raw
from pax.errors import SelectorError

_few = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
_seeds = st.integers(0, 2**16)


def _definition(tree: Any) -> Any:
    return jax.tree.structure(tree)


def _same_objects(a: Any, b: Any) -> bool:
    return all(x is y for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def _same_values(a: Any, b: Any) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x.dtype == y.dtype and np.array_equal(raw(x), raw(y)) for x, y in pairs)


def _chosen(tree: Any, seed: int) -> frozenset[str]:
    """Returns the paths of a random half of the leaves, of one at least."""
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    flags = np.random.default_rng(seed).integers(0, 2, len(paths))
    return frozenset(path for path, flag in zip(paths, flags, strict=True) if flag) or frozenset(paths[:1])


def _selects(chosen: frozenset[str]) -> Callable[[Any, Any], bool]:
    return lambda path, leaf: jax.tree_util.keystr(path) in chosen


# ---- one module ------------------------------------------------------------------------------------------------------


@_few
@given(module_recipes)
def test_flatten_and_unflatten_give_an_equal_module(recipe: Recipe) -> None:
    module = recipe.build()
    leaves, definition = jax.tree.flatten(module)
    rebuilt = jax.tree.unflatten(definition, leaves)
    assert rebuilt == module
    assert hash(rebuilt) == hash(module)
    assert set(vars(rebuilt)) == set(vars(module))
    assert rebuilt.summary() == module.summary()
    assert pax.extend.describe(rebuilt) == pax.extend.describe(module)


@_few
@given(module_recipes)
def test_a_copy_that_was_read_flattens_like_one_that_was_not(recipe: Recipe) -> None:
    module = recipe.build()
    read, unread = module.copy(), module.copy()
    for inner in pax.extend.modules_in(read):
        vars(inner)
    assert _definition(read) == _definition(unread) == _definition(module)
    assert read == unread


@_few
@given(module_recipes)
def test_all_leaves_are_arrays_and_key_paths_lead_to_them(recipe: Recipe) -> None:
    module = recipe.build()
    for path, leaf in jax.tree_util.tree_leaves_with_path(module):
        found: Any = module
        for key in path:
            found = (
                getattr(found, key.name) if hasattr(key, "name") else found[getattr(key, "key", getattr(key, "idx", 0))]
            )
        assert found is leaf
        assert isinstance(leaf, jax.Array | np.ndarray)


@_few
@given(module_recipes)
def test_twins_have_equal_structures_and_are_traced_once(recipe: Recipe) -> None:
    one, other = recipe.build(), recipe.build()
    assert _definition(one) == _definition(other)
    assert not _definition(one) != _definition(other)
    assert hash(_definition(one)) == hash(_definition(other))
    assert hash(one) == hash(other)
    assert pax.assert_structure_equal(one, other)


@_few
@given(module_recipes, module_recipes)
def test_structures_differ_where_recipes_do(one: Recipe, other: Recipe) -> None:
    a, b = one.build(), other.build()
    equal = _definition(a) == _definition(b)
    assert equal == (_definition(b) == _definition(a))
    assert equal == (a.copy().summary() == b.summary() and _definition(a.copy()) == _definition(b.copy()))
    if not equal:
        with pytest.raises(AssertionError):
            pax.assert_structure_equal(a, b)


@_few
@given(module_recipes, st.sampled_from([pickle.HIGHEST_PROTOCOL, 2, None]))
def test_pickling_and_deep_copying_give_a_twin(recipe: Recipe, protocol: int | None) -> None:
    module = recipe.build()
    twin = copy.deepcopy(module) if protocol is None else pickle.loads(pickle.dumps(module, protocol))
    assert _definition(twin) == _definition(module)
    assert _same_values(twin, module)
    assert twin.summary() == module.summary()


@_few
@given(module_recipes)
def test_the_identity_in_pure_gives_an_equal_module(recipe: Recipe) -> None:
    module = recipe.build()
    assert pax.pure(lambda module: module)(module) == module


@_few
@given(module_recipes)
def test_assigning_every_attribute_to_itself_changes_nothing(recipe: Recipe) -> None:
    @pax.pure
    def assign(module: Any) -> Any:
        for inner in pax.extend.modules_in(module):
            for name, value in vars(inner).copy().items():
                setattr(inner, name, value)
        return module

    module = recipe.build()
    assert _definition(assign(module)) == _definition(module)
    assert _same_objects(assign(module), module)


@_few
@given(module_recipes)
def test_replacing_every_attribute_by_itself_changes_nothing(recipe: Recipe) -> None:
    module = recipe.build()
    assert module.replace(**{name: getattr(module, name) for name in vars(module)}) == module


# ---- parts -----------------------------------------------------------------------------------------------------------


@_few
@given(module_recipes)
def test_a_state_dictionary_makes_twins_equal(recipe: Recipe) -> None:
    module, twin = recipe.build(), recipe.build()
    assert twin.load_state_dict(module.state_dict()) == module


@_few
@given(module_recipes)
def test_parameters_laws(recipe: Recipe) -> None:
    module = recipe.build()
    parameters = module.parameters()
    assert parameters.parameters() == parameters
    assert module.update_parameters(module) == module
    assert module | parameters == module
    assert pax.combine(*pax.partition(module)) == module
    assert {*map(id, jax.tree.leaves(parameters))} <= {*map(id, jax.tree.leaves(module))}


@_few
@given(module_recipes)
def test_the_right_side_wins_in_a_merge(recipe: Recipe) -> None:
    one, other = recipe.build(), recipe.build()
    assert one | other == other
    assert (one | other) | one == one
    assert one | ~other == one.update_parameters(other)
    assert _definition(one | ~other) == _definition(one)


@_few
@given(module_recipes, _seeds)
def test_a_merge_takes_what_the_right_side_has(recipe: Recipe, seed: int) -> None:
    one, other = recipe.build(), recipe.build()
    assume(jax.tree.leaves(one))
    chosen = _chosen(one, seed)
    merged = one | pax.filter(other, _selects(chosen))
    rows = zip(jax.tree_util.tree_leaves_with_path(merged), jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    for (path, leaf), a, b in rows:
        assert leaf is (b if jax.tree_util.keystr(path) in chosen else a)


@_few
@given(module_recipes, _seeds)
def test_a_filter_and_its_inverse_are_the_whole(recipe: Recipe, seed: int) -> None:
    module = recipe.build()
    assume(jax.tree.leaves(module))
    selector = _selects(_chosen(module, seed))
    kept, rest = pax.filter(module, selector), pax.filter(module, selector, inverse=True)
    assert len(jax.tree.leaves(kept)) + len(jax.tree.leaves(rest)) == len(jax.tree.leaves(module))
    assert pax.combine(kept, rest) == pax.combine(rest, kept) == module
    assert (kept, rest) == pax.partition(module, selector)


@_few
@given(module_recipes)
def test_the_inverse_of_the_default_filter_is_what_is_not_trained(recipe: Recipe) -> None:
    module = recipe.build()
    assert pax.filter(module) == module.parameters()
    assert pax.combine(pax.filter(module), pax.filter(module, inverse=True)) == module


@_few
@given(module_recipes, st.lists(_seeds, min_size=1, max_size=4))
def test_the_parts_of_a_partition_are_disjoint_and_make_the_whole(recipe: Recipe, seeds: list[int]) -> None:
    module = recipe.build()
    assume(jax.tree.leaves(module))
    choices = [_chosen(module, seed) for seed in seeds]
    parts = pax.partition(module, *map(_selects, choices))
    assert len(parts) == len(seeds) + 1
    owners = [{jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(part)} for part in parts]
    taken: set[str] = set()
    for chosen, owner in zip(choices, owners, strict=False):
        assert owner == chosen - taken  # the first selector wins
        taken |= chosen
    assert sum(map(len, owners)) == len(jax.tree.leaves(module))
    assert pax.combine(*parts) == module
    assert pax.combine(*reversed(parts)) == module


@_few
@given(module_recipes)
def test_a_selector_of_nothing_is_an_error(recipe: Recipe) -> None:
    module = recipe.build()
    with pytest.raises(SelectorError):
        pax.partition(module, lambda leaf: False)


@_few
@given(module_recipes, _seeds)
def test_freezing_a_part_takes_it_out_of_the_parameters(recipe: Recipe, seed: int) -> None:
    module = recipe.build()
    assume(jax.tree.leaves(module))
    chosen = _chosen(module, seed)
    frozen = pax.freeze_parameters(module, _selects(chosen))

    def paths(tree: Any) -> set[str]:
        return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}

    assert paths(frozen.parameters()) == paths(module.parameters()) - chosen
    assert _same_objects(frozen, module)
    assert pax.freeze_parameters(frozen, _selects(chosen)) == frozen
    assert pax.unfreeze_parameters(frozen, _selects(chosen)) == module
    assert jax.tree.leaves(pax.freeze_parameters(frozen).parameters()) == []


@_few
@given(module_recipes)
def test_modes_reach_all_modules_and_change_nothing_else(recipe: Recipe) -> None:
    module = recipe.build()
    assert {inner.training for inner in pax.extend.modules_in(module.eval())} == {False}
    assert module.eval().train() == module.train()
    assert _same_objects(module.eval(), module)


# ---- surgery ---------------------------------------------------------------------------------------------------------


@_few
@given(module_recipes, _seeds)
def test_replacing_a_leaf_replaces_that_leaf_only(recipe: Recipe, seed: int) -> None:
    module = recipe.build()
    leaves = jax.tree.leaves(module)
    assume(leaves)
    index, value = seed % len(leaves), np.ones(7)
    replaced = jax.tree.leaves(module.replace_node(leaves[index], value))
    assert replaced[index] is value
    assert all(a is b for number, (a, b) in enumerate(zip(replaced, leaves, strict=True)) if number != index)


@_few
@given(module_recipes, _seeds)
def test_replacing_a_leaf_by_itself_changes_nothing(recipe: Recipe, seed: int) -> None:
    module = recipe.build()
    leaves = jax.tree.leaves(module)
    assume(leaves)
    leaf = leaves[seed % len(leaves)]
    assert module.replace_node(leaf, leaf) == module
    assert module.replace_node(lambda _: leaf, leaf) == module


@_few
@given(module_recipes, _seeds)
def test_replacing_a_submodule_replaces_that_submodule_only(recipe: Recipe, seed: int) -> None:
    module = recipe.build()
    inner = pax.extend.modules_in(module)[1:]
    assume(inner)
    target, value = inner[seed % len(inner)], Linear()
    replaced = module.replace_node(target, value)
    assert sum(found == value for found in pax.extend.modules_in(replaced)) == 1
    outside = {*map(id, jax.tree.leaves(module))} - {*map(id, jax.tree.leaves(target))}
    assert {*map(id, jax.tree.leaves(replaced))} == outside | {*map(id, jax.tree.leaves(value))}
    assert recipe.build().load_state_dict(module.state_dict()) == module


@_few
@given(module_recipes)
def test_mapping_and_applying_the_identity_change_nothing(recipe: Recipe) -> None:
    module = recipe.build()
    assert module.map(lambda leaf: leaf) == module
    assert module.map(lambda leaf, other: leaf, recipe.build()) == module
    assert module.apply(lambda inner: inner) == module


@_few
@given(module_recipes)
def test_applying_visits_every_module_once_and_the_root_last(recipe: Recipe) -> None:
    module = recipe.build()
    visited: list[Any] = []

    def visit(inner: Any) -> Any:
        visited.append(inner)
        return inner

    module.apply(visit)
    assert len(visited) == len(pax.extend.modules_in(module))
    assert visited[-1] == module
