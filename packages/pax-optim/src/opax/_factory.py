"""What ``opax.scale(0.1)`` returns: a transformation class together with its hyper-parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import optax

from opax._transformation import GradientTransformation
from pax.errors import ArgumentTypeError
from pax.extend import describe

T = TypeVar("T", bound=GradientTransformation)

TransformationFactory = Callable[[Any], GradientTransformation]
"""A factory such as ``opax.scale(0.1)``, a subclass of ``GradientTransformation``, any function of the parameters."""


@dataclass(frozen=True)
class Factory(Generic[T]):
    """A transformation class with all arguments but the parameters; it is used like a class.

    Two factories of the same class and equal arguments are equal, and make optimizers of equal structure; a factory can
    be hashed and pickled if its arguments can. ``isinstance`` and ``issubclass`` take it for its class.

    Args:
        transformation: the class.
        arguments: names and values of the hyper-parameters.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> factory = opax.scale(0.1)
    >>> factory == opax.scale(0.1)
    True
    >>> optimizer = factory({"w": jnp.ones(2)})
    >>> isinstance(optimizer, factory)
    True
    """

    transformation: type[T]
    arguments: tuple[tuple[str, Any], ...] = ()

    def __call__(self, params: Any, *values: Any, **options: Any) -> T:
        """Creates the transformation.

        Args:
            params: the tree of parameters that will be optimized; usually ``module.parameters()``.
            *values: options by position.
            **options: for chains: ``flatten`` and ``strict``, see :func:`opax.chain`.

        Returns:
            A module.

        Raises:
            ArgumentTypeError: an option that the transformation does not have, or no tree of arrays.
        """
        known = self.transformation._options
        unknown = [repr(value) for value in values[len(known) :]]
        unknown += [f"{name}={value!r}" for name, value in options.items() if name not in known[len(values) :]]
        options.update(zip(known, values, strict=False))
        if unknown:
            raise ArgumentTypeError(
                "There is no such option." if known else "Only chains have options.",
                where=repr(self),
                got=", ".join(unknown),
                want="the parameters, then " + ", ".join(known) if known else "the parameters alone",
                fix="opax.chain(...)(params, flatten=True)",
            )
        self._check_params(params)
        return self.transformation(params, **dict(self.arguments), **options)

    def _check_params(self, params: Any) -> None:
        for path, leaf in jax.tree.leaves_with_path(params):
            dtype = getattr(leaf, "dtype", None)
            if dtype is None and not isinstance(leaf, int | float | complex):
                headline = "Expecting parameters: a tree of arrays."
            elif dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
                headline = "Expecting parameters: a random key cannot be optimized."
            else:
                continue
            raise ArgumentTypeError(
                headline,
                where=jax.tree_util.keystr(path).removeprefix(".")
                or self.transformation._factory_name
                or self.transformation.__qualname__,
                got=describe(leaf),
                want="a module, or any other pytree, with arrays or numbers in it",
                fix="optimizer = opax.adam(1e-3)(net.parameters())",
            )

    def init(self, params: Any, *values: Any, **options: Any) -> T:
        """Creates the transformation: the same as calling the factory."""
        return self(params, *values, **options)

    @property
    def __bases__(self) -> tuple[type, ...]:
        return (self.transformation,)  # makes `issubclass(factory, cls)` look at the class

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self.transformation)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments)
        return f"{self.transformation._factory_name or self.transformation.__qualname__}({arguments})"


def create(factory: Any, params: Any, *, where: str) -> GradientTransformation:
    """Creates the transformation that ``factory`` makes for ``params``.

    Args:
        factory: what the user gave: see ``TransformationFactory``.
        params: the tree of parameters.
        where: the function that was given it.

    Raises:
        ArgumentTypeError: it makes no transformation, or is one already.
    """
    if isinstance(factory, GradientTransformation):
        raise ArgumentTypeError(
            "Expecting transformations without parameters.",
            where=where,
            got=f"an optimizer, `{factory!r}`, that was created for some parameters",
            want="what `opax.scale(0.1)` returns, or a subclass of `GradientTransformation`",
            fix="give opax.scale(0.1), not opax.scale(0.1)(params)",
        )
    home, name = getattr(factory, "__module__", None) or "", getattr(factory, "__name__", "")
    if isinstance(factory, FunctionType) and home.partition(".")[0] in ("opax", "optax"):
        ours = home.startswith("opax")
        raise ArgumentTypeError(
            "Expecting what this function returns, not the function." if ours else "Expecting transformations of opax.",
            where=where,
            got=f"the function {home.partition('.')[0]}.{name}",
            want="what `opax.scale(0.1)` returns, or a subclass of `GradientTransformation`",
            fix=f"opax.{name}(...)" if ours else f"opax.from_optax(optax.{name}, ...)",
        )
    transform = factory(params) if callable(factory) else factory
    if not isinstance(transform, GradientTransformation):
        raise ArgumentTypeError(
            "Expecting functions that return a `GradientTransformation`.",
            where=where,
            got=describe(transform)
            if transform is factory
            else f"{describe(factory)}, which returns {describe(transform)}",
            want="what `opax.scale(0.1)` returns, or a subclass of `GradientTransformation`",
            fix="opax.from_optax(...)" if isinstance(transform, optax.GradientTransformation) else None,
        )
    return transform
