"""Several modules called side by side."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from pax import Module
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._inner_call import Changes, call_and_changes, errors_located_in, with_changes
from pax.nn._stacking import StackedModules, check_leading_axis, make_modules


class Ensemble(StackedModules):
    """Calls several modules of equal structure side by side, as one vectorised computation.

    The members are held as one module whose arrays have a leading axis of length ``size``, and are called by
    ``jax.vmap``. Each has weights, states and random keys of its own.

    Shapes:
        input: that of a member, the same for all; or, where ``in_axes`` says so, with an axis for the members.
        output: that of a member with a new first axis of length ``size``.
    Parameters:
        member: those of one member, each with a leading axis.
    State:
        member: likewise.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> ensemble = pax.nn.Ensemble(lambda: pax.nn.Linear(4, 2), 5)
    >>> print(ensemble.summary())
    Ensemble(size=5)
    └── Linear(in_dim=4, out_dim=2, with_bias=True)
    >>> y = ensemble(jnp.ones((3, 4)))
    >>> y.shape, y.mean(axis=0).shape, ensemble[0].weight.shape
    ((5, 3, 2), (3, 2), (4, 2))

    References:
        Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", 2017,
        https://arxiv.org/abs/1612.01474
    """

    _slot = "member"
    _size = "size"

    member: Module
    size: int

    def __init__(
        self,
        make_member: Callable[..., Any],
        size: int,
        *,
        rng_key: jax.Array | None = None,
        name: str | None = None,
    ) -> None:
        """Makes the members one after the other, as a loop would: they draw the keys that they would draw there.

        Args:
            make_member: makes a new module in each call; without arguments, or with ``rng_key=...`` if ``rng_key`` is
                given.
            size: number of members, at least 1.
            rng_key: split into a key for each member; default: members draw from the global generator.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: ``size`` is below 1, or ``make_member`` returned the same object twice.
            ArgumentTypeError: ``make_member`` is no function, or returns no module.
            StructureError: the members differ in more than the values of their arrays.
        """
        super().__init__(make_modules(make_member, size, rng_key, what="size", where="Ensemble"), name=name)

    @classmethod
    def from_modules(cls, members: Sequence[Any], *, name: str | None = None) -> "Ensemble":
        """Makes an ensemble of modules that exist already; the arrays are copied.

        Args:
            members: modules that differ in the values of their arrays only.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: there is no member, or the same one twice.
            ArgumentTypeError: one is no module.
            StructureError: they differ in more than the values of their arrays.
        """
        members = list(members)
        made = iter(members)
        return cls(lambda: next(made), len(members), name=name)

    def __call__(self, *args: Any, in_axes: int | tuple[Any, ...] | None = None, **kwargs: Any) -> Any:
        """Returns the outputs of all members.

        Args:
            *args: the inputs.
            in_axes: where the inputs have an axis for the members, as ``jax.vmap`` takes it: one entry for all of
                ``args``, or a tuple with one for each. Default ``None``: all members get the same inputs.
            **kwargs: further arguments, the same for all members.

        Returns:
            A pytree of arrays ``(size, ...)``.

        Raises:
            ArgumentError: an input has no axis of length ``size`` where ``in_axes`` says, or it is not as long as
                ``args``.
            ArgumentTypeError: ``in_axes`` is none of these.
            StructureError: an array of the members has no first axis of length ``size``.
            MutationError: the members change their states, outside of ``pax.purecall`` or ``pax.pure``.
        """
        check_leading_axis(self.member, self.size, what="member", module=self)
        self._check_in_axes(in_axes, args)
        leaves, structure = jax.tree.flatten(self.member)

        def call(leaves: list[Any], args: tuple[Any, ...]) -> tuple[Changes, Any]:
            return call_and_changes(jax.tree.unflatten(structure, leaves), *args, **kwargs)

        with errors_located_in(self, "member"):
            changes, outputs = jax.vmap(call, in_axes=(0, in_axes), axis_size=self.size)(leaves, args)
        if changes:
            self.member = with_changes(self.member, changes)
        return outputs

    def _check_in_axes(self, in_axes: Any, args: tuple[Any, ...]) -> None:
        """Checks the axes of whole inputs; those within a tree of arrays are checked by ``jax.vmap``."""
        want = f"None, an int, or a tuple with one of these for each of the {len(args)} inputs"
        got = f"in_axes={in_axes!r}"
        if in_axes is not None and type(in_axes) not in (int, tuple):
            raise ArgumentTypeError("Expecting an axis for `in_axes`.", module=self, got=got, want=want)
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        if len(axes) != len(args):
            raise ArgumentError("Expecting one axis per input for `in_axes`.", module=self, got=got, want=want)
        for index, (axis, arg) in enumerate(zip(axes, args, strict=True)):
            if type(axis) is not int:
                continue
            for leaf in jax.tree.leaves(arg):
                shape = np.shape(leaf)
                if not -len(shape) <= axis < len(shape) or shape[axis] != self.size:
                    raise ArgumentError(
                        "Expecting an input with an axis for the members.",
                        module=self,
                        where=f"input {index}",
                        got=describe(leaf),
                        want=f"length {self.size} along axis {axis}",
                        fix="leave out in_axes to give all members the same input",
                    )

    def __repr__(self) -> str:
        return self._repr({"size": self.size})
