"""Names that attributes cannot have: those of methods, which they would hide."""

import inspect
from typing import Any

from pax.errors import AttributeNameError
from pax.extend import describe


def check_name(module: Any, base: type, name: str, value: Any) -> None:
    """Raises ``AttributeNameError`` if an attribute would hide a method.

    Args:
        module: a module that an attribute is to be set on.
        base: the class whose methods are protected.
        name: the name of the attribute.
        value: its value.
    """
    if inspect.isroutine(getattr(base, name, None)) and not name.startswith("__"):
        raise AttributeNameError(
            f"`{name}` is a method of every module, so no attribute can have this name.",
            where=f"attribute `{name}`",
            got=f"self.{name} = {describe(value)}",
            want="a name that no method has",
            fix=f"self.{name}_ = ...",
            module=module,
        )
