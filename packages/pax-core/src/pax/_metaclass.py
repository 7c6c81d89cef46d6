"""``ModuleMeta``: runs constructors in a session of their own, and keeps classes and their instances consistent."""

import abc
import gc
import inspect
from typing import TYPE_CHECKING, Any

from pax._checks import check_class, check_sharing
from pax._classify import is_module
from pax._mutation import Session
from pax._node import cached_names, fill, seal_node
from pax._parameters import frozen_aware
from pax._structure import Structure


def _all_subclasses(cls: type) -> list[type]:
    found: list[type] = [cls]
    subclasses: list[type] = type.__subclasses__(cls)
    for sub in subclasses:
        found += _all_subclasses(sub)
    return found


class ModuleMeta(abc.ABCMeta):
    """The class of module classes: it runs constructors in a session of their own."""

    if not TYPE_CHECKING:  # a type checker takes the signature from `__init__`

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            module = cls.__new__(cls, *args, **kwargs)
            if type(module) is not cls:
                return module
            with Session((module,), roots=(module,), constructs=True):
                cls.__init__(module, *args, **kwargs)
            seal_node(module)
            check_class(module)
            check_sharing(module)
            return module

        @property
        def __signature__(cls) -> inspect.Signature:
            """That of the constructor, for ``help``, editors and ``inspect``, to which ``__call__`` would hide it."""
            signature = inspect.signature(cls.__init__)
            return signature.replace(parameters=list(signature.parameters.values())[1:])

        # The plain check: module classes have no virtual subclasses, and walks over trees ask often.
        __instancecheck__ = type.__instancecheck__
        __subclasscheck__ = type.__subclasscheck__

    def __setattr__(cls, name: str, value: Any) -> None:
        if name == "parameters" and callable(value):
            value = frozen_aware(value)
        super().__setattr__(name, value)
        if name.startswith(("__", "_abc_")):
            return
        for sub in _all_subclasses(cls):
            if "_pax_fields" in sub.__dict__:
                type.__delattr__(sub, "_pax_fields")
            if "_pax_structures" in sub.__dict__:
                type.__setattr__(sub, "_pax_cached", cached_names(sub))
                # It would hide attributes of this name that are not filled in yet.
                for structure in list(sub.__dict__["_pax_structures"].values()):
                    if name in structure.names or name in structure.statics:
                        structure.eager = True
                        _fill_all_of(structure)


def _fill_all_of(structure: Structure) -> None:
    """Fills all modules of one structure; slow, for when a class attribute is added after modules were made."""
    for flat in gc.get_referrers(structure):
        if type(flat) is tuple:
            for module in filter(is_module, gc.get_referrers(flat)):
                fill(module)
