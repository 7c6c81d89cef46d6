"""``F`` and ``FRng``: functions as layers."""

from collections.abc import Callable
from typing import Any

import pax
from pax.errors import ArgumentTypeError
from pax.experimental.mlax._calls import parameters_of
from pax.experimental.mlax._module import Axes, Module
from pax.extend import describe

Function = Callable[..., Any]


class _FunctionLayer(Module):
    """What both have: two functions, of which the mode decides.

    Args:
        train_fn: the function in training.
        infer_fn: the function in inference mode; default: the same.

    Raises:
        ArgumentTypeError: one is no function.
    """

    def __init__(self, train_fn: Function, infer_fn: Function | None = None) -> None:
        super().__init__()
        for what, function in (("train_fn", train_fn), ("infer_fn", infer_fn)):
            if not is_function(function) and (what == "train_fn" or function is not None):
                raise ArgumentTypeError(
                    f"`{what}` has to be a function.",
                    where=f"mlax.nn.{type(self).__name__}",
                    got=describe(function),
                    want="a callable",
                    fix=f"{type(self).__name__}(jax.nn.relu)",
                )
        self.train_fn = train_fn
        self.infer_fn = infer_fn

    def setup(self, x: Any) -> None:
        """Does nothing: there are no parameters."""

    def _call(self, inference_mode: bool, batch_axis_name: Axes, *args: Any) -> Any:
        function = self.infer_fn if inference_mode and self.infer_fn is not None else self.train_fn
        if "axis_name" in parameters_of(function):
            return function(*args, axis_name=batch_axis_name)
        return function(*args)

    def __repr__(self) -> str:
        names = {"train_fn": _name(self.train_fn), "infer_fn": self.infer_fn and _name(self.infer_fn)}
        return self._repr(names)


class F(_FunctionLayer):
    """Makes a layer of a function of the input; it needs no key.

    If the function has an argument ``axis_name``, it gets ``batch_axis_name``. The functions are part of the structure:
    a ``lambda`` that is written anew is another function, and a new trace.

    Args:
        train_fn: a function of ``x``.
        infer_fn: the function in inference mode; default: the same.

    Raises:
        ArgumentTypeError: one is no function.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import F
    >>> F(jax.nn.relu)(jnp.array([-1.0, 2.0]), None)
    (Array([0., 2.], dtype=float32), F(train_fn=relu))
    """

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Axes = ()) -> Any:
        """Returns ``function(x)``."""
        return self._call(inference_mode, batch_axis_name, x)


class FRng(_FunctionLayer):
    """Makes a layer of a function of the input and a key.

    If the function has an argument ``axis_name``, it gets ``batch_axis_name``.

    Args:
        train_fn: a function of ``(x, rng)``.
        infer_fn: the function in inference mode; default: the same.

    Raises:
        ArgumentTypeError: one is no function.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import FRng
    >>> from pax.experimental.mlax.nn.functional import dropout
    >>> layer = FRng(lambda x, rng: dropout(x, rng, 0.5, 0), lambda x, rng: x)
    >>> layer(jnp.ones(2), None, True)[0]
    Array([1., 1.], dtype=float32)
    """

    def forward(self, x: Any, rng: Any, inference_mode: bool = False, batch_axis_name: Axes = ()) -> Any:
        """Returns ``function(x, rng)``."""
        return self._call(inference_mode, batch_axis_name, x, rng)


def is_function(value: Any) -> bool:
    """Whether something can be called with an input: a class of modules cannot."""
    return callable(value) and not (isinstance(value, type) and issubclass(value, pax.Module))


def _name(function: Function) -> str:
    return getattr(function, "__name__", None) or describe(function)
