"""`GraphModule` and `build_graph_module`: modules made of graphs of nodes."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pax
from pax.errors import ArgumentError, ArgumentTypeError, MutationError, StructureError
from pax.experimental.graph._draw import draw, render_svg, write_dot, write_mermaid, write_text
from pax.experimental.graph._evaluate import STEP_NOTE, arguments, shapes_of
from pax.experimental.graph._node import CatNode, InputNode, Node
from pax.experimental.graph._program import make_program, take_output
from pax.extend import describe


class GraphModule(pax.Module):
    """A module that computes what a graph of nodes says.

    It holds the modules of the graph, and a program of plain data: two graphs that are built alike have equal
    structures, so `jax.jit` traces their callers once.

    ``net(x, y)`` takes one argument for each input, also by name. Graphs with modules that change their state are
    called by ``pax.purecall(net, x, y)``.

    Args:
        inputs: the nodes that are the arguments. Other nodes without parents are constants: arrays are leaves of
            the module which are not trained, all else is static.
        output: the node to return; or nodes in tuples, lists and dictionaries, which are returned in these.
        name: shown before the class in summaries.

    Attributes:
        modules: the modules of the nodes behind the output, each before those that need it, from left to right.
        constants: the constants with arrays.
        literals: the other constants.
        steps: for each module how it is called, the numbers of the values it is called with, and of those that are
            not needed after it. Values are numbered: arguments, constants, literals, results of modules.
        output_node: the number of the value that is returned; ``("tuple", (number, …))`` for several, for example.
        argument_names: the names of the arguments.

    Raises:
        ArgumentTypeError: ``inputs`` is no list or tuple of nodes, an input is a `CatNode`, or the output holds
            something else than nodes.
        ArgumentError: an input is there twice, two have the same name, an input is the result of a step and the output
            does not need it, or a constant is a shape without values.
        SharedNodeError: a module stands at two nodes.

    >>> import jax, jax.numpy as jnp, pax
    >>> from pax.experimental.graph import GraphModule, InputNode
    >>> x = InputNode(jnp.zeros((1, 2)))
    >>> y = x >> pax.nn.Linear(2, 3) >> jax.nn.relu
    >>> net = GraphModule([x], y)
    >>> net(jnp.zeros((5, 2))).shape
    (5, 3)
    >>> print(net.to_text())
    graph(x):
      %0 = modules[0](x)   # Linear(in_dim=2, out_dim=3, with_bias=True)
      %1 = modules[1](%0)  # relu
      return %1
    """

    modules: list[Any]
    constants: tuple[Any, ...]
    literals: tuple[Any, ...]
    argument_names: tuple[str, ...]

    def __init__(self, inputs: Sequence[Node], output: Any, name: str | None = None) -> None:
        super().__init__(name=name)
        _check_inputs(inputs)
        program = make_program(inputs, output)
        self.modules = program.modules
        self.constants = program.constants
        self.literals = program.literals
        self.steps = program.steps
        self.output_node = program.output
        self.argument_names = _names(inputs)

    def __call__(self, /, *xs: Any, **named: Any) -> Any:
        """Returns what the graph computes.

        Args:
            *xs: the arguments, in the order of the inputs.
            **named: arguments by name.

        Raises:
            ArgumentTypeError: there are too many arguments, or too few, or some of other names.
            MutationError: a module changes its state, outside of ``pax.purecall`` or ``pax.pure``.
        """
        return take_output(self.output_node, self._values(self._bind(xs, named), release=True))

    def to_text(self, /, *xs: Any, **named: Any) -> str:
        """Returns the steps of the graph, a line each.

        Args:
            *xs: arguments of a call, or `jax.ShapeDtypeStruct` in place of arrays; with them, shapes are shown.
            **named: arguments by name.
        """
        return write_text(self, self._shapes(xs, named))

    def to_dot(self, /, *xs: Any, **named: Any) -> str:
        """Returns a picture of the graph in the DOT language of Graphviz.

        Args:
            *xs: arguments of a call, or `jax.ShapeDtypeStruct` in place of arrays; with them, shapes are shown.
            **named: arguments by name.

        References:
            https://graphviz.org/doc/info/lang.html
        """
        return write_dot(draw(self, self._shapes(xs, named)))

    def to_mermaid(self, /, *xs: Any, **named: Any) -> str:
        """Returns a picture of the graph as a Mermaid flowchart, which many sites show in Markdown files.

        Args:
            *xs: arguments of a call, or `jax.ShapeDtypeStruct` in place of arrays; with them, shapes are shown.
            **named: arguments by name.

        References:
            https://mermaid.js.org/syntax/flowchart.html
        """
        return write_mermaid(draw(self, self._shapes(xs, named)))

    def to_svg(self, /, *xs: Any, **named: Any) -> str:
        """Returns a picture of the graph as SVG.

        Args:
            *xs: arguments of a call, or `jax.ShapeDtypeStruct` in place of arrays; with them, shapes are shown.
            **named: arguments by name.

        Raises:
            ModuleNotFoundError: the package ``graphviz`` is absent.
            FileNotFoundError: the program ``dot`` is absent.
        """
        return render_svg(self.to_dot(*xs, **named))

    def _repr_svg_(self) -> str | None:
        """Shows the graph in notebooks; ``None``, which leaves them the text, where Graphviz is absent or fails."""
        try:
            return self.to_svg()
        except Exception:  # whatever goes wrong in `dot`, the text is still there
            return None

    def _values(self, args: tuple[Any, ...], *, release: bool = False) -> list[Any]:
        """Runs all steps; returns all values, or with ``release`` only those of the output."""
        if len(self.modules) != len(self.steps):
            raise StructureError(
                "A graph needs one module for each step.",
                module=self,
                got=f"{len(self.modules)} modules",
                want=f"{len(self.steps)} modules",
            )
        values = [*args, *self.constants, *self.literals]
        for index, (passing, numbers, dropped) in enumerate(self.steps):
            try:
                values.append(self.modules[index](*arguments(passing, [values[number] for number in numbers])))
            except Exception as error:
                error.add_note(f"in step {index} of a GraphModule: {self.modules[index]!r}")
                raise
            if release:
                for number in dropped:
                    values[number] = None
        return values

    def _bind(self, xs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        names = self.argument_names
        if not named and len(xs) == len(names):
            return xs
        rest = names[len(xs) :]
        if len(xs) <= len(names) and named.keys() == set(rest):
            return (*xs, *(named[key] for key in rest))
        got = [f"{len(xs)} by position", *(f"`{key}`" for key in named)]
        count = f"{len(names)} argument{'' if len(names) == 1 else 's'}"
        raise ArgumentTypeError(
            f"This graph takes {count} ({', '.join(names)}).",
            module=self,
            where="a call",
            got=", ".join(got),
            want=f"one value for each of: {', '.join(names)}",
            fix=f"net({', '.join(names)})   # inputs that are missing here have to be given to GraphModule(inputs, …)",
        )

    def _shapes(self, xs: tuple[Any, ...], named: dict[str, Any]) -> list[Any] | None:
        """Returns the shapes of all values in a call; ``None`` without arguments."""
        if not xs and not named:
            return None
        values: list[Any] = shapes_of(pax.pure(GraphModule._values), self, self._bind(xs, named))
        return values


def build_graph_module(func: Callable[..., Any]) -> Callable[..., GraphModule]:
    """Makes a builder of a graph module out of a function that works on nodes.

    The layers are created while the function runs, so each call of the builder makes a new module. A ``lambda`` in the
    function is a new one each time, too: write ``def`` outside of it where builds have to have equal structures.

    Args:
        func: takes nodes, returns a node, or nodes in tuples, lists and dictionaries. The names of its arguments are
            those of the graph module.

    Returns:
        A function that takes an example of each argument (an array, any other value, or a `jax.ShapeDtypeStruct`, with
        which nothing is computed) and returns the `GraphModule`.

    Raises:
        ArgumentTypeError: ``func`` cannot be called; on call of the builder, the examples do not fit its arguments, or
            it returned something else than nodes.

    >>> import jax, jax.numpy as jnp, pax
    >>> from pax.experimental.graph import build_graph_module
    >>> def residual_block(x):
    ...     y = x >> pax.Linear(8, 8) >> jax.nn.relu
    ...     return (y | x) >> jax.lax.add
    >>> net = build_graph_module(residual_block)(jnp.empty((3, 8)))
    >>> print(net.summary())
    GraphModule
    ├── Linear(in_dim=8, out_dim=8, with_bias=True)
    ├── x => relu(x)
    ├── x => identity(x)
    └── x => add(x)
    """
    if not callable(func):
        raise ArgumentTypeError(
            "Expecting a function.",
            where="build_graph_module, argument `func`",
            got=describe(func),
            want="a function of nodes",
            fix="net = build_graph_module(func)(x)",
        )

    def build(*examples: Any, **named: Any) -> GraphModule:
        names, kept = _parameter_names(func, examples, named)
        inputs = [InputNode(value, name=key) for key, value in zip(names, (*examples, *named.values()), strict=True)]
        try:
            output = func(*inputs[: len(examples)], **dict(zip(kept, inputs[len(examples) :], strict=True)))
        except (TypeError, AttributeError, MutationError) as error:  # most often a node that was used like an array
            if not any(note.startswith(STEP_NOTE) for note in getattr(error, "__notes__", ())):
                error.add_note(_advice(func))
            raise
        return GraphModule(inputs, output)

    return build


def _advice(func: Any) -> str:
    head = "while a graph was built: a node is no array; write"
    if isinstance(func, pax.Module):
        return f"{head} `build_graph_module(lambda x: x >> layer)`, not `build_graph_module(layer)`"
    return (
        f"{head} `x >> f` or `x >> layer`, not `f(x)`, `x.f()`; `(x | y) >> f`, not `(x, y) >> f`; "
        "`InputNode(array) >> f`, not `array >> f`"
    )


def _parameter_names(func: Any, examples: tuple[Any, ...], named: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """Returns a name for each example, and the keywords among them."""
    try:
        signature = inspect.signature(func)
    except ValueError:  # a builtin function without signature
        return [*[None] * len(examples), *named], list(named)
    try:
        signature.bind(*examples, **named)
    except TypeError as error:
        raise ArgumentTypeError(
            f"These examples do not fit the arguments of the function: {error}.",
            where="build_graph_module(func)(*examples)",
            got=", ".join([f"{len(examples)} by position", *(f"`{key}`" for key in named)]),
            want=f"one example for each argument: {signature}",
        ) from None
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}{index}" for index in range(len(examples) - len(names))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return [*names[: len(examples)], *named], list(named)


def _check_inputs(inputs: Any) -> None:
    if not isinstance(inputs, list | tuple) or not all(isinstance(node, Node) for node in inputs):
        raise ArgumentTypeError(
            "Expecting a list of nodes.",
            where="GraphModule, argument `inputs`",
            got=describe(inputs),
            want="a list of the nodes that are arguments",
            fix="GraphModule([x], output)",
        )
    if any(isinstance(node, CatNode) for node in inputs):
        raise ArgumentTypeError(
            "A CatNode cannot be an input.",
            where="GraphModule, argument `inputs`",
            got="x & y among the inputs",
            want="its parents, or one node whose value is a tuple",
            fix="GraphModule([x, y], output)",
            why="(x & y) >> f depends on x and y themselves: the argument would not be used",
        )
    if len(set(map(id, inputs))) < len(inputs):
        raise ArgumentError(
            "A node can be an input only once.",
            where="GraphModule, argument `inputs`",
            got=f"{len(inputs)} inputs, of which {len(set(map(id, inputs)))} are different nodes",
            want="different nodes",
        )


def _names(inputs: Sequence[Node]) -> tuple[str, ...]:
    """Returns the names of arguments; those without get ``x``, or ``x0``, ``x1`` and so on by their positions."""
    given = [getattr(node, "name", None) for node in inputs]
    names = tuple(name or ("x" if len(inputs) == 1 else f"x{index}") for index, name in enumerate(given))
    if len(set(names)) < len(names):
        raise ArgumentError(
            "Two arguments of a graph have the same name.",
            where="GraphModule, argument `inputs`",
            got=", ".join(names),
            want="different names",
            fix='InputNode(value, name="y")',
        )
    return names
