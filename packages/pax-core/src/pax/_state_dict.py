"""State dictionaries: the arrays of a module by attribute name, and the way back."""

from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from pax._classify import is_array, is_module, is_node
from pax._empty import is_empty
from pax._errors import StateDictError
from pax._node import make_node
from pax._paths import KeyPath, describe, one_level, path_text, same_structure

StateDict = dict[str, Any]


def state_dict(module: Any) -> StateDict:
    """See ``Module.state_dict``."""
    children, structure = module._pax_flat
    return {
        name: jtu.tree_map(lambda node: state_dict(node) if is_module(node) else node, child, is_leaf=is_node)
        for name, child in zip(structure.names, children, strict=True)
    }


def load_state_dict(module: Any, state: StateDict, *, strict: bool) -> Any:
    """See ``Module.load_state_dict``."""
    loader = _Loader()
    new = loader.module(module, state, ())
    if not strict:
        return new, {
            **{path: f"missing, want {want}" for path, want in loader.missing.items()},
            **{path: f"unexpected, got {got}" for path, got in loader.unexpected.items()},
            **{path: f"got {got}, want {want}" for path, (got, want) in loader.mismatched.items()},
        }
    problems = [
        f"{title}: {', '.join(places)}"
        for title, places in (("missing", loader.missing), ("unexpected", loader.unexpected))
        if places
    ] + [f"{path or 'the root'}: got {got}, want {want}" for path, (got, want) in loader.mismatched.items()]
    if problems:
        raise StateDictError(
            "The state dictionary does not fit the module.",
            got="\n".join(problems),
            want="a dictionary with the names, shapes and kinds of module.state_dict()",
            fix="compare it with module.state_dict(), or module.load_state_dict(state, strict=False) to load what fits"
            + _of_pytorch(state),
            module=module,
        )
    return new


def _of_pytorch(state: Any) -> str:
    """Returns what to do with names that have dots in them, as PyTorch's have."""
    dotted = isinstance(state, dict) and any("." in str(name) for name in state)
    return "\npax.experimental.load_torch_weights(module, state)  # if it is PyTorch's" if dotted else ""


class _Loader:
    """Loads what fits of a state dictionary, and gathers everything that does not, by path."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        """What is wanted."""
        self.unexpected: dict[str, str] = {}
        """What is there."""
        self.mismatched: dict[str, tuple[str, str]] = {}
        """What is there, and what is wanted."""

    def module(self, module: Any, state: Any, path: KeyPath) -> Any:
        children, structure = module._pax_flat
        if not isinstance(state, dict):
            self.mismatched[path_text(path)] = describe(state), "a dictionary"
            return module
        for name, value in state.items():
            if name not in structure.names:
                # `['a.b']` for a name that is no attribute: not to be taken for a path.
                is_name = isinstance(name, str) and name.isidentifier()
                key = jtu.GetAttrKey(name) if is_name else jtu.DictKey(name)
                self.unexpected[path_text((*path, key))] = describe(value)
        loaded = []
        for name, child in zip(structure.names, children, strict=True):
            below = (*path, jtu.GetAttrKey(name))
            loaded.append(self.value(child, state[name], below) if name in state else self.absent(child, below))
        return make_node(type(module), tuple(loaded), structure)

    def absent(self, child: Any, path: KeyPath) -> Any:
        for below, leaf in jtu.tree_leaves_with_path(child):
            self.missing[path_text(path + below)] = describe(leaf)
        return child

    def value(self, child: Any, state: Any, path: KeyPath) -> Any:
        if is_module(child):
            return self.module(child, state, path)
        if is_node(child) or jtu.all_leaves((child,)):
            return self.leaf(child, state, path)
        return self.container(child, state, path)

    def container(self, container: Any, state: Any, path: KeyPath) -> Any:
        children, structure = one_level(container)
        others, other_structure = one_level(state)
        found = {path_text((*path, key)): value for key, value in others}
        same_keys = [path_text((*path, key)) for key, _ in children] == list(found)
        if type(state) is not type(container) or (same_keys and not same_structure(structure, other_structure)):
            self.mismatched[path_text(path)] = describe(state), f"{describe(container)} alike"
            return container
        loaded = []
        for key, child in children:
            below = (*path, key)
            name = path_text(below)
            if name in found:
                loaded.append(self.value(child, found.pop(name), below))
                continue
            loaded.append(self.absent(child, below))
            if not jtu.tree_leaves(child):  # a list has to have the same length, whatever is in it
                self.missing[name] = describe(child)
        self.unexpected.update((name, describe(value)) for name, value in found.items())
        return jtu.tree_unflatten(structure, loaded)

    def leaf(self, old: Any, new: Any, path: KeyPath) -> Any:
        if is_empty(old) or is_empty(new):
            if is_empty(new) and not is_empty(old):
                self.missing[path_text(path)] = describe(old)
            return old if is_empty(new) else new
        converted = _like(old, new)
        if converted is None:
            self.mismatched[path_text(path)] = describe(new), describe(old)
            return old
        return converted


def _like(old: Any, new: Any) -> Any:
    """Returns ``new`` as an array that can stand for ``old``, or ``None``."""
    kinds = {_kind(old.dtype)}
    if isinstance(new, bool | int | float | complex | np.generic):
        if "floating" in kinds:
            kinds.add("integer")  # `1` is good enough for 1.0
        new = np.asarray(new)
    if not is_array(new) or np.shape(new) != np.shape(old) or _kind(new.dtype) not in kinds:
        return None
    if isinstance(new, np.ndarray) and not isinstance(old, np.ndarray):
        return jnp.array(new, dtype=old.dtype)  # a copy: `asarray` may share the memory, which can change in place
    return new


def _kind(dtype: Any) -> str:
    """Returns one name for all floating dtypes, likewise for integers and complex numbers, else the dtype's own."""
    for kind in (jnp.floating, jnp.integer, jnp.complexfloating):
        if jnp.issubdtype(dtype, kind):
            return kind.__name__
    return str(dtype)
