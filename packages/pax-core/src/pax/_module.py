"""``Module``, ``ParameterModule``, ``StateModule``: construction and thin methods."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import jax.tree_util as jtu

from pax import _state_dict as state_dicts
from pax import _surgery as surgery
from pax._checks import check_class, check_sharing, walk
from pax._classify import PLAIN, NodeBase, Static, classify, is_array, is_module
from pax._errors import ArgumentTypeError, AttributeNameError, MutationError
from pax._merge import merge
from pax._metaclass import ModuleMeta
from pax._module_tree import module_html, module_tree
from pax._mutation import require_session
from pax._node import (
    fill,
    map_content,
    missing_attribute,
    new_node,
    open_node,
    own_dict,
    rebuild,
    register,
    seal_node,
    self_reference,
    with_static,
)
from pax._parameters import frozen_aware, own_arrays_emptied
from pax._paths import describe, same_structure
from pax._pickling import deepcopy_module, reduce_module
from pax._purity import purecall
from pax._replaced_methods import with_methods
from pax._summary import head_line, represent, tree_lines

_READ_ONLY = {
    "name": "super().__init__(name=...) in the constructor; module = module.replace(name=...) later",
    "training": "module = module.eval()  # or module.train(): all modules below, too",
}


def _chain_getattr(user: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """Makes a user's ``__getattr__`` run after that of modules."""

    @functools.wraps(user)
    def __getattr__(self: Any, name: str) -> Any:
        try:
            return missing_attribute(self, name)
        except AttributeError:
            if name.startswith("_pax_"):
                raise
        return user(self, name)

    return __getattr__


class Module(NodeBase, metaclass=ModuleMeta):
    """The base class of all modules: a pytree whose leaves are the arrays in its attributes.

    Attributes that hold arrays or modules, directly or in lists, tuples, dictionaries and other pytrees, are part of
    the pytree; all others are static: they belong to its structure, which ``jax.jit`` compares. After construction a
    module is immutable; it changes only inside of a :func:`pax.pure` function that it was passed to, and there it is a
    copy.

    Subclasses define ``__init__`` (calling ``super().__init__()`` is optional), usually ``__call__``, and, if they have
    arrays of their own that are trained, ``parameters = pax.parameters_method("weight", "bias")``.

    Args:
        training: whether the module starts in training mode.
        name: shown in front of the class name in ``repr`` and ``summary``.

    >>> import jax, jax.numpy as jnp, pax
    >>> class Scale(pax.Module):
    ...     def __init__(self, size):
    ...         super().__init__()
    ...         self.size = size
    ...         self.scale = jnp.ones((size,))
    ...
    ...     parameters = pax.parameters_method("scale")
    ...
    ...     def __call__(self, x):
    ...         return x * self.scale
    >>> scale = Scale(3)
    >>> jax.grad(lambda m: m(jnp.arange(3.0)).sum())(scale).scale
    Array([0., 1., 2.], dtype=float32)
    >>> scale.size = 4  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    MutationError: Cannot modify a module in immutable mode.
    """

    def __init__(self, *, training: bool = True, name: str | None = None) -> None:
        self._training = training
        self._name = name

    if not TYPE_CHECKING:

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            if getattr(cls, "__abstractmethods__", None):
                object.__new__(cls)  # raises Python's own error
            module = new_node(cls)
            own_dict(module).update(_name=None, _training=True)
            return module

        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            # With these in the class, `@dataclass` leaves equality and hash alone.
            for special in ("__eq__", "__hash__"):
                if special not in cls.__dict__:
                    type.__setattr__(cls, special, getattr(cls, special))
            if "__getattr__" in cls.__dict__ and cls.__dict__["__getattr__"] is not missing_attribute:
                type.__setattr__(cls, "__getattr__", _chain_getattr(cls.__dict__["__getattr__"]))
            if callable(cls.__dict__.get("parameters")):
                type.__setattr__(cls, "parameters", frozen_aware(cls.__dict__["parameters"]))
            register(cls)

        __dict__ = property(fill)
        __getattr__ = missing_attribute

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "__orig_class__":  # `Module[int](...)`: typing notes the alias on the finished instance
                return
            session = require_session(self, name, "an assignment")
            plain = type(value) in PLAIN or is_array(value)
            if not plain and any(node is self for node in walk(value)[0]):
                raise self_reference(self, name)
            session.changed = True
            open_node(self)
            try:
                object.__setattr__(self, name, value)
            except AttributeError as error:
                raise AttributeNameError(
                    str(error),
                    where=f"attribute `{name}`",
                    got=f"an assignment to the read-only `{name}` of {type(self).__qualname__}",
                    fix=_READ_ONLY.get(name, f"use another name than `{name}`, or give the property a setter"),
                    module=self,
                ) from error

        def __delattr__(self, name: str) -> None:
            session = require_session(self, name, "a deletion")
            attributes = fill(self)
            if name in attributes and not isinstance(classify(attributes[name]), Static):
                raise MutationError(
                    "Cannot delete a pytree attribute.\n"
                    "This is to avoid potential bugs related to the order of pytree attributes.\n",
                    where=f"attribute `{name}`",
                    got=f"del self.{name}",
                    fix=f"self.{name} = pax.EmptyNode()  # or None",
                    module=self,
                )
            session.changed = True
            open_node(self)
            object.__delattr__(self, name)

        def __reduce_ex__(self, protocol: Any) -> Any:
            return reduce_module(self)

        def __deepcopy__(self, memo: Any) -> Any:
            return deepcopy_module(self, memo)

    # ---- what a module is -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """The name given to the module, or ``None``; read-only."""
        return self._name

    @property
    def training(self) -> bool:
        """Whether the module is in training mode; read-only, see :meth:`train` and :meth:`eval`."""
        return self._training

    @property
    def pytree_attributes(self) -> tuple[str, ...]:
        """The names of the attributes with arrays or modules: those with nothing else first, then the mixed ones."""
        names: tuple[str, ...] = _flat(self)[1].names
        return names

    def submodules(self) -> list["Module"]:
        """Returns the modules directly below this one, also those in containers, in pytree order."""
        return surgery.submodules(self)

    def __eq__(self, other: object) -> bool:
        """Same class, same structure, and the very same array objects; values are not compared."""
        if self is other:
            return True
        if type(self) is not type(other):
            return False
        leaves, structure = jtu.tree_flatten(self)
        other_leaves, other_structure = jtu.tree_flatten(other)
        return same_structure(structure, other_structure) and all(
            a is b for a, b in zip(leaves, other_leaves, strict=True)
        )

    def __hash__(self) -> int:
        """Depends on the class and on shapes and dtypes of the leaves; not on values or static attributes."""
        leaves = jtu.tree_leaves(self)
        kinds = (
            (leaf.shape, leaf.dtype) if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else type(leaf)
            for leaf in leaves
        )
        return hash((type(self).__qualname__, *kinds))

    # ---- parameters -------------------------------------------------------------------------------------------------

    @frozen_aware
    def parameters(self) -> Self:
        """Returns the module with its trained arrays only; every other array is an :class:`EmptyNode`.

        A plain module has no trained arrays of its own, only those of its submodules. Frozen arrays are left out.
        """
        new: Self = own_arrays_emptied(self)
        return new

    def update_parameters(self, params: Self) -> Self:
        """Returns the module with the trained arrays of ``params``, a module of the same structure.

        Raises:
            StructureError: structures or shapes differ.
        """
        new: Self = merge(self, require_module(params, "module.update_parameters(new_module)").parameters())
        return new

    def __or__(self, other: Self) -> Self:
        """Returns the module with every array that ``other`` has taken from there (the right side wins).

        Raises:
            StructureError: structures or shapes differ.
        """
        if not is_module(other):
            return NotImplemented
        merged: Self = merge(self, other)
        return merged

    def __invert__(self) -> Self:
        """``~module`` is ``module.parameters()``."""
        new: Self = self.parameters()
        return new

    # ---- modes ------------------------------------------------------------------------------------------------------

    def train(self) -> Self:
        """Returns a copy in which this module and all below it are in training mode."""
        new: Self = with_static(self, "_training", True)
        return new

    def eval(self) -> Self:
        """Returns a copy in which this module and all below it are in evaluation mode."""
        new: Self = with_static(self, "_training", False)
        return new

    # ---- new modules from this one ----------------------------------------------------------------------------------

    def copy(self) -> Self:
        """Returns new module objects and containers around the same arrays and static objects."""
        new: Self = surgery.copy_tree(self)
        return new

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with other values for existing attributes; ``name`` and ``training`` can be given, too.

        Properties that have a setter can be given as well.

        Raises:
            AttributeNameError: there is no such attribute.
            SharedNodeError: an array or a module would stand at two places.
        """
        new: Self = surgery.replace(self, changes)
        return new

    def set_attribute(self, name: str, value: Any) -> Self:
        """Returns a copy with one attribute set, which may be new.

        Raises:
            AttributeNameError: the class has a read-only property of that name.
            SharedNodeError: an array or a module would stand at two places.
        """
        new: Self = surgery.set_attribute(self, name, value)
        return new

    def replace_node(self, node: Any, value: Any) -> Any:
        """Returns a copy with another array or module at one place.

        Args:
            node: the very array or module to replace, which must stand in the tree exactly once; or a function that
                takes the module and returns it, or returns a tuple of several.
            value: what to put there, of any shape or class; a tuple if ``node`` returns a tuple.

        Raises:
            ArgumentError: the node does not stand in the tree exactly once.
            SharedNodeError: an array or a module would stand at two places.

        >>> import jax.numpy as jnp, pax
        >>> net = pax.Module().set_attribute("scale", jnp.ones(3))
        >>> net.replace_node(lambda m: m.scale, jnp.zeros(5)).scale.shape
        (5,)
        """
        return surgery.replace_node(self, node, value)

    def replace_method(self, **methods: Callable[..., Any]) -> Self:
        """Returns a copy in which functions of ``(self, ...)`` take the place of methods, special methods included.

        The result is an instance of this class. Modules with the same functions have equal structures.

        Raises:
            ArgumentTypeError: a value is not callable.
        """
        new: Self = with_methods(self, methods)
        return new

    def map(self, func: Callable[..., Any], *others: Any) -> Self:
        """Returns the module with ``func`` applied to its arrays, and to those of other modules at the same places.

        Args:
            func: takes one array of each module, returns an array.
            *others: modules with the same attributes; their classes and static values may differ.

        Raises:
            StructureError: another module has other arrays.
        """
        new: Self = surgery.map_leaves(func, self, others)
        return new

    def apply(self, func: Callable[[Any], Any]) -> Any:
        """Applies ``func`` to every module of the tree, submodules first, this one last; returns the last result.

        Args:
            func: takes a copy of a module, whose submodules are transformed already; returns a module.

        Raises:
            ArgumentTypeError: ``func`` returned something else.
        """
        return surgery.apply(self, func)

    def apply_submodules(self, func: Callable[[Any], Any]) -> Self:
        """Does what :meth:`apply` does, but not to this module itself."""
        new: Self = surgery.apply_submodules(self, func)
        return new

    def state_dict(self) -> dict[str, Any]:
        """Returns the arrays as nested dictionaries by attribute name.

        Containers keep their type, each module becomes a dictionary; static parts of mixed containers become ``None``.
        """
        return state_dicts.state_dict(self)

    @overload
    def load_state_dict(self, state_dict: dict[str, Any], *, strict: Literal[True] = True) -> Self: ...

    @overload
    def load_state_dict(self, state_dict: dict[str, Any], *, strict: Literal[False]) -> tuple[Self, dict[str, str]]: ...

    def load_state_dict(self, state_dict: dict[str, Any], *, strict: bool = True) -> Any:
        """Returns the module with the arrays of a dictionary that :meth:`state_dict` could have made.

        JAX arrays are taken as they are, also in another floating precision; NumPy arrays and numbers take the kind and
        dtype of the array they replace. An :class:`EmptyNode` of the module takes any array.

        Args:
            state_dict: nested dictionaries by attribute name.
            strict: load all or nothing. If false, load what fits, and keep the module's own arrays elsewhere.

        Returns:
            The new module. If ``strict`` is false: the new module, and a dictionary of what was skipped, with the
            reason by path: ``{"fc.bias": "missing, want float32[3]"}``.

        Raises:
            StateDictError: entries are missing, unexpected, or of the wrong shape or kind; all are listed.
        """
        return state_dicts.load_state_dict(self, state_dict, strict=strict)

    # ---- checks and text --------------------------------------------------------------------------------------------

    def scan_bugs(self) -> Self:
        """Runs all safety checks on this module and those below it; returns the module itself.

        Raises:
            SharedNodeError: an array or a module stands at two places.
            UnregisteredFieldError: a class attribute holds an array or a module.
            UnsupportedModuleError: a class defines ``__slots__``.
        """
        for module in walk(self)[0]:
            check_class(module)
        check_sharing(self)
        return self

    def find_and_register_pytree_attributes(self) -> None:
        """Classifies the attributes anew; needed only after a change that went past the module."""
        open_node(self)
        seal_node(self)

    def _repr(self, info: dict[str, Any] | None = None) -> str:
        """Returns the name and class, followed by ``(key=value, …)`` without the entries that are ``None``."""
        return represent(self, info)

    def __repr__(self) -> str:
        return self._repr()

    # A property: treescope would put what is a method of the class below its own drawing.
    @property
    def _repr_html_(self) -> Callable[[], str]:
        """What notebooks show: the tree of modules with shapes, dtypes, and which arrays are trained."""
        return functools.partial(module_html, self)

    def __treescope_repr__(self, path: str | None, subtree_renderer: Callable[..., Any]) -> Any:
        """What treescope draws; only treescope itself calls this."""
        return module_tree(self).__treescope_repr__(path, subtree_renderer)

    def summary(self, return_list: bool = False) -> Any:
        """Returns the tree of modules as text, a line each; as a list of lines if ``return_list``.

        Raises:
            UnsupportedModuleError: a ``__repr__`` method returns no string.
        """
        lines = tree_lines(head_line(self), [module.summary(return_list=True) for module in self.submodules()])
        return lines if return_list else "\n".join(lines)

    def __mod__(self, args: Any) -> tuple[Self, Any]:
        """``module % x`` is ``pax.purecall(module, x)``; a tuple is taken as several arguments.

        Raises:
            ArgumentTypeError: the module is not callable.
        """
        return purecall(self, *args) if isinstance(args, tuple) else purecall(self, args)

    def __copy__(self) -> Self:
        return self.copy()


register(Module)


class ParameterModule(Module):
    """A module whose own arrays are all trained."""

    def parameters(self) -> Self:
        """Returns the module with its own arrays, and the trained arrays of its submodules."""
        new: Self = rebuild(self, map_content(self, lambda node: node.parameters() if is_module(node) else node))
        return new


class StateModule(Module):
    """A module whose own arrays are not trained; those of its submodules are, as these say."""

    def parameters(self) -> Self:
        """Returns the module with the trained arrays of its submodules."""
        new: Self = own_arrays_emptied(self)
        return new


def _flat(module: Any) -> Any:
    return module._pax_flat


def require_module(value: Any, fix: str) -> Any:
    """Returns ``value`` if it is a module.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not is_module(value):
        raise ArgumentTypeError("Expecting a PAX module.", got=describe(value), want="a module", fix=fix)
    return value
