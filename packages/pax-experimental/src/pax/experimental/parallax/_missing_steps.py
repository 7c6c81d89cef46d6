"""What to say where JAX fails because a step of a model's life was left out, or a parameter cannot be trained."""

from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu

from pax.errors import ArgumentTypeError, PaxError
from pax.experimental.parallax._declared import lacks_parameters
from pax.extend import describe

NOT_INITIALIZED: dict[str, str] = {
    "headline": "This module is not initialized: call initialized(rng) first.",
    "fix": "layer = layer.initialized(jax.random.key(0))",
}
NO_KEY: dict[str, str] = {
    "headline": "This module has no random key: call new_state(rng) first.",
    "fix": 'layer = layer.new_state(jax.random.key(0), mode="train")  # or mode="eval"',
}


def explain(module: Any, error: TypeError) -> PaxError | None:
    """Returns what to raise for an error that JAX raises because a step of the model's life was left out."""
    text = str(error)
    if isinstance(error, PaxError):
        return None
    if module.rng is None and "PRNG key" in text and "NoneType" in text:
        return ArgumentTypeError(**NO_KEY, got="a use of `rng`, which is None", module=module)
    if "ParamInit" in text and lacks_parameters(module):
        return ArgumentTypeError(**NOT_INITIALIZED, got="a calculation with a ParamInit", module=module)
    return None


def explain_gradient(module: Any, error: TypeError) -> PaxError | None:
    """Returns what to raise for an error that JAX raises because a parameter is no floating-point array."""
    if isinstance(error, PaxError):
        return None
    wrong = [
        f"{jtu.keystr(path)[1:]}: {describe(leaf)}"
        for path, leaf in jtu.tree_leaves_with_path(module.parameters())
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    if not wrong:
        return None
    return ArgumentTypeError(
        "Only floating-point and complex parameters have gradients.",
        got=", ".join(wrong),
        want="a floating or complex dtype",
        fix="annotate the field as a constant, such as `table: jax.Array`, or give it another dtype",
        module=module,
    )
