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
from pax.experimental.graph._index import item
from pax.experimental.graph._mistakes import (
    no_array,
    no_condition,
    no_node,
    no_operand,
    no_parents,
    node_as_function,
    node_as_value,
    several_values,
)
from pax.extend import describe
from pax.nn import Lambda

_CONSTANTS = bool | int | float | complex | np.generic | np.ndarray | jax.Array


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """A value, and the step that computes it from the values of other nodes.

    Nodes are what the function passed to `build_graph_module` works with:

    - ``x >> f`` calls a module or function ``f`` with the value of ``x``;
    - ``(x & y) >> f`` calls it with one tuple, ``(x | y) >> f`` with separate arguments;
    - ``x.binary_ops(f, y)`` is ``f(x, y)``;
    - ``x + y``, ``x - y``, ``x * y``, ``x / y``, ``x @ y``, ``x ** y`` and ``-x`` compute that. One of the two may be a
      number or an array: it becomes a constant of the graph;
    - ``x[0]``, ``x[:, 1:]`` and ``x["key"]`` take an item of the value.

    Python's precedence holds: arithmetic comes first, then ``>>``, then ``&``, then ``|``. So ``x | y >> f`` is
    ``x | (y >> f)``; write ``(x | y) >> f``.

    A node is no array: functions of arrays and comparisons are steps, ``x >> jnp.sin`` or
    ``x >> (lambda value: value > 0)``.

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

    def __pow__(self, other: Any) -> "Node":
        return _arithmetic(operator.pow, self, other)

    def __rpow__(self, other: Any) -> "Node":
        return _arithmetic(operator.pow, other, self)

    def __rrshift__(self, other: Any) -> NoReturn:
        raise node_as_function(describe(self))

    def __bool__(self) -> NoReturn:
        raise no_condition(describe(self))

    def __iter__(self) -> NoReturn:
        raise no_array(describe(self), "a loop over a node, or `a, b = x`", "sum(value)")

    def __getitem__(self, index: Any) -> "Node":
        """Returns the node of ``value[index]``, for integers, slices, strings, ``None`` and ``...``."""
        try:
            function = item(index)
        except TypeError:
            raise no_array(
                describe(self), f"an item of a node, with the index {describe(index)}", "value[...]"
            ) from None
        return step((self,), Lambda(function, name=str(function)), "arguments")

    def __lt__(self, other: Any) -> NoReturn:
        raise no_array(describe(self), "an operand of `<`", "value < 0")

    def __le__(self, other: Any) -> NoReturn:
        raise no_array(describe(self), "an operand of `<=`", "value <= 0")

    def __gt__(self, other: Any) -> NoReturn:
        raise no_array(describe(self), "an operand of `>`", "value > 0")

    def __ge__(self, other: Any) -> NoReturn:
        raise no_array(describe(self), "an operand of `>=`", "value >= 0")

    def __pax_describe__(self) -> str:  # it has shape and dtype, but is no array
        return f"a node (`{type(self).__name__}`)"

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
    try:
        value = evaluate(module, arguments(passing, _values(parents)))
    except Exception as error:
        if passing != "arguments":
            error.add_note(
                "(x | y) >> f calls f(x, y), with separate arguments; (x & y) >> f calls f((x, y)), with one tuple"
            )
            error.add_note("`>>` comes before `&` and `|`: x | y >> f is x | (y >> f)")
        raise
    node = Node(parents, module, value)
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
        raise no_parents(describe(parents))
    return tuple(parents)


def _check_function(fx: Any) -> None:
    if isinstance(fx, Node):
        raise node_as_function(describe(fx))


def _check_value(value: Any) -> None:
    if any(isinstance(leaf, Node) for leaf in jax.tree.leaves(value)):
        raise node_as_value(describe(value))


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
            raise no_operand(describe(value), sign)
        operands.append(_single(value, sign) if isinstance(value, Node) else InputNode(value))
    return step(tuple(operands), function, "arguments")


_SIGNS = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.matmul: "@",
    operator.pow: "**",
}


def _single(node: Node, sign: str) -> Node:
    if isinstance(node, CatNode | ArgsNode):
        raise several_values(f"a {type(node).__name__} of {len(node.parents)} values", sign)
    return node
