"""``grad`` and ``value_and_grad``: gradients with respect to the parameters of a module."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from pax._classify import is_module
from pax._errors import ArgumentTypeError
from pax._paths import describe

_FIX = "pax.value_and_grad(loss_fn)(module, x), where loss_fn(module, x) returns a scalar"


def _check(fun: Any, options: dict[str, Any]) -> None:
    if not callable(fun):
        raise ArgumentTypeError("Only a function has gradients.", got=describe(fun), fix=_FIX)
    if "argnums" in options:
        raise ArgumentTypeError(
            "`argnums` cannot be chosen: gradients are taken with respect to the parameters of the first argument.",
            got=f"argnums={options['argnums']!r}",
            fix="jax.grad(loss_fn, argnums=...), or reorder the arguments of the loss function",
        )


def _with_parameters(
    fun: Callable[..., Any], transform: Callable[..., Any], options: dict[str, Any]
) -> Callable[..., Any]:
    _check(fun, options)

    @functools.wraps(fun)
    def of_parameters(parameters: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        return fun(module | parameters, *args, **kwargs)

    transformed = transform(of_parameters, **options)

    @functools.wraps(fun)
    def wrapper(module: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_module(module):
            raise ArgumentTypeError(
                "Expecting a PAX's Module at the first argument.", got=describe(module), want="a module", fix=_FIX
            )
        return transformed(module.parameters(), module, *args, **kwargs)

    return wrapper


def grad(fun: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Makes a function that returns gradients with respect to the parameters of its first argument, a module.

    Args:
        fun: ``fun(module, *args, **kwargs)`` returns a scalar, or ``(scalar, aux)`` with ``has_aux=True``.
        **options: passed on to :func:`jax.grad`: ``has_aux``, ``holomorphic``, ``allow_int``.

    Returns:
        A function of the same arguments that returns a module of the same class with gradients in place of parameters
        and an :class:`EmptyNode` in place of everything that is not trained; or ``(gradients, aux)``.

    Raises:
        ArgumentTypeError: ``fun`` is not callable, ``argnums`` is given, or, on call, the first argument is no module.

    >>> import jax.numpy as jnp, pax
    >>> net = pax.ParameterModule().set_attribute("weight", jnp.ones(()) * 3)
    >>> pax.grad(lambda net: net.weight**2)(net).weight
    Array(6., dtype=float32)
    """
    return _with_parameters(fun, jax.grad, options)


def value_and_grad(func: Callable[..., Any], has_aux: bool = False, **options: Any) -> Callable[..., Any]:
    """Does what :func:`grad` does, and returns the value of the function, too.

    Args:
        func: as for :func:`grad`.
        has_aux: whether ``func`` returns ``(scalar, aux)``.
        **options: passed on to :func:`jax.value_and_grad`: ``holomorphic``, ``allow_int``.

    Returns:
        A function that returns ``(value, gradients)``, or ``((value, aux), gradients)``.

    Raises:
        ArgumentTypeError: as for :func:`grad`.
    """
    return _with_parameters(func, jax.value_and_grad, {"has_aux": has_aux, **options})
