"""What of a module is trained: ``parameters_method``, and the pieces that every ``parameters`` method is made of."""

import functools
from collections.abc import Callable
from typing import Any

from pax._classify import is_module, is_node
from pax._empty import EmptyNode
from pax._errors import ArgumentTypeError, AttributeNameError
from pax._freezing import hide_frozen
from pax._node import map_content, rebuild
from pax._paths import describe

Parameters = Callable[[Any], Any]


def frozen_aware(method: Parameters) -> Parameters:
    """Makes a ``parameters`` method leave out what is frozen."""
    if getattr(method, "_pax_frozen_aware", False):
        return method

    @functools.wraps(method)
    def parameters(self: Any) -> Any:
        result = method(self)
        if not is_module(result):
            raise ArgumentTypeError(
                "A `parameters` method has to return a module.",
                got=describe(result),
                want=f"a `{type(self).__qualname__}` with an EmptyNode in place of what is not trained",
                fix='parameters = pax.parameters_method("weight", "bias")  # in the class body',
                module=self,
            )
        return hide_frozen(self, result)

    parameters._pax_frozen_aware = True  # type: ignore[attr-defined]
    return parameters


def own_arrays_emptied(module: Any) -> Any:
    """Returns a module without its own arrays, and with the parameters of its submodules."""
    return rebuild(module, map_content(module, _parameters_below))


def _parameters_below(node: Any) -> Any:
    return node.parameters() if is_module(node) else EmptyNode()


def parameters_method(*trainable_attributes: str, submodules: bool = True) -> Callable[[Any], Any]:
    """Makes a ``parameters`` method for a class body.

    Args:
        *trainable_attributes: names of attributes that are trained, each argument one or several names with spaces
            between. A named submodule keeps all of its arrays, states included. With no name, all own arrays are
            states.
        submodules: take the parameters of other submodules, too; else an :class:`EmptyNode` stands for each of them.

    Returns:
        A method. It raises ``AttributeNameError`` when it is called on a module without one of the attributes.

    Raises:
        ArgumentTypeError: a name is no text.

    >>> import jax.numpy as jnp, pax
    >>> class Affine(pax.Module):
    ...     def __init__(self):
    ...         self.scale, self.count = jnp.ones(2), jnp.array(0)
    ...
    ...     parameters = pax.parameters_method("scale")
    >>> Affine().parameters().count
    EmptyNode
    """
    for names in trainable_attributes:
        if not isinstance(names, str):
            raise ArgumentTypeError(
                "Names of trained attributes have to be texts.",
                got=describe(names),
                want="one text for each name",
                fix='parameters = pax.parameters_method("weight", "bias")  # in the class body',
            )
    wanted = tuple(name for names in trainable_attributes for name in names.split())

    def parameters(self: Any) -> Any:
        """Returns the module with its trained arrays only; every other array is an :class:`EmptyNode`."""
        children, structure = self._pax_flat
        for name in wanted:
            if name not in structure.names and not hasattr(self, name):
                raise AttributeNameError(
                    f"Expecting an attribute with name `{name}`.",
                    got=", ".join(structure.names) or "(no arrays or modules)",
                    want=f"`{name}`, as parameters_method({', '.join(map(repr, wanted))}) says",
                    fix=f"assign self.{name} in the constructor, or take the name out",
                    module=self,
                )
        below = _parameters_below if submodules else _nothing
        emptied = map_content(self, below)
        kept = (
            old if name in wanted else new for name, old, new in zip(structure.names, children, emptied, strict=True)
        )
        return rebuild(self, tuple(kept))

    return parameters


def _nothing(node: Any) -> Any:
    return node if is_node(node) and not is_module(node) else EmptyNode()
