"""Weight decay."""

from typing import Any

import optax

from opax import _arguments
from opax._factory import Factory
from opax._transformation import GradientTransformation
from opax._trees import cast_like, check_alike
from pax.errors import ArgumentError


class AddDecayedWeights(GradientTransformation):
    """Adds a multiple of the parameters to the updates."""

    _factory_name = "add_decayed_weights"

    weight_decay: float

    def __init__(self, params: Any, weight_decay: float) -> None:
        """Stores the factor.

        Args:
            params: the tree of parameters.
            weight_decay: the factor.
        """
        super().__init__(params)
        self.weight_decay = weight_decay

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates + weight_decay * params``, in the dtypes of ``updates``."""
        if params is None:
            raise ArgumentError(
                "expecting params argument",
                module=self,
                got="params=None",
                want="the parameters that decay",
                fix="optimizer, updates = pax.purecall(optimizer, gradients, params)",
            )
        check_alike(updates, params, what="updates and parameters", module=self)
        decayed, _ = optax.add_decayed_weights(self.weight_decay).update(
            updates, optax.EmptyState(), cast_like(params, updates)
        )
        return decayed


def add_decayed_weights(weight_decay: float = 0.0) -> Factory[AddDecayedWeights]:
    """Makes a transformation that adds a multiple of the parameters to the updates.

    Args:
        weight_decay: the factor.

    Returns:
        A factory: call it with the parameters. The transformation has to be called with them, too.

    Raises:
        ArgumentTypeError: ``weight_decay`` is no number.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> opax.add_decayed_weights(0.1)(jnp.ones(1))(jnp.array([1.0]), jnp.array([2.0]))
    Array([1.2], dtype=float32)
    """
    value = _arguments.number(weight_decay, what="weight_decay", where="add_decayed_weights")
    return Factory(AddDecayedWeights, (("weight_decay", value),))
