"""Transformations in a row."""

from typing import Any

import jax

from opax._factory import Factory, TransformationFactory, create
from opax._parts import as_leaves
from opax._transformation import GradientTransformation
from pax.errors import ArgumentError, StructureError


class Chain(GradientTransformation):
    """Calls transformations in a row, each with the updates of the one before. ``optimizer[i]`` is the i-th of them.

    State:
        transforms: list of the transformations.
    """

    _factory_name = "chain"

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
            ArgumentError: ``flatten`` together with ``strict=True``.
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
                self.transforms = [create(factory, leaves, where="chain") for factory in transformations]
        else:
            self.transforms = [create(factory, params, where="chain") for factory in transformations]

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
            StructureError: the updates do not fit the parameters.
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
        for transform in self.transforms:
            updates = transform(updates, params)
        return updates

    def __len__(self) -> int:
        return len(self.transforms)

    def __getitem__(self, index: Any) -> Any:
        """Returns a transformation, or a list of them for a slice."""
        return self.transforms[index]


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
        A factory: call it with the parameters. ``optimizer[i]`` is the i-th transformation.

    Raises:
        ArgumentError: (when called with parameters) ``flatten=True`` together with ``strict=True``.
        ArgumentTypeError: (when called with parameters) an argument that makes no transformation.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> optimizer = opax.chain(opax.clip_by_global_norm(1.0), opax.sgd(0.1)).init({"w": jnp.zeros(2)})
    >>> optimizer, updates = pax.purecall(optimizer, {"w": jnp.array([3.0, 4.0])})
    >>> float(optimizer[0].global_norm)
    5.0
    """
    return Factory(Chain, (("transformations", transformations),))
