"""Variant classes: cached subclasses that look like their base.

A transformation of *behaviour* (other methods, a precision policy) needs a subclass, because Python looks special
methods up on the class. There is one such class for each base and key, made on first use; what differs between modules
is static data on the module. So equal transformations of equal modules give equal structures.
"""

import threading
from collections.abc import Callable, Hashable
from typing import Any

_lock = threading.Lock()


def variant_class(base: Any, maker: Callable[..., dict[str, Any]], *key: Hashable) -> Any:
    """Returns the subclass of ``base`` for ``(maker, *key)``, with the name, module and doc of ``base``.

    Args:
        base: a module class.
        maker: an importable function; ``maker(base, *key)`` returns the class body.
        *key: hashable, picklable arguments of ``maker``.
    """
    with _lock:
        variants = base.__dict__.get("_pax_variants")
        if variants is None:
            variants = {}
            type.__setattr__(base, "_pax_variants", variants)
        cls = variants.get((maker, *key))
        if cls is None:
            body = {
                "__module__": base.__module__,
                "__qualname__": base.__qualname__,
                "__doc__": base.__doc__,
                **maker(base, *key),
                "_pax_variant": (base, maker, key),
            }
            cls = variants[(maker, *key)] = type(base)(base.__name__, (base,), body)
        return cls


def variant_of(cls: Any) -> tuple[Any, Callable[..., dict[str, Any]], tuple[Hashable, ...]] | None:
    """Returns ``(base, maker, key)`` of a variant class, ``None`` for any other class."""
    origin: tuple[Any, Callable[..., dict[str, Any]], tuple[Hashable, ...]] | None = cls.__dict__.get("_pax_variant")
    return origin


def base_class(cls: Any) -> Any:
    """Returns the class that the user wrote, below all variants."""
    while (origin := variant_of(cls)) is not None:
        cls = origin[0]
    return cls
