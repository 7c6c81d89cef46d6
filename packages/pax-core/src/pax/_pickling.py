"""Pickling of modules: the split into children and static values is stored, so that any tree of modules survives.

Importable callables that pickle refuses, such as ``jax.nn.relu``, are stored by their public name.
"""

import copy
import functools
import importlib
import operator
import types
from typing import Any

import jax.tree_util as jtu

from pax._classify import is_module
from pax._node import make_node
from pax._static import map_containers
from pax._structure import MixedLayout, intern_structure
from pax._variants import variant_class, variant_of

_PICKLED_BY_NAME = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
# Where JAX shows the functions that it defines in private modules.
_PUBLIC_HOMES = ("jax.nn", "jax.numpy", "jax.lax", "jax.scipy.special", "jax.nn.initializers", "jax.random", "jax")


class _Named:
    """Stands for an importable callable in a pickle."""

    __slots__ = ("home", "name")

    def __init__(self, home: str, name: str) -> None:
        self.home = home
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _Named, (self.home, self.name)


class _Partial:
    """Stands for a ``functools.partial`` whose function may need a name."""

    __slots__ = ("args", "func", "keywords")

    def __init__(self, func: Any, args: Any, keywords: Any) -> None:
        self.func = func
        self.args = args
        self.keywords = keywords

    def __reduce__(self) -> tuple[Any, ...]:
        return _Partial, (self.func, self.args, self.keywords)


def _encode(value: Any) -> Any:
    if type(value) is functools.partial:
        return _Partial(*(map_containers(_encode, part) for part in (value.func, value.args, value.keywords)))
    if not callable(value) or isinstance(value, _PICKLED_BY_NAME):
        return value
    home, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(home, str) or not isinstance(name, str):
        return value
    homes = (*_PUBLIC_HOMES, home) if home.startswith(("jax.", "jaxlib.")) else (home,)
    for candidate in homes:
        try:
            if operator.attrgetter(name)(importlib.import_module(candidate)) is value:
                return _Named(candidate, name)
        except (ImportError, AttributeError):
            continue
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, _Named):
        return operator.attrgetter(value.name)(importlib.import_module(value.home))
    if isinstance(value, _Partial):
        func, args, keywords = (map_containers(_decode, part) for part in (value.func, value.args, value.keywords))
        return functools.partial(func, *args, **keywords)
    return value


def reduce_module(module: Any) -> tuple[Any, ...]:
    """Returns what ``__reduce_ex__`` of a module returns."""
    children, structure = module._pax_flat
    variants = []
    cls = type(module)
    while (origin := variant_of(cls)) is not None:
        cls, maker, key = origin
        variants.append((maker, key))
    # A skeleton is rebuilt from a container of placeholders: a treedef cannot be pickled.
    mixed = {
        name: (
            layout.skeleton.unflatten([0] * layout.skeleton.num_leaves),
            layout.positions,
            map_containers(_encode, layout.values),
        )
        for name, layout in structure.mixed.items()
    }
    statics = map_containers(_encode, structure.own_statics())
    arguments = (cls, tuple(variants), structure.names, mixed, statics, structure.volatile, children)
    return _restore, arguments


def _restore(
    cls: Any,
    variants: tuple[Any, ...],
    names: tuple[str, ...],
    mixed: dict[str, Any],
    statics: dict[str, Any],
    volatile: bool,
    children: tuple[Any, ...],
) -> Any:
    for maker, key in reversed(variants):
        cls = variant_class(cls, maker, *key)
    layouts = {
        name: MixedLayout(jtu.tree_structure(skeleton), positions, map_containers(_decode, values))
        for name, (skeleton, positions, values) in mixed.items()
    }
    children = jtu.tree_map(_sound, children, is_leaf=is_module)  # modules below have been here
    return make_node(cls, children, intern_structure(cls, names, layouts, map_containers(_decode, statics), volatile))


def _sound(leaf: Any) -> Any:
    """Returns a copy of an array of a weak type, such as ``jnp.array(0)``; all else as it is.

    JAX 0.7 to 0.10 unpickle such an array so that half of JAX takes it for one of a strong type. What is first computed
    with it, ``count + 1``, has a weak type from then on in the whole process, for every array. Copies are sound.
    """
    return copy.deepcopy(leaf) if getattr(leaf, "weak_type", False) else leaf


def deepcopy_module(module: Any, memo: dict[int, Any]) -> Any:
    """Returns a copy that shares nothing with the module but functions."""
    copied = functools.partial(_deepcopied, memo)
    children, structure = module._pax_flat
    mixed = {
        name: MixedLayout(layout.skeleton, layout.positions, map_containers(copied, layout.values))
        for name, layout in structure.mixed.items()
    }
    statics = map_containers(copied, structure.own_statics())
    new_structure = intern_structure(type(module), structure.names, mixed, statics, structure.volatile)
    return make_node(type(module), copy.deepcopy(children, memo), new_structure)


def _deepcopied(memo: dict[int, Any], value: Any) -> Any:
    if type(value) is functools.partial:
        copied = functools.partial(_deepcopied, memo)
        func, args, keywords = (map_containers(copied, part) for part in (value.func, value.args, value.keywords))
        return functools.partial(func, *args, **keywords)
    # `copy` takes the functions that JAX makes apart, and puts broken ones together.
    made_by_jax = type(value).__module__.partition(".")[0] in ("jax", "jaxlib")
    return value if made_by_jax and callable(value) else copy.deepcopy(value, memo)
