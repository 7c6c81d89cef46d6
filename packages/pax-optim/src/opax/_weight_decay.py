"""Weight decay."""

from typing import Any

import optax

from opax import _arguments
from opax._factory import Factory
from opax._parts import check_leaves, check_selector, comparable, keep, leaf_paths, put_back, selected
from opax._transformation import GradientTransformation
from opax._trees import cast_like, check_alike
from pax.extend import Selector


class AddDecayedWeights(GradientTransformation):
    """Adds a multiple of the parameters, or of some of them, to the updates."""

    _factory_name = "add_decayed_weights"

    weight_decay: float
    mask: tuple[bool, ...] | None
    paths: tuple[str, ...] | None

    def __init__(self, params: Any, weight_decay: float, mask: Selector | None = None) -> None:
        """Stores the factor, and which parameters decay.

        Args:
            params: the tree of parameters.
            weight_decay: the factor.
            mask: which parameters decay; what counts is what it selects now.
        """
        super().__init__(params)
        self.weight_decay = weight_decay
        self.mask = None if mask is None else selected(params, mask, where="add_decayed_weights, `mask`")
        self.paths = None if mask is None else leaf_paths(params)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates + weight_decay * params``, in the dtypes of ``updates``."""
        _arguments.need_params(params, self)
        check_alike(updates, params, what="updates and parameters", module=self)
        if self.mask is None or self.paths is None:
            return self._decayed(updates, params)
        check_leaves(updates, self.paths, what="updates", module=self)
        decayed = self._decayed(keep(updates, self.mask), keep(params, self.mask))
        return put_back(decayed, updates, self.mask, module=self)

    def _decayed(self, updates: Any, params: Any) -> Any:
        decay = optax.add_decayed_weights(self.weight_decay)
        return decay.update(updates, optax.EmptyState(), cast_like(params, updates))[0]


def add_decayed_weights(weight_decay: float = 0.0, mask: Selector | None = None) -> Factory[AddDecayedWeights]:
    """Makes a transformation that adds a multiple of the parameters to the updates.

    Frozen parameters have no updates, and do not decay.

    Args:
        weight_decay: the factor.
        mask: which parameters decay, in the language of :func:`pax.filter`: a pattern such as ``"**/weight"``, a module
            class, a predicate, or a tree of bools; looked up once, when the transformation is created. Default: all.
            In models of ``pax.nn``, ``"**/weight"`` leaves out biases and the parameters of normalizations;
            ``lambda p: p.ndim > 1`` does not: those of a ``BatchNorm2D`` have shape ``(1, 1, 1, channels)``.

    Returns:
        A factory: call it with the parameters. The transformation has to be called with them, too.

    Raises:
        ArgumentTypeError: ``weight_decay`` is no number, or ``mask`` no selector.
        SelectorError: (when called with parameters) ``mask`` selects nothing, while there are leaves.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> opax.add_decayed_weights(0.1)(jnp.ones(1))(jnp.array([1.0]), jnp.array([2.0]))
    Array([1.2], dtype=float32)
    """
    value = _arguments.number(weight_decay, what="weight_decay", where="add_decayed_weights")
    check_selector(mask, where="add_decayed_weights, `mask`")
    return Factory(AddDecayedWeights, (("weight_decay", value), ("mask", comparable(mask))))
