"""Short ways to call a layer of a peer with given weights."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from parity.case import haiku, nnx, torch


def torch_layer(layer: Any, weights: Mapping[str, Any], *inputs: Any) -> Any:
    """Calls a layer of PyTorch, made with any weights, with these."""
    # Before the weights are put into its place, a layer checks whether they have its dtype.
    dtypes = [array.dtype for array in (*weights.values(), *inputs) if hasattr(array, "dtype")]
    return torch.func.functional_call(layer.to(dtypes[0]), dict(weights), inputs)


def haiku_layer(
    function: Callable[..., Any], weights: Mapping[str, Mapping[str, Any]], *inputs: Any, state: Any = None
) -> Any:
    """Calls a function that makes and calls layers of Haiku, with weights by module and name."""
    output, _ = haiku.transform_with_state(function).apply(weights, state or {}, jax.random.key(0), *inputs)
    return output


def nnx_layer(make: Callable[[Any], Any], weights: Mapping[str, Any]) -> Any:
    """Makes a layer of Flax NNX by ``make(rngs)``, with weights by attribute path, ``fc.kernel``."""
    layer = make(nnx.Rngs(0))
    for path, value in weights.items():
        *parents, name = path.split(".")
        owner = layer
        for parent in parents:
            owner = owner[int(parent)] if parent.isdigit() else getattr(owner, parent)
        variable = getattr(owner, name)
        assert variable.shape == value.shape, f"{path}: {variable.shape} and not {value.shape}"
        setattr(owner, name, type(variable)(value))  # an assignment of values would keep the dtype
    return layer
