"""What to say where a step of a model's life was left out: `initialized`, or `new_state`."""

from typing import Any

from pax.errors import ArgumentTypeError, PaxError

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
    if not module._initialized and "ParamInit" in text:
        return ArgumentTypeError(**NOT_INITIALIZED, got="a calculation with a ParamInit", module=module)
    return None
