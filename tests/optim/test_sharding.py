"""The state of an optimizer lies where its parameters lie; making it compiles nothing."""

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
from helpers.compilations import count_compilations
from helpers.treedefs import treedef

# Four devices need a process of their own.
_PROGRAM = """
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import opax

mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("x", "y"))
assert mesh.size == 4


def split(value, *axes):
    return jax.device_put(value, NamedSharding(mesh, PartitionSpec(*axes)))


def make_params():
    return {
        "both": split(jnp.ones((8, 4)), "x", "y"),
        "half": split(jnp.ones((4, 6), jnp.bfloat16), None, "y"),
        "joint": split(jnp.ones((8,)), ("x", "y")),
        "whole": split(jnp.ones((4,))),
    }


def check(tree, like, what):
    for (path, leaf), want in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(like), strict=True):
        same = leaf.sharding.is_equivalent_to(want.sharding, leaf.ndim)
        assert same, f"{what}{jax.tree_util.keystr(path)}: {leaf.sharding}, not {want.sharding}"
        pieces = [piece.data for piece in leaf.addressable_shards]
        assert pieces[0].shape == want.sharding.shard_shape(want.shape), what


@functools.partial(jax.jit, donate_argnums=(0, 1))
def step(params, optimizer):
    updates, optimizer = opax.transform_gradients(jax.tree.map(lambda p: p * 0.5, params), optimizer, params)
    return opax.apply_updates(params, updates), optimizer


for factory, trees in {
    opax.adamw(0.1): lambda o: {"mu": o[0].mu, "nu": o[0].nu},
    opax.sgd(0.1): lambda o: {"trace": o[0].trace},
    opax.partition(("both", opax.adam(0.1)), rest=opax.adam(0.1)): lambda o: {
        "nu": {**o[1][0].nu, "both": o[0][0].nu["both"]}
    },
}.items():
    for make in (factory, jax.jit(factory)):
        params = make_params()
        like = make_params()
        optimizer = make(params)
        for name, tree in trees(optimizer).items():
            check(tree, like, f"new {name}")
            assert all(not np.any(leaf) for leaf in jax.tree.leaves(tree))
        for _ in range(3):
            params, optimizer = step(params, optimizer)
            check(params, like, "params")
            for name, tree in trees(optimizer).items():
                check(tree, like, name)
        for leaf in jax.tree.leaves((params, optimizer)):
            for piece in leaf.addressable_shards:
                np.testing.assert_array_equal(piece.data, np.asarray(leaf)[piece.index])
        single = {name: jnp.ones(leaf.shape, leaf.dtype) for name, leaf in like.items()}
        want = (single, factory(single))
        for _ in range(3):
            want = step(*want)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), want, (params, optimizer))

# Without memory for the parameters, but with their places.
abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), make_params())
check(opax.sgd(0.1)(abstract)[0].trace, make_params(), "abstract")

# In the mode in which shardings are part of types.
explicit = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Explicit,))
params = {"w": jax.device_put(np.ones((8, 4), np.float32), NamedSharding(explicit, PartitionSpec("x")))}
for make in (opax.adam(0.1), jax.jit(opax.adam(0.1))):
    check(make(params)[0].mu, params, "explicit")

# Of several models at once.
stacked = {"w": split(jnp.ones((4, 8)), "x", "y")}
check(jax.jit(jax.vmap(opax.sgd(0.1)))(stacked)[0].trace, stacked, "vmap")

one = jax.device_put(np.ones(3, np.float32), jax.devices()[2])
assert opax.sgd(0.1)(one)[0].trace.devices() == {jax.devices()[2]}
print("done")
"""


def test_state_is_split_up_like_its_parameters() -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4",
    }
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROGRAM],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == "done\n"


@pytest.mark.parametrize(
    "factory",
    [
        opax.adamw(0.1),
        opax.sgd(0.1),
        opax.partition((lambda leaf: leaf.size > 200, opax.adam(0.1)), rest=opax.sgd(0.1)),
    ],
)
def test_making_the_state_compiles_nothing(factory: Any) -> None:
    params = [np.ones((17, size), np.float32) for size in range(1, 21)]
    arrays = jax.device_put(params)
    factory(arrays[-1:] + arrays[:1])  # scalars such as the number of steps are compiled for once, in any process
    with count_compilations() as compilations:
        for tree in (params, arrays):
            jax.block_until_ready(factory(tree))
        assert compilations() == 0


def test_the_state_is_bound_to_a_device_only_if_its_parameters_are() -> None:
    """Otherwise the first step would be compiled once more than necessary."""
    free, bound = jnp.ones(2), jax.device_put(jnp.ones(2), jax.devices()[1])
    state = opax.sgd(0.1)([free, bound])[0].trace
    assert not state[0].committed
    assert state[1].committed
    assert state[1].devices() == {jax.devices()[1]}


def test_state_of_abstract_parameters() -> None:
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3, jnp.bfloat16)}
    optimizer = opax.adamw(0.1, mask=lambda leaf: leaf.ndim > 1)(params)
    abstract = jax.eval_shape(opax.adamw(0.1, mask=lambda leaf: leaf.ndim > 1), params)
    assert treedef(abstract) == treedef(optimizer)
    kinds = [[(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(tree)] for tree in (abstract, optimizer)]
    assert kinds[0] == kinds[1]
    concrete = opax.adamw(0.1, mask=lambda leaf: leaf.ndim > 1)(jax.eval_shape(lambda: params))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), concrete, optimizer)


@pytest.mark.parametrize(
    ("leaf", "shape", "dtype"),
    [
        (np.ones((2, 3)), (2, 3), jnp.float32),
        (np.ones(2, np.int32), (2,), jnp.int32),
        (np.float64(1.0), (), jnp.float32),
        (np.ones(0, np.float32), (0,), jnp.float32),
        (1.0, (), jnp.float32),
        (2, (), jnp.int32),
        (jnp.ones(2, jnp.float16), (2,), jnp.float32),
        (jnp.ones(2, jnp.complex64), (2,), jnp.complex64),
    ],
)
def test_state_of_other_leaves(leaf: Any, shape: tuple[int, ...], dtype: Any) -> None:
    for tree in (opax.trace(0.9)([leaf]), jax.jit(opax.trace(0.9))([leaf])):
        state = tree.trace[0]
        assert isinstance(state, jax.Array)
        assert (state.shape, state.dtype, state.weak_type) == (shape, dtype, False)
        assert not np.any(state)


def test_parameters_that_are_not_finite_have_a_finite_state() -> None:
    state = jax.jit(opax.trace(0.9))(jnp.array([jnp.nan, jnp.inf])).trace
    np.testing.assert_array_equal(state, [0.0, 0.0])


def test_state_made_within_a_compiled_function() -> None:
    outside = jnp.ones(3)

    @jax.jit
    def sums(x: jax.Array) -> Any:
        return [opax.sgd(0.1)(tree)[0].trace + x for tree in (outside, np.ones(3, np.float32), x)]

    for found in sums(jnp.full(3, 2.0)):
        np.testing.assert_array_equal(found, np.full(3, 2.0, np.float32))
