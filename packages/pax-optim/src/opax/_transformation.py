"""The base class of gradient transformations."""

from typing import Any, ClassVar

import jax

from pax import EmptyNode, StateModule


class GradientTransformation(StateModule):
    """Turns gradients into updates; a module whose attributes are its state.

    A transformation is created for a tree of parameters, and called with a tree of gradients of the same structure. As
    it changes its state, call it through :func:`opax.transform_gradients`, ``pax.module_and_value`` or
    ``pax.purecall``, which return the changed transformation, too.

    Updates are *subtracted* from the parameters: ``new_params = params - updates``.

    To write one, derive a class; it can be used in :func:`opax.chain` as it is:

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import opax
    >>> class Sign(opax.GradientTransformation):
    ...     def __call__(self, updates, params=None):
    ...         return jax.tree.map(jnp.sign, updates)
    >>> optimizer = opax.chain(Sign, opax.scale(0.1))({"w": jnp.ones(2)})
    >>> updates, optimizer = opax.transform_gradients({"w": jnp.array([3.0, -5.0])}, optimizer, {"w": jnp.ones(2)})
    >>> updates["w"]
    Array([ 0.1, -0.1], dtype=float32)
    """

    _factory_name: ClassVar[str | None] = None
    """The function that makes such transformations; it is part of what ``repr`` shows."""

    _is_first: ClassVar[bool] = False
    """Whether it needs gradients as they come, so that nothing may stand before it in a chain."""

    _is_last: ClassVar[bool] = False
    """Whether its updates have to be subtracted as they are, so that nothing may change them after it in a chain."""

    _keeps_updates: ClassVar[bool] = False
    """Whether it returns updates as they are."""

    _options: ClassVar[tuple[str, ...]] = ()
    """What a factory takes besides the parameters."""

    def __init__(self, params: Any = None) -> None:
        """Creates the state for ``params``.

        Args:
            params: the tree of parameters that will be optimized, any pytree of arrays; usually
                ``module.parameters()``.
        """
        super().__init__()

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns the transformed updates, and changes the state.

        Args:
            updates: a tree of gradients, or the updates of the transformation before this one.
            params: the current parameters; some transformations need them.

        Returns:
            A tree like ``updates``.
        """
        raise NotImplementedError("A subclass must implement this method")

    def parameters(self) -> Any:
        """Returns a copy with an ``EmptyNode`` in the place of every array: an optimizer has nothing to train."""
        return jax.tree.map(lambda leaf: EmptyNode(), self)

    def __repr__(self) -> str:
        if self._factory_name is None:
            return self._repr()
        # As in the first opax, where each call of a factory made a class: users' documents have summaries with these
        # names.
        return f"{self._factory_name}.<locals>.{type(self).__name__}"
