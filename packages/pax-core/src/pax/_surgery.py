"""Changing one part of a module and getting a new module: replace, map, apply."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.tree_util as jtu

from pax._checks import check_class, check_sharing, shared_arrays
from pax._classify import is_array, is_module, is_node
from pax._errors import ArgumentError, ArgumentTypeError, AttributeNameError, PaxError, StructureError
from pax._mutation import Session
from pax._node import open_node, own_content, reclassified, seal_node
from pax._paths import KeyPath, describe, differences, list_differences, path_text, same_structure
from pax._state_dict import state_dict


def copy_tree(module: Any) -> Any:
    """Returns new module objects and containers around the same arrays and static objects."""
    leaves, structure = jtu.tree_flatten(module)
    return jtu.tree_unflatten(structure, leaves)


def finish(module: Any, origin: Any) -> Any:
    """Ends the making of ``module`` from ``origin``: classifies and checks it.

    Raises:
        SharedNodeError: an array or a module stands at two places, and did not in ``origin``.
    """
    seal_node(module)
    check_class(module)
    check_sharing(module, known=shared_arrays(jtu.tree_leaves(origin)))
    return module


def replace(module: Any, changes: dict[str, Any]) -> Any:
    """See ``Module.replace``."""
    new = copy_tree(module)
    attributes = open_node(new)
    computed = {}
    for name, value in changes.items():
        stored = storage_name(module, name)
        own = getattr(type(module), stored, None)
        if isinstance(own, property) and own.fset is not None:
            computed[name] = value
            continue
        if stored not in attributes:
            raise AttributeNameError(
                f"`{name}` is no attribute of this module, so it cannot be replaced.",
                got=f"replace({name}=...)",
                want=", ".join(key for key in attributes if not key.startswith("_")) or "(it has none)",
                fix=f"replace what {type(module).__qualname__} computes `{name}` from"
                if isinstance(own, property)
                else f"module.set_attribute({name!r}, value)  # adds an attribute",
                module=module,
            )
        attributes[stored] = value
    with Session((new,)):
        for name, value in computed.items():
            setattr(new, name, value)
    return finish(new, module)


def storage_name(module: Any, name: str) -> str:
    """Returns where ``name`` is stored: the read-only properties ``name`` and ``training`` have private attributes."""
    if name in ("name", "training") and isinstance(getattr(type(module), name, None), property):
        return f"_{name}"
    return name


def set_attribute(module: Any, name: str, value: Any) -> Any:
    """See ``Module.set_attribute``."""
    new = copy_tree(module)
    with Session((new,)):
        setattr(new, name, value)
    return finish(new, module)


def replace_node(module: Any, target: Any, value: Any) -> Any:
    """See ``Module.replace_node``."""
    targets, values = [target], [value]
    if callable(target) and not is_node(target) and not is_array(target):
        chosen = target(module)
        if isinstance(chosen, tuple | list):
            targets, values = list(chosen), _as_many(value, chosen)
        else:
            targets = [chosen]

    def is_target(node: Any) -> bool:
        return any(node is wanted for wanted in targets)

    found = [place for place in jtu.tree_leaves_with_path(module, is_leaf=is_target) if is_target(place[1])]
    for wanted in targets:
        count = sum(node is wanted for _, node in found)
        if count != 1:
            shown = repr(wanted) if is_node(wanted) else describe(wanted)
            raise ArgumentError(
                f"The node `{shown}` appears {count} times in the module.",
                want="an array or a module that stands in the tree once, as the very object",
                fix="module.replace_node(lambda m: m.layers[0].weight, value)",
                module=module,
            )
    places = [(path, next(v for t, v in zip(targets, values, strict=True) if node is t)) for path, node in found]
    new = _put(module, places, is_target)
    return finish(new, module) if is_module(new) else new


def _put(node: Any, places: list[tuple[KeyPath, Any]], is_target: Callable[[Any], bool]) -> Any:
    """Returns a copy of ``node`` with other values at the given paths below it."""
    if not places:
        return copy_tree(node) if is_module(node) else node
    if not places[0][0]:
        return places[0][1]
    content, structure = jtu.tree_flatten_with_path(
        node, is_leaf=lambda below: below is not node and (is_node(below) or is_target(below))
    )
    changed = [
        _put(child, [(place[len(path) :], value) for place, value in places if place[: len(path)] == path], is_target)
        for path, child in content
    ]
    return reclassified(jtu.tree_unflatten(structure, changed), node)


def _as_many(value: Any, chosen: Sequence[Any]) -> list[Any]:
    if not isinstance(value, tuple | list) or len(value) != len(chosen):
        raise ArgumentError(
            "Several nodes need as many values.",
            got=describe(value),
            want=f"a tuple of {len(chosen)} values, one for each node the function returns",
            fix="module.replace_node(lambda m: (m.a, m.b), (new_a, new_b))",
        )
    return list(value)


def apply(module: Any, func: Callable[[Any], Any]) -> Any:
    """See ``Module.apply``."""
    return _apply(module, func, ())


def apply_submodules(module: Any, func: Callable[[Any], Any], path: KeyPath = ()) -> Any:
    """See ``Module.apply_submodules``."""
    content = own_content(module)
    changed = [_apply(value, func, path + below) if is_module(value) else value for below, value in content]
    structure = jtu.tree_structure(module, is_leaf=lambda node: node is not module and is_node(node))
    return jtu.tree_unflatten(structure, changed)


def _apply(module: Any, func: Callable[[Any], Any], path: KeyPath) -> Any:
    node = apply_submodules(module, func, path)
    try:
        result = func(node)
    except PaxError as error:
        if error.module is node and error.path is None:
            error.path = path_text(path) or None
        raise
    if not is_module(result):
        raise ArgumentTypeError(
            "The function given to `apply` has to return a module.",
            got=describe(result),
            want="the module it was given, changed or not",
            fix="def fn(module): ...; return module",
            module=module,
            path=path_text(path),
        )
    return result


def submodules(module: Any) -> list[Any]:
    """Returns the nearest modules below ``module``, in pytree order."""
    return [value for _, value in own_content(module) if is_module(value)]


def map_leaves(func: Callable[..., Any], module: Any, others: Sequence[Any]) -> Any:
    """See ``Module.map``."""
    leaves, structure = jtu.tree_flatten(module)
    columns = [leaves]
    for other in others:
        other_leaves, other_structure = jtu.tree_flatten(other)
        if not same_structure(structure, other_structure):
            _require_same_dictionary(module, other)
        columns.append(other_leaves)
    return jtu.tree_unflatten(structure, [func(*row) for row in zip(*columns, strict=True)])


def _require_same_dictionary(module: Any, other: Any) -> None:
    if not is_module(other):
        raise ArgumentTypeError(
            "Only modules can be mapped together with a module.", got=describe(other), want="a module", module=module
        )
    got, want = state_dict(other), state_dict(module)
    same = same_structure(jtu.tree_structure(got), jtu.tree_structure(want))
    if not same or list_paths(other) != list_paths(module):
        raise StructureError(
            "These modules do not have the same arrays.",
            got=list_differences(differences(got, want)) or "the same names in another order",
            want="modules whose state dictionaries have the same structure",
            module=module,
        )


def list_paths(tree: Any) -> list[str]:
    """Returns the paths of all leaves."""
    return [path_text(path) for path, _ in jtu.tree_leaves_with_path(tree)]
