"""The methods and functions that users define: what they take, and calls of those that take something else."""

import inspect
import weakref
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

from pax.errors import ArgumentTypeError

# Signatures are slow to take, and the same in every call. Weak keys: functions may hold arrays.
_parameters: "weakref.WeakKeyDictionary[Any, Mapping[str, inspect.Parameter]]" = weakref.WeakKeyDictionary()


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a function by their names; none for built-in functions without a signature.

    Args:
        function: anything that can be called. Those of a method may include ``self``.
    """
    function = function.__func__ if isinstance(function, MethodType) else function
    try:
        return _parameters[function]
    except (KeyError, TypeError):  # not there yet; or it cannot be a key
        pass
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(function).parameters
    except (TypeError, ValueError):
        parameters = {}
    try:
        _parameters[function] = parameters
    except TypeError:
        pass
    return parameters


def needs_key(module: Any) -> bool:
    """Whether a module of this dialect needs a key: its ``forward`` has no ``rng=None``."""
    rng = parameters_of(module.forward).get("rng")
    return rng is None or rng.default is not None


def call_method(module: Any, base: type, name: str, *args: Any) -> Any:
    """Calls a method that a subclass has defined.

    Args:
        module: a module.
        base: the class that declares the method.
        name: of the method.
        *args: its arguments.

    Raises:
        ArgumentTypeError: it does not take these arguments.
    """
    method = getattr(module, name)
    try:
        return method(*args)
    except TypeError as error:
        got, want = inspect.signature(method), inspect.signature(getattr(base, name))
        if _fits(got, args):
            raise
        raise ArgumentTypeError(
            f"`{name}` does not take the arguments that every module gives it.",
            where=f"method `{name}`",
            got=f"def {name}({', '.join(['self', *_declared(got)])})",
            want=f"def {name}({', '.join(_declared(want))})",
            module=module,
        ) from error


def _fits(signature: inspect.Signature, args: tuple[Any, ...]) -> bool:
    try:
        signature.bind(*args)
    except TypeError:
        return False
    return True


def _declared(signature: inspect.Signature) -> list[str]:
    return [str(parameter.replace(annotation=parameter.empty)) for parameter in signature.parameters.values()]
