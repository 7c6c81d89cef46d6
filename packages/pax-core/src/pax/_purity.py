"""``pure``, ``purecall`` and ``module_and_value``: the functions in which copies of modules may change."""

import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, ParamSpec, TypeVar, cast

import jax.tree_util as jtu
import numpy as np

from pax._checks import check_class, check_sharing, shared_arrays
from pax._classify import is_module
from pax._errors import ArgumentTypeError, PaxError
from pax._mutation import Session
from pax._node import is_authored, is_exposed, put_back, seal_node
from pax._paths import describe, find_path

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")


def pure(func: Callable[P, R]) -> Callable[P, R]:
    """Makes a function pure: it works on copies of its arguments, in which modules may change.

    Every module in the arguments is copied, with all submodules, containers and static lists and dictionaries; arrays
    are shared (NumPy arrays as read-only views). Only these copies may change, only while ``func`` runs, only in this
    thread, and not inside of JAX transformations that are entered in between. What ``func`` returns is all that gets
    out.

    Args:
        func: a function, a bound method of a module, or a callable module. Of the latter two, the module is copied like
            an argument, and its changes are lost: see :func:`module_and_value`.

    Returns:
        A function with the same signature.

    Raises:
        ArgumentTypeError: ``func`` is not callable, or is a generator or coroutine function.
        SharedNodeError: on call, a module in the arguments, or in the end one that was changed, holds an array or a
            module twice.

    >>> import jax.numpy as jnp, pax
    >>> class Counter(pax.StateModule):
    ...     def __init__(self):
    ...         self.count = jnp.array(0)
    >>> @pax.pure
    ... def increase(counter):
    ...     counter.count = counter.count + 1
    ...     return counter
    >>> counter = Counter()
    >>> increase(counter).count, counter.count
    (Array(1, dtype=int32, weak_type=True), Array(0, dtype=int32, weak_type=True))
    """
    _check_function(func)

    @functools.wraps(func)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if isinstance(func, MethodType) and is_module(func.__self__):
            return _run(cast("Callable[..., R]", func.__func__), (func.__self__, *args), kwargs)
        if is_module(func):
            return _run(cast("Callable[..., R]", type(func).__call__), (func, *args), kwargs)
        return _run(func, args, kwargs)

    return wrapper


def _check_function(func: Any) -> None:
    if not callable(func):
        raise ArgumentTypeError(
            "Not supported: only what can be called can be made pure.",
            got=describe(func),
            want="a function, a method of a module, or a callable module",
            fix="pax.pure(lambda module, x: module(x))",
        )
    inner = inspect.unwrap(func.func if isinstance(func, functools.partial) else func)
    if inspect.isgeneratorfunction(inner) or inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise ArgumentTypeError(
            "A generator or coroutine function cannot be pure.",
            got=describe(inner),
            want="a function that returns when it is done",
            fix="put what changes modules into a plain function, and call that from the generator",
            why="it is suspended while its modules may change, and other code would run in between",
        )


class _Inputs:
    """The copied arguments of one call.

    Args:
        args: positional arguments.
        kwargs: keyword arguments.

    Raises:
        SharedNodeError: a module the user built holds an array or a module twice.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.modules: list[Any] = []
        self.roots: list[Any] = []
        self.known: list[frozenset[int]] = []
        self.views: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        tops, structure = jtu.tree_flatten((args, kwargs), is_leaf=is_module)
        self.args, self.kwargs = jtu.tree_unflatten(structure, [self._copy(x) if is_module(x) else x for x in tops])

    def _collect(self, node: Any) -> bool:
        if is_module(node):
            self.modules.append(node)
        return False

    def _copy(self, module: Any) -> Any:
        leaves, structure = jtu.tree_flatten(module)
        shared = shared_arrays(leaves)
        check_class(module)
        if _any_exposed(module):  # what is not exposed was checked when it was built
            check_sharing(module, known=frozenset() if is_authored(module) else shared)
        if any(type(leaf) is np.ndarray for leaf in leaves):
            leaves = [self._view(leaf) if type(leaf) is np.ndarray else leaf for leaf in leaves]
        copy = jtu.tree_unflatten(structure, leaves)
        jtu.tree_flatten(copy, is_leaf=self._collect)
        self.roots.append(copy)
        self.known.append(shared)
        return copy

    def _view(self, array: np.ndarray) -> np.ndarray:
        """Returns a read-only view: an array changed in place would change the caller's module, too."""
        if not array.flags.writeable:
            return array
        view = array.view()
        view.flags.writeable = False
        self.views[id(view)] = view, array
        return view

    def close(self, session: Session) -> None:
        """Puts the caller's NumPy arrays back into the copies, classifies and checks them, after the function ran."""
        if self.views:
            originals = {key: array for key, (_, array) in self.views.items()}
            for module in self.modules:
                put_back(module, originals)
        exposed = [module for module in self.modules if is_exposed(module)]
        for module in exposed:
            seal_node(module)
        if exposed or session.changed:
            for root, known in zip(self.roots, self.known, strict=True):
                check_sharing(root, known=known)

    def restore(self, result: Any) -> Any:
        """Puts the caller's NumPy arrays back where the result has them outside of modules; else it stays as it is."""
        if not self.views:
            return result
        try:
            leaves, structure = jtu.tree_flatten(result, is_leaf=is_module)
        except ValueError:  # no pytree: a dictionary whose keys cannot be sorted
            return result
        if not any(id(leaf) in self.views for leaf in leaves):
            return result
        return jtu.tree_unflatten(structure, [self.views.get(id(leaf), (leaf, leaf))[1] for leaf in leaves])


def _any_exposed(module: Any) -> bool:
    found = False

    def look(node: Any) -> bool:
        nonlocal found
        found = found or (is_module(node) and is_exposed(node))
        return False

    jtu.tree_flatten(module, is_leaf=look)
    return found


def _run(func: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    inputs = _Inputs(args, kwargs)
    session = Session(inputs.modules, inputs.roots)
    try:
        with session:
            result = func(*inputs.args, **inputs.kwargs)
        inputs.close(session)
    except PaxError as error:
        _add_path(error, inputs.roots)
        raise
    restored: R = inputs.restore(result)
    return restored


def _add_path(error: PaxError, roots: list[Any]) -> None:
    """Names the path of the module that raised, where a root that is known here holds it."""
    if error.module is None or error.path:
        return
    error.path = find_path(roots, error.module) or None


def _call(module: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return module, type(module).__call__(module, *args, **kwargs)


def purecall(module: M, *args: Any, **kwargs: Any) -> tuple[M, Any]:
    """Calls a module on a copy of it, in which it may change.

    ``module % x`` is short for ``pax.purecall(module, x)``.

    Args:
        module: a callable module; it stays as it is.
        *args: passed on; modules in them are copied and may change, too.
        **kwargs: passed on.

    Returns:
        ``(updated module, output)``.

    Raises:
        ArgumentTypeError: ``module`` is no module, or is not callable.
    """
    check_callable_module(module)
    return _run(_call, (module, *args), kwargs)


def check_callable_module(module: Any) -> None:
    """Raises ``ArgumentTypeError`` unless ``module`` is a module with a ``__call__`` method."""
    if not is_module(module):
        raise ArgumentTypeError(
            "Expecting a PAX module.",
            got=describe(module),
            want="a module",
            fix="module, output = pax.purecall(module, x)",
        )
    if not callable(module):
        raise ArgumentTypeError(
            "Expecting a callable module.",
            got=f"a {type(module).__qualname__}, which has no `__call__` method",
            fix="define `__call__`, or use pax.module_and_value(module.method)(...)",
            module=module,
        )


def module_and_value(func: Any) -> Callable[..., tuple[Any, Any]]:
    """Returns a pure function that gives the updated module together with the output.

    Args:
        func: a callable module; a bound method of a module; or a function whose first argument is a module (so it can
            decorate a method).

    Returns:
        A function that returns ``(updated module, output)``: called with ``func``'s arguments, without the module in
        the first two cases.

    Raises:
        ArgumentTypeError: ``func`` is none of these, or, on call, the first argument is no module.

    >>> import pax
    >>> rng_seq, key = pax.module_and_value(pax.RngSeq(seed=1).next_rng_key)()
    """
    if isinstance(func, MethodType) and is_module(func.__self__):
        return functools.partial(_method_and_value, func.__func__, func.__self__)
    if is_module(func):
        check_callable_module(func)
        return functools.partial(purecall, func)
    if callable(func):
        _check_function(func)

        @functools.wraps(func)
        def wrapper(module: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            return _method_and_value(func, module, *args, **kwargs)

        return wrapper
    raise ArgumentTypeError(
        "Expecting a module or a module's method.",
        got=describe(func),
        fix="module, key = pax.module_and_value(rng_seq.next_rng_key)()",
    )


def _method_and_value(func: Callable[..., Any], module: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    if not is_module(module):
        raise ArgumentTypeError(
            "Expecting a PAX module.",
            got=describe(module),
            want="a module as the first argument",
            fix="module, value = pax.module_and_value(function)(module, x)",
        )

    def run(module: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return module, func(module, *args, **kwargs)

    return _run(run, (module, *args), kwargs)
