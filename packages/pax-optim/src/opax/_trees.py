"""Trees that mirror the parameters: making them, comparing them, and moving between their dtypes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

import pax
from pax.errors import StructureError
from pax.extend import describe, is_module, is_tracer


def zeros_like(params: Any, dtype: DTypeLike | None = None) -> Any:
    """Returns a tree of zeros, in ``dtype``, or by default in float32 where the parameters have half precision.

    A running average of half-precision numbers would stop to move: bfloat16 cannot hold ``0.999 * x`` apart from ``x``.
    Zeros lie where their parameters lie: on the same devices, and split up alike.

    Args:
        params: a tree of arrays, tracers, NumPy arrays, numbers, or ``jax.ShapeDtypeStruct``.
        dtype: of the zeros for floating parameters; others keep theirs.
    """
    return full_like(params, 0, dtype)


def full_like(params: Any, value: float, dtype: DTypeLike | None = None) -> Any:
    """Returns a tree as :func:`zeros_like` does, of ``value`` in place of zeros."""
    return jax.tree.map(lambda p: _full(p, value, state_dtype_of(p, dtype)), params)


def _full(param: Any, value: float, dtype: Any) -> Any:
    if is_tracer(param):
        # The compiler splits up an array like those it is computed from. It does not know this one for constant until
        # that is settled; of plain zeros it would put a whole copy on each device.
        scalar = jnp.asarray(value, dtype)
        return jnp.where(param == param, scalar, scalar)
    shape, sharding = jnp.shape(param), getattr(param, "sharding", None)
    # From NumPy: `jnp.full` would compile a program for each shape.
    if sharding is None or not getattr(param, "committed", True):
        return jax.device_put(np.full(shape, value, dtype))
    return jax.make_array_from_callback(shape, sharding, lambda _: np.full(sharding.shard_shape(shape), value, dtype))


def state_dtype_of(param: Any, dtype: DTypeLike | None) -> Any:
    """Returns the dtype of the state for a parameter: ``dtype`` if given (complex stays complex), float32 for half."""
    own = jnp.result_type(param)
    if jnp.issubdtype(own, jnp.floating):
        return jnp.dtype(dtype if dtype is not None else jnp.float32 if own.itemsize < 4 else own)
    return own


def cast_like(tree: Any, like: Any) -> Any:
    """Returns ``tree`` with the dtypes of ``like``, a tree of the same structure."""
    return jax.tree.map(lambda x, y: jnp.asarray(x, jnp.result_type(y)), tree, like)


def check_alike(got: Any, want: Any, *, what: str, where: str | None = None, module: pax.Module | None = None) -> None:
    """Checks that two trees have the same structure and shapes; dtypes may differ.

    Args:
        got: a tree.
        want: the tree it has to be like.
        what: names both, for example "updates and parameters".
        where: the function that needs it, or
        module: the transformation.

    Raises:
        StructureError: they differ.
    """
    try:
        pax.assert_structure_equal(got, want)
    except StructureError as error:
        raise StructureError(
            f"The {what} have different structures.",
            module=module,
            where=where,
            got=error.got,
            want=error.want,
            fix="model = model.train()  # and model.eval() only where it is called; or eval() before both\n"
            "(in training or evaluation mode alone they differ: statistics would stay as they are)"
            if same_structure(_in_training(got), _in_training(want))
            else "create the optimizer for the parameters that it updates: opax.adam(1e-3)(model.parameters()),\n"
            "and anew after freezing, unfreezing or replacing a part of the model;\n"
            "for static differences only: opax.adam(1e-3)(model.parameters(), strict=False)",
        ) from None
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True):
        if jnp.shape(a) != jnp.shape(b):
            leaf = jax.tree_util.keystr(path).removeprefix(".")
            raise StructureError(
                f"The {what} have different shapes.",
                module=module,
                where=", ".join(text for text in (where, leaf) if text) or None,
                got=describe(a),
                want=describe(b),
            )


def _in_training(tree: Any) -> Any:
    """Returns a tree with all of its modules in training mode."""
    return jax.tree.map(lambda node: node.train() if is_module(node) else node, tree, is_leaf=is_module)


def same_structure(a: Any, b: Any) -> bool:
    """Whether two trees have the same structure; shapes and dtypes do not count."""
    structure: Any = jax.tree.structure(a)  # some versions of JAX do not declare what this is
    return bool(structure == jax.tree.structure(b))
