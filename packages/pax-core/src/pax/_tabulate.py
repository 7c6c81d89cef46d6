"""``tabulate``: what a module consists of, what it returns and computes, as a table."""

from collections import Counter
from collections.abc import Mapping
from types import MethodType
from typing import Any

from pax._classify import is_module
from pax._empty import is_empty
from pax._errors import ArgumentError, ArgumentTypeError
from pax._leaf_kinds import leaf_kinds
from pax._module import require_module
from pax._node import own_content
from pax._paths import KeyPath, describe, path_text
from pax._purity import check_callable_module
from pax._tabulate_calls import Forward, output_text, run_forward
from pax._tabulate_table import ModuleTable, Row
from pax._variants import base_class


def tabulate(
    net: Any, *example_inputs: Any, kwargs: Mapping[str, Any] | None = None, depth: int | None = None
) -> ModuleTable:
    """Returns a table with a row for each module: path, class, output, parameters, states, bytes, FLOPs.

    Nothing is computed, and ``net`` stays as it is: a copy is called with abstract arrays, as by :func:`pax.purecall`
    inside of ``jax.eval_shape``, in the mode that it is in. The numbers of a row are those of the module with all
    modules below it, so the first row and the line below the table are the whole. Modules that the call creates are in
    the table, too.

    FLOPs are what XLA's cost analysis says of the operations before they are fused: a multiplication and an addition
    count as two, comparisons as one, ``exp`` and its like as none, and what a convolution would do with its padding is
    left out. A ``jax.lax.scan`` counts as often as it runs, a ``while_loop`` as one round, of a ``cond`` the dearest
    branch. Work counts for every module whose ``__call__`` is running, and thus for the caller if another method does
    it. A module is called once where its call is traced once: a block that is scanned over, or mapped by ``vmap``.

    Args:
        net: a module; or a method of one, such as ``net.decode``, to call that.
        *example_inputs: arrays, ``jax.ShapeDtypeStruct``, or pytrees of such; all else is passed on as it is. Without
            inputs nothing is called: the table has no outputs and no FLOPs.
        kwargs: keyword arguments of the call. An empty dictionary calls a module that takes no inputs.
        depth: how many levels of modules below ``net`` to show; default: all. The numbers stay the same.

    Returns:
        A table whose ``repr`` is plain text. Notebooks show it as HTML, ``rich.print`` in colours.
        ``table.to_text(width)``, ``table.to_html()`` and ``table.to_json()`` return strings, ``table.rows`` and
        ``table.totals`` the plain data.

    Raises:
        ArgumentTypeError: ``net`` is no module, or cannot be called; or ``depth`` is no integer.
        ArgumentError: ``depth`` is negative; or the call failed, with anything but an error of PAX.

    >>> import jax, jax.numpy as jnp, pax
    >>> class Affine(pax.ParameterModule):
    ...     def __init__(self, size):
    ...         super().__init__()
    ...         self.weight = jnp.ones((3, size))
    ...         self.bias = jnp.zeros((size,))
    ...
    ...     def __call__(self, x):
    ...         return x @ self.weight + self.bias
    >>> class Twice(pax.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.inner = Affine(3)
    ...
    ...     def __call__(self, x):
    ...         return self.inner(self.inner(x))
    >>> pax.tabulate(Twice(), jax.ShapeDtypeStruct((8, 3), jnp.float32))
    Twice, in training mode, with inputs (float32[8,3])
    Path    Class   Output           Trainable         Bytes  FLOPs
    ──────  ──────  ───────────────  ─────────  ────────────  ─────
    (root)  Twice   float32[8,3]            12  48 B float32    336
    inner   Affine  float32[8,3] ×2         12  48 B float32    336
    ──────  ──────  ───────────────  ─────────  ────────────  ─────
    Total: 12 trainable, 0 frozen, 0 states; 48 B; 336 FLOPs
    """
    method = "__call__"
    if isinstance(net, MethodType) and is_module(net.__self__):
        net, method = net.__self__, net.__name__
    root = require_module(net, "pax.tabulate(net, x)")
    _check_depth(depth)
    forward = None
    if example_inputs or kwargs is not None:
        if method == "__call__":
            check_callable_module(root)
        forward = run_forward(root, method, example_inputs, dict(kwargs or {}))
        root = forward.module
    rows = _rows(root, forward)
    return ModuleTable(
        [row for row in rows if depth is None or row.depth <= depth],
        title=_title(root, method, forward, example_inputs, kwargs or {}),
        flops=None if forward is None else forward.flops.get(None, 0),
        notes=() if forward is None else forward.notes,
    )


def _check_depth(depth: Any) -> None:
    if depth is None:
        return
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise ArgumentTypeError(
            "`depth` is a number of levels.",
            where="pax.tabulate, argument `depth`",
            got=describe(depth),
            want="an int, or None for all levels",
            fix="pax.tabulate(net, x, depth=1)  # inputs are positional, keyword inputs go into kwargs={...}",
        )
    if depth < 0:
        raise ArgumentError(
            "`depth` is a number of levels.",
            where="pax.tabulate, argument `depth`",
            got=str(depth),
            want="0 for the whole alone, or more; None for all levels",
            fix="pax.tabulate(net, x, depth=1)",
        )


def _title(root: Any, method: str, forward: Forward | None, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> str:
    text = f"{base_class(type(root)).__qualname__}, in {'training' if root.training else 'evaluation'} mode"
    if forward is None:
        return text
    called = "" if method == "__call__" else f", `{method}`"
    shown = [*map(output_text, inputs), *(f"{name}={output_text(value)}" for name, value in named.items())]
    return f"{text}{called}, with inputs ({', '.join(shown)})" if shown else f"{text}{called}, without inputs"


def _rows(root: Any, forward: Forward | None) -> list[Row]:
    """Returns the rows of all modules: parents first, in pytree order, which is that of a forward pass."""
    kinds = leaf_kinds(root)
    leaves: list[Any] = []
    found: list[tuple[Any, KeyPath, int, int]] = []  # with the number of modules, and of leaves, before it
    ends: list[int] = []

    def visit(module: Any, path: KeyPath, depth: int) -> None:
        found.append((module, path, depth, len(leaves)))
        ends.append(0)
        place = len(ends) - 1
        for key, value in own_content(module):
            if is_module(value):
                visit(value, path + key, depth + 1)
            elif not is_empty(value):
                leaves.append(value)
        ends[place] = len(leaves)

    visit(root, (), 0)
    sizes = [_size(leaf) for leaf in leaves]
    rows = []
    for place, ((module, path, depth, start), end) in enumerate(zip(found, ends, strict=True)):
        numbers: Counter[str] = Counter()
        storage: Counter[str] = Counter()
        for kind, (size, dtype, width) in zip(kinds[start:end], sizes[start:end], strict=True):
            numbers[kind] += size
            if dtype:
                storage[dtype] += size * width
        calls = None if forward is None else forward.record.calls[place]
        rows.append(
            Row(
                path=path_text(path),
                kind=base_class(type(module)).__qualname__,
                name=getattr(module, "_name", None),
                depth=depth,
                calls=calls,
                outputs=tuple(forward.record.outputs[place]) if forward is not None else (),
                trainable=numbers["trained"],
                frozen=numbers["frozen"],
                states=numbers["state"],
                bytes=dict(storage),
                flops=None if forward is None or calls is None else forward.flops.get(place, 0),
            )
        )
    return rows


def _size(leaf: Any) -> tuple[int, str, int]:
    """Returns the number of elements, the dtype and its bytes; nothing for what is no array, abstract or not."""
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if not isinstance(shape, tuple) or dtype is None:
        return 0, "", 0
    size = 1
    for length in shape:
        size *= int(length)
    return size, str(dtype), int(dtype.itemsize)
