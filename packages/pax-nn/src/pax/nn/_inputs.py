"""Checks of the arrays that layers with channels are called with."""

from typing import Any

import jax
import jax.numpy as jnp

from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe


def check_channels(
    module: Any,
    x: jax.Array,
    num_channels: int | None,
    *,
    data_format: str,
    dtype: str,
    kind: str = "channels",
) -> None:
    """Checks that ``x`` has the axes of ``data_format``, and as many channels as the layer was made for.

    Args:
        module: the layer.
        x: what it was called with.
        num_channels: how many channels it works on; ``None``: any number.
        data_format: a letter for each axis, ``C`` for the channels.
        dtype: what stands for the dtype in the error text.
        kind: what the channels are called in the error text.

    Raises:
        ArgumentError: another number of axes, or of channels.
    """
    channel_axis = data_format.index("C")
    if x.ndim != len(data_format):
        headline = f"Expecting an input with {len(data_format)} axes. Get {x.ndim} axes."
        fix = _missing_axis(data_format) if x.ndim == len(data_format) - 1 else None
    elif num_channels is not None and x.shape[channel_axis] != num_channels:
        got = x.shape[channel_axis]
        headline = f"Expecting {num_channels} {kind}. Get {got} channels."
        if channel_axis != 1 and x.shape[1] == num_channels:
            fix = f"jnp.moveaxis(x, 1, -1), or data_format={data_format[0] + 'C' + data_format[1:-1]!r}"
        elif channel_axis == 1 and x.shape[-1] == num_channels:
            fix = f"jnp.moveaxis(x, -1, 1), or data_format={data_format[0] + data_format[2:] + 'C'!r}"
        else:
            fix = f"{type(module).__name__}({got}, ...), or another data_format than {data_format}"
    else:
        return
    channels = "*" if num_channels is None else str(num_channels)
    sizes = [channels if letter == "C" else "*" for letter in data_format]
    want = f"{dtype}[{','.join(sizes)}], the axes {data_format}"
    raise ArgumentError(headline, module=module, got=describe(x), want=want, fix=fix)


def check_real(module: Any, x: jax.Array) -> None:
    """Refuses complex numbers, whose variance is another formula than that of the layer.

    Raises:
        ArgumentTypeError: ``x`` is complex.
    """
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise ArgumentTypeError(
            "Expecting real numbers to normalise.",
            module=module,
            got=describe(x),
            want="integers or floating numbers",
            fix="normalise x.real and x.imag, or jnp.abs(x)",
        )


def _missing_axis(data_format: str) -> str:
    """Returns how to add the axis that an input may lack, each possibility on a line of its own."""
    fix = "x[None]   # a batch of one"
    if len(data_format) > 3:
        return fix
    width = "x[:, None]" if data_format.index("C") == 2 else "x[..., None]"
    return f"{fix}, if it has the axes {data_format[1:]}\n{width}   # a width of one, if it has the axes NC"
