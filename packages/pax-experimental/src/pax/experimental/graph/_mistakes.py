"""The errors of nodes; ``got`` says in words what was found."""

from pax.errors import ArgumentTypeError


def no_parents(got: str) -> ArgumentTypeError:
    """Returns the error for parents that are no nodes."""
    return ArgumentTypeError(
        "The parents of a node have to be nodes.",
        where="a node, argument `parents`",
        got=got,
        want="a tuple of nodes",
        fix="Node((x, y), f, value)",
    )


def no_node(got: str, sign: str) -> ArgumentTypeError:
    """Returns the error for an operand that is no node."""
    call = "x.binary_ops(f, InputNode(...))" if sign == "binary_ops" else f"x {sign} InputNode(...)"
    return ArgumentTypeError(
        "Expecting a node.",
        where=f"an operand of `{sign}`",
        got=got,
        want="a node of the graph",
        fix=f"{call}   # from pax.experimental.graph; a constant, for arrays and other values",
    )


def node_as_function(got: str) -> ArgumentTypeError:
    """Returns the error for ``x >> y`` of two nodes."""
    return ArgumentTypeError(
        "Expecting a function.",
        where="a step of a graph",
        got=got,
        want="a module or a function",
        fix="(x | y) >> f   # f(x, y); or (x & y) >> f for f((x, y))",
    )


def node_as_value(got: str) -> ArgumentTypeError:
    """Returns the error for a value that is, or holds, a node."""
    return ArgumentTypeError(
        "The value of a node cannot be a node.",
        where="a step or an input of a graph",
        got=got,
        want="arrays, or values of other kinds",
        fix="(x | y) >> f   # a function that needs another node y takes it as an argument",
        why="the other node would be no part of the graph: its value would never change",
    )


def no_operand(got: str, sign: str) -> ArgumentTypeError:
    """Returns the error for arithmetic of a node and something else."""
    return ArgumentTypeError(
        "Expecting a node.",
        where=f"an operand of `{sign}`",
        got=got,
        want="a node, a number or an array",
        fix="x >> (lambda value: ...)   # or (x | y) >> f, with y = InputNode(...)",
    )


def no_array(got: str, what: str, code: str) -> ArgumentTypeError:
    """Returns the error for a node that is used like an array."""
    return ArgumentTypeError(
        "A node is no array.",
        where=what,
        got=got,
        want="a step on the value of the node",
        fix=f"x >> (lambda value: {code})",
    )


def no_condition(got: str) -> ArgumentTypeError:
    """Returns the error for a node as a condition."""
    return ArgumentTypeError(
        "A node is neither true nor false.",
        where="`if x`, `not x`, `x and y` or `x or y` with a node",
        got=got,
        want="a step on the value of the node",
        fix="x >> (lambda value: jnp.where(value > 0, value, 0))   # (x & y) and (x | y) collect nodes",
        why="a graph has the same steps for all values",
    )


def several_values(got: str, sign: str) -> ArgumentTypeError:
    """Returns the error for arithmetic with ``x & y`` or ``x | y``."""
    return ArgumentTypeError(
        "Arithmetic is for nodes of one value.",
        where=f"an operand of `{sign}`",
        got=got,
        want="a node of one value",
        fix="(x & y) >> f   # or (x | y) >> f",
    )
