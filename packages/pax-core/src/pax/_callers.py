"""Whose methods are running: where an error was made, told from outside. Looked at for errors only."""

import inspect
from types import FrameType
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
    frame = inspect.currentframe()
    try:
        while frame is not None:
            owner = _owner_of(frame)
            if owner is module:
                found = Caller(owner, frame.f_code.co_name, "")
            elif owner is not None and (path := find_path([owner], module)):
                found = Caller(owner, frame.f_code.co_name, path)
            frame = frame.f_back
    finally:
        del frame  # a cycle with its own variables
    return found


def _owner_of(frame: FrameType) -> Any:
    """Returns the module whose method runs in a frame; ``None`` if it is no such method, or one that Python calls.

    Looking at the variables of a frame makes a copy of them that may live as long as the frame, so tracers would be
    found in those of JAX: only what may be a method of a module is looked at.
    """
    code = frame.f_code
    is_method = code.co_argcount > 0 and code.co_varnames[0] == "self"
    if not is_method or code.co_name in ("__setattr__", "__delattr__") or _package_of(frame) in ("jax", "jaxlib"):
        return None
    owner = frame.f_locals.get("self")
    return owner if is_module(owner) and hasattr(type(owner), code.co_name) else None


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
