"""``replace_method``: other methods for one module, without a class per call."""

from collections.abc import Callable, Iterable
from typing import Any

from pax._errors import ArgumentTypeError
from pax._node import fill, new_node, own_dict
from pax._paths import describe
from pax._variants import variant_class, variant_of

_METHODS = "_replaced_methods"


def with_methods(module: Any, methods: dict[str, Callable[..., Any]]) -> Any:
    """Returns the module with other methods.

    The functions are static data of the module: modules with the same functions have equal structures.

    Raises:
        ArgumentTypeError: a method is not callable.
    """
    for name, method in methods.items():
        if not callable(method):
            raise ArgumentTypeError(
                f"`{name}` cannot become a method.",
                got=describe(method),
                want="a function of (self, ...)",
                fix=f"module.replace_method({name}=lambda self, x: ...)",
                module=module,
            )
    attributes = dict(fill(module.copy()))
    functions = {**dict(attributes.get(_METHODS, ())), **methods}
    new = new_node(_class_with_methods(type(module), functions))
    own_dict(new).update({**attributes, _METHODS: tuple(sorted(functions.items()))})
    return new


def _class_with_methods(cls: Any, names: Iterable[str]) -> Any:
    """Returns the variant with these methods replaced.

    Other variants of the same class lie above it, whichever was made first: they see the methods that there are now.
    """
    origin = variant_of(cls)
    if origin is None:
        return variant_class(cls, _class_body, *sorted(names))
    base, maker, key = origin
    if maker is _class_body:  # replace more methods of the same base
        return variant_class(base, _class_body, *sorted(names))
    return variant_class(_class_with_methods(base, names), maker, *key)


def _class_body(base: Any, *names: str) -> dict[str, Any]:
    return {name: _dispatcher(name, getattr(base, name, None)) for name in names}


def _dispatcher(name: str, original: Any) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return dict(fill(self)[_METHODS])[name](self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = getattr(original, "__doc__", None)
    return method
