"""Several equal modules held as one whose arrays have a leading axis: what ``Stack`` and ``Ensemble`` share."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import pax
from pax import Module
from pax.errors import ArgumentError, ArgumentTypeError, StructureError
from pax.extend import describe
from pax.nn._axes import positive_int
from pax.nn._initialize import key_or_next, split_key
from pax.nn._inner_call import path_text


def make_modules(make: Any, number: Any, rng_key: jax.Array | None, *, what: str, where: str) -> list[Any]:
    """Calls a constructor several times, one call after the other.

    Not under ``jax.vmap``, which would be no quicker once the operations of the first call are compiled: there, all
    modules would get the same key wherever a constructor draws from the global generator.

    Args:
        make: called without arguments, or with ``rng_key=...`` if a key is given.
        number: how often.
        rng_key: split into one key for each call.
        what: the name of the argument ``number``.
        where: the class for which the modules are, for error texts.
    """
    number = positive_int(number, what=what, where=where)
    if isinstance(make, Module) or not callable(make):
        raise ArgumentTypeError(
            "Expecting a function that makes a module.",
            where=where,
            got=describe(make),
            want="a function, which is called once for each copy",
            fix=f"{where}(lambda: pax.nn.Linear(4, 4), {number}), or {where}.from_modules(modules)",
        )
    if rng_key is None:
        return [make() for _ in range(number)]
    return [make(rng_key=key) for key in split_key(key_or_next(rng_key, where=where), number)]


def stack_modules(modules: Sequence[Any], *, where: str) -> Any:
    """Returns one module whose arrays are those of all ``modules``, along a new first axis.

    Args:
        modules: at least one; of equal structure, shapes and dtypes.
        where: the class for which this is, for error texts.

    Raises:
        ArgumentTypeError: one of them is no module.
        ArgumentError: one is there twice.
        StructureError: they differ in more than the values of their arrays.
    """
    for index, module in enumerate(modules):
        if not isinstance(module, Module):
            raise ArgumentTypeError(
                "Expecting a PAX module.", where=f"{where}, module {index}", got=describe(module), want="a module"
            )
        if any(module is other for other in modules[:index]):
            raise ArgumentError(
                "The same module object is given twice.",
                where=f"{where}, module {index}",
                got=f"one {type(module).__qualname__} at several places",
                want="modules made one by one, with weights of their own",
                fix=f"{where}(lambda: Block(...), number)   # the function makes a new one in each call",
            )
        if index > 0:
            _check_equal(module, modules[0], where=f"{where}, module {index}")
    return jax.tree.map(_stack_arrays, *modules)


def _stack_arrays(*arrays: Any) -> jax.Array:
    first = arrays[0]
    if not jnp.issubdtype(first.dtype, jax.dtypes.prng_key):
        return jnp.stack(arrays)
    # JAX's check for keys that are used twice takes a concatenation of keys for their use.
    data = jnp.stack([jax.random.key_data(key) for key in arrays])
    keys: jax.Array = jax.random.wrap_key_data(data, impl=jax.random.key_impl(first))
    return keys


def _check_equal(module: Any, first: Any, *, where: str) -> None:
    headline = "The modules of a stack may differ in the values of their arrays only."
    fix = (
        "make all of them in the same way: the same sizes, options, mode and name, the same arrays frozen;\n"
        "and name functions outside of the constructor: a `lambda` in it is a new function in each call"
    )
    try:
        pax.assert_structure_equal(module, first)
    except StructureError as error:
        raise StructureError(headline, where=where, got=error.got, want="what module 0 is", fix=fix) from None
    found = [
        f"{path_text(path)}: got {describe(leaf)}, want {describe(other)}"
        for (path, leaf), other in zip(jtu.tree_leaves_with_path(module), jax.tree.leaves(first), strict=True)
        if (leaf.shape, leaf.dtype) != (other.shape, other.dtype)
    ]
    if found:
        raise StructureError(headline, where=where, got="\n".join(found[:10]), want="what module 0 is", fix=fix)


def check_leading_axis(tree: Any, size: int, *, what: str, module: Any) -> None:
    """Checks that all arrays of a tree have a first axis of the given size.

    Raises:
        StructureError: one has not; the message names its path.
    """
    for path, leaf in jtu.tree_leaves_with_path(tree):
        if jnp.ndim(leaf) == 0 or jnp.shape(leaf)[0] != size:
            raise StructureError(
                f"Expecting arrays with a first axis of size {size}.",
                module=module,
                where=f"{what}{'' if not path or path[0] is None else ', '}{path_text(path)}",
                got=describe(leaf),
                want=f"[{size}, ...], one entry for each copy",
            )


class StackedModules(Module):
    """Holds equal modules as one; the subclasses say under which name, and what a call does.

    The arrays in here are those of the submodule, so it decides what is trained.
    """

    _slot: ClassVar[str]
    """The attribute with the submodule."""
    _size: ClassVar[str]
    """The attribute with the number of copies."""

    def __init__(self, modules: Sequence[Any], *, name: str | None) -> None:
        super().__init__(name=name)
        setattr(self, self._size, len(modules))
        setattr(self, self._slot, stack_modules(modules, where=type(self).__name__))

    def __len__(self) -> int:
        number: int = getattr(self, self._size)
        return number

    def __getitem__(self, index: Any) -> Any:
        """Returns one of the modules, with its own part of the arrays, or a tuple of modules for a slice.

        Args:
            index: its number, counted from the end if negative; or a slice.

        Raises:
            IndexError: there is none of this number.
        """
        if isinstance(index, slice):
            return tuple(map(self.__getitem__, range(len(self))[index]))
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"{type(self).__qualname__} has {len(self)} modules, there is no number {number}")
        number %= len(self)
        return jax.tree.map(lambda leaf: leaf[number], getattr(self, self._slot))

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    def set(self, index: int, module: Any) -> Self:
        """Returns a copy with other arrays for one of the modules.

        Args:
            index: its number, counted from the end if negative.
            module: a module like the one that is there, for example a changed ``self[index]``.

        Raises:
            IndexError: there is none of this number.
            StructureError: ``module`` differs from it in more than the values of its arrays.
        """
        _check_equal(module, self[index], where=type(self).__name__)
        slot = getattr(self, self._slot)
        changed = jax.tree.map(lambda leaf, value: jnp.asarray(leaf).at[index].set(value), slot, module)
        return self.replace(**{self._slot: changed})
