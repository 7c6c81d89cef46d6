"""``grad`` and ``value_and_grad``: gradients with respect to the parameters of a module."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pax._classify import is_module
from pax._errors import ArgumentTypeError
from pax._paths import describe, path_text

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
        parameters = module.parameters()
        try:
            return transformed(parameters, module, *args, **kwargs)
        except TypeError as error:
            if not options.get("allow_int"):
                _check_dtypes(module, parameters, error)
            _check_output(error)
            raise

    return wrapper


def _check_dtypes(module: Any, parameters: Any, error: TypeError) -> None:
    """Names the first parameter without a gradient, of integers, bools or keys, which JAX refused."""
    for path, leaf in jax.tree.leaves_with_path(parameters):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact) and leaf.dtype.name in str(error):
            raise ArgumentTypeError(
                "This parameter has no gradient, which only numbers with a fraction have.",
                where=f"path `{path_text(path)}`",
                got=describe(leaf),
                want="float or complex parameters",
                fix='parameters = pax.parameters_method("weight", "bias")  # in its class: names what is trained',
                module=module,
            ) from error


def _check_output(error: TypeError) -> None:
    """Says what a loss function has to return, if that is what JAX complains of."""
    _, complaint, output = str(error).partition("Gradient only defined for scalar-output functions. Output ")
    if complaint:
        raise ArgumentTypeError(
            "The loss has to be a scalar.",
            got=output[:200],
            want="an array without axes; or with has_aux=True a pair, of this array and all else",
            fix="return loss.mean(), or pax.value_and_grad(loss_fn, has_aux=True), where loss_fn returns (loss, net)",
        ) from error


def grad(fun: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Makes a function that returns gradients with respect to the parameters of its first argument, a module.

    Args:
        fun: ``fun(module, *args, **kwargs)`` returns a scalar, or ``(scalar, aux)`` with ``has_aux=True``.
        **options: passed on to :func:`jax.grad`: ``has_aux``, ``holomorphic``, ``allow_int``.

    Returns:
        A function of the same arguments that returns a module of the same class with gradients in place of parameters
        and an :class:`EmptyNode` in place of everything that is not trained; or ``(gradients, aux)``.

    Raises:
        ArgumentTypeError: ``fun`` is not callable, ``argnums`` is given, or, on call, the first argument is no module,
            or a parameter consists of integers, bools or keys (and ``allow_int`` is not set), or ``fun`` returns
            something else.

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
