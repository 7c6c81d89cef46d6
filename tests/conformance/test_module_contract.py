"""What every module does, whatever its class: as a pytree, as an object, and under the transformations of JAX."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from conformance.catalogue import Entry
from helpers.traces import TraceCounter
from helpers.trees import raw
from pax.errors import MutationError

# Compilation may fuse operations, which changes the last bits of float32.
_RTOL, _ATOL = 1e-5, 1e-6


def _inputs(entry: Entry) -> tuple[Any, ...]:
    assert entry.inputs is not None
    return entry.inputs()


def _definition(tree: Any) -> Any:
    return jax.tree.structure(tree)


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _assert_same_values(got: Any, want: Any, *, exact: bool = False) -> None:
    assert _definition(got) == _definition(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        tolerances = {"rtol": 0, "atol": 0} if exact else {"rtol": _RTOL, "atol": _ATOL}
        np.testing.assert_allclose(raw(a), raw(b), **tolerances)


def _stack(tree: Any, size: int = 2) -> Any:
    """Stacks copies of each leaf: in NumPy, because each shape would be compiled on its own in JAX."""
    return jax.tree.map(
        lambda leaf: jnp.stack([leaf] * size) if _is_key(leaf) else jnp.asarray(np.stack([leaf] * size)), tree
    )


def _entry_of(tree: Any, index: int) -> Any:
    """Takes one of what was stacked; in NumPy, too."""
    return jax.tree.map(lambda leaf: leaf[index] if _is_key(leaf) else np.asarray(leaf)[index], tree)


def _is_floating(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, np.floating))


# ---- as a pytree -----------------------------------------------------------------------------------------------------


def test_flatten_and_unflatten_give_an_equal_module(entry: Entry) -> None:
    module = entry.make()
    leaves, definition = jax.tree.flatten(module)
    rebuilt = jax.tree.unflatten(definition, leaves)
    assert rebuilt == module
    assert type(rebuilt) is type(module)
    assert rebuilt.pytree_attributes == module.pytree_attributes
    assert set(vars(rebuilt)) == set(vars(module))


def test_leaves_are_arrays(entry: Entry) -> None:
    assert all(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(entry.make()))


def test_key_paths_are_unique_and_start_with_an_attribute(entry: Entry) -> None:
    module = entry.make()
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(module)]
    assert len({jax.tree_util.keystr(path) for path in paths}) == len(paths)
    assert {path[0].name for path in paths} <= set(module.pytree_attributes)


def test_modules_built_apart_have_equal_structures(entry: Entry) -> None:
    assert _definition(entry.make()) == _definition(entry.make())


def test_modules_built_apart_are_traced_once(entry: Entry) -> None:
    touch = TraceCounter(jax.tree.leaves)
    for _ in range(3):
        touch(entry.make())
    assert touch.traces == 1


def test_leaves_of_any_kind_can_stand_in(entry: Entry) -> None:
    module = entry.make()
    axes = jax.tree.map(lambda _: 0, module)
    assert jax.tree.leaves(axes) == [0] * len(jax.tree.leaves(module))
    assert _definition(axes) == _definition(module)


def test_constructors_run_abstractly(entry: Entry) -> None:
    abstract = jax.eval_shape(entry.make)
    assert _definition(abstract) == _definition(entry.make())
    assert type(abstract).__name__ in repr(abstract)


def test_constructors_run_under_jit(entry: Entry) -> None:
    lowered = jax.jit(entry.make).lower()  # what XLA does with it would take seconds, and is not ours
    assert lowered.out_tree == _definition(entry.make())


def test_a_module_passes_through_jit(entry: Entry) -> None:
    module = entry.make()
    _assert_same_values(jax.jit(lambda module: module)(module), jax.tree.map(jnp.asarray, module), exact=True)


# ---- as an object ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copier", [lambda module: module.copy(), copy.copy], ids=["copy", "copy.copy"])
def test_a_copy_is_equal(entry: Entry, copier: Callable[[Any], Any]) -> None:
    module = entry.make()
    copied = copier(module)
    assert copied is not module
    assert copied == module
    assert hash(copied) == hash(module)


@pytest.mark.parametrize(
    "twin",
    [
        copy.deepcopy,
        lambda module: pickle.loads(pickle.dumps(module)),
        lambda module: pickle.loads(pickle.dumps(module, protocol=2)),
        lambda module: cloudpickle.loads(cloudpickle.dumps(module)),
        lambda module: pickle.loads(pickle.dumps(module.copy())),
    ],
    ids=["deepcopy", "pickle", "pickle, protocol 2", "cloudpickle", "pickle of a copy"],
)
def test_a_module_can_be_pickled(entry: Entry, twin: Callable[[Any], Any]) -> None:
    module = entry.make()
    copied = twin(module)
    _assert_same_values(copied, module, exact=True)
    assert type(copied) is type(module)
    assert hash(copied) == hash(module)
    assert copied.summary() == module.summary()
    shared = set(map(id, jax.tree.leaves(copied))) & set(map(id, jax.tree.leaves(module)))
    assert not shared


def test_equality_is_that_of_the_very_arrays(entry: Entry) -> None:
    module = entry.make()
    assert module == module
    assert module != 3
    assert (module == copy.deepcopy(module)) == (not jax.tree.leaves(module))


def test_the_text_names_the_class(entry: Entry) -> None:
    module = entry.make()
    assert isinstance(repr(module), str)
    assert type(module).__name__ in repr(module)


def test_the_summary_is_made_of_its_lines(entry: Entry) -> None:
    module = entry.make()
    lines = module.summary(return_list=True)
    assert module.summary() == "\n".join(lines)
    assert all("\n" not in line and line == line.rstrip() for line in lines)


def test_a_module_is_immutable(entry: Entry) -> None:
    module = entry.make()
    for name in (*vars(module), "fresh"):
        with pytest.raises(MutationError):
            setattr(module, name, None)


def test_scan_bugs_finds_none(entry: Entry) -> None:
    module = entry.make()
    assert module.scan_bugs() is module


# ---- parts and modes -------------------------------------------------------------------------------------------------


def test_a_state_dictionary_restores_a_twin(entry: Entry) -> None:
    module, twin = entry.make(), entry.make()
    restored = twin.load_state_dict(module.state_dict())
    assert restored == module


def test_a_state_dictionary_of_numpy_arrays_restores_the_values(entry: Entry) -> None:
    module = entry.make()
    state = jax.tree.map(lambda leaf: leaf if _is_key(leaf) else np.asarray(leaf), module.state_dict())
    _assert_same_values(entry.make().load_state_dict(state), module, exact=True)


def test_parameters_are_idempotent(entry: Entry) -> None:
    parameters = entry.make().parameters()
    assert parameters.parameters() == parameters


def test_parameters_are_some_of_the_leaves(entry: Entry) -> None:
    module = entry.make()
    leaves = set(map(id, jax.tree.leaves(module)))
    assert {id(leaf) for leaf in jax.tree.leaves(module.parameters())} <= leaves
    assert all(_is_floating(leaf) for leaf in jax.tree.leaves(module.parameters()))


def test_updating_by_its_own_parameters_changes_nothing(entry: Entry) -> None:
    module = entry.make()
    assert module.update_parameters(module) == module
    assert module | module.parameters() == module


def test_updated_parameters_arrive(entry: Entry) -> None:
    module = entry.make()
    moved = module.parameters().map(lambda leaf: leaf + 1)
    assert module.update_parameters(moved).parameters() == moved


def test_modes_reach_all_modules(entry: Entry) -> None:
    module = entry.make()
    assert not any(inner.training for inner in pax.extend.modules_in(module.eval()))
    assert all(inner.training for inner in pax.extend.modules_in(module.eval().train()))
    assert module.eval().train() == module.train()
    assert type(module.eval()) is type(module)


def test_freezing_leaves_no_parameters_and_can_be_undone(entry: Entry) -> None:
    module = pax.unfreeze_parameters(entry.make())
    frozen = pax.freeze_parameters(module)
    assert jax.tree.leaves(frozen.parameters()) == []
    assert all(a is b for a, b in zip(jax.tree.leaves(frozen), jax.tree.leaves(module), strict=True))
    assert pax.freeze_parameters(frozen) == frozen
    assert pax.unfreeze_parameters(frozen) == module
    assert frozen.summary() == module.summary()


def test_partition_and_combine_give_an_equal_module(entry: Entry) -> None:
    module = entry.make()
    assert pax.combine(*pax.partition(module)) == module


def test_partition_by_shape_and_combine_give_an_equal_module(entry: Entry) -> None:
    module = entry.make()
    ranks = {leaf.ndim for leaf in jax.tree.leaves(module)}
    parts = (
        pax.partition(module, *(lambda leaf, rank=rank: leaf.ndim == rank for rank in ranks)) if ranks else (module,)
    )
    assert pax.combine(*parts) == module
    assert sum(len(jax.tree.leaves(part)) for part in parts) == len(jax.tree.leaves(module))


def test_mapping_and_applying_the_identity_give_an_equal_module(entry: Entry) -> None:
    module = entry.make()
    assert module.map(lambda leaf: leaf) == module
    assert module.apply(lambda inner: inner) == module


def test_pure_identity_gives_an_equal_module(entry: Entry) -> None:
    module = entry.make()
    assert pax.pure(lambda module: module)(module) == module


# ---- calls -----------------------------------------------------------------------------------------------------------


def test_a_call_leaves_the_module_unchanged(callable_entry: Entry) -> None:
    module = callable_entry.make()
    leaves, definition = jax.tree.leaves(module), _definition(module)
    pax.purecall(module, *_inputs(callable_entry))
    assert _definition(module) == definition
    assert all(a is b for a, b in zip(jax.tree.leaves(module), leaves, strict=True))


def test_a_call_changes_what_is_stateful_and_nothing_else(callable_entry: Entry) -> None:
    module = callable_entry.make()
    updated, _ = pax.purecall(module, *_inputs(callable_entry))
    assert (updated != module) == callable_entry.stateful
    assert _definition(updated) == _definition(module)
    for a, b in zip(jax.tree.leaves(updated.parameters()), jax.tree.leaves(module.parameters()), strict=True):
        assert a is b


def test_a_call_outside_of_pure_works_for_what_is_not_stateful(callable_entry: Entry) -> None:
    module, inputs = callable_entry.make(), _inputs(callable_entry)
    if callable_entry.stateful:
        with pytest.raises(MutationError):
            module(*inputs)
    else:
        _assert_same_values(module(*inputs), pax.purecall(module, *inputs)[1], exact=True)


def test_jit_computes_what_python_computes(callable_entry: Entry) -> None:
    module, inputs = callable_entry.make(), _inputs(callable_entry)
    _assert_same_values(jax.jit(pax.purecall)(module, *inputs), pax.purecall(module, *inputs))


def test_a_second_call_is_not_traced_again(callable_entry: Entry) -> None:
    call = TraceCounter(lambda module, *inputs: pax.purecall(module, *inputs)[0])
    module, inputs = callable_entry.make(), _inputs(callable_entry)
    for _ in range(3):
        module = call(module, *inputs)
    call(callable_entry.make(), *inputs)
    assert call.traces == 1


def test_no_tracer_leaks(callable_entry: Entry) -> None:
    module, inputs = callable_entry.make(), _inputs(callable_entry)
    with jax.checking_leaks():
        jax.jit(pax.purecall)(module, *inputs)
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(module))


def test_a_scan_computes_what_a_loop_computes(callable_entry: Entry) -> None:
    module, inputs = callable_entry.make(), _inputs(callable_entry)
    scanned, outputs = jax.lax.scan(lambda module, xs: pax.purecall(module, *xs), module, _stack(inputs, 3))
    last = None
    for _ in range(3):
        module, last = pax.purecall(module, *inputs)
    _assert_same_values(scanned, module)
    _assert_same_values(_entry_of(outputs, -1), last)


def test_vmap_over_inputs_computes_what_single_calls_compute(callable_entry: Entry) -> None:
    module, inputs = callable_entry.make(), _inputs(callable_entry)
    outputs = jax.jit(jax.vmap(lambda *inputs: pax.purecall(module, *inputs)[1]))(*_stack(inputs))
    _, want = pax.purecall(module, *inputs)
    _assert_same_values(_entry_of(outputs, 1), want)


def test_vmap_over_modules_computes_what_single_calls_compute(callable_entry: Entry) -> None:
    module, inputs = callable_entry.make(), _inputs(callable_entry)
    modules, outputs = jax.jit(jax.vmap(lambda module: pax.purecall(module, *inputs), axis_size=2))(_stack(module))
    single, want = pax.purecall(module, *inputs)
    _assert_same_values(_entry_of(modules, 1), single)
    _assert_same_values(_entry_of(outputs, 0), want)


def test_gradients_are_finite_and_have_the_structure_of_the_parameters(callable_entry: Entry) -> None:
    module, inputs = callable_entry.make(), _inputs(callable_entry)

    def loss(module: Any, *inputs: Any) -> Any:
        module, output = pax.purecall(module, *inputs)
        return sum(((leaf.astype(jnp.float32) ** 2).sum() for leaf in jax.tree.leaves(output)), jnp.zeros(())), module

    (value, updated), gradients = jax.jit(pax.value_and_grad(loss, has_aux=True))(module, *inputs)
    assert _definition(gradients) == _definition(module.parameters())
    assert all(np.isfinite(leaf).all() for leaf in (value, *jax.tree.leaves(gradients)))
    assert _definition(updated) == _definition(module)


def test_gradients_move_the_parameters(callable_entry: Entry) -> None:
    module, inputs = callable_entry.make(), _inputs(callable_entry)
    # The values are those of the test above: here it is the structure that counts.
    gradients = jax.eval_shape(
        pax.grad(lambda module, *inputs: _sum(pax.purecall(module, *inputs)[1])), module, *inputs
    )
    moved = module.update_parameters(module.parameters().map(_step, gradients))
    assert _definition(moved) == _definition(module)
    assert all(
        (a is b) == (not _is_parameter(module, b))
        for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(module), strict=True)
    )


def _step(parameter: Any, gradient: Any) -> Any:
    assert (gradient.shape, gradient.dtype) == (parameter.shape, parameter.dtype)
    return jnp.asarray(np.asarray(parameter) - np.ones(gradient.shape, gradient.dtype))


def _sum(tree: Any) -> Any:
    return sum((leaf.sum() for leaf in jax.tree.leaves(tree)), jnp.zeros(()))


def _is_parameter(module: Any, leaf: Any) -> bool:
    return any(leaf is parameter for parameter in jax.tree.leaves(module.parameters()))


def test_frozen_modules_compute_the_same(callable_entry: Entry) -> None:
    module, inputs = callable_entry.make(), _inputs(callable_entry)
    frozen, output = pax.purecall(pax.freeze_parameters(module), *inputs)
    updated, want = pax.purecall(module, *inputs)
    _assert_same_values(output, want)
    for a, b in zip(jax.tree.leaves(frozen), jax.tree.leaves(updated), strict=True):
        np.testing.assert_array_equal(raw(a), raw(b))
