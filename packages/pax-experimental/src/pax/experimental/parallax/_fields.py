"""Declared fields: which names a class has annotated, and what each annotation says."""

import inspect
import sys
import types
import typing
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import jax
import jax.tree_util as jtu
import numpy as np

import pax
from pax.errors import ArgumentTypeError
from pax.experimental.parallax._param_init import ParamInit
from pax.experimental.parallax._tuples import ModuleTuple, ParameterTuple
from pax.extend import describe, is_module

if TYPE_CHECKING:
    Parameter = Any
else:

    class Parameter:
        """The annotation of a field that holds a trained array.

        It makes no objects: assign a :class:`ParamInit` to the field, or an array. For type checkers it is ``Any``.

        >>> import jax
        >>> from pax.experimental.parallax import Module, Parameter, ParamInit
        >>> class Scale(Module):
        ...     factor: Parameter
        ...
        ...     def __init__(self, size):
        ...         super().__init__()
        ...         self.factor = ParamInit((size,), jax.nn.initializers.ones)
        ...
        ...     def forward(self, input):
        ...         return self.factor * input
        >>> Scale(3).initialized(jax.random.key(0)).factor
        Array([1., 1., 1.], dtype=float32)
        """

        def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
            raise ArgumentTypeError(
                "`Parameter` is an annotation, and makes no objects.",
                got="a call of Parameter",
                fix="self.weight = ParamInit((10, 5), jax.nn.initializers.xavier_normal())",
            )


class Role(Enum):
    """What a field is declared to hold."""

    PARAMETER = "a ParamInit or an array"
    PARAMETERS = "a ParameterTuple"
    MODULE = "a module"
    MODULES = "a ModuleTuple"
    OTHER = "anything"


class Declaration(NamedTuple):
    """What an annotation says.

    Attributes:
        role: what the field holds.
        optional: whether it may hold ``None`` as well.
        text: the annotation as it was written, for messages.
        constant: the class of a constant, such as ``float``; ``None`` where the value decides what the field is.
    """

    role: Role
    optional: bool = False
    text: str = "..."
    constant: type | None = None


_BY_NAME = {
    "Parameter": Role.PARAMETER,
    "ParameterTuple": Role.PARAMETERS,
    "ModuleTuple": Role.MODULES,
}


def own_annotations(cls: type) -> dict[str, Any]:
    """Returns the annotations in the body of a class, without class variables; strings stay strings."""
    if sys.version_info >= (3, 14):  # annotations are evaluated late, and may name what is not there yet
        from annotationlib import Format, get_annotations

        found = get_annotations(cls, format=Format.FORWARDREF)
    else:
        found = inspect.get_annotations(cls)
    return {name: annotation for name, annotation in found.items() if not _is_class_variable(annotation)}


def _is_class_variable(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.removeprefix("typing.").partition("[")[0] == "ClassVar"
    return annotation is typing.ClassVar or typing.get_origin(annotation) is typing.ClassVar


def find_declaration(classes: Iterable[type], name: str) -> Declaration:
    """Returns what the first of some classes that annotates a field says of it."""
    for cls in classes:
        annotations = own_annotations(cls)
        if name in annotations:
            annotation = annotations[name]
            return _read(annotation, cls)._replace(text=_text_of(annotation))
    return Declaration(Role.OTHER)


def _text_of(annotation: Any) -> str:
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, str):
        return annotation
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _read(annotation: Any, cls: type) -> Declaration:
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return _read_text(annotation, cls)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not type(None)]
        if len(kinds) == 1:
            return _read(kinds[0], cls)._replace(optional=True)
        return Declaration(Role.OTHER)
    if origin in (typing.Annotated, typing.Final):
        return _read(arguments[0], cls)
    kind = annotation if origin is None else origin
    if not isinstance(kind, type):
        return Declaration(Role.OTHER)
    for known, role in _KINDS:
        if issubclass(kind, known):
            return Declaration(role)
    # What can hold parameters or modules in it says nothing; neither does a class that the value is an object of.
    says_nothing = origin is not None or kind is typing.Any or issubclass(kind, _CONTAINERS)
    return Declaration(Role.OTHER, constant=None if says_nothing else kind)


_CONTAINERS = (tuple, list, dict, set, frozenset)
_KINDS: tuple[tuple[Any, Role], ...] = (
    (Parameter, Role.PARAMETER),
    (ParameterTuple, Role.PARAMETERS),
    (ModuleTuple, Role.MODULES),
    (pax.Module, Role.MODULE),
)


def _read_text(text: str, cls: type) -> Declaration:
    try:
        found = _evaluate(text, cls)
    except Exception:  # a name that is local to a function, or not there yet: whatever its evaluation raises
        plain, _, none = text.replace(" ", "").partition("|")
        role = _BY_NAME.get(plain.rpartition(".")[2], Role.OTHER) if none in ("", "None") else Role.OTHER
        return Declaration(role, none == "None")
    return Declaration(Role.OTHER) if isinstance(found, str) else _read(found, cls)


def _evaluate(text: str, cls: type) -> Any:
    module = sys.modules.get(cls.__module__)
    return eval(text, vars(module) if module else {}, dict(vars(cls)))  # as `typing.get_type_hints` does


def holds_modules(value: Any) -> bool:
    """Whether a value is a module, or a container with modules."""
    return any(map(is_module, jtu.tree_leaves(value, is_leaf=is_module)))


def fields_with_modules(module: pax.Module) -> list[str]:
    """Returns the names of the attributes that are, or hold, submodules, in alphabetical order."""
    return sorted(name for name in module.pytree_attributes if holds_modules(getattr(module, name)))


def holds_placeholders(value: Any) -> bool:
    """Whether a value is a `ParamInit`, or a container with such; modules have their own."""
    return any(isinstance(leaf, ParamInit) for leaf in jtu.tree_leaves(value, is_leaf=is_module))


def _is_node(value: Any) -> bool:
    return isinstance(value, pax.Module | pax.EmptyNode)


def check_value(declaration: Declaration, name: str, value: Any, module: Any) -> None:
    """Checks that a value is of the kind that its field is declared to hold.

    Raises:
        ArgumentTypeError: it is not.
    """
    role = declaration.role
    if value is None and declaration.optional:
        return
    if role is Role.OTHER:
        if declaration.constant is not None:
            _check_constant(declaration.constant, declaration.text, name, value, module)
        return
    leaves = jtu.tree_leaves(value, is_leaf=_is_node)
    if role in (Role.MODULE, Role.MODULES):
        fits = all(map(_is_node, leaves)) and (role is Role.MODULES or _is_node(value))
        fits = fits and not (role is Role.MODULES and value is None)
    else:
        kinds = (ParamInit, pax.EmptyNode, jax.Array, np.ndarray)
        fits = all(isinstance(leaf, kinds) for leaf in leaves) and value is not None
    if not fits:
        raise ArgumentTypeError(
            f"The field `{name}` of `{type(module).__qualname__}` cannot hold this.",
            where=f"field `{name}`",
            got=describe(value),
            want=role.value,
            fix=_fix_of(declaration, name, value),
            module=module,
        )


def _check_constant(kind: type, text: str, name: str, value: Any, module: Any) -> None:
    """A placeholder or a module in a field such as `rate: float` would be trained, against what is declared."""
    if not (holds_placeholders(value) or holds_modules(value)) or _is_object_of(value, kind):
        return
    raise ArgumentTypeError(
        f"The field `{name}` of `{type(module).__qualname__}` cannot hold this.",
        where=f"field `{name}`",
        got=_described(value),
        want=f"a constant, as `{name}: {text}` declares",
        fix=_declare(name, value),
        why="parameters and modules have to be declared as such",
        module=module,
    )


def _is_object_of(value: Any, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # protocols and the like, which cannot tell
        return True


def _described(value: Any) -> str:
    return repr(value) if isinstance(value, ParamInit) else describe(value)


def _declare(name: str, value: Any) -> str:
    """Returns the declaration that fits a value."""
    if isinstance(value, ParamInit):
        kind = "Parameter"
    elif isinstance(value, tuple | list) and value and holds_modules(value):
        kind = "ModuleTuple"
    elif isinstance(value, tuple | list) and value and holds_placeholders(value):
        kind = "ParameterTuple"
    else:
        kind = type(value).__name__
    return f"declare it as what it holds: {name}: {kind}"


def _fix_of(declaration: Declaration, name: str, value: Any) -> str:
    role = declaration.role
    if role is Role.PARAMETER and isinstance(value, bool | int | float | complex):
        return f"self.{name} = jnp.array({value!r})"
    if isinstance(value, type) and issubclass(value, pax.Module):
        return f"self.{name} = {value.__name__}(...)  # an object, not its class"
    if role in (Role.PARAMETER, Role.PARAMETERS) and callable(value) and not is_module(value):
        return f"self.{name} = ParamInit(shape, jax.nn.initializers.normal())"
    if value is None:
        return f"declare that it may be left out: {name}: {declaration.text} | None"
    return _declare(name, value)
