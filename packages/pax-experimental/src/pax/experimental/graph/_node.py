"""Nodes: values that remember how they were computed."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from pax.errors import ArgumentTypeError, AttributeNameError
from pax.experimental.graph._evaluate import Passing, arguments, as_module, evaluate, identity
from pax.experimental.graph._mistakes import no_node, no_parents, node_as_function, node_as_value, several_values
from pax.extend import describe

_CONSTANTS = bool | int | float | complex | np.generic | np.ndarray | jax.Array


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """A value, and the step that computes it from the values of other nodes.

    Nodes are what the function passed to `build_graph_module` works with:

    - ``x >> f`` calls a module or function ``f`` with the value of ``x``;
    - ``(x & y) >> f`` calls it with one tuple, ``(x | y) >> f`` with separate arguments;
    - ``x.binary_ops(f, y)`` is ``f(x, y)``;
    - ``x + y``, ``x - y``, ``x * y``, ``x / y``, ``x @ y`` and ``-x`` compute that. One of the two may be a number or
      an array: it becomes a constant of the graph.

    Layers are passed as they are: a function around a layer that was made outside of it is refused, because the layer
    would not be trained.

    Each step runs at once, on a copy of its module (`pax.purecall`), so states do not change while a graph is built.
    With a `jax.ShapeDtypeStruct` as value, only shapes are computed.

    Two nodes are equal only if they are one object. Nodes are no pytrees, and cannot be copied or pickled; a
    `GraphModule` can.

    Args:
        parents: the nodes it is computed from.
        fx: a module or a function; functions become `pax.nn.Lambda` modules. It is called with the value of the parent;
            if there are several, with one tuple of their values. Without parents it is not called: the node is an
            argument or a constant.
        value: the result.

    Raises:
        ArgumentTypeError: ``parents`` is no tuple of nodes, ``fx`` cannot be called or hides a module, or ``value`` is
            or holds a node.

    >>> import jax, jax.numpy as jnp
    >>> from functools import partial
    >>> from pax.experimental.graph import Node
    >>> x = Node((), lambda x: x, jnp.array(1.0))
    >>> x.parents, x.fx, x.value
    ((), Lambda(<lambda>), Array(1., dtype=float32, weak_type=True))
    >>> y = x >> partial(jax.lax.add, 1.0)
    >>> y.value
    Array(2., dtype=float32, weak_type=True)
    """

    parents: tuple["Node", ...]
    fx: Any
    value: Any

    __array_ufunc__ = None  # NumPy leaves `array + node` to the node

    def __post_init__(self) -> None:
        parents = _checked_parents(self.parents)
        _check_function(self.fx)
        _check_value(self.value)
        _set(self, parents=parents, fx=as_module(self.fx))
        _set(self, _passing="arguments" if len(self.parents) == 1 else "tuple")

    @property
    def shape(self) -> Any:
        """The shape of the value; ``()`` for numbers, a tuple of shapes for a tuple, ``None`` for ``None``.

        Raises:
            AttributeNameError: the value is of another kind.
        """
        return jax.tree.map(lambda leaf: tuple(np.shape(_measurable(leaf, "shape"))), self.value)

    @property
    def dtype(self) -> Any:
        """The dtype of the value, for numbers the one they get in JAX; a tuple of dtypes for a tuple.

        Raises:
            AttributeNameError: the value is of another kind.
        """
        return jax.tree.map(lambda leaf: jnp.result_type(_measurable(leaf, "dtype")), self.value)

    def __rshift__(self, fx: Any) -> "Node":
        """Returns the node of ``fx(value)``."""
        return step((self,), fx, "arguments")

    def __and__(self, other: "Node") -> "CatNode":
        """Returns the node of a tuple of both values; more can be added with ``&``."""
        return CatNode((*_spliced(self, CatNode), *_spliced(_node(other, "&"), CatNode)))

    def __or__(self, other: "Node") -> "ArgsNode":
        """Returns the node of both values as separate arguments; more can be added with ``|``."""
        return ArgsNode((*_spliced(self, ArgsNode), *_spliced(_node(other, "|"), ArgsNode)))

    def __rand__(self, other: Any) -> NoReturn:
        raise no_node(describe(other), "&")

    def __ror__(self, other: Any) -> NoReturn:
        raise no_node(describe(other), "|")

    def binary_ops(self, fn: Callable[[Any, Any], Any], other: "Node") -> "Node":
        """Returns the node of ``fn(value, other.value)``.

        Args:
            fn: a function, or a module, of two arguments.
            other: another node, or the same; a number or an array becomes a constant.

        Raises:
            ArgumentTypeError: ``other`` is none of these, or ``fn`` cannot be called.

        >>> import jax
        >>> from pax.experimental.graph import InputNode
        >>> InputNode(1).binary_ops(jax.lax.sub, InputNode(2)).value
        Array(-1, dtype=int32, weak_type=True)
        """
        if isinstance(other, _CONSTANTS):
            other = InputNode(other)
        if not isinstance(other, Node):
            raise no_node(describe(other), "binary_ops")
        return step((self, other), fn, "arguments")

    def __add__(self, other: Any) -> "Node":
        return _arithmetic(operator.add, self, other)

    def __radd__(self, other: Any) -> "Node":
        return _arithmetic(operator.add, other, self)

    def __sub__(self, other: Any) -> "Node":
        return _arithmetic(operator.sub, self, other)

    def __rsub__(self, other: Any) -> "Node":
        return _arithmetic(operator.sub, other, self)

    def __mul__(self, other: Any) -> "Node":
        return _arithmetic(operator.mul, self, other)

    def __rmul__(self, other: Any) -> "Node":
        return _arithmetic(operator.mul, other, self)

    def __truediv__(self, other: Any) -> "Node":
        return _arithmetic(operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> "Node":
        return _arithmetic(operator.truediv, other, self)

    def __matmul__(self, other: Any) -> "Node":
        return _arithmetic(operator.matmul, self, other)

    def __rmatmul__(self, other: Any) -> "Node":
        return _arithmetic(operator.matmul, other, self)

    def __neg__(self) -> "Node":
        return _single(self, "-") >> operator.neg

    def __reduce_ex__(self, protocol: Any) -> NoReturn:  # that of `copy` and `deepcopy`, too
        raise ArgumentTypeError(
            "DO NOT COPY",
            got=f"a copy or a pickle of a `{type(self).__name__}`",
            want="the node itself, which may be used several times",
            fix="copy or pickle the GraphModule that is built from it",
            why="a node is known by its identity: with copies, a step would be there twice",
        )


class InputNode(Node):
    """A node without parents: an argument of the graph.

    If it is not among the inputs of a `GraphModule`, it is a constant there.

    Args:
        value: an example of the argument: an array, any other value, or a `jax.ShapeDtypeStruct` with which only shapes
            are computed.
        fx: kept as the attribute of that name; a graph does not call it.
        name: the name of the argument, for calls with keywords, errors and pictures.

    >>> import jax.numpy as jnp
    >>> from pax.experimental.graph import InputNode
    >>> InputNode(jnp.empty((3, 4))).shape
    (3, 4)
    >>> InputNode(jnp.empty((1,), dtype=jnp.int32)).dtype
    dtype('int32')
    """

    name: str | None

    def __init__(self, value: Any, fx: Callable[..., Any] = lambda x: x, *, name: str | None = None) -> None:
        super().__init__((), fx, value)
        if name is not None and not isinstance(name, str):
            raise ArgumentTypeError(
                "Expecting a name.", where="InputNode, argument `name`", got=describe(name), want="a string or None"
            )
        _set(self, name=name)


class CatNode(Node):
    """Several nodes as one tuple: ``x & y``.

    ``(x & y) >> f`` calls ``f`` with one tuple. ``&`` is associative: ``(x & y) & z`` has three parents.

    Args:
        parents: the nodes.

    >>> from pax.experimental.graph import InputNode
    >>> z = InputNode(1) & InputNode(2)
    >>> z.value
    (1, 2)
    """

    def __init__(self, parents: tuple[Node, ...]) -> None:
        super().__init__(parents, identity, _values(_checked_parents(parents)))
        _set(self, _passing="tuple")

    def __rshift__(self, fx: Any) -> Node:
        """Returns the node of ``fx((value, value, …))``."""
        return step(self.parents, fx, "tuple")


class ArgsNode(Node):
    """Several nodes as separate arguments: ``x | y``.

    ``(x | y) >> f`` calls ``f`` with the values one by one. ``|`` is associative: ``(x | y) | z`` has three parents.

    Args:
        parents: the nodes.

    >>> import jax
    >>> from pax.experimental.graph import InputNode
    >>> x, y = InputNode(1), InputNode(2)
    >>> ((x | y) >> jax.lax.add).value
    Array(3, dtype=int32, weak_type=True)
    """

    def __init__(self, parents: tuple[Node, ...]) -> None:
        super().__init__(parents, identity, _values(_checked_parents(parents)))
        _set(self, _passing="tuple")

    def __rshift__(self, fx: Any) -> Node:
        """Returns the node of ``fx(value, value, …)``."""
        return step((self,), fx, "unpack")


def step(parents: tuple[Node, ...], fx: Any, passing: Passing) -> Node:
    """Runs a step and returns its node."""
    _check_function(fx)
    module = as_module(fx)
    node = Node(parents, module, evaluate(module, arguments(passing, _values(parents))))
    _set(node, _passing=passing)
    return node


def passing_of(node: Node) -> Passing:
    """Returns how the step of a node is called with the values of its parents."""
    passing: Passing = node._passing  # type: ignore[attr-defined]
    return passing


def _set(node: Node, **attributes: Any) -> None:
    for name, value in attributes.items():
        object.__setattr__(node, name, value)


def _values(nodes: tuple[Node, ...]) -> tuple[Any, ...]:
    return tuple(node.value for node in nodes)


def _checked_parents(parents: Any) -> tuple[Node, ...]:
    if not isinstance(parents, tuple | list) or not all(isinstance(parent, Node) for parent in parents):
        raise no_parents(describe_operand(parents))
    return tuple(parents)


def _check_function(fx: Any) -> None:
    if isinstance(fx, Node):
        raise node_as_function(describe_operand(fx))


def _check_value(value: Any) -> None:
    if any(isinstance(leaf, Node) for leaf in jax.tree.leaves(value)):
        raise node_as_value(describe_operand(value))


def describe_operand(value: Any) -> str:
    """Describes a value as `pax.extend.describe` does, but a node, which has shape and dtype, as a node."""
    return f"a node (`{type(value).__name__}`)" if isinstance(value, Node) else describe(value)


def _measurable(leaf: Any, attribute: str) -> Any:
    if isinstance(leaf, _CONSTANTS) or (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        return leaf
    raise AttributeNameError(
        f"The value of this node has no `{attribute}`.", got=describe(leaf), want="arrays or numbers", fix="node.value"
    )


def _spliced(node: Node, kind: type[Node]) -> tuple[Node, ...]:
    return node.parents if isinstance(node, kind) else (node,)


def _node(value: Any, sign: str) -> Node:
    if not isinstance(value, Node):
        raise no_node(describe(value), sign)
    return value


def _arithmetic(function: Any, left: Any, right: Any) -> Node:
    sign = _SIGNS[function]
    operands = []
    for value in (left, right):
        if not isinstance(value, Node) and not isinstance(value, _CONSTANTS):
            return NotImplemented  # type: ignore[no-any-return]  # Python goes on with the other operand
        operands.append(_single(value, sign) if isinstance(value, Node) else InputNode(value))
    return step(tuple(operands), function, "arguments")


_SIGNS = {operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.matmul: "@"}


def _single(node: Node, sign: str) -> Node:
    if isinstance(node, CatNode | ArgsNode):
        raise several_values(f"a {type(node).__name__} of {len(node.parents)} values", sign)
    return node
