"""Whose methods are running: where an error was made, told from outside. Looked at for errors only."""

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

from pax._classify import is_module
from pax._paths import find_path


class Caller(NamedTuple):
    """A running method of a module.

    Attributes:
        root: the module.
        method: the name of the method.
        path: where the module that was asked for is below it; ``""`` if it is the module itself.
    """

    root: Any
    method: str
    path: str


def outermost_caller(module: Any) -> Caller | None:
    """Returns the outermost running method of ``module``, or of a module that holds it; ``None`` if there is none."""
    found = None
    for root, method in _running_methods():
        if root is module:
            found = Caller(root, method, "")
        elif path := find_path([root], module):
            found = Caller(root, method, path)
    return found


def _running_methods() -> Iterator[tuple[Any, str]]:
    """Yields the module and the name of each running method, innermost first; not those that Python calls itself."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_argcount and code.co_name not in ("__setattr__", "__delattr__"):
            first = frame.f_locals.get(code.co_varnames[0])
            if is_module(first) and hasattr(type(first), code.co_name):
                yield first, code.co_name
        frame = frame.f_back
