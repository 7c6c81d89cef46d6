"""The own floating arrays of a module: cast for one call, and what the call has changed put back."""

import functools
from types import MethodType
from typing import Any

import jax.tree_util as jtu

from pax.experimental._policy_casts import Dtypes, cast_array, is_array, is_same_tree, map_leaves
from pax.extend import is_module, modules_in, with_class

POLICY = "_mp_policy"
"""The static attribute that holds the names of the dtypes."""


def map_own(func: Any, module: Any) -> Any:
    """Returns a copy of a module with ``func`` applied to its own leaves and nearest submodules."""
    return jtu.tree_map(func, module, is_leaf=lambda node: node is not module and is_module(node))


class OwnArrays:
    """The floating arrays of one module, without those of its submodules, cast for one call.

    Args:
        module: a module with a policy.
        dtypes: those of the policy.

    Attributes:
        attributes: what the twin has instead of attributes of the module.
    """

    __slots__ = ("_containers", "_dtypes", "_module", "_originals", "attributes")

    def __init__(self, module: Any, dtypes: Dtypes) -> None:
        self._module = module
        self._dtypes = dtypes
        self.attributes: dict[str, Any] = {}
        self._containers: dict[str, Any] = {}  # as the twin has them before the call
        # By the id of the cast array, which is kept alive with the original.
        self._originals: dict[int, tuple[Any, Any]] = {}
        attributes = vars(module)
        for name, value in attributes.items():
            kind = type(value)
            if kind is list or kind is dict:  # also without arrays: the method may put some in
                self._open(name, value)
        for name in module.pytree_attributes:
            value = attributes[name]
            if is_array(value):
                array = self._cast(value)
                if array is not value:
                    self.attributes[name] = array
            elif not is_module(value) and name not in self._containers:
                self._open(name, value)

    def _cast(self, leaf: Any) -> Any:
        if not is_array(leaf):
            return leaf
        array = cast_array(leaf, self._dtypes.compute)
        if array is not leaf:
            self._originals[id(array)] = leaf, array
        return array

    def _open(self, name: str, value: Any) -> None:
        """Gives the twin a container of its own, so that changes in place are noticed."""
        container = map_leaves(self._cast, value)
        self._containers[name] = map_leaves(lambda leaf: leaf, container)
        self.attributes[name] = container

    def copy_back(self, twin: Any, before: dict[str, Any]) -> None:
        """Sets on the module what the method has changed: new arrays in parameter dtype, others as they were.

        Args:
            twin: what the method ran on.
            before: its attributes before that.

        Raises:
            MutationError: a list or a dictionary was changed in place, and the module may not change.
        """
        after = vars(twin)
        for name, value in after.items():
            if name in before:
                is_open = name in self._containers
                if value is before[name] and (not is_open or is_same_tree(self._containers[name], value)):
                    continue
            elif isinstance(getattr(type(twin), name, None), functools.cached_property):
                continue
            setattr(self._module, name, self._restore(twin, value))
        for name in before:
            if name not in after:
                delattr(self._module, name)

    def _restore(self, twin: Any, value: Any) -> Any:
        def restore(leaf: Any) -> Any:
            return self._as_parameter(leaf) if is_array(leaf) else self.from_twin(twin, leaf)

        return map_leaves(restore, value)

    def _as_parameter(self, array: Any) -> Any:
        known = self._originals.get(id(array))
        return cast_array(array, self._dtypes.param) if known is None else known[0]

    def from_twin(self, twin: Any, value: Any) -> Any:
        """Returns what gets out of a method in place of the twin, and of what was made from it.

        Args:
            twin: what the method ran on.
            value: anything but an array or a container.
        """
        if value is twin:
            return self._module
        if type(value) is MethodType:
            return getattr(self._module, value.__name__, value) if value.__self__ is twin else value
        if is_module(value) and any(_is_derived(node, twin) for node in modules_in(value)):
            return value.apply(functools.partial(self._with_policy, twin))
        return value

    def _with_policy(self, twin: Any, node: Any) -> Any:
        if not _is_derived(node, twin):
            return node
        restored = map_own(lambda leaf: self._as_parameter(leaf) if is_array(leaf) else leaf, node)
        return with_class(restored, type(self._module))


def _is_derived(node: Any, twin: Any) -> bool:
    """Whether a module is a twin or made from one, by `replace` for example: it has a policy, but not the class."""
    return type(node) is type(twin) and POLICY in vars(node)
