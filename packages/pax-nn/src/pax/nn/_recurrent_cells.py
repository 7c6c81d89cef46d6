"""What recurrent cells have in common: the check of what a step gets, the dtype of their state, the first state."""

import functools
import operator
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._dtypes import AnyArray, as_array, optional_float_dtype, to_common_dtype


@runtime_checkable
class Cell(Protocol):
    """One step of a recurrent network, and the state it starts from: what `RNN` and its relatives work with."""

    def __call__(self, state: Any, x: Any, /) -> tuple[Any, Any]:
        """Returns ``(new_state, output)``."""

    def initial_state(self, batch_size: Any, /) -> Any:
        """Returns the state before the first step; ``batch_size`` is an integer, or a tuple for other batch axes."""


def check_cell(cell: Any, *, what: str, where: str) -> None:
    """Raises ``ArgumentTypeError`` if ``cell`` is not callable or has no method ``initial_state``."""
    if isinstance(cell, type) or not isinstance(cell, Cell):
        raise ArgumentTypeError(
            f"Expecting a recurrent cell for `{what}`.",
            where=where,
            got=describe(cell),
            want="a module with `__call__(state, x) -> (state, output)` and `initial_state(batch_size)`",
            fix=f"{where}(pax.nn.LSTM(input_dim, hidden_dim))",
        )


def check_step(module: Any, state: Any, kind: type, x: AnyArray) -> jax.Array:
    """Checks the arguments of a step, and returns ``x`` as a JAX array.

    Args:
        module: the cell, with attributes ``input_dim`` and ``hidden_dim``.
        state: what it got as its state.
        kind: the class of its states, a named tuple of arrays ``(*batch, hidden_dim)``.
        x: what it got as its input, ``(*batch, input_dim)``.

    Raises:
        ArgumentTypeError: ``state`` is of another class.
        ArgumentError: a wrong size of ``x``, or a state that does not fit it.
    """
    if not isinstance(state, kind):
        raise ArgumentTypeError(
            f"Expecting a state of class `{kind.__name__}`.",
            module=module,
            got=describe(state) if type(state) is tuple else f"a `{type(state).__qualname__}`",
            want=f"cell(state, x), with a {kind.__name__}",
            fix="state = cell.initial_state(batch_size)",
        )
    x = as_array(x, module=module)
    if x.ndim == 0 or x.shape[-1] != module.input_dim:
        got = x.shape[-1] if x.ndim else None
        raise ArgumentError(
            f"Expecting {module.input_dim} input features. Get {got} features."
            if x.ndim
            else "Expecting an input with at least one axis.",
            module=module,
            got=describe(x),
            want=f"float[*,{module.input_dim}]",
            fix=f"{type(module).__name__}({got}, {module.hidden_dim})" if x.ndim else "x[None]",
        )
    shape = (*x.shape[:-1], module.hidden_dim)
    fields: dict[str, Any] = state._asdict()  # type: ignore[attr-defined]  # a named tuple
    for field, array in fields.items():
        if jnp.shape(array) != shape or not jnp.issubdtype(jnp.result_type(array), jnp.inexact):
            sizes = ", ".join(map(str, shape[:-1]))
            raise ArgumentError(
                "The state does not fit the input and the cell.",
                module=module,
                where=f"state.{field}",
                got=f"{describe(array)} with the input {describe(x)}",
                want=f"float[{','.join(map(str, shape))}]",
                fix=f"state = cell.initial_state({sizes if len(shape) == 2 else f'({sizes})'})",
            )
    return x


@functools.partial(jax.jit, inline=True)
def concatenate(x: jax.Array, hidden: jax.Array) -> jax.Array:
    """Joins input and hidden values, in their promoted dtype; in one compiled call outside of ``jit``."""
    return jnp.concatenate(to_common_dtype(x, hidden), axis=-1)


def first_state(
    batch_size: int | Sequence[int], hidden_dim: int, dtype: DTypeLike | None, weight: jax.Array, *, where: str
) -> jax.Array:
    """Returns zeros ``(*batch, hidden_dim)``, in the dtype of ``weight`` if ``dtype`` is ``None``.

    Raises:
        ArgumentTypeError: ``batch_size`` is no integer or sequence of them, or ``dtype`` no floating dtype.
        ArgumentError: a negative size.
    """
    sizes = batch_size if isinstance(batch_size, list | tuple) else [batch_size]
    try:
        shape = tuple(operator.index(size) for size in sizes)  # type: ignore[arg-type]  # what else raises TypeError
    except TypeError:
        raise ArgumentTypeError(
            "Expecting an integer for `batch_size`.",
            where=f"{where}.initial_state",
            got=describe(batch_size),
            want="an int; a tuple of them for several batch axes, () for none",
            fix="cell.initial_state(x.shape[0])",
        ) from None
    if any(size < 0 for size in shape):
        raise ArgumentError(
            "Expecting a batch size that is not negative.",
            where=f"{where}.initial_state",
            got=f"batch_size={batch_size}",
            want="at least 0",
        )
    chosen = optional_float_dtype(dtype, what="dtype", where=f"{where}.initial_state")
    return jnp.zeros((*shape, hidden_dim), weight.dtype if chosen is None else chosen)
