"""What cannot be assigned to an attribute that holds a module: mistakes that would lose the module without a word."""

from typing import Any

import jax
import numpy as np

import pax
from pax.errors import ArgumentTypeError
from pax.experimental.mlax._parameter import Parameter
from pax.extend import describe, is_module, is_mutable

_DATA = (jax.Array, np.ndarray, np.generic, int, float, complex)


def check_replacement(module: Any, base: type, name: str, value: Any) -> None:
    """Raises ``ArgumentTypeError`` if something that is no module would take the place of one.

    Args:
        module: a module that an attribute is to be set on.
        base: the class of modules that calls return after the output.
        name: the name of the attribute.
        value: its value. ``None`` may replace anything, and a tree with modules, too.
    """
    old = vars(module).get(name)
    if not isinstance(old, base | Parameter) or not is_mutable(module) or is_module(value):
        return
    leaves = jax.tree.leaves(value, is_leaf=is_module)
    if value is None or isinstance(value, pax.EmptyNode) or any(map(is_module, leaves)):
        return
    if isinstance(old, base):
        raise ArgumentTypeError(
            f"Attribute `{name}` is a module, and what is assigned to it is none.",
            where=f"attribute `{name}`",
            got=describe(value),
            want="a module, or None; a call returns the output first, and the module after it",
            fix=f"y, self.{name} = self.{name}(x, rng, inference_mode, batch_axis_name)",
            module=module,
        )
    if any(isinstance(leaf, _DATA) for leaf in leaves):
        raise ArgumentTypeError(
            f"Attribute `{name}` is a Parameter: assign to its data.",
            where=f"attribute `{name}`",
            got=f"self.{name} = {describe(value)}",
            want="an assignment to its data, or another Parameter",
            fix=f"self.{name}.data = ...",
            module=module,
        )
