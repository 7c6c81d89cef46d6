"""Transformations in a row."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.typing import ArrayLike

from opax._factory import Factory, TransformationFactory, create
from opax._learning_rate import last_learning_rate, with_learning_rate
from opax._parts import as_leaves
from opax._transformation import GradientTransformation
from opax._trees import same_structure
from pax.errors import ArgumentError, ArgumentTypeError, PaxError, StructureError
from pax.extend import describe


class NoTransformationError(ArgumentError, IndexError):
    """An index is too large for a chain; as for lists also an ``IndexError``."""


class Chain(GradientTransformation):
    """Calls transformations in a row, each with the updates of the one before. ``optimizer[i]`` is the i-th of them.

    State:
        transforms: list of the transformations.
    """

    _factory_name = "chain"
    _options = ("flatten", "strict")

    transforms: list[GradientTransformation]
    flatten: bool
    strict: bool | None

    def __init__(
        self,
        params: Any,
        transformations: tuple[TransformationFactory, ...],
        flatten: bool = False,
        strict: bool | None = None,
    ) -> None:
        """Creates the transformations.

        Args:
            params: the tree of parameters.
            transformations: the factories.
            flatten: keep the state as lists of leaves; only their number and order have to match in a call.
            strict: ``False`` also keeps lists, and returns updates in the structure of the parameters.

        Raises:
            ArgumentError: ``flatten`` together with ``strict=True``; a transformation that has to be the first or the
                last one is not.
            ArgumentTypeError: a factory that does not return a ``GradientTransformation``.
        """
        super().__init__(params)
        if flatten and strict:
            raise ArgumentError(
                "Cannot set `flatten=True` in strict mode.",
                module=self,
                got="flatten=True, strict=True",
                want="at most one of them",
            )
        self.flatten = flatten
        self.strict = strict
        if self._keeps_leaves:
            with as_leaves(params) as leaves:
                self.transforms = _create_all(transformations, leaves)
        else:
            self.transforms = _create_all(transformations, params)
        _check_places(self.transforms, self)

    @property
    def learning_rate(self) -> float | jax.Array:
        """The learning rate of the last step, for logging; that of step 0 before the first one.

        It is a float if it is constant, and a float32 scalar otherwise. More exactly, it is the factor of the last
        transformation that has one: ``scale_by_schedule``, ``scale``, one inside of a nested chain, or any with an
        attribute ``learning_rate``. ``optimizer.replace(learning_rate=5e-4)`` gives another one to an optimizer in
        which it is constant; if it is an array there, this compiles nothing anew.

        Raises:
            ArgumentError: there is none.
        """
        return last_learning_rate(self.transforms, self)

    @learning_rate.setter
    def learning_rate(self, value: ArrayLike) -> None:
        self.transforms = with_learning_rate(self.transforms, value, self)

    @property
    def _keeps_leaves(self) -> bool:
        return self.flatten or self.strict is False

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns the updates of the last transformation.

        Args:
            updates: a tree of gradients: of the structure of the parameters, or, with ``flatten=True`` or
                ``strict=False``, with the same leaves in the same order.
            params: the current parameters, for those transformations that need them.

        Returns:
            A tree like ``updates``; with ``strict=False`` like ``params`` if they are given.

        Raises:
            StructureError: the updates do not fit the parameters, or a transformation returns another tree.
            ArgumentError: a transformation needs ``params``.
        """
        if not self._keeps_leaves:
            return self._call_all(updates, params)
        leaves, structure = jax.tree.flatten(updates)
        if params is not None:
            params, params_structure = jax.tree.flatten(params)
            if len(leaves) != len(params):
                raise StructureError(
                    "The updates and parameters have different numbers of leaves.",
                    module=self,
                    got=f"{len(leaves)} updates",
                    want=f"{len(params)}, one for each parameter",
                )
            if self.strict is False:
                structure = params_structure
        return jax.tree.unflatten(structure, self._call_all(leaves, params))

    def _call_all(self, updates: Any, params: Any) -> Any:
        for index, transform in enumerate(self.transforms):
            new = transform(updates, params)
            if not same_structure(new, updates):
                raise StructureError(
                    "A transformation has to return a tree like the updates that it gets.",
                    module=self,
                    where=f"transforms[{index}], {transform!r}",
                    got=describe(new),
                    want=describe(updates),
                    fix="return jax.tree.map(function, updates)",
                )
            updates = new
        return updates

    def __len__(self) -> int:
        return len(self.transforms)

    def __iter__(self) -> Iterator[GradientTransformation]:
        return iter(self.transforms)

    def __getitem__(self, index: Any) -> Any:
        """Returns a transformation, or a list of them for a slice."""
        try:
            return self.transforms[index]
        except IndexError:
            size = len(self.transforms)
            raise NoTransformationError(
                "The chain has no transformation of this number.",
                module=self,
                got=f"optimizer[{index}]",
                want=f"{-size} <= index < {size}" if size else "no index at all: the chain is empty",
            ) from None
        except TypeError:
            raise ArgumentTypeError(
                "Expecting the number of a transformation.",
                module=self,
                got=f"optimizer[{describe(index)}]",
                want="an integer or a slice",
                fix="optimizer[0]",
            ) from None


def _create_all(factories: tuple[TransformationFactory, ...], params: Any) -> list[GradientTransformation]:
    transforms = []
    for index, factory in enumerate(factories):
        try:
            transforms.append(create(factory, params, where="chain"))
        except PaxError as error:
            if error.module is not None:
                error.path = ".".join(part for part in (f"transforms[{index}]", error.path) if part)
            raise
    return transforms


def _check_places(transforms: list[GradientTransformation], module: GradientTransformation) -> None:
    """Checks that transformations which have to be first, or last, are.

    Raises:
        ArgumentError: one is not.
    """
    for index, transform in enumerate(transforms):
        after = [other for other in transforms[index + 1 :] if not _keeps_updates(other)]
        if index and _is_first(transform):
            _refuse(index, transform, "first", f"{transforms[0]!r} before it", module)
        if after and _is_last(transform):
            _refuse(index, transform, "last", f"{after[0]!r} after it", module)


def _refuse(index: int, transform: Any, place: str, got: str, module: GradientTransformation) -> None:
    raise ArgumentError(
        f"This transformation has to be the {place} one of a chain.",
        module=module,
        where=f"transforms[{index}], {transform!r}",
        got=got,
        want="gradients as they come: of single examples, nothing averaged or clipped"
        if place == "first"
        else "updates that are subtracted from the parameters as they are",
        fix=f"put it {'before' if place == 'first' else 'behind'} all others",
    )


def _is_first(transform: Any) -> bool:
    if isinstance(transform, Chain):
        return any(map(_is_first, transform.transforms))
    return bool(transform._is_first)


def _is_last(transform: Any) -> bool:
    if isinstance(transform, Chain):
        return any(map(_is_last, transform.transforms))
    return bool(transform._is_last)


def _keeps_updates(transform: Any) -> bool:
    if isinstance(transform, Chain):
        return all(map(_keeps_updates, transform.transforms))
    return bool(transform._keeps_updates)


def chain(*transformations: TransformationFactory) -> Factory[Chain]:
    """Makes a transformation that calls others in a row.

    ``chain(a, b)(params)`` creates it; ``chain(a, b).init(params)`` is the same. Both take two options:

    - default, or ``strict=True``: the state has the structure of the parameters, and so must the updates have.
    - ``flatten=True``: the state is kept as lists of leaves; only number and order of leaves have to match. The result
      has the structure of the updates.
    - ``strict=False``: as ``flatten=True``, but the result has the structure of ``params``, when they are given. For
      models whose structure changes a little in training.

    Args:
        *transformations: what other functions of opax return, subclasses of :class:`opax.GradientTransformation`, or
            any functions that return one for a tree of parameters. Without any, the chain is the identity.

    Returns:
        A factory: call it with the parameters. ``optimizer[i]`` is the i-th transformation, ``optimizer.learning_rate``
        the factor of the last one that has any, at the last step.

    Raises:
        ArgumentError: (when called with parameters) ``flatten=True`` together with ``strict=True``; or a transformation
            at a wrong place: differential privacy has to come first, ``params_ema`` and ``lookahead`` last.
        ArgumentTypeError: (when called with parameters) an argument that makes no transformation.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> optimizer = opax.chain(opax.clip_by_global_norm(1.0), opax.sgd(0.1)).init({"w": jnp.zeros(2)})
    >>> optimizer, updates = pax.purecall(optimizer, {"w": jnp.array([3.0, 4.0])})
    >>> float(optimizer[0].global_norm), optimizer.learning_rate
    (5.0, 0.1)
    """
    return Factory(Chain, (("transformations", transformations),))
