"""Random module trees, for property tests."""

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

import pax
from helpers.modules import Holder, ParameterHolder


class StateHolder(pax.StateModule):
    """Holds the attributes it is given, as states."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        for key, value in attributes.items():
            setattr(self, key, value)


class PartHolder(pax.Module):
    """Holds the attributes it is given; only `a` is trained."""

    def __init__(self, a: Any = None, **attributes: Any) -> None:
        super().__init__()
        self.a = a
        for key, value in attributes.items():
            setattr(self, key, value)

    parameters = pax.parameters_method("a")


_CLASSES = (Holder, ParameterHolder, StateHolder, PartHolder)
_NAMES = ("a", "b", "c", "layers", "state")
_FUNCTIONS = (jax.nn.relu, jnp.tanh, len)


@dataclass(frozen=True)
class Recipe:
    """How to build one value: ``build`` gives a new, equal one each time, with arrays of its own.

    Args:
        kind: ``array``, ``numpy``, ``key``, ``empty``, ``static``, ``list``, ``tuple``, ``dict``, or ``module``.
        content: the recipes below, with their names where they have any; or the value.
        details: class, name and mode of a module.
    """

    kind: str
    content: Any
    details: tuple[Any, ...] = ()

    def build(self) -> Any:
        """Builds the value."""
        if self.kind == "array":
            shape, start = self.content
            return (start + jnp.arange(np.prod(shape, dtype=int))).astype(jnp.float32).reshape(shape)
        if self.kind == "numpy":
            return np.full(self.content, 2, np.int32)
        if self.kind == "key":
            return jax.random.key(self.content)
        if self.kind == "empty":
            return pax.EmptyNode()
        if self.kind == "static":
            return self.content.copy() if isinstance(self.content, list | dict) else self.content
        if self.kind in ("list", "tuple"):
            items = [recipe.build() for recipe in self.content]
            return items if self.kind == "list" else tuple(items)
        values = {name: recipe.build() for name, recipe in self.content}
        return values if self.kind == "dict" else self._module(values)

    def _module(self, values: dict[str, Any]) -> Any:
        cls, training = self.details
        module = cls(**values)
        return module if training else module.eval()


def _leaves() -> st.SearchStrategy[Recipe]:
    shapes = st.sampled_from([(), (1,), (2,), (2, 3)])
    statics = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([0.0, -0.0, 0.5, float("nan"), "a", b"a", (1, "b")]),
        st.sampled_from(_FUNCTIONS),
        st.lists(st.integers(0, 2), max_size=2),
        st.dictionaries(st.sampled_from("xy"), st.integers(0, 2), max_size=2),
    )
    return st.one_of(
        st.tuples(shapes, st.integers(0, 9)).map(lambda content: Recipe("array", content)),
        st.tuples(shapes, st.integers(0, 9)).map(lambda content: Recipe("array", content)),
        shapes.map(lambda shape: Recipe("numpy", shape)),
        st.integers(0, 3).map(lambda seed: Recipe("key", seed)),
        st.just(Recipe("empty", None)),
        statics.map(lambda value: Recipe("static", value)),
    )


def _named(values: st.SearchStrategy[Recipe], names: tuple[str, ...]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.dictionaries(st.sampled_from(names), values, max_size=4).map(lambda found: tuple(found.items()))


def _modules_of(values: st.SearchStrategy[Recipe]) -> st.SearchStrategy[Recipe]:
    details = st.tuples(st.sampled_from(_CLASSES), st.sampled_from([True, True, False]))
    return st.builds(lambda content, details: Recipe("module", content, details), _named(values, _NAMES), details)


def _containers(values: st.SearchStrategy[Recipe]) -> st.SearchStrategy[Recipe]:
    many = st.lists(values, max_size=3).map(tuple)
    return st.one_of(
        many.map(lambda content: Recipe("list", content)),
        many.map(lambda content: Recipe("tuple", content)),
        _named(values, ("k", "l", "m")).map(lambda content: Recipe("dict", content)),
        _modules_of(values),
    )


module_recipes: st.SearchStrategy[Recipe] = _modules_of(st.recursive(_leaves(), _containers, max_leaves=12))
"""Recipes of modules: nested lists, tuples, dictionaries and modules of arrays, keys, empty nodes and static values."""


def raw(leaf: Any) -> np.ndarray[Any, Any]:
    """Returns an array's numbers, those of keys included."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)
