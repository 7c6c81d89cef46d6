"""The content of a module under another class: for good, and as a *twin* for the time of one call.

A twin is how a method runs on other arrays than the module has: nobody else ever sees it, so that neither an exception
nor another thread can leave the module half-changed.
"""

from types import TracebackType
from typing import Any

from pax._mutation import Session, _local
from pax._node import fill, make_node, new_node, own_dict
from pax._structure import intern_structure


def with_class(module: Any, cls: Any, **statics: Any) -> Any:
    """Returns a copy of a module that is an instance of another class.

    What is pytree content stays that; submodules and containers are copied, arrays are shared. No constructor runs.

    Args:
        module: a module.
        cls: a module class, usually a variant (:func:`variant_class`) of that of ``module``, or the base of one.
        **statics: static attributes to set; ``...`` removes one.
    """
    children, structure = module.copy()._pax_flat
    kept = {**structure.statics, **statics}
    kept = {name: value for name, value in kept.items() if value is not ...}
    return make_node(cls, children, intern_structure(cls, structure.names, structure.mixed, kept, structure.volatile))


class Twin:
    """A ``with`` block in which an object has the attributes of a module, and may change where the module may.

    The twin has the very objects of the module: the same submodules, the same lists, dictionaries and arrays. A change
    of its attributes does not reach the module. Errors that name the twin should be made to name the module.

    Args:
        module: a module.
        cls: the class of the twin.
        attributes: what it has instead of attributes of the module.
    """

    __slots__ = ("_sessions", "_twin")

    def __init__(self, module: Any, cls: Any, attributes: dict[str, Any]) -> None:
        self._twin = twin = new_node(cls)
        own = own_dict(twin)
        own.update(fill(module))
        for name in type(module)._pax_cached:  # computed from other arrays
            own.pop(name, None)
        own.update(attributes)
        # Hidden ones, too: what an error says depends on which session the module is in.
        self._sessions: list[Session] = [session for session in _local.stack if id(module) in session.members]

    def __enter__(self) -> Any:
        for session in self._sessions:
            session.add(self._twin)
        return self._twin

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for session in self._sessions:
            session.members.pop(id(self._twin), None)
