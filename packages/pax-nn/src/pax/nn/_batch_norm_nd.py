"""Batch normalisation over any number of spatial axes."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from pax import Module, parameters_method
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._axes import positive_int
from pax.nn._dtypes import AnyArray, as_array, optional_float_dtype, promote_dtypes
from pax.nn._ema import EMA
from pax.nn._initialize import filled
from pax.nn._inputs import check_channels, check_real
from pax.nn._norm_arguments import check_eps
from pax.nn._normalize import AxisNames, normalize, normalize_by
from pax.nn._numbers import check_decay_rate


class BatchNormND(Module):
    """Batch normalisation; the subclasses say for which data formats."""

    _data_formats: ClassVar[tuple[str, str]]

    num_channels: int
    data_format: str
    create_scale: bool
    create_offset: bool
    eps: float
    decay_rate: float
    reduced_axes: tuple[int, ...]
    dtype: jnp.dtype | None
    axis_name: AxisNames | None
    scale: Float[Array, "..."] | None
    offset: Float[Array, "..."] | None
    ema_mean: EMA
    ema_var: EMA

    parameters = parameters_method("scale", "offset")

    def __init__(
        self,
        num_channels: int,
        create_scale: bool,
        create_offset: bool,
        decay_rate: float,
        eps: float,
        data_format: str,
        *,
        name: str | None,
        dtype: DTypeLike | None,
        param_dtype: DTypeLike | None,
        axis_name: AxisNames | None,
    ) -> None:
        super().__init__(name=name)
        where = type(self).__name__
        if data_format not in self._data_formats:
            raise ArgumentError(
                "expecting a correct `data_format`",
                where=where,
                got=f"data_format={data_format}",
                want=" or ".join(self._data_formats),
            )
        self.num_channels = positive_int(num_channels, what="num_channels", where=where)
        self.data_format = data_format
        self.create_scale = create_scale
        self.create_offset = create_offset
        self.eps = check_eps(eps, where=where)
        self.decay_rate = check_decay_rate(decay_rate, where=where)
        self.reduced_axes = tuple(axis for axis, letter in enumerate(data_format) if letter != "C")
        self.dtype = optional_float_dtype(dtype, what="dtype", where=where)
        self.axis_name = _check_axis_name(axis_name, where=where)

        own = optional_float_dtype(param_dtype, what="param_dtype", where=where)
        # Averages of many steps: half precision would lose the small changes.
        averages = None if own is None else promote_dtypes(own, jnp.dtype(jnp.float32))
        shape = tuple(self.num_channels if letter == "C" else 1 for letter in data_format)
        self.scale = filled(shape, 1, own) if create_scale else None
        self.offset = filled(shape, 0, own) if create_offset else None
        self.ema_mean = EMA(filled(shape, 0, averages), self.decay_rate, debias=True)
        self.ema_var = EMA(filled(shape, 1, averages), self.decay_rate, debias=True)

    def __call__(self, x: Num[AnyArray, "..."]) -> Float[Array, "..."]:
        """Normalises ``x``: by its own statistics in train mode, by the averaged ones in eval mode.

        Args:
            x: a batch with ``num_channels`` channels, its axes as ``data_format`` says. In train mode not empty.

        Returns:
            An array of the same shape, in ``dtype``; by default in the promoted dtype of ``x``, ``scale`` and
            ``offset``.

        Raises:
            ArgumentError: another number of axes or of channels; in train mode: an empty batch, or ``axis_name`` is not
                an axis here.
            ArgumentTypeError: complex numbers.
            MutationError: in train mode, outside of ``pax.purecall`` or ``pax.pure``.
        """
        x = as_array(x, module=self)
        check_channels(self, x, self.num_channels, data_format=self.data_format, dtype="float")
        check_real(self, x)
        if not self.training:
            averages = self.ema_mean.averages, self.ema_var.averages
            y: Array = normalize_by(x, *averages, self.scale, self.offset, eps=self.eps, dtype=self.dtype)
            return y
        y, mean, variance = self._normalize_batch(x)
        self.ema_mean(mean)
        self.ema_var(variance)
        return y

    def _normalize_batch(self, x: Array) -> Any:
        """Returns the output, the mean and the variance."""
        if x.size == 0:
            raise ArgumentError(
                "An empty batch has no mean and no variance.",
                module=self,
                got=describe(x),
                want="at least one number per channel in train mode",
                fix="leave out empty batches, or call module.eval()",
            )
        try:
            return normalize(
                x,
                self.scale,
                self.offset,
                axes=self.reduced_axes,
                eps=self.eps,
                dtype=self.dtype,
                axis_name=self.axis_name,
            )
        except NameError:
            raise ArgumentError(
                "The named axis of a batch normalisation does not exist where it is called.",
                module=self,
                got=f"axis_name={self.axis_name!r}",
                want="a call inside of jax.vmap(..., axis_name=...) or jax.shard_map over a mesh with this axis",
                fix="leave out axis_name   # jit with sharded batches needs none",
            ) from None

    def __repr__(self) -> str:
        info: dict[str, Any] = {
            "num_channels": self.num_channels,
            "create_scale": self.create_scale,
            "create_offset": self.create_offset,
            "data_format": self.data_format,
            "decay_rate": self.decay_rate,
            "dtype": self.dtype,
            "axis_name": self.axis_name,
        }
        return self._repr(info)

    def summary(self, return_list: bool = False) -> Any:
        """Returns the one line of ``repr``; the two averages are not listed.

        Args:
            return_list: return a list of lines instead of a string.
        """
        return [repr(self)] if return_list else repr(self)


def _check_axis_name(axis_name: Any, *, where: str) -> AxisNames | None:
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    if axis_name is None or (names and all(isinstance(name, str) for name in names)):
        return axis_name  # type: ignore[no-any-return]  # checked in this line
    raise ArgumentTypeError(
        "Expecting a name or a tuple of names for `axis_name`.",
        where=where,
        got=f"axis_name={axis_name!r}",
        want='a string, for example "batch", or a tuple of strings',
    )
