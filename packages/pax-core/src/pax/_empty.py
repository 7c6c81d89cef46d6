"""``EmptyNode``: a pytree node without leaves, the place of something that is not there."""

from typing import Any

import jax.tree_util as jtu


class EmptyNode:
    """A pytree node without leaves: marks a removed or not yet created array.

    ``parameters()`` and :func:`pax.filter` put one where they leave an array out, so gradients of a module hold one at
    every place that is not trained. Its arithmetic is that of "nothing here", which makes the plain update rule

    ``jax.tree.map(lambda p, g: p - 0.1 * g, module, gradients)``

    leave such places of ``module`` untouched: scaling, negating and combining empty nodes gives an empty node; adding
    one to, or subtracting it from, an array gives that array. The module has to be the first tree of the map.

    All instances are equal and hash alike; they have no attributes.

    >>> import jax
    >>> jax.tree.leaves(EmptyNode())
    []
    >>> EmptyNode() == EmptyNode(), 3 - 0.1 * EmptyNode()
    (True, 3)
    """

    __slots__ = ()
    __array_ufunc__ = None  # NumPy arrays must hand their arithmetic over instead of making object arrays

    def __repr__(self) -> str:
        return "EmptyNode"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EmptyNode)

    def __hash__(self) -> int:
        return hash(EmptyNode)

    def __reduce__(self) -> tuple[Any, ...]:
        return EmptyNode, ()

    def __neg__(self) -> "EmptyNode":
        return self

    def __pos__(self) -> "EmptyNode":
        return self

    def __abs__(self) -> "EmptyNode":
        return self

    def __add__(self, other: Any) -> Any:
        return other

    def __radd__(self, other: Any) -> Any:
        return other

    def __sub__(self, other: Any) -> Any:
        return -other

    def __rsub__(self, other: Any) -> Any:
        return other

    def __mul__(self, other: Any) -> "EmptyNode":
        return self

    def __rmul__(self, other: Any) -> "EmptyNode":
        return self

    def __truediv__(self, other: Any) -> "EmptyNode":
        return self

    def __pow__(self, other: Any) -> "EmptyNode":
        return self


def is_empty(value: object) -> bool:
    """Whether ``value`` is an ``EmptyNode``."""
    return isinstance(value, EmptyNode)


jtu.register_pytree_node(EmptyNode, lambda node: ((), None), lambda data, children: EmptyNode())
