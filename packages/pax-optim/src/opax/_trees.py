"""Trees that mirror the parameters: making them, comparing them, and moving between their dtypes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

import pax
from pax.errors import StructureError
from pax.extend import describe


def zeros_like(params: Any, dtype: DTypeLike | None = None) -> Any:
    """Returns a tree of zeros, in ``dtype``, or by default in float32 where the parameters have half precision.

    A running average of half-precision numbers would stop to move: bfloat16 cannot hold ``0.999 * x`` apart from ``x``.
    """
    return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=state_dtype_of(p, dtype)), params)


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
            fix="create the optimizer for the parameters that it updates: opax.adam(1e-3)(model.parameters()),\n"
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
