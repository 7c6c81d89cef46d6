"""Running one step of a graph: functions as modules, ways of passing values on, and runs on shapes alone."""

import contextlib
import dis
import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

import pax
from pax.errors import ArgumentTypeError
from pax.extend import describe, modules_in
from pax.nn import Lambda

Passing = Literal["arguments", "tuple", "unpack"]
"""How a step is called with the values of its parents: one by one, as one tuple, or with the items of the only one."""

STEP_NOTE = "in a step of a graph"


def identity(x: Any) -> Any:
    """Returns ``x``."""
    return x


def as_module(function: Any) -> pax.Module:
    """Returns a module itself, and a function as a `pax.nn.Lambda`.

    Raises:
        ArgumentTypeError: it cannot be called, or it is a function that hides a module.
    """
    if isinstance(function, pax.Module):
        return function
    hidden = _hidden_module(function)
    if hidden is not None:
        raise ArgumentTypeError(
            "A function that holds a module cannot be a step of a graph.",
            where="a step of a graph",
            got=f"{describe(function)}, which holds the module `{hidden!r}`",
            want="the module itself, or a function without modules",
            fix="x >> module   # for another method, or jax.vmap: module.replace_method(__call__=function)\n"
            "x >> pax.nn.Lambda(function)   # where constants are meant",
            why="the arrays of the module would be constants: not trained, not saved",
        )
    if not callable(function):
        raise ArgumentTypeError(
            "Expecting a function.",
            where="a step of a graph",
            got=describe(function),
            want="a module or a function",
            fix="x >> f   # x >> f >> g for several steps",
        )
    return Lambda(function)


def _hidden_module(function: Any) -> pax.Module | None:
    """Returns a module that a function holds where `pax.nn.Lambda` would not see it, if there is one."""
    if isinstance(function, functools.partial):
        # A `jax.tree_util.Partial` is a pytree: the modules in its arguments are part of the Lambda.
        seen = isinstance(function, jax.tree_util.Partial)
        held = () if seen else (*function.args, *function.keywords.values())
        found = (_hidden_module(function.func), *map(_hidden_module, held), *_modules_among(held))
        return next((module for module in found if module is not None), None)
    inner = inspect.unwrap(function) if callable(function) else function  # under `jax.jit`, `jax.vmap`, `pax.pure`
    if isinstance(inner, types.MethodType):
        inner = inner.__self__
    if isinstance(inner, types.FunctionType):  # a lambda around a layer that was made outside of it
        return next(iter(_modules_among(_outer_values(inner))), None)
    return inner if isinstance(inner, pax.Module) else None


def _outer_values(function: types.FunctionType) -> list[Any]:
    """Returns what a function has from outside: defaults, and the variables of enclosing functions and its file."""
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a variable that has no value yet
            values.append(cell.cell_contents)
    names = [name for name in function.__code__.co_names if _modules_among([function.__globals__.get(name)])]
    if names:  # some may be names of attributes
        loaded = {item.argval for item in dis.get_instructions(function) if item.opname == "LOAD_GLOBAL"}
        values += [function.__globals__[name] for name in names if name in loaded]
    return values


def _modules_among(values: Sequence[Any]) -> list[Any]:
    """Returns the modules in some values, of which JAX may not be able to flatten each."""
    found = []
    for value in values:
        with contextlib.suppress(Exception):
            found += modules_in(value)
    return found


def arguments(passing: Passing, values: Sequence[Any]) -> tuple[Any, ...]:
    """Returns the arguments of a step from the values of its parents."""
    if passing == "tuple":
        return (tuple(values),)
    return tuple(values[0] if passing == "unpack" else values)


def evaluate(module: Any, args: tuple[Any, ...]) -> Any:
    """Calls a copy of a module; with shapes in place of arrays, if there are some in the arguments.

    An error gets a note that names the step.
    """
    try:
        return _evaluate(module, args)
    except Exception as error:
        count = "1 argument" if len(args) == 1 else f"{len(args)} separate arguments"
        kind = f", a tuple of {len(args[0])}" if len(args) == 1 and isinstance(args[0], tuple) else ""
        error.add_note(f"{STEP_NOTE}: {module!r}, called with {count}{kind}")
        raise


def _evaluate(module: Any, args: tuple[Any, ...]) -> Any:
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(args)):
        return shapes_of(pax.purecall, module, *args)[1]
    return pax.purecall(module, *args)[1]


def shapes_of(func: Callable[..., Any], *args: Any) -> Any:
    """Runs a function without computing anything.

    Args:
        func: a function of any arguments and results.
        *args: arrays and `jax.ShapeDtypeStruct`; other leaves are seen by the function as they are.

    Returns:
        What ``func`` returns, with a `jax.ShapeDtypeStruct` in place of each array.
    """
    leaves, structure = jax.tree.flatten(args)
    abstract = [isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct) for leaf in leaves]
    result: list[Any] = []

    def run(arrays: list[Any]) -> list[Any]:
        rest = iter(arrays)
        filled = [next(rest) if is_array else leaf for leaf, is_array in zip(leaves, abstract, strict=True)]
        values, result_structure = jax.tree.flatten(func(*jax.tree.unflatten(structure, filled)))
        result[:] = values, result_structure
        return [value for value in values if isinstance(value, jax.Array | np.ndarray)]

    shapes = iter(jax.eval_shape(run, [leaf for leaf, is_array in zip(leaves, abstract, strict=True) if is_array]))
    values = [next(shapes) if isinstance(value, jax.Array | np.ndarray) else value for value in result[0]]
    return jax.tree.unflatten(result[1], values)
