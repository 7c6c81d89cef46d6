"""What containers do with their layers: hand out keys, and call them."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax

import pax
from pax.errors import ArgumentTypeError
from pax.experimental.mlax._calls import needs_key as module_needs_key
from pax.experimental.mlax._failures import KEY_FIX
from pax.experimental.mlax._module import Axes, Module
from pax.experimental.mlax._parameter import Parameter
from pax.experimental.mlax.nn._functions import F, is_function
from pax.extend import check_key, describe, is_module, modules_in


def as_layers(layers: Any, *, where: str) -> Parameter:
    """Returns the layers of a container in a structural parameter.

    Raises:
        ArgumentTypeError: it is no iterable, or something in it is no layer.
    """
    if not isinstance(layers, Iterable) or is_module(layers):
        raise ArgumentTypeError(
            "Expecting several layers.",
            where=where,
            got=describe(layers),
            want="a list, or any other iterable, of layers",
            fix=f"{where.rpartition('.')[2]}([layer, layer])",
        )
    return Parameter(trainable=None, data=[as_layer(layer, where=where) for layer in layers])


def as_layer(layer: Any, *, where: str) -> Any:
    """Returns a layer: a module of this dialect or of PAX as it is, a function as `F`.

    Raises:
        ArgumentTypeError: it is neither.
    """
    if is_function(layer):
        return layer if is_module(layer) else F(layer)
    raise ArgumentTypeError(
        "This is no layer.",
        where=where,
        got=describe(layer),
        want="a module that can be called, or a function",
        fix=f"{layer.__name__}(...)" if isinstance(layer, type) else "mlax.nn.F(lambda x: x + 1)",
    )


def needs_key(layer: Any) -> bool:
    """Whether a layer needs a key: its ``forward`` has no ``rng=None``. Modules of PAX need none."""
    return isinstance(layer, Module) and module_needs_key(layer)


def hand_out(rng: Any, layers: Sequence[Any], inference_mode: bool, *, owner: Any) -> list[Any]:
    """Returns the key of each layer, ``None`` for those that need none.

    A single one that needs a key gets ``rng`` itself; of several the j-th gets ``fold_in(rng, j)``. In inference mode
    there may be no key: then all get ``None``, as a single one does, so that a net can be evaluated without a key.

    Raises:
        ArgumentTypeError: in training, there is no key for several; or it is none.
    """
    needy = [needs_key(layer) for layer in layers]
    if rng is None and inference_mode:
        return [None] * len(needy)
    if sum(needy) > 1 and rng is None:
        raise ArgumentTypeError(
            f"There is no key, and {sum(needy)} layers need one.",
            got="rng=None",
            want="one key: key<fry>[] or uint32[2]",
            fix=KEY_FIX,
            module=owner,
        )
    if sum(needy) < 2:
        return [rng if needs else None for needs in needy]
    key = check_key(rng)
    numbers = iter(range(len(layers)))
    return [jax.random.fold_in(key, next(numbers)) if needs else None for needs in needy]


def call_layer(layer: Any, x: Any, rng: Any, inference_mode: bool, batch_axis_name: Axes) -> tuple[Any, Any]:
    """Returns the output of a layer, and the layer after the call.

    A module of PAX is called in evaluation mode if ``inference_mode`` is set, else in the mode that it has.
    """
    if isinstance(layer, Module):
        y, called = layer(x, rng, inference_mode, batch_axis_name)
        return y, called
    modes = {module.training for module in modules_in(layer)}
    if not inference_mode or modes == {False}:
        called, y = pax.purecall(layer, x)
        return y, called
    called, y = pax.purecall(layer.eval(), x)
    return y, called.train() if modes == {True} else pax.unfreeze_parameters(called, origin=layer)
