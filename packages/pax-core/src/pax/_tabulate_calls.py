"""A forward pass in which nothing is computed, and what each module returned in it.

It runs on a copy of the module, of classes whose ``__call__`` notes what it returns. There is one such class for each
class of modules, made once; which row of the table a module belongs to is static data of the copy.
"""

import copy
import functools
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from pax._checks import walk
from pax._classify import is_array, is_module, is_node
from pax._errors import ArgumentError, PaxError
from pax._node import fill, make_node
from pax._paths import KeyPath, describe, path_text
from pax._purity import module_and_value
from pax._random import _generator
from pax._structure import intern_structure
from pax._tabulate_flops import FlopCounter
from pax._variants import variant_class, variant_of

_MARK = "_tabulated"
_run_numbers = itertools.count()


class _Mark:
    """Which row of which table a module belongs to. No two are equal, so that JAX traces each module anew."""

    __slots__ = ("place", "record")

    def __init__(self, record: "Record", place: int) -> None:
        self.record = record
        self.place = place


class _EqualMark(_Mark):
    """A mark for modules that are compared with each other: all of one table are equal.

    What JAX has traced for one of two equal modules it may use for the other, whose calls are not seen then.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _EqualMark) and self.record is other.record

    def __hash__(self) -> int:
        return hash(self.record)


class Record:
    """What one forward pass did.

    Args:
        mark: how modules are marked; ``None`` for not at all.
        data: the classes of modules that are not marked.

    Attributes:
        calls: how often each module was called, by its place in the tree: parents first, in pytree order. ``None`` for
            those that cannot be called, or are not followed.
        outputs: what they returned, in words and without repetition; the keys of a dictionary.
        failed: the place of the innermost module in which an exception arose, and that exception.
    """

    def __init__(self, mark: type[_Mark] | None, data: frozenset[type]) -> None:
        self.run = next(_run_numbers)
        self.mark = mark
        self.paths: list[str] = []
        self.calls: list[int | None] = []
        self.outputs: list[dict[str, None]] = []
        self.failed: tuple[int, BaseException | None] = 0, None
        self._data = data

    def add(self, path: str, module: Any) -> _Mark | None:
        """Makes room for one more module; returns its mark, if it has to have one."""
        followed = self.mark is not None and callable(module) and type(module) not in self._data
        self.paths.append(path)
        self.calls.append(0 if followed else None)
        self.outputs.append({})
        return self.mark(self, len(self.paths) - 1) if self.mark is not None and followed else None

    def note(self, place: int, output: Any) -> None:
        """Notes one call."""
        self.calls[place] = (self.calls[place] or 0) + 1
        self.outputs[place][output_text(output)] = None


class Forward(NamedTuple):
    """The result of a forward pass in which nothing was computed.

    Attributes:
        module: the module that was called; with abstract arrays, if the call has created some of its parts.
        record: what its modules returned.
        flops: floating-point operations by place in the tree; ``None`` is the whole.
        notes: what these numbers leave out.
    """

    module: Any
    record: Record
    flops: dict[int | None, int]
    notes: tuple[str, ...]


def run_forward(module: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Forward:
    """Calls a method of a module, abstractly.

    Parts that the call creates are known afterwards only: then it is called once more, with them.

    Args:
        module: the module; it stays as it is.
        method: the name of a method.
        args: arrays, abstract arrays (``jax.ShapeDtypeStruct``), or anything that is passed on as it is.
        kwargs: likewise.

    Raises:
        ArgumentError: the call raised an error that is none of PAX.
    """
    forward, after = _run(module, method, args, kwargs)
    if not _nodes(after).keys() <= _nodes(module).keys():
        forward, _ = _run(after, method, args, kwargs)
    return forward


def _nodes(module: Any) -> dict[str, None]:
    """Returns the paths of all modules and arrays."""
    paths: dict[str, None] = {}

    def visit(node: Any, above: KeyPath) -> None:
        for path, value in jtu.tree_leaves_with_path(node, is_leaf=lambda x: x is not node and is_module(x)):
            paths[path_text(above + path)] = None
            if is_module(value):
                visit(value, above + path)

    visit(module, ())
    return paths


def _run(module: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Forward, Any]:
    """Returns the result, and the module afterwards.

    Raises:
        ArgumentError: the call raised an error that is none of PAX.
    """
    # A module of a class that is among the inputs is data, as gradients are for an optimizer.
    data = frozenset(type(node) for node in walk((args, kwargs))[0])
    place = 0
    for mark in (_Mark, _EqualMark, None):
        record = Record(mark, data)
        try:
            with _own_random_keys():
                return _trace(module, method, args, kwargs, record)
        except Exception as error:  # of any kind: the call runs the user's code
            # What compares or exchanges modules may fail because of the marks. Without any, the error is the user's.
            if mark is None and isinstance(error, PaxError):
                raise
            if mark is _Mark and record.failed[1] is error:
                place = record.failed[0]
            if mark is None:
                raise _failure(error, module, record.paths[place], args, kwargs) from error
    raise AssertionError("unreachable")


def _trace(
    module: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], record: Record
) -> tuple[Forward, Any]:
    leaves, structure = jtu.tree_flatten((_marked(module, record, ()), args, kwargs))
    traced = [index for index, leaf in enumerate(leaves) if _is_traced(leaf)]

    def forward(arrays: list[Any]) -> Any:
        filled = list(leaves)
        for index, array in zip(traced, arrays, strict=True):
            filled[index] = array
        copied, inputs, named = jtu.tree_unflatten(structure, filled)
        after, output = module_and_value(getattr(copied, method))(*inputs, **named)
        if not record.calls[0]:
            record.note(0, output)
        return after, [leaf for leaf in jtu.tree_leaves(output) if is_array(leaf)]

    program, (after, _) = jax.make_jaxpr(forward, return_shape=True)([_abstract(leaves[i]) for i in traced])
    counter = FlopCounter(re.compile(rf"pax_{record.run}_(\d+)_"))
    flops = dict(counter.count(program))
    notes = list(counter.notes)
    flops.setdefault(0, flops.get(None, 0))
    if record.mark is None and len(record.paths) > 1:
        notes.append("the calls of the modules below the first could not be followed")
    return Forward(module, record, flops, tuple(notes)), _unmarked(after)


def _is_traced(leaf: Any) -> bool:
    return is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct | np.generic)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    dtype = leaf.dtype
    if not jnp.issubdtype(dtype, jax.dtypes.extended):
        # As JAX has it: float64 is float32 unless 64 bits are enabled. Of a dtype itself it would warn.
        dtype = jax.dtypes.result_type(np.empty((), dtype))
    return jax.ShapeDtypeStruct(leaf.shape, dtype, weak_type=bool(getattr(leaf, "weak_type", False)))


@contextmanager
def _own_random_keys() -> Iterator[None]:
    """Lets the global keys that are drawn in the block be drawn again after it."""
    before = _generator.random
    _generator.random = copy.copy(before)
    try:
        yield
    finally:
        _generator.random = before


def _failure(error: Exception, module: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ArgumentError:
    named = [f"{name}={output_text(value)}" for name, value in kwargs.items()]
    lines = str(error).strip().splitlines() or [""]
    return ArgumentError(
        "The module cannot be called with these inputs.",
        got=f"inputs ({', '.join([*map(output_text, args), *named])})",
        want="inputs with which the module can be called under jax.jit",
        fix="pax.tabulate(net, jax.ShapeDtypeStruct((8, 3), jnp.float32))  # shapes and dtypes of one real batch\n"
        "pax.tabulate(net)  # without inputs: parameters and states only",
        why=f"{type(error).__name__}: {lines[0][:200]}",
        module=_at(module, path),
        path=path or None,
    )


def _at(module: Any, wanted: str) -> Any:
    """Returns the module at a path, the root if the call has created it."""
    found = module

    def look(node: Any, above: KeyPath) -> None:
        nonlocal found
        for path, value in jtu.tree_leaves_with_path(node, is_leaf=lambda x: x is not node and is_module(x)):
            if is_module(value):
                if path_text(above + path) == wanted:
                    found = value
                look(value, above + path)

    look(module, ())
    return found


# ---- the copy that notes its calls --------------------------------------------------------------------------------


def _marked(module: Any, record: Record, path: KeyPath) -> Any:
    mark = record.add(path_text(path), module)
    content, structure = jtu.tree_flatten_with_path(module, is_leaf=lambda node: node is not module and is_node(node))
    below = [_marked(node, record, path + key) if is_module(node) else node for key, node in content]
    copied = jtu.tree_unflatten(structure, below)
    if mark is None:
        return copied
    return _as_class(copied, variant_class(type(module), _class_body), {_MARK: mark})


def _unmarked(module: Any) -> Any:
    content, structure = jtu.tree_flatten(module, is_leaf=lambda node: node is not module and is_node(node))
    copied = jtu.tree_unflatten(structure, [_unmarked(node) if is_module(node) else node for node in content])
    origin = variant_of(type(module))
    if origin is None or origin[1] is not _class_body:
        return copied
    return _as_class(copied, origin[0], {})


def _as_class(module: Any, cls: Any, mark: dict[str, _Mark]) -> Any:
    children, structure = module._pax_flat
    statics = {name: value for name, value in structure.statics.items() if name != _MARK} | mark
    return make_node(
        cls, children, intern_structure(cls, structure.names, structure.mixed, statics, structure.volatile)
    )


def _class_body(base: Any) -> dict[str, Any]:
    @functools.wraps(base.__call__)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        mark: _Mark = fill(self)[_MARK]
        record, place = mark.record, mark.place
        try:
            with jax.named_scope(f"pax_{record.run}_{place}_"):
                output = base.__call__(self, *args, **kwargs)
        except Exception as error:
            if record.failed[1] is not error:
                record.failed = place, error
            raise
        record.note(place, output)
        return output

    return {"__call__": __call__}


# ---- values in words ----------------------------------------------------------------------------------------------


def output_text(value: Any) -> str:
    """Returns a value as text, an array as ``float32[2,3]``, containers as Python writes them."""
    if type(value) is tuple:
        return f"({', '.join(map(output_text, value))}{',' * (len(value) == 1)})"
    if type(value) is list:
        return f"[{', '.join(map(output_text, value))}]"
    if type(value) is dict:
        return f"{{{', '.join(f'{key}: {output_text(item)}' for key, item in value.items())}}}"
    if is_module(value):
        return type(value).__qualname__
    if is_array(value) or value is None or jtu.all_leaves((value,)):
        return describe(value)
    pairs, _ = jtu.tree_flatten_with_path(value, is_leaf=lambda node: node is not value)
    return f"{type(value).__name__}({', '.join(f'{path_text(path)}={output_text(item)}' for path, item in pairs)})"
