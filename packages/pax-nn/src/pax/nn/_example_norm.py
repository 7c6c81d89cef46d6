"""What the layers have in common that normalise each example by its own statistics: scale, offset and checks."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from pax import ParameterModule
from pax.errors import ArgumentError
from pax.extend import describe
from pax.nn._axes import positive_int
from pax.nn._dtypes import as_array, optional_float_dtype
from pax.nn._initialize import initialize, key_or_next, split_key
from pax.nn._inputs import check_real
from pax.nn._norm_arguments import check_eps
from pax.nn.initializers import Constant, Initializer


class ExampleNorm(ParameterModule):
    """A layer that normalises each example by its own statistics; the subclasses say over which axes."""

    num_channels: int
    create_scale: bool
    eps: float
    dtype: jnp.dtype | None
    scale: Float[Array, " num_channels"] | None

    def __init__(self, num_channels: int, create_scale: bool, eps: float, *, dtype: Any, name: str | None) -> None:
        super().__init__(name=name)
        where = type(self).__name__
        self.num_channels = positive_int(num_channels, what="num_channels", where=where)
        self.create_scale = create_scale
        self.eps = check_eps(eps, where=where)
        self.dtype = optional_float_dtype(dtype, what="dtype", where=where)

    def _check_inits(self, **inits: Initializer | None) -> None:
        """Checks that there is no initializer for what is not created."""
        for what, init in inits.items():
            if init is not None and not getattr(self, f"create_{what}"):
                raise ArgumentError(
                    f"Cannot set `{what}_init` if `create_{what}=False`.",
                    where=type(self).__name__,
                    got=f"{what}_init={getattr(init, '__name__', type(init).__name__)}",
                    fix=f"create_{what}=True, or leave out {what}_init",
                )

    def _draw(self, rng_key: Any, param_dtype: Any, **inits: Initializer | None) -> tuple[jax.Array | None, ...]:
        """Returns the first scale (and offset), ``None`` where not created; one key is used in any case."""
        where = type(self).__name__
        param_dtype = optional_float_dtype(param_dtype, what="param_dtype", where=where)
        key = key_or_next(rng_key, where=where)
        # The default initializers do not look at their key.
        keys = split_key(key) if any(init is not None for init in inits.values()) else [key, key]
        defaults = {"scale": Constant(1), "offset": Constant(0)}
        return tuple(
            initialize(
                defaults[what] if init is None else init,
                key,
                (self.num_channels,),
                what=what,
                where=where,
                param_dtype=param_dtype,
            )
            if getattr(self, f"create_{what}")
            else None
            for (what, init), key in zip(inits.items(), keys, strict=False)
        )

    def _check_input(self, x: jax.Array, channel_axis: int, *, shape: str) -> None:
        """Checks an input against a shape like ``"*,C,..."``, with any number of axes at the dots."""
        check_real(self, x)
        least = sum(part != "..." for part in shape.split(","))
        if x.ndim < least:
            headline = f"Expecting an input with at least {least} axes. Get {x.ndim} axes."
            fix = "x[None]   # a batch of one"
        elif x.shape[channel_axis] != self.num_channels:
            got = x.shape[channel_axis]
            headline = f"Expecting {self.num_channels} channels. Get {got} channels."
            fix = f"{type(self).__name__}(num_channels={got}, ...)"
        else:
            return
        want = f"float[{shape.replace('C', str(self.num_channels))}]"
        raise ArgumentError(headline, module=self, got=describe(x), want=want, fix=fix)

    def _factor(self, what: str, given: ArrayLike | None, x: jax.Array, channel_axis: int) -> jax.Array | None:
        """Returns the layer's own scale or offset, or the one it was called with, with as many axes as ``x``.

        Arrays with one axis lie along the channels, others along the last axes of ``x``.
        """
        if not getattr(self, f"create_{what}"):
            if given is None:
                return None
            value = as_array(given, module=self)
        elif given is None:
            value = getattr(self, what)
        else:
            raise ArgumentError(
                f"Cannot pass `{what}` at call time if `create_{what}=True`.",
                module=self,
                got=describe(given),
                fix=f"{type(self).__name__}(..., create_{what}=False)",
            )
        if value.ndim == 1:
            channel_axis %= x.ndim
            value = jnp.expand_dims(value, [axis for axis in range(x.ndim) if axis != channel_axis])
        elif value.ndim < x.ndim:
            value = jnp.expand_dims(value, range(x.ndim - value.ndim))
        if value.ndim > x.ndim or any(
            size not in (1, wanted) for size, wanted in zip(value.shape, x.shape, strict=True)
        ):
            raise ArgumentError(
                f"Expecting a `{what}` that can be broadcast to the input.",
                module=self,
                got=describe(given),
                want=f"[{self.num_channels}], or a shape that fits the last axes of {describe(x)}",
            )
        return value
