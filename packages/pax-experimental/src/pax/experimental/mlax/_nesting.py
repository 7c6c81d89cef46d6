"""Calls within calls: what a module does not take back from its parts, and where in a module an error came from."""

import threading
from types import TracebackType
from typing import Any, Self

import jax.tree_util as jtu

from pax.errors import PaxError, StructureError


class _Local(threading.local):
    """The innermost call that runs in this thread."""

    def __init__(self) -> None:
        self.call: Call | None = None


class Call:
    """A running call of a module.

    Args:
        module: the copy that may change.
    """

    __slots__ = ("_outer", "module", "set_up")

    def __init__(self, module: Any) -> None:
        self.module = module
        self.set_up: list[Any] = []
        """The modules that were called within the call without being initialized; the calls returned others."""

    def __enter__(self) -> Self:
        self._outer = _local.call
        _local.call = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _local.call = self._outer

    def check(self) -> None:
        """Raises ``StructureError`` if a part that was set up within the call is still the uninitialized one."""
        for part in self.set_up:
            place = "" if part.initialized else _place_of(part, self.module)
            if place:
                raise StructureError(
                    f"What `self.{place}(...)` returned was not assigned.",
                    got=f"an uninitialized {type(part).__qualname__} in `self.{place}` after it was called",
                    want="the module that the call has returned",
                    fix=f"y, self.{place} = self.{place}(x, rng, inference_mode, batch_axis_name)",
                    why="calls change no module: it would be set up anew in each call, and never be trained",
                    module=self.module,
                )


_local = _Local()


def note_set_up(module: Any) -> None:
    """Tells the running call, if there is one, that an uninitialized module was called and has returned another."""
    if _local.call is not None:
        _local.call.set_up.append(module)


def add_place(error: PaxError, module: Any) -> None:
    """Puts the place of a module within the one that called it in front of the path that an error names.

    Args:
        error: an error that came out of a call of ``module``.
        module: the module that was called.
    """
    if _local.call is None or error.module is None:
        return
    place = _place_of(module, _local.call.module)
    if place:
        error.path = f"{place}.{error.path}" if error.path else place


def _place_of(module: Any, root: Any) -> str:
    """Returns the path of a module below a root, ``layers.data[0]``; nothing if it is not there."""
    content, _ = jtu.tree_flatten_with_path(root, is_leaf=lambda node: node is module)
    return next((jtu.keystr(path).removeprefix(".") for path, node in content if node is module), "")
