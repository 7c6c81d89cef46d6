"""Calls of the methods that subclasses define; those that take other arguments are named."""

import inspect
from typing import Any

from pax.errors import ArgumentTypeError


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
