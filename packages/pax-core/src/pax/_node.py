"""The pytree node: a module *is* its flattening.

A slot holds ``(children, structure)``, and the class is registered with a C getter of that slot as its flatten
function. Unflattening makes the object and sets the slot; the attribute dictionary is filled on first access. A
permitted change drops the slot. A module with containers that can change in place keeps the slot only until its
attributes are handed out; from then on it is classified anew at every flattening, so that such changes are always seen.
"""

import functools
import operator
from typing import Any

import jax.tree_util as jtu

from pax._classify import CHILD, PLAIN, Child, Mixed, NodeBase, classify, is_node, own_method
from pax._errors import SharedNodeError, UnsupportedModuleError
from pax._paths import same_structure
from pax._static import copy_containers
from pax._structure import MixedLayout, Structure, StructureTable, intern_structure

Flat = tuple[tuple[Any, ...], Structure]

_slots: Any = NodeBase.__dict__
own_dict = _slots["__dict__"].__get__
_get_flat, _set_flat, _drop_flat = (
    _slots["_pax_flat"].__get__,
    _slots["_pax_flat"].__set__,
    _slots["_pax_flat"].__delete__,
)
_get_before, _set_before = _slots["_pax_before"].__get__, _slots["_pax_before"].__set__
_drop_before = _slots["_pax_before"].__delete__
_get_state, _set_state = _slots["_pax_state"].__get__, _slots["_pax_state"].__set__
_new = object.__new__

# The state slot is unset while the dictionary is not filled. A stand-in holds shapes, axes or other leaves in place of
# arrays; only JAX's classification describes it.
_FILLED, _AUTHORED, _STAND_IN = 1, 2, 3


def new_node(cls: type) -> Any:
    """Returns an empty module of ``cls`` whose attributes are written by hand, without ``__init__``."""
    module: Any = _new(cls)
    _set_state(module, _AUTHORED)
    return module


def is_authored(module: Any) -> bool:
    """Whether a user built or changed this very object, as opposed to JAX having rebuilt it."""
    try:
        return bool(_get_state(module) == _AUTHORED)
    except AttributeError:
        return False


def is_exposed(module: Any) -> bool:
    """Whether containers of this module can have been changed in place since it was last checked."""
    return not _has_flat(module)


def _has_flat(module: Any) -> bool:
    try:
        _get_flat(module)
    except AttributeError:
        return False
    return True


def fill(module: Any) -> dict[str, Any]:
    """Returns the real attribute dictionary of a module, filled."""
    attributes: dict[str, Any] = own_dict(module)
    try:
        _get_state(module)
        return attributes
    except AttributeError:
        pass
    try:
        children, structure = _get_flat(module)
    except AttributeError:  # another thread has just filled it
        return attributes
    # Missing names only: what is there was put there past us (`object.__setattr__`), or by another thread.
    for name, value in structure.own_statics().items():
        attributes.setdefault(name, value)
    for name, child in zip(structure.names, children, strict=True):
        layout = structure.mixed.get(name) if structure.mixed else None
        attributes.setdefault(name, child if layout is None else layout.restore(child))
    _set_state(module, _FILLED)
    if structure.volatile:
        flat = _compute(module, (children, structure))
        if flat[1] is not structure:
            _set_state(module, _STAND_IN)
        else:
            try:
                _set_before(module, flat)
                _drop_flat(module)
            except AttributeError:
                pass
    return attributes


def open_node(module: Any) -> dict[str, Any]:
    """Prepares a module for a change; returns its attribute dictionary."""
    attributes = fill(module)
    if _get_state(module) != _STAND_IN:
        _set_state(module, _AUTHORED)
    for name in type(module)._pax_cached:
        attributes.pop(name, None)
    try:
        flat = _get_flat(module)
    except AttributeError:
        return attributes
    _set_before(module, flat)
    _drop_flat(module)
    return attributes


def seal_node(module: Any) -> None:
    """Ends a change: gives the module containers of its own and classifies its attributes.

    Raises:
        UnsupportedModuleError: an attribute is a method bound to the module itself.
    """
    if _has_flat(module):
        return
    attributes: dict[str, Any] = own_dict(module)
    flat = _compute(module, _before(module))
    if flat[1].volatile and _get_state(module) != _STAND_IN:
        for name, value in attributes.items():
            attributes[name] = copy_containers(value)
        flat = _compute(module, None)
    _keep(module, flat)


def reclassified(module: Any, origin: Any) -> Any:
    """Classifies a rebuilt module; a child that is the one ``origin`` has stays a child, whatever it is."""
    if not isinstance(module, NodeBase):
        return module
    flat = origin._pax_flat
    open_node(module)
    _set_before(module, flat)
    seal_node(module)
    return module


def _before(module: Any) -> Flat | None:
    try:
        flat: Flat = _get_before(module)
        return flat
    except AttributeError:
        return None


def _keep(module: Any, flat: Flat) -> None:
    if flat[1].volatile:
        attributes, changeable = own_dict(module), flat[1].changeable
        for name, value in flat[1].statics.items():  # the very objects, by which `_still_holds` knows it again
            if name in attributes and name not in changeable:
                attributes[name] = value
        _set_before(module, flat)
        return
    _set_flat(module, flat)
    try:
        _drop_before(module)
    except AttributeError:
        pass


def _compute(module: Any, before: Flat | None) -> Flat:
    """Classifies the attributes.

    Args:
        module: the module, filled.
        before: an earlier flattening; an attribute that is pytree content there, and has not changed, stays that,
            whatever its leaves are. (A list may have changed in place, so this holds for it in a stand-in only.)
    """
    cls: Any = type(module)
    known = {} if before is None else dict(zip(before[1].names, before[0], strict=True))
    children: dict[str, Any] = {}
    mixed_children: dict[str, Any] = {}
    mixed: dict[str, MixedLayout] = {}
    statics: dict[str, Any] = {}
    volatile = False
    stand_in = bool(known) and _get_state(module) == _STAND_IN
    layouts = {} if before is None else before[1].mixed
    for name, value in own_dict(module).items():
        if name in cls._pax_cached:
            continue
        kind = classify(value)
        volatile = volatile or kind.changeable
        if type(kind) is Child:
            children[name] = value
            if kind.changeable:
                _refuse_self(module, name, jtu.tree_leaves(value, is_leaf=is_node))
        elif name in known and (stand_in or not kind.changeable) and _is_same(value, known[name], layouts.get(name)):
            if name in layouts:
                mixed[name], mixed_children[name] = layouts[name], known[name]
            else:
                children[name] = value
        elif type(kind) is Mixed:
            positions = tuple(index for index, static in enumerate(kind.static) if static)
            layout = MixedLayout(kind.skeleton, positions, tuple(copy_containers(kind.leaves[i]) for i in positions))
            mixed[name] = layout
            mixed_children[name] = layout.strip(kind.leaves)
            _refuse_own_method(module, name, kind.leaves)
            _refuse_self(module, name, kind.leaves)
        else:
            statics[name] = value
            if type(value) not in PLAIN:
                _refuse_own_method(module, name, value)
    names = (*children, *mixed_children)
    return (*children.values(), *mixed_children.values()), intern_structure(cls, names, mixed, statics, volatile)


def _still_holds(module: Any, flat: Flat) -> bool:
    """Whether a flattening is still that of a module whose lists may have changed in place.

    The children are the attributes themselves, so what a list has gained or lost is in them already. What has to be
    checked is that no attribute was exchanged, and that lists hold nothing but modules and arrays. When in doubt, no.
    """
    children, structure = flat
    attributes = own_dict(module)
    if structure.mixed or structure.changeable or len(attributes) != len(children) + len(structure.statics):
        return False
    for name, child in zip(structure.names, children, strict=True):
        if attributes.get(name) is not child:
            return False
        if type(child) is list:
            kinds = set(map(type, child))
            if not kinds or type(module) in kinds or not all(issubclass(kind, CHILD) for kind in kinds):
                return False
        elif not isinstance(child, CHILD):
            return False
    return all(attributes.get(name, ...) is value for name, value in structure.statics.items())


def _is_same(value: Any, child: Any, layout: MixedLayout | None) -> bool:
    """Whether an attribute has the very leaves, in the same containers, that a child was made of."""
    old = child if layout is None else layout.restore(child)
    leaves, structure = jtu.tree_flatten(value, is_leaf=is_node)
    old_leaves, old_structure = jtu.tree_flatten(old, is_leaf=is_node)
    return same_structure(structure, old_structure) and all(map(operator.is_, leaves, old_leaves))


def _refuse_self(module: Any, name: str, leaves: list[Any]) -> None:
    if any(leaf is module for leaf in leaves):
        raise self_reference(module, name)


def self_reference(module: Any, name: str) -> SharedNodeError:
    """Returns the error for a module that would be part of itself."""
    return SharedNodeError(
        f"The module `{module!r}` is shared between two nodes of the pytree.\n"
        "This is not allowed to prevent potential silence bugs.",
        where=f"attribute `{name}`",
        got="a value that holds the module itself",
        want="a tree of modules",
        fix="pass what the submodule needs of its parent as an argument of its `__call__`",
        module=module,
    )


def put_back(module: Any, originals: dict[int, Any]) -> None:
    """Replaces own arrays of a module, given by their ids, by others; the module has to be sealed afterwards."""
    children, structure = module._pax_flat
    if any(id(leaf) in originals for leaf in jtu.tree_leaves(children, is_leaf=is_node)):
        attributes = open_node(module)
        for name in structure.names:
            attributes[name] = jtu.tree_map(
                lambda leaf: originals.get(id(leaf), leaf), attributes[name], is_leaf=is_node
            )


def _refuse_own_method(module: Any, name: str, value: Any) -> None:
    method = own_method(module, value)
    if method is not None:
        raise UnsupportedModuleError(
            "A module cannot store one of its own bound methods.",
            where=f"attribute `{name}`",
            got=f"self.{method}",
            want="a function, or the name of the method",
            fix=f"self.{name} = type(self).{method}  # and call it as self.{name}(self, ...)",
            why="after any copy the method would be bound to the old module still, which jax.jit would keep alive",
            module=module,
        )


def rebuild(module: Any, children: tuple[Any, ...], structure: Structure | None = None) -> Any:
    """Returns a module of the same class with other children, without classifying them."""
    return make_node(type(module), children, module._pax_flat[1] if structure is None else structure)


def make_node(cls: type, children: tuple[Any, ...], structure: Structure) -> Any:
    """Returns a module made of a flattening."""
    module: Any = _new(cls)
    _set_flat(module, (children, structure))
    if structure.eager:
        fill(module)
    return module


def missing_attribute(module: Any, name: str) -> Any:
    """``__getattr__`` of modules: computes the flattening, fills the dictionary, or raises ``AttributeError``."""
    if name == "_pax_flat":
        before = _before(module)
        if before is not None and _still_holds(module, before):
            return before
        flat = _compute(module, before)
        _keep(module, flat)
        return flat
    if not name.startswith("_pax_"):
        try:
            return fill(module)[name]
        except KeyError:
            pass
    raise AttributeError(f"{type(module).__qualname__!r} object has no attribute {name!r}", name=name, obj=module)


def _flatten_with_keys(module: Any) -> tuple[Any, Structure]:
    children, structure = module._pax_flat
    return tuple(zip(structure.keys, children, strict=True)), structure


def register(cls: Any) -> None:
    """Makes a new module class a pytree node, with structures of its own."""
    type.__setattr__(cls, "_pax_structures", StructureTable())
    type.__setattr__(cls, "_pax_cached", cached_names(cls))

    def unflatten(
        structure: Structure,
        children: Any,
        new: Any = _new,
        cls: Any = cls,
        set_flat: Any = _set_flat,
    ) -> Any:
        module = new(cls)
        set_flat(module, (children, structure))
        if structure.eager:
            fill(module)
        return module

    jtu.register_pytree_with_keys(cls, _flatten_with_keys, unflatten, operator.attrgetter("_pax_flat"))


def cached_names(cls: type) -> frozenset[str]:
    """Returns the names of cached properties: derived values, no attributes of the module."""
    return frozenset(
        name
        for base in cls.__mro__
        for name, value in base.__dict__.copy().items()  # another thread may set an attribute meanwhile
        if isinstance(value, functools.cached_property)
    )


def own_content(module: Any) -> list[tuple[Any, Any]]:
    """Returns (path, value) of a module's own leaves, nearest submodules and empty nodes, in pytree order."""
    return jtu.tree_flatten_with_path(module, is_leaf=lambda node: node is not module and is_node(node))[0]


def map_content(module: Any, func: Any) -> tuple[Any, ...]:
    """Applies ``func`` to own leaves, nearest submodules and empty nodes; returns the new children."""
    return tuple(
        func(child) if isinstance(child, CHILD) else jtu.tree_map(func, child, is_leaf=is_node)
        for child in module._pax_flat[0]
    )


def with_static(module: Any, name: str, value: Any) -> Any:
    """Returns a copy of the tree where every module has a static attribute set, or removed if ``value`` is ``...``."""
    return _StaticSetter(name, value)(module)


class _StaticSetter:
    """One call of ``with_static``: equal modules are common, and share their structure, so each is changed once."""

    __slots__ = ("known", "name", "value")

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value
        self.known: dict[int, Structure] = {}

    def __call__(self, node: Any) -> Any:
        if not isinstance(node, NodeBase):
            return node
        cls: Any = type(node)
        structure: Structure = node._pax_flat[1]  # type: ignore[attr-defined]
        changed = self.known.get(id(structure))
        if changed is None:
            changed = self.known[id(structure)] = structure.with_static(cls, self.name, self.value)
        return make_node(cls, map_content(node, self), changed)
