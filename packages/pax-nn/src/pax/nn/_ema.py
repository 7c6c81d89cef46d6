"""Exponential moving averages."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import pax
from pax import EmptyNode, StateModule
from pax.errors import ArgumentError, StructureError
from pax.extend import describe
from pax.nn._dtypes import as_array, promote_dtypes, strongly_typed
from pax.nn._initialize import filled
from pax.nn._numbers import check_decay_rate


class EMA(StateModule):
    """Keeps an exponential moving average of a pytree.

    In train mode each call with ``x`` sets ``averages = averages * decay_rate + x * (1 - decay_rate)`` and returns it;
    in eval mode a call returns the averages as they are. Averages keep their dtype; half-precision ones are updated in
    float32.

    Shapes:
        input, output: the tree, shapes and dtypes of ``initial_value``.
    Parameters:
        none: the averages are not trained, also when they are those of a module's parameters.
    State:
        averages: the current averages.
        debias: float32 scalar, 0 before the first update and 1 after; ``None`` if ``debias`` is false.

    >>> import pax
    >>> ema = pax.nn.EMA(1.0, decay_rate=0.9)
    >>> ema, average = pax.purecall(ema, 2.0)
    >>> round(float(average), 3)
    1.1
    """

    averages: Any
    debias: Float[Array, ""] | None
    decay_rate: float
    allow_int: bool

    def __init__(
        self,
        initial_value: Any,
        decay_rate: float,
        debias: bool = False,
        allow_int: bool = False,
        *,
        name: str | None = None,
    ) -> None:
        """Starts an average.

        Args:
            initial_value: any pytree of arrays or numbers; a module, for example.
            decay_rate: weight of the old average, in [0, 1].
            debias: ignore the initial value: the average after the first update is the first value itself. (This is not
                the correction by ``1 / (1 - decay_rate**t)`` of Adam.)
            allow_int: accept integers, booleans and keys; their "average" is the newest value.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: ``decay_rate`` outside [0, 1], or other than float leaves without ``allow_int``.
            ArgumentTypeError: ``decay_rate`` is no number, or a leaf no array.
        """
        super().__init__(name=name)
        self.decay_rate = check_decay_rate(decay_rate, where="EMA")
        self.averages = jax.tree.map(_as_leaf, initial_value)
        self.debias = filled((), 0, jnp.dtype(jnp.float32)) if debias else None
        self.allow_int = allow_int
        self._check_floats(self.averages, "initial")

    def __call__(self, xs: Any) -> Any:
        """Updates the averages (in train mode) and returns them.

        Args:
            xs: the newest values: the structure and shapes of the averages.

        Returns:
            The averages.

        Raises:
            ArgumentError: other than float leaves without ``allow_int``.
            StructureError: another structure or other shapes than those of the averages.
            MutationError: in train mode, outside of ``pax.purecall`` or ``pax.pure``.
        """
        xs = jax.tree.map(strongly_typed, xs)
        self._check_floats(xs, "new")
        if not self.training:
            return self.averages
        pax.assert_structure_equal(self.averages, xs)
        for (path, average), value in zip(jax.tree.leaves_with_path(self.averages), jax.tree.leaves(xs), strict=True):
            has_keys = _is_key(average) or _is_key(value)
            if average.shape != value.shape or (has_keys and average.dtype != value.dtype):
                raise StructureError(
                    f"The new value of an average {'is of another kind' if has_keys else 'has another shape'}.",
                    module=self,
                    where=jax.tree_util.keystr(path) or None,
                    got=describe(value),
                    want=describe(average),
                )
        old = jax.tree.map(as_array, self.averages)
        if self.debias is not None:
            first = self.debias == 0
            old = jax.tree.map(
                lambda average, x: (
                    jnp.where(first, x.astype(average.dtype), average) if _is_float(average) else average
                ),
                old,
                xs,
            )
            self.debias = jnp.ones_like(self.debias)
        self.averages = jax.tree.map(self._update, old, xs)
        return self.averages

    def parameters(self) -> "EMA":
        """Returns a copy with an ``EmptyNode`` in the place of every array: an average has nothing to train."""
        empty: EMA = jax.tree.map(lambda leaf: EmptyNode(), self)
        return empty

    def _update(self, average: Array, x: Array) -> Array:
        if not _is_float(average):
            return x if x.dtype == average.dtype else x.astype(average.dtype)
        dtype = promote_dtypes(average.dtype, jnp.dtype(jnp.float32))
        mixed = average.astype(dtype) * self.decay_rate + x.astype(dtype) * (1 - self.decay_rate)
        return mixed.astype(average.dtype)

    def _check_floats(self, tree: Any, which: str) -> None:
        if self.allow_int:
            return
        for path, leaf in jax.tree.leaves_with_path(tree):
            if not _is_float(leaf):
                raise ArgumentError(
                    f"There are integer arrays in the {which} value.\nUse `allow_int=True` to allow this.",
                    module=self,
                    where=jax.tree_util.keystr(path) or None,
                    got=describe(leaf),
                    want="a floating or complex dtype",
                    fix="EMA(..., allow_int=True)   # keeps the newest value of such arrays",
                )


def _as_leaf(leaf: Any) -> Any:
    """Makes arrays of numbers; arrays stay the objects they are, but for weakly typed ones.

    No average is of a weak type after an update, and a change of types would be a second trace of a jitted caller.
    """
    return leaf if isinstance(leaf, np.ndarray) else strongly_typed(leaf)


def _is_key(array: Any) -> bool:
    return bool(jnp.issubdtype(array.dtype, jax.dtypes.prng_key))


def _is_float(array: Any) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.inexact))
