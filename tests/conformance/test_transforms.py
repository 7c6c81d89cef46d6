"""What every layer does under more transformations of JAX than those of `test_module_contract.py`; its derivatives.

Values of differentiation are compared in float64, where finite differences have some six digits.
"""

import copy
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from conformance.catalogue import Entry
from helpers.precision import x64
from helpers.treedefs import treedef
from helpers.trees import raw

# Compilation may fuse operations, which changes the last bits of float32.
_RTOL, _ATOL = 1e-5, 1e-6

# Most of the time of these tests is that of compilation; code of any quality shows what they look for.
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})


def _call(entry: Entry) -> tuple[Any, tuple[Any, ...]]:
    assert entry.inputs is not None
    return entry.make(), entry.inputs()


def _is_inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def _total(tree: Any) -> jax.Array:
    leaves = [leaf.astype(jnp.float32).sum() for leaf in jax.tree.leaves(tree) if _is_inexact(leaf)]
    return sum(leaves, jnp.zeros((), jnp.float32))


def _assert_same_values(got: Any, want: Any) -> None:
    assert treedef(got) == treedef(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(raw(a), raw(b), rtol=_RTOL, atol=_ATOL)


# ---- transformations -------------------------------------------------------------------------------------------------


def test_rematerialisation_changes_no_values_and_no_gradients(layer: Entry) -> None:
    module, inputs = _call(layer)

    def loss(module: Any, *inputs: Any) -> Any:
        return _total(pax.purecall(module, *inputs)[1])

    @_jit
    def both(module: Any, *inputs: Any) -> Any:
        return [pax.value_and_grad(f)(module, *inputs) for f in (loss, jax.checkpoint(loss))]

    plain, rematerialised = both(module, *inputs)
    _assert_same_values(rematerialised, plain)


def test_the_shapes_of_a_call_are_known_without_computing_it(layer: Entry) -> None:
    module, inputs = _call(layer)
    abstract = jax.eval_shape(pax.purecall, module, *inputs)
    concrete = jax.jit(pax.purecall)(module, *inputs)
    assert treedef(abstract) == treedef(concrete)
    shapes = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (abstract, concrete)]
    assert shapes[0] == shapes[1]


def test_a_donated_module_is_replaced_by_the_returned_one(layer: Entry) -> None:
    module, inputs = _call(layer)
    donated = copy.deepcopy(module)
    updated, output = _jit(lambda *args: pax.purecall(*args), donate_argnums=0)(donated, *inputs)
    _assert_same_values((updated, output), jax.jit(pax.purecall)(module, *inputs))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(donated))
    pax.purecall(updated.eval(), *inputs)


def test_a_batch_on_two_devices_computes_the_same(layer: Entry) -> None:
    module, inputs = _call(layer)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("batch",))

    def spread(leaf: Any) -> Any:
        divides = isinstance(leaf, jax.Array) and leaf.ndim > 0 and leaf.shape[0] % 2 == 0
        spec = jax.sharding.PartitionSpec("batch") if divides else jax.sharding.PartitionSpec()
        return jax.device_put(leaf, jax.sharding.NamedSharding(mesh, spec))

    replicated = jax.device_put(module, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    got = jax.jit(pax.purecall)(replicated, *jax.tree.map(spread, inputs))
    _assert_same_values(got, jax.jit(pax.purecall)(module, *inputs))


@pytest.fixture
def _typed_keys() -> Any:
    pax.seed_rng_key(42, typed_keys=True)
    yield
    pax.seed_rng_key(42, typed_keys=False)


@pytest.mark.usefixtures("_typed_keys")
def test_no_key_is_used_twice(layer: Entry) -> None:
    def build_and_call_twice() -> Any:
        module, inputs = _call(layer)
        outputs = []
        for _ in range(2):
            module, output = pax.purecall(module, *inputs)
            outputs.append(output)
        return module, outputs

    with jax.debug_key_reuse(True):
        jax.eval_shape(build_and_call_twice)


def test_a_reused_key_would_be_found() -> None:
    def reuse() -> Any:
        key = jax.random.key(0)
        return pax.nn.Linear(2, 3, rng_key=key), pax.nn.Linear(2, 3, rng_key=key)

    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.eval_shape(reuse)


# ---- derivatives -----------------------------------------------------------------------------------------------------


def test_forward_mode_agrees_with_reverse_mode(layer: Entry) -> None:
    forward, reverse, _ = _slopes(layer)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-10)


def test_gradients_are_those_of_finite_differences(layer: Entry) -> None:
    _, reverse, differences = _slopes(layer)
    np.testing.assert_allclose(reverse, differences, rtol=1e-5, atol=1e-7)


@functools.cache
def _slopes(entry: Entry) -> tuple[float, float, float]:
    """The slope of a weighted sum of the outputs, at all parameters and inputs, along one random direction.

    Returns:
        ``<w, J v>``, ``<J^T w, v>``, and the central difference quotient.
    """
    step = 1e-6
    random = np.random.default_rng(0)
    call = _call(entry)  # made in float32, because it is compiled already
    with x64():
        module, inputs = jax.tree.map(_wide, call)
        leaves, structure = jax.tree.flatten((module.parameters(), inputs))
        where = [i for i, leaf in enumerate(leaves) if _is_inexact(leaf)]
        point = [jnp.asarray(leaves[i]) for i in where]
        direction = [jnp.asarray(random.standard_normal(leaf.shape), leaf.dtype) for leaf in point]

        def outputs(point: list[jax.Array]) -> list[jax.Array]:
            moved = dict(zip(where, point, strict=True))
            parameters, xs = jax.tree.unflatten(structure, [moved.get(i, leaf) for i, leaf in enumerate(leaves)])
            _, output = pax.purecall(module.update_parameters(parameters), *xs)
            return [leaf for leaf in jax.tree.leaves(output) if _is_inexact(leaf)]

        weights = [jnp.asarray(random.standard_normal(leaf.shape)) for leaf in jax.eval_shape(outputs, point)]

        @_jit
        def slopes(point: list[jax.Array], direction: list[jax.Array]) -> tuple[jax.Array, ...]:
            around = [jnp.stack([x + step * v, x - step * v]) for x, v in zip(point, direction, strict=True)]
            ahead, behind = jax.vmap(lambda point: _dot(weights, outputs(point)))(around)
            values, push = jax.linearize(outputs, point)
            pull = jax.linear_transpose(push, point)
            (cotangents,) = pull([w.astype(y.dtype) for w, y in zip(weights, values, strict=True)])
            return _dot(weights, push(direction)), _dot(cotangents, direction), (ahead - behind) / (2 * step)

        forward, reverse, differences = (float(slope) for slope in slopes(point, direction))
    return forward, reverse, differences


def _wide(leaf: Any) -> Any:
    return jnp.asarray(np.asarray(leaf, np.float64)) if _is_inexact(leaf) else leaf


def _dot(a: list[jax.Array], b: list[jax.Array]) -> jax.Array:
    products = [(x * y.astype(x.dtype)).sum() for x, y in zip(a, b, strict=True)]
    return sum(products, jnp.zeros((), jnp.float64))
