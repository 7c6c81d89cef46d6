"""Checks of what a module has in its fields against what its class declares."""

import difflib
from typing import Any

from pax.errors import AttributeNameError, UnsupportedModuleError
from pax.experimental.parallax._fields import (
    Declaration,
    Role,
    check_value,
    find_declaration,
    holds_modules,
    holds_placeholders,
    own_annotations,
)

READ_ONLY = {
    "name": "super().__init__(name=...)  # in __init__",
    "rng": "layer = layer.new_state(rng)",
    "mode": 'layer = layer.new_state(rng, mode="train")',
    "training": "layer = layer.train()  # or layer.eval()",
}


def _declaration(module: Any, name: str) -> Declaration:
    return find_declaration(type(module)._authored_bases(), name)


def with_class_defaults(module: Any) -> Any:
    """Returns the module with the values of declared fields that were assigned in the class body only."""
    for name in sorted(module._declared - vars(module).keys()):
        value = getattr(type(module), name, None)
        if holds_placeholders(value):
            module = module.set_attribute(name, value)
    return module


def lacks_parameters(module: Any) -> bool:
    """Whether a module, those below it aside, is not initialized, or holds a placeholder in spite of it."""
    return not module._initialized or any(map(holds_placeholders, vars(module).values()))


def assigned_parameters(module: Any) -> tuple[str, ...]:
    """Returns the names of the fields of a declared module that are declared as parameters.

    Some may hold arrays already, and these are trained, whether or not `initialized` is called.
    """
    roles = (Role.PARAMETER, Role.PARAMETERS)
    return tuple(
        name for name in sorted(module._declared & vars(module).keys()) if _declaration(module, name).role in roles
    )


def parameter_names(module: Any) -> list[str]:
    """Returns the names of all fields with parameters, after checking that what is declared is there.

    Raises:
        AttributeNameError: a declared field was not assigned.
        ArgumentTypeError: a field holds something else than it is declared to hold.
        UnsupportedModuleError: a field holds both parameters and modules.
    """
    names = {name for name, value in vars(module).items() if holds_placeholders(value)}
    for name in sorted(module._declared):
        declared = _declaration(module, name)
        if declared.role is not Role.OTHER and name not in vars(module):
            raise AttributeNameError(
                f"The field `{name}` of `{type(module).__qualname__}` was not assigned.",
                got=f"initialized, of a module without `{name}`",
                want=declared.role.value,
                fix=f"self.{name} = ...  # in __init__" + ("; it may be None" if declared.optional else ""),
                module=module,
            )
        if name in vars(module):
            check_value(declared, name, getattr(module, name), module)
        if declared.role in (Role.PARAMETER, Role.PARAMETERS):
            names.add(name)
    for name in names:
        if holds_modules(getattr(module, name)):
            raise UnsupportedModuleError(
                f"The field `{name}` of `{type(module).__qualname__}` holds both parameters and modules.",
                want="a ParameterTuple or a ModuleTuple",
                fix="use a field for each",
                module=module,
            )
    return sorted(names)


def check_names(cls: type, base: type) -> None:
    """Checks the names of the fields that a new class declares.

    Args:
        cls: the class.
        base: the base of all Parallax modules.

    Raises:
        AttributeNameError: a name is that of an attribute of ``base``.
    """
    for name in own_annotations(cls):
        if hasattr(base, name) or name in ("_name", "_training", *own_annotations(base)):
            raise AttributeNameError(
                f"The field `{name}` of `{cls.__qualname__}` has a name that every module uses.",
                where=f"class {cls.__qualname__}",
                got=f"the annotation of `{name}`",
                want="a name that is no attribute of pax.experimental.parallax.Module",
                fix=f"{name}_: ...",
            )


def check_assignment(module: Any, name: str, value: Any) -> None:
    """Checks an assignment in a constructor, or in a function in which the module may change.

    Raises:
        AttributeNameError: there is no such field.
        ArgumentTypeError: the field is declared to hold something else.
    """
    if name in module._declared:
        check_value(_declaration(module, name), name, value, module)
    elif name in READ_ONLY:
        raise AttributeNameError(
            f"`{name}` of `{type(module).__qualname__}` cannot be assigned.",
            where=f"attribute `{name}`",
            fix=READ_ONLY[name],
            module=module,
        )
    elif not name.startswith("_") and not isinstance(getattr(type(module), name, None), property):
        raise AttributeNameError(
            f"`{type(module).__qualname__}` declares no field `{name}`.",
            where=f"attribute `{name}`",
            got="an assignment",
            want=", ".join(sorted(module._declared)) or "(it declares none)",
            fix=_fix_of_undeclared(module, name),
            module=module,
        )


def fix_of_late_assignment(module: Any, name: str) -> str:
    """Returns what to write in the place of an assignment to a module that is initialized."""
    if name in module._declared or name in vars(module):
        return f"layer = layer.replace({name}=...)"
    near = nearest_field(module, name)
    if near:
        return f"layer = layer.replace({near}=...)  # did you mean `{near}`? `{name}` is not declared"
    return f"{_fix_of_undeclared(module, name)}; `{name}` is not declared; then assign it in __init__"


def _fix_of_undeclared(module: Any, name: str) -> str:
    near = nearest_field(module, name)
    if near:
        return f"self.{near} = ...  # did you mean `{near}`? Else declare it: {name}: ..."
    return f"{name}: Parameter  # in the class body; or a module class, or any other annotation for a constant"


def nearest_field(module: Any, name: str) -> str | None:
    """Returns the declared field whose name is most like ``name``, if there is one."""
    return next(iter(difflib.get_close_matches(name, sorted(module._declared), n=1)), None)


def undeclared_placeholders(module: Any) -> list[str]:
    """Returns the names of placeholders that a class body holds without declaring them."""
    names = {name for cls in type(module)._authored_bases() for name in vars(cls) if name not in vars(module)}
    return sorted(name for name in names - module._declared if holds_placeholders(getattr(type(module), name, None)))
