"""In which dtypes every layer computes and what it keeps, in each precision.

Most of these tests only trace: shapes and dtypes need no numbers, and nothing is compiled.
"""

import functools
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from conformance.catalogue import Entry
from helpers.precision import x64
from helpers.treedefs import treedef

_NARROW = ["float16", "bfloat16", "float32"]
_PAIRS = [
    ("float32", "float16"),
    ("float32", "bfloat16"),
    ("float32", "float32"),
    ("float16", "float16"),
    ("bfloat16", "bfloat16"),
    ("bfloat16", "float32"),
    ("float32", "float64"),
    ("float64", "float32"),
    ("float64", "float64"),
]
_each_pair = pytest.mark.parametrize(
    ("weights", "inputs"), _PAIRS, ids=[f"weights {weights}, inputs {inputs}" for weights, inputs in _PAIRS]
)


def _is_floating(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, np.floating))


def _abstract(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf


def _cast(tree: Any, dtype: str) -> Any:
    """Turns floating leaves into abstract ones of another dtype."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(dtype)) if _is_floating(leaf) else leaf, tree
    )


def _inputs(entry: Entry) -> tuple[Any, ...]:
    assert entry.inputs is not None
    inputs: tuple[Any, ...] = jax.tree.map(_abstract, entry.inputs())
    return inputs


def _dtypes(tree: Any) -> list[Any]:
    return [jnp.dtype(leaf.dtype) for leaf in jax.tree.leaves(tree) if _is_floating(leaf)]


def _signature(tree: Any) -> list[Any]:
    """What decides whether a function is traced again."""
    return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]


def _promoted(*trees: Any) -> Any:
    dtypes = _dtypes(trees)
    with jax.numpy_dtype_promotion("standard"):
        return functools.reduce(jnp.promote_types, dtypes) if dtypes else jnp.dtype(jnp.float32)


@functools.cache
def _trace(entry: Entry, weights: str, inputs: str, training: bool = True) -> tuple[Any, Any, Any, Any]:
    """Returns the module, its inputs, the updated module, and the output of a call; all abstract."""
    with x64() if "float64" in (weights, inputs) else nullcontext():
        module = _cast(jax.eval_shape(entry.make), weights)
        module = module if training else module.eval()
        xs = _cast(_inputs(entry), inputs)
        return module, xs, *jax.eval_shape(pax.purecall, module, *xs)


# ---- defaults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wide", "want"), [(False, "float32"), (True, "float64")], ids=["x64 off", "x64 on"])
def test_parameters_start_in_the_default_float_dtype(layer: Entry, wide: bool, want: str) -> None:
    with x64(wide):
        module = jax.eval_shape(layer.make)
    assert {str(dtype) for dtype in _dtypes(module.parameters())} <= {want}


def test_nothing_is_converted_implicitly(layer: Entry) -> None:
    module, inputs = jax.eval_shape(layer.make), _inputs(layer)
    # Set by fixtures for the process: in a context manager of JAX's, everything would be traced anew.
    config: Any = jax.config
    assert (config.jax_numpy_dtype_promotion, config.jax_numpy_rank_promotion) == ("strict", "raise")
    jax.eval_shape(pax.purecall, module, *inputs)
    jax.eval_shape(pax.purecall, module.eval(), *inputs)


# ---- mixed and wholesale ---------------------------------------------------------------------------------------------


@_each_pair
def test_a_call_keeps_the_dtypes_of_the_module(layer: Entry, weights: str, inputs: str) -> None:
    module, _, updated, _ = _trace(layer, weights, inputs)
    assert treedef(updated) == treedef(module)
    assert _signature(updated) == _signature(module)


@_each_pair
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_output_has_the_promoted_dtype_of_inputs_and_weights(
    layer: Entry, weights: str, inputs: str, training: bool
) -> None:
    module, xs, _, output = _trace(layer, weights, inputs, training)
    assert set(_dtypes(output)) <= {_promoted(xs, module.parameters())}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_and_large_inputs_give_finite_numbers(layer: Entry, dtype: str) -> None:
    def half(tree: Any, factor: float = 1.0) -> Any:  # in NumPy: JAX would compile it for each shape
        return jax.tree.map(
            lambda x: jnp.asarray((factor * np.asarray(x)).astype(jnp.dtype(dtype))) if _is_floating(x) else x, tree
        )

    def mean(module: Any, *inputs: Any) -> Any:
        module, output = pax.purecall(module, *inputs)
        leaves = [leaf for leaf in jax.tree.leaves(output) if _is_floating(leaf)]
        return sum((leaf.astype(jnp.float32).mean() for leaf in leaves), jnp.zeros(())), (module, leaves)

    assert layer.inputs is not None
    module = layer.make()  # states stay in float32: the variance of such inputs is no number of float16
    module = module.update_parameters(half(module.parameters()))
    gradients_of = jax.jit(
        pax.value_and_grad(mean, has_aux=True),
        compiler_options={"xla_backend_optimization_level": "0"},  # compilation is most of this test's time
    )
    (_, results), gradients = gradients_of(module, *half(layer.inputs(), 1e3))
    assert all(
        np.isfinite(np.asarray(leaf).astype(np.float32)).all()
        for leaf in jax.tree.leaves((results, gradients))
        if _is_floating(leaf)
    )


# ---- the arguments `dtype` and `param_dtype` -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", _NARROW)
@pytest.mark.parametrize("inputs", ["float16", "float32"])
def test_dtype_is_that_of_the_output(layer_with_dtype: Entry, dtype: str, inputs: str) -> None:
    default = jax.eval_shape(layer_with_dtype.make)
    module = jax.eval_shape(lambda: layer_with_dtype.make(dtype=dtype))
    assert [str(d) for d in _dtypes(module)] == [str(d) for d in _dtypes(default)]
    updated, output = jax.eval_shape(pax.purecall, module, *_cast(_inputs(layer_with_dtype), inputs))
    assert set(_dtypes(output)) == {jnp.dtype(dtype)}
    assert _signature(updated) == _signature(module)


def test_dtype_is_shown_if_set(layer_with_dtype: Entry) -> None:
    assert "dtype" not in layer_with_dtype.make().summary()
    assert "dtype=bfloat16" in layer_with_dtype.make(dtype=jnp.bfloat16).summary()


@pytest.mark.parametrize("dtype", [*_NARROW, "float64"])
def test_param_dtype_is_that_of_the_parameters(layer_with_param_dtype: Entry, dtype: str) -> None:
    with x64() if dtype == "float64" else nullcontext():
        module = jax.eval_shape(lambda: layer_with_param_dtype.make(param_dtype=dtype))
        assert set(_dtypes(module.parameters())) <= {jnp.dtype(dtype)}
        updated, output = jax.eval_shape(pax.purecall, module, *_cast(_inputs(layer_with_param_dtype), dtype))
    assert _signature(updated) == _signature(module)
    assert set(_dtypes(output)) <= {jnp.dtype(dtype)}
