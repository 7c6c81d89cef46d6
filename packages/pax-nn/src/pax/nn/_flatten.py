"""The layer that joins axes."""

import math

from jaxtyping import Array, Num

from pax import Module
from pax.errors import ArgumentError
from pax.extend import describe
from pax.nn._axes import integer
from pax.nn._dtypes import AnyArray, as_array


class Flatten(Module):
    """Joins neighbouring axes into one; by default all but the first, the batch.

    Shapes:
        input: ``(..., a, b, c, ...)``; any dtype.
        output: ``(..., a * b * c, ...)``, same dtype; the last axis varies fastest.
    Parameters, State:
        none.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> flatten = pax.nn.Flatten()
    >>> flatten, flatten(jnp.ones((2, 8, 8, 3))).shape
    (Flatten(), (2, 192))
    >>> pax.nn.Flatten(1, 2)(jnp.ones((2, 8, 8, 3))).shape
    (2, 64, 3)
    """

    start_axis: int
    end_axis: int

    def __init__(self, start_axis: int = 1, end_axis: int = -1, *, name: str | None = None) -> None:
        """Stores the arguments.

        Args:
            start_axis: the first axis that is joined, counted from the end if negative; default: the one behind the
                batch. Use 0 where ``jax.vmap`` hides the batch.
            end_axis: the last axis that is joined, likewise; default: the last one.
            name: shown before the class in summaries.

        Raises:
            ArgumentTypeError: an axis that is no integer.
        """
        super().__init__(name=name)
        self.start_axis = integer(start_axis, what="start_axis", where="Flatten")
        self.end_axis = integer(end_axis, what="end_axis", where="Flatten")

    def __call__(self, x: Num[AnyArray, "..."]) -> Num[Array, "..."]:
        """Returns ``x`` with the axes from ``start_axis`` to ``end_axis`` joined.

        Args:
            x: an array that has these axes.

        Raises:
            ArgumentError: ``x`` does not have the axes, or the last one comes before the first.
        """
        x = as_array(x, module=self)
        start, end = (axis + x.ndim if axis < 0 else axis for axis in (self.start_axis, self.end_axis))
        if not 0 <= start <= end < x.ndim:
            raise ArgumentError(
                f"Expecting an input with the axes {self.start_axis} to {self.end_axis}. Get {x.ndim} axes.",
                module=self,
                got=describe(x),
                want=f"0 <= start_axis <= end_axis < {x.ndim}, negative axes counted from the end",
                fix="x[None]   # a batch of one" if start == x.ndim else None,
            )
        return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])

    def __repr__(self) -> str:
        joins_all = self.start_axis == 1 and self.end_axis == -1
        return self._repr({} if joins_all else {"start_axis": self.start_axis, "end_axis": self.end_axis})
