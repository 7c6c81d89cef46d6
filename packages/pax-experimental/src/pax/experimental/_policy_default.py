"""`default_mp_policy`: half precision for matrices and convolutions, full precision for norms."""

from typing import TypeVar

import jax.numpy as jnp
import jmp

import pax
from pax.experimental._policy import apply_mp_policy
from pax.nn import (
    BatchNorm1D,
    BatchNorm2D,
    BatchNorm3D,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Einsum,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Linear,
    RMSNorm,
)

M = TypeVar("M", bound=pax.Module)

_HALF = (Linear, Einsum, Conv1D, Conv2D, Conv3D, Conv1DTranspose, Conv2DTranspose, Conv3DTranspose)
_FULL = (BatchNorm1D, BatchNorm2D, BatchNorm3D, GroupNorm, InstanceNorm, LayerNorm, RMSNorm)


def default_mp_policy(module: M) -> M:
    """Gives one module the mixed-precision policy that is usual for its kind; for use with ``apply``.

    `Linear`, `Einsum` and the convolutions compute in half precision; parameters and outputs are float32. Norms
    (`BatchNorm`, `GroupNorm`, `LayerNorm`, `InstanceNorm`, `RMSNorm`) do everything in float32. Half precision is what
    ``jmp.half_dtype()`` says: bfloat16 on TPUs, float16 elsewhere, which needs a loss scale in training.

    Args:
        module: a module without a policy; its submodules are left as they are.

    Returns:
        The module with a policy, see `pax.apply_mp_policy`; a module of another kind itself.

    Raises:
        ArgumentError: a module of these kinds has a policy already.

    Example:
        >>> import pax
        >>> net = pax.Sequential(pax.Linear(3, 3), pax.BatchNorm1D(3)).apply(pax.experimental.default_mp_policy)
        >>> print(net.summary())  # doctest: +ELLIPSIS
        Sequential
        ├── Linear(in_dim=3, out_dim=3, with_bias=True, mp_policy=FHF)
        └── BatchNorm1D(num_channels=3, ..., decay_rate=0.9, mp_policy=FFF)
    """
    full = jnp.float32
    if isinstance(module, _HALF):
        return apply_mp_policy(module, jmp.Policy(full, jmp.half_dtype(), full))
    if isinstance(module, _FULL):
        return apply_mp_policy(module, jmp.Policy(full, full, full))
    return module
