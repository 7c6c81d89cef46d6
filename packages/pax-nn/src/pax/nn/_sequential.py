"""Layers in a row, functions as layers, and the layer that does nothing."""

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pax import Module
from pax.errors import ArgumentTypeError
from pax.extend import describe

Layer = Module | Callable[..., Any]


class Lambda(Module):
    """Makes a module of a function.

    The function is part of the module's structure: two ``Lambda`` of the *same* function object are equal, while a
    ``lambda`` written in a constructor is a new function, and a new trace of a jitted caller, each time the constructor
    runs.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import pax
    >>> relu = pax.nn.Lambda(jax.nn.relu)
    >>> relu, relu(jnp.array(-1.0)).item()
    (Lambda(relu), 0.0)
    >>> print(relu.summary())
    x => relu(x)
    """

    func: Callable[..., Any]

    def __init__(self, func: Callable[..., Any], name: str | None = None) -> None:
        """Wraps ``func``.

        Args:
            func: any callable. If it is a pytree with arrays (``jax.tree_util.Partial``), they are leaves of the
                module.
            name: shown in the place of the function's name.

        Raises:
            ArgumentTypeError: ``func`` is not callable, or the class of a module.
        """
        super().__init__(name=name)
        if isinstance(func, type) and issubclass(func, Module):
            raise ArgumentTypeError(
                "Expecting a module, not its class.",
                where="Lambda",
                got=f"the class {describe(func)}",
                want="a module or a function",
                fix=f"{func.__name__}(...)",
            )
        if not callable(func):
            raise ArgumentTypeError(
                "Expecting a function.",
                where="Lambda",
                got=describe(func),
                want="a callable",
                fix="Lambda(jax.nn.relu)",
            )
        self.func = func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns ``func(*args, **kwargs)``."""
        return self.func(*args, **kwargs)

    def _function_name(self) -> str:
        return getattr(self.func, "__name__", None) or str(self.func)

    def __repr__(self) -> str:
        return self._repr() if self.name is not None else f"{type(self).__qualname__}({self._function_name()})"

    def summary(self, return_list: bool = False) -> Any:
        """Returns ``x => function(x)``, with the name of the module in the place of the function's if it has one.

        Args:
            return_list: return a list of lines instead of a string.
        """
        line = f"x => {self.name or self._function_name()}(x)"
        return [line] if return_list else line


class Identity(Module):
    """Returns its input.

    >>> import pax
    >>> pax.nn.Identity()("anything")
    'anything'
    """

    def __call__(self, x: Any) -> Any:
        """Returns ``x``."""
        return x


class Sequential(Module):
    """Calls layers in a row, each with the output of the one before.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import pax
    >>> net = pax.nn.Sequential(pax.nn.Linear(2, 32), jax.nn.relu, pax.nn.Linear(32, 3))
    >>> print(net.summary())
    Sequential
    ├── Linear(in_dim=2, out_dim=32, with_bias=True)
    ├── x => relu(x)
    └── Linear(in_dim=32, out_dim=3, with_bias=True)
    >>> net(jnp.ones((3, 2))).shape
    (3, 3)
    >>> net.set(-1, pax.nn.Linear(32, 5))(jnp.ones((3, 2))).shape
    (3, 5)
    """

    modules: tuple[Module, ...]

    def __init__(self, *layers: Layer, name: str | None = None) -> None:
        """Collects the layers.

        Args:
            *layers: modules or functions of one argument, in the order in which they are called; functions become
                :class:`Lambda` modules. Without any, the module is the identity.
            name: shown before the class in summaries.

        Raises:
            ArgumentTypeError: a layer is not callable.
            SharedNodeError: the same module is given twice.
        """
        super().__init__(name=name)
        self.modules = as_modules(layers, where=type(self).__name__)

    def __call__(self, x: Any) -> Any:
        """Returns the output of the last layer.

        Raises:
            ArgumentTypeError: a layer is a recurrent cell, which cannot be called with one argument.
            MutationError: a layer changes its state, outside of ``pax.purecall`` or ``pax.pure``.
        """
        for module in self.modules:
            try:
                x = module(x)  # type: ignore[operator]  # modules need not be callable, these are
            except TypeError as error:
                if hasattr(module, "initial_state") and not _takes_one_argument(module):
                    raise _a_cell_is_no_layer(module) from error
                raise
        return x

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules)

    def __getitem__(self, index: Any) -> Any:
        """Returns a layer, or a tuple of layers for a slice."""
        return self.modules[index]

    def set(self, i: int, value: Layer) -> "Sequential":
        """Returns a copy with one layer replaced.

        Args:
            i: position of the layer, counted from the end if negative.
            value: the new layer, a module or a function.

        Raises:
            IndexError: there is no such position.
            ArgumentTypeError: ``value`` is not callable.
        """
        modules = list(self.modules)
        modules[operator.index(i)] = as_module(value)
        return self.replace(modules=tuple(modules))

    def __rshift__(self, layer: Layer) -> "Sequential":
        """Returns a copy with ``layer`` appended, under the same name."""
        return self.replace(modules=(*self.modules, as_module(layer)))


def as_module(layer: Layer) -> Module:
    """Returns a module itself, and a function as a :class:`Lambda`."""
    return layer if isinstance(layer, Module) else Lambda(layer)


def as_modules(layers: tuple[Any, ...], *, where: str) -> tuple[Module, ...]:
    """Returns the arguments of a constructor that collects layers, as modules.

    Raises:
        ArgumentTypeError: one is not callable.
    """
    if len(layers) == 1 and isinstance(layers[0], list | tuple | Mapping | Iterator) and not callable(layers[0]):
        raise ArgumentTypeError(
            "Expecting layers one by one, not in a list.",
            where=where,
            got=describe(layers[0]),
            want="a module or a function for each argument",
            fix=f"{where}(*layers{'.values()' if isinstance(layers[0], Mapping) else ''})",
        )
    return tuple(map(as_module, layers))


def _takes_one_argument(module: Any) -> bool:
    try:
        inspect.signature(module).bind(None)
    except TypeError:
        return False
    return True


def _a_cell_is_no_layer(module: Module) -> ArgumentTypeError:
    return ArgumentTypeError(
        "A recurrent cell is no layer: it takes a state and the input of one step.",
        module=module,
        got="a call with one argument",
        want="cell(state, x)",
        fix=f"pax.nn.RNN({type(module).__name__}(...))   # the cell applied to each step of a sequence",
    )
