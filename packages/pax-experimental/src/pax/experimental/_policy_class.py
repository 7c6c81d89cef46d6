"""The class of modules with a precision policy: one for each base class, made once.

The policy itself is a static attribute of the module. A method runs on a twin: an object of the *base* class, whose own
floating arrays are cast, around the very submodules of the module. So the methods that it calls on itself cast nothing
again, and neither an exception nor another thread ever meets a module with other arrays than its own.
"""

import functools
from collections.abc import Callable
from typing import Any

import pax
from pax.errors import PaxError
from pax.experimental._policy_arrays import POLICY, OwnArrays
from pax.experimental._policy_casts import cast, dtypes_of, policy_letters, policy_of
from pax.extend import Twin, variant_class, variant_of

Method = Callable[..., Any]


def policy_class(cls: Any) -> Any:
    """Returns the class of instances of ``cls`` with a policy."""
    return variant_class(cls, _class_body)


def without_policy(cls: Any) -> Any:
    """Returns the class that has no policy, ``None`` if ``cls`` itself has none."""
    origin = variant_of(cls)
    if origin is None:
        return None
    base, maker, key = origin
    if maker is _class_body:
        return base
    below = without_policy(base)
    return None if below is None else variant_class(below, maker, *key)


def _class_body(base: Any) -> dict[str, Any]:
    """Returns what a policy adds to a class. It is stored in pickles by its name."""
    body: dict[str, Any] = {name: _wrapped(method) for name, method in _methods(base).items()}
    body["__repr__"] = _repr_like(base)
    if not hasattr(base, "mp_policy"):
        body["mp_policy"] = _PolicyAttribute()
    return body


def _methods(cls: Any) -> dict[str, Any]:
    """Returns the methods that a class and its bases below `pax.Module` define, without special ones."""
    inherited = pax.Module.__mro__
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base not in inherited:
            for name, value in base.__dict__.copy().items():  # another thread may set an attribute meanwhile
                found.setdefault(name, value)
    return {name: value for name, value in found.items() if _is_wrapped(name, value)}


def _is_wrapped(name: str, value: Any) -> bool:
    if name != "__call__" and ((name.startswith("__") and name.endswith("__")) or hasattr(pax.Module, name)):
        return False
    if isinstance(value, functools.partialmethod | functools.singledispatchmethod):
        return True
    # What binds to the instance, functions compiled by `jax.jit` included.
    return callable(value) and hasattr(value, "__get__") and not isinstance(value, staticmethod | classmethod | type)


class _PolicyAttribute:
    """``module.mp_policy``. An attribute of the same name that a module has goes first: this is not a property."""

    def __get__(self, module: Any, cls: Any) -> Any:
        return self if module is None else policy_of(getattr(module, POLICY))


def _repr_like(base: Any) -> Callable[[Any], Any]:
    def __repr__(self: Any) -> Any:
        text = base.__repr__(self)
        if not isinstance(text, str) or isinstance(self, pax.nn.Lambda):
            return text
        entry = f"mp_policy={policy_letters(getattr(self, POLICY))}"
        if not text.endswith(")"):
            return f"{text}({entry})"
        return f"{text[:-1]}{entry})" if text.endswith("()") else f"{text[:-1]}, {entry})"

    return __repr__


def _wrapped(method: Any) -> Method:
    bind = type(method).__get__

    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        cls = type(self)
        origin = variant_of(cls)
        twin_class = origin[0] if origin is not None and origin[1] is _class_body else without_policy(cls)
        if twin_class is None:  # a twin: it is cast already
            return bind(method, self, cls)(*args, **kwargs)
        dtypes = dtypes_of(getattr(self, POLICY))
        args = tuple([cast(value, dtypes.compute) for value in args])
        if kwargs:
            kwargs = {name: cast(value, dtypes.compute) for name, value in kwargs.items()}
        own = OwnArrays(self, dtypes)
        with Twin(self, twin_class, own.attributes) as twin:
            before = vars(twin).copy()
            try:
                output = bind(method, twin, twin_class)(*args, **kwargs)
            except PaxError as error:
                if error.module is twin:
                    error.module = self
                raise
            own.copy_back(twin, before)
        return cast(output, dtypes.output, functools.partial(own.from_twin, twin))

    functools.update_wrapper(wrapper, method)
    return wrapper
