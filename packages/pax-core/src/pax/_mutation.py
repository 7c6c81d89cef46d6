"""Sessions: which modules may change, in which thread and under which JAX trace.

A module may change iff it is in the *innermost* session of the current thread and that session was opened under the
trace that is current now. There are no parents and no levels: a nested session hides the outer ones until it is closed.
"""

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from pax._callers import Caller, outermost_caller
from pax._errors import MutationError
from pax._jax_compat import trace_state
from pax._paths import find_path

_HEADLINE = (
    "Cannot modify a module in immutable mode.\nPlease do this computation inside a function decorated by `pax.pure`."
)


class Session:
    """A context in which the given modules, and no others, may change.

    Sessions are removed by identity: a generator that keeps one open and is closed late cannot remove another's.

    Args:
        modules: the modules themselves; their submodules are not included.
        roots: the trees from which errors name paths.
        constructs: whether it is that of a constructor.
    """

    __slots__ = ("changed", "constructs", "members", "roots", "trace")

    def __init__(self, modules: Iterable[Any], roots: Iterable[Any] = (), *, constructs: bool = False) -> None:
        # Strong references: an id cannot be used again while the session is open.
        self.members = {id(module): module for module in modules}
        self.roots = roots
        self.constructs = constructs
        self.changed = False
        self.trace = trace_state()

    def __enter__(self) -> "Session":
        _local.stack.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stack = _local.stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is self:
                del stack[index]
                break
        self.members = {}

    def add(self, module: Any) -> None:
        """Lets one more module change until the session is closed."""
        self.members[id(module)] = module


class _Local(threading.local):
    """The sessions of one thread, innermost last (not a context variable: those are inherited by other threads)."""

    def __init__(self) -> None:
        self.stack: list[Session] = []


_local = _Local()


def session_of(module: Any) -> Session | None:
    """Returns the session under which ``module`` may change right now, if any."""
    stack = _local.stack
    if stack:
        session = stack[-1]
        if id(module) in session.members and session.trace == trace_state():
            return session
    return None


def require_session(module: Any, attribute: str, action: str) -> Session:
    """Returns the session under which ``module`` may change.

    Raises:
        MutationError: there is none; the message says which attribute of which module, and why.
    """
    session = session_of(module)
    if session is not None:
        return session
    path = ""
    got = f"{action} outside of any `pax.pure` function"
    fix = ""
    if not _local.stack:
        caller = outermost_caller(module)
        path = caller.path if caller else ""
        fix = _way_out(module, attribute, action, caller)
    for open_session in reversed(_local.stack):
        path = path or find_path(open_session.roots, module)
        if id(module) not in open_session.members:
            got = f"{action} of a module that is no input of the running `pax.pure` function"
            fix = "pass the module as an argument of the pure function, or call it by `pax.purecall(module, ...)`"
            continue
        if open_session is _local.stack[-1]:
            got = f"{action} inside a JAX transformation that was entered after `pax.pure`"
            fix = (
                "pass the module into the transformed function; there, module, y = pax.purecall(module, x);\n"
                "return the module from the function, and assign it outside"
            )
        else:
            got = f"{action} while another `pax.pure` function, or a constructor, is running"
        break
    if _local.stack and _local.stack[-1].constructs and not any(id(module) in other.members for other in _local.stack):
        got = f"{action} of a module that is finished, inside of the constructor of another one"
        fix = f"self.layer = Layer(...).replace({attribute}=...)"
    raise MutationError(
        _HEADLINE,
        where=f"attribute `{attribute}`",
        got=got,
        fix=fix,
        why="a module is a value: a change in place would be invisible to jax.jit and would leak tracers",
        module=module,
        path=path,
    )


def _way_out(module: Any, attribute: str, action: str, caller: Caller | None) -> str:
    """Returns what to do in place of a change outside of any pure function."""
    if attribute == "training":
        return "model = model.eval()  # or model.train(): all modules below, too"
    lines = []
    if caller is not None and caller.method != "__call__":
        lines.append(f"model, result = pax.module_and_value(model.{caller.method})(...)  # and go on with that model")
    else:
        lines.append("model, output = pax.purecall(model, x)  # and go on with the returned model")
        if action == "an assignment" and getattr(module, "_training", False):
            lines.append("model = model.eval()  # for inference: states stay as they are")
    if not attribute.startswith("_") and not (caller and caller.path):
        lines.append(f"model = model.replace({attribute}=...)  # to change it from outside")
    return "\n".join(lines)
