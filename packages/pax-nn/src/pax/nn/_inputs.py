"""Checks of the arrays that layers with channels are called with."""

from typing import Any

import jax

from pax.errors import ArgumentError
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
        fix = "x[None]   # a batch of one" if x.ndim == len(data_format) - 1 else None
    elif num_channels is not None and x.shape[channel_axis] != num_channels:
        got = x.shape[channel_axis]
        headline = f"Expecting {num_channels} {kind}. Get {got} channels."
        fix = f"{type(module).__name__}({got}, ...), or another data_format than {data_format}"
    else:
        return
    channels = "*" if num_channels is None else str(num_channels)
    sizes = [channels if letter == "C" else "*" for letter in data_format]
    want = f"{dtype}[{','.join(sizes)}], the axes {data_format}"
    raise ArgumentError(headline, module=module, got=describe(x), want=want, fix=fix)
