"""Whether the updates of an optax transformation go downhill."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from opax._optax_recipe import Recipe
from opax._optax_state import implicit_promotion

_STEPS = 4  # a warm-up starts with a learning rate of 0, and noise does not point the same way all the time


class Trial(NamedTuple):
    """How a transformation did on a small example.

    Attributes:
        descends: ``True`` if updates point against the gradients, in each step and for each parameter; ``False`` if
            they point along them; ``None`` if it is neither, or if there are no updates at all in the first steps.
        error: why it cannot be tried: it needs a loss, or parameters of a certain structure.
    """

    descends: bool | None
    error: Exception | None = None


@functools.lru_cache(maxsize=256)
def try_out(recipe: Recipe) -> Trial:
    """Tries a transformation on a small example whose gradients stay the same.

    Names would not tell: most functions of optax called ``scale_by_…`` keep the direction of the gradients, some do
    not, and anybody can write one.
    """
    transformation = recipe.make()
    try:
        # Concrete values also where an optimizer is created inside of `jax.jit`.
        with jax.ensure_compile_time_eval(), implicit_promotion():
            products = np.asarray(jax.jit(lambda: _products(transformation))())
    except Exception as error:  # whatever it needs that is not there: the user will have to tell
        return Trial(None, error.with_traceback(None))
    if (products <= 0).all() and (products < 0).any():
        return Trial(descends=True)
    return Trial(False if (products >= 0).all() and (products > 0).any() else None)


def _products(transformation: Any) -> jax.Array:
    params = {
        "matrix": jnp.linspace(1.0, 2.0, 12).reshape(4, 3),
        "vector": jnp.linspace(1.5, 0.5, 3),
    }
    grads = {
        "matrix": jnp.linspace(2.0, 1.0, 12).reshape(4, 3) ** 2,
        "vector": jnp.linspace(0.5, 2.0, 3),
    }
    state = transformation.init(params)
    products = []
    for _ in range(_STEPS):
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        products.append(jnp.stack([jnp.sum(updates[name] * grads[name]) for name in grads]))
    return jnp.stack(products)
