"""Programs: the steps of a graph as plain data, without nodes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import pax
from pax.errors import ArgumentError, ArgumentTypeError, SharedNodeError
from pax.experimental.graph._evaluate import Passing
from pax.experimental.graph._node import Node, passing_of
from pax.extend import describe

Step = tuple[Passing, tuple[int, ...], tuple[int, ...]]
"""How the module is called, the numbers of the values that it takes, and of those that nothing after it needs."""

Output = Any
"""The number of a value; ``("tuple" or "list", outputs)``; or ``("dict", keys, outputs)``."""


@dataclass(frozen=True)
class Program:
    """What a graph computes.

    All values are numbered: first the arguments, then the constants, the literals, and one result for each step.

    Attributes:
        modules: one for each step.
        constants: values with arrays.
        literals: values without.
        steps: in the order in which they run.
        output: which values to return.
    """

    modules: list[Any]
    constants: tuple[Any, ...]
    literals: tuple[Any, ...]
    steps: tuple[Step, ...]
    output: Output


def make_program(inputs: Sequence[Node], output: Any) -> Program:
    """Makes a program of the nodes that an output needs.

    Args:
        inputs: the nodes whose values are arguments.
        output: a node, or nodes in tuples, lists and dictionaries.

    Raises:
        ArgumentTypeError: there is something else than nodes in the output.
        ArgumentError: an input that is the result of a step is not needed, or a constant is a shape without values.
        SharedNodeError: a module stands at two steps.
    """
    found = _ancestors(inputs, _nodes_in(output, ""))
    _check_used(inputs, found, _nodes_in(output, ""))
    steps = [node for node in found if node.parents]
    constants, literals, numbers = _number(inputs, [node for node in found if not node.parents])
    first = len(inputs) + len(constants) + len(literals)
    numbers |= {id(node): first + index for index, node in enumerate(steps)}
    modules = [node.fx for node in steps]
    _check_modules(modules)
    taken = [tuple(numbers[id(parent)] for parent in node.parents) for node in steps]
    kept = {numbers[id(node)] for node in _nodes_in(output, "")}
    return Program(
        modules,
        constants,
        literals,
        tuple(zip(map(passing_of, steps), taken, _last_uses(taken, kept), strict=True)),
        _encode(output, numbers),
    )


def take_output(output: Output, values: Sequence[Any]) -> Any:
    """Returns the values of an output, in its containers."""
    if isinstance(output, int):
        return values[output]
    kind, items = output[0], [take_output(item, values) for item in output[-1]]
    if kind == "dict":
        return dict(zip(output[1], items, strict=True))
    return tuple(items) if kind == "tuple" else items


def name_outputs(output: Output, path: str = "") -> list[tuple[str, int]]:
    """Returns (path, number of the value) of each part of an output: ``[0]``, ``['key']``; ``""`` for a single one."""
    if isinstance(output, int):
        return [(path, output)]
    keys = output[1] if output[0] == "dict" else range(len(output[1]))
    return [pair for key, item in zip(keys, output[-1], strict=True) for pair in name_outputs(item, f"{path}[{key!r}]")]


def _nodes_in(output: Any, path: str) -> list[Node]:
    if isinstance(output, Node):
        return [output]
    if type(output) in (tuple, list) and output:
        return [node for index, item in enumerate(output) for node in _nodes_in(item, f"{path}[{index}]")]
    if type(output) is dict and output:
        return [node for key, item in output.items() for node in _nodes_in(item, f"{path}[{key!r}]")]
    raise ArgumentTypeError(
        "Expecting a node.",
        where=f"the output of a graph{', at ' + path if path else ''}",
        got=describe(output),
        want="a node, or tuples, lists and dictionaries of nodes",
        fix="return x >> f   # not f(x.value); InputNode(value) makes a constant",
    )


def _encode(output: Any, numbers: dict[int, int]) -> Output:
    if isinstance(output, Node):
        return numbers[id(output)]
    if isinstance(output, dict):
        return "dict", tuple(output), tuple(_encode(item, numbers) for item in output.values())
    return type(output).__name__, tuple(_encode(item, numbers) for item in output)


def _ancestors(inputs: Sequence[Node], outputs: Sequence[Node]) -> list[Node]:
    """Returns the nodes behind outputs, without inputs: parents first, left to right, each once."""
    seen = set(map(id, inputs))
    found = []
    # No recursion: a graph may be deeper than Python's stack.
    stack = [(node, False) for node in reversed(outputs)]
    while stack:
        node, has_parents = stack.pop()
        if has_parents:
            found.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in reversed(node.parents))
    return found


def _check_used(inputs: Sequence[Node], found: list[Node], outputs: list[Node]) -> None:
    """An argument may be left unused, but a step is an input only to be replaced by an argument."""
    used = {id(node) for node in outputs} | {id(parent) for node in found for parent in node.parents}
    for index, node in enumerate(inputs):
        if node.parents and id(node) not in used:
            raise ArgumentError(
                "The output does not need this input.",
                where=f"GraphModule, argument `inputs`, at [{index}]",
                got=f"the result of the step {node.fx!r}",
                want="an InputNode, or a node behind the output",
                fix="GraphModule([x], output)   # with the node that the output is computed from",
            )


def _number(inputs: Sequence[Node], nodes: list[Node]) -> tuple[tuple[Any, ...], tuple[Any, ...], dict[int, int]]:
    """Returns constants, literals, and the numbers of the nodes without parents."""
    constants: dict[int, Any] = {}  # by identity: an array that two nodes have is there once
    literals: list[Node] = []
    for node in nodes:
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(node.value)):
            raise ArgumentError(
                "A constant needs a value.",
                where="a node of a graph that is not among its inputs",
                got=f"the shape {describe(node.value)}",
                want="an array, or the node among the inputs",
                fix="GraphModule([x, y], output)   # with all nodes that are arguments",
            )
        if _has_arrays(node.value):
            constants[id(node.value)] = node.value
        else:
            literals.append(node)
    numbers = {id(node): index for index, node in enumerate(inputs)}
    places = {key: len(inputs) + index for index, key in enumerate(constants)}
    numbers |= {id(node): places[id(node.value)] for node in nodes if id(node.value) in places}
    first = len(inputs) + len(constants)
    numbers |= {id(node): first + index for index, node in enumerate(literals)}
    return tuple(constants.values()), tuple(node.value for node in literals), numbers


def _has_arrays(value: Any) -> bool:
    kinds = (jax.Array, np.ndarray, pax.Module, pax.EmptyNode)
    leaves = jax.tree.leaves(value, is_leaf=lambda node: isinstance(node, kinds))
    return any(isinstance(leaf, kinds) for leaf in leaves)


def _check_modules(modules: list[Any]) -> None:
    counts = Counter(map(id, modules))
    for first, module in enumerate(modules):
        if counts[id(module)] > 1:
            second = next(i for i in range(first + 1, len(modules)) if modules[i] is module)
            raise SharedNodeError(
                f"The module `{module!r}` is shared between two nodes of the pytree.\n"
                "This is not allowed to prevent potential silence bugs.",
                where=f"`modules[{first}]` and `modules[{second}]` of a GraphModule",
                got="one module object at two nodes of the graph",
                want="a module object at one node only",
                fix="use copy.deepcopy(module) at the second node; to train the two as one, tie them then:\n"
                f'net = pax.nn.Tied(net, {{"modules[{second}]": "modules[{first}]"}})',
                why="after the next copy, for example by jax.jit, the two would be separate modules",
            )


def _last_uses(taken: list[tuple[int, ...]], kept: set[int]) -> list[tuple[int, ...]]:
    """Returns for each step the values that it uses last, and that are not returned."""
    seen = set(kept)
    dropped = []
    for numbers in reversed(taken):
        new = tuple(dict.fromkeys(number for number in numbers if number not in seen))
        seen.update(new)
        dropped.append(new)
    return dropped[::-1]
