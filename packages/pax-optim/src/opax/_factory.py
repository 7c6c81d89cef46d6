"""What ``opax.scale(0.1)`` returns: a transformation class together with its hyper-parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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

    def __call__(self, params: Any, **options: Any) -> T:
        """Creates the transformation.

        Args:
            params: the tree of parameters that will be optimized; usually ``module.parameters()``.
            **options: for chains: ``flatten`` and ``strict``, see :func:`opax.chain`.

        Returns:
            A module.

        Raises:
            ArgumentTypeError: an option that the transformation does not have.
        """
        unknown = [name for name in options if name not in self.transformation._options]
        if unknown:
            raise ArgumentTypeError(
                "Only chains have these options." if self.transformation._options == () else "There is no such option.",
                where=repr(self),
                got=", ".join(f"{name}={options[name]!r}" for name in unknown),
                want=" or ".join(self.transformation._options) or "the parameters alone",
                fix="opax.chain(...)(params, flatten=True)",
            )
        return self.transformation(params, **dict(self.arguments), **options)

    def init(self, params: Any, **options: Any) -> T:
        """Creates the transformation: the same as calling the factory."""
        return self(params, **options)

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
    transform = factory(params) if callable(factory) else factory
    if not isinstance(transform, GradientTransformation):
        raise ArgumentTypeError(
            "Expecting functions that return a `GradientTransformation`.",
            where=where,
            got=describe(transform)
            if transform is factory
            else f"{describe(factory)}, which returns {describe(transform)}",
            want="what `opax.scale(0.1)` returns, or a subclass of `GradientTransformation`",
        )
    return transform
