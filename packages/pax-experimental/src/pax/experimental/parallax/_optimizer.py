"""``Optimizer`` and ``OptState``: the optimizers of ``jax.example_libraries`` with the model in their state."""

from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np

import pax
from pax.errors import ArgumentTypeError, StructureError
from pax.experimental.parallax._initializers import same_initializer
from pax.experimental.parallax._module import Module
from pax.extend import describe, is_module

Hooks = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]


class Optimizer:
    """An optimizer of ``jax.example_libraries.optimizers``, for modules.

    New programs use ``opax``, which trains Parallax modules like all others.

    Args:
        hooks: the three functions ``(init, update, get_params)``.

    Raises:
        ArgumentTypeError: ``hooks`` are not three functions.

    >>> import jax, jax.numpy as jnp
    >>> from jax.example_libraries import optimizers
    >>> from pax.experimental.parallax import Dense, Optimizer
    >>> state = Optimizer(optimizers.sgd(0.1)).initialized(Dense(3, 1), jax.random.key(0))
    >>> gradient = jax.tree.map(jnp.ones_like, state.get().parameters())
    >>> state.updated(0, gradient).get()
    Dense(3, 1)
    """

    __slots__ = ("_hooks",)

    def __init__(self, hooks: Hooks) -> None:
        given: Any = hooks
        if not isinstance(given, tuple | list) or len(given) != 3 or not all(map(callable, given)):
            raise ArgumentTypeError(
                "Expecting the three functions of an optimizer.",
                where="Optimizer, argument `hooks`",
                got=describe(given),
                want="(init, update, get_params)",
                fix="Optimizer(jax.example_libraries.optimizers.sgd(0.1))",
            )
        self._hooks: Hooks = (given[0], given[1], given[2])

    @property
    def hooks(self) -> Hooks:
        """The three functions."""
        return self._hooks

    def initialized(self, module: Any, rng: jax.Array) -> "OptState":
        """Initializes a module, and wraps it.

        Args:
            module: a declared Parallax module.
            rng: a key.

        Returns:
            The state of the optimizer before the first step.

        Raises:
            ArgumentTypeError: ``module`` is no Parallax module.
            ArgumentError: it is already initialized.
        """
        if not isinstance(module, Module):
            raise ArgumentTypeError(
                "Expecting a Parallax module.",
                where="Optimizer.initialized, argument `module`",
                got=describe(module),
                want="a pax.experimental.parallax.Module",
            )
        made = module.initialized(rng)
        parameters = made.parameters()
        rest = jtu.tree_map(lambda leaf, kept: leaf if _is_empty(kept) else pax.EmptyNode(), made, parameters)
        return OptState(self, self.hooks[0](parameters), rest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Optimizer) and same_initializer(self.hooks, other.hooks)

    def __hash__(self) -> int:
        return hash(Optimizer)


class OptState:
    """A model and the state of its optimizer, as one pytree; made by :meth:`Optimizer.initialized`.

    Its functions belong to the structure, so it passes through ``jax.jit``.

    Args:
        optimizer: whose state it is.
        state: what the ``init`` function of the optimizer returned.
        rest: the model without its parameters, which are in ``state``.
    """

    __slots__ = ("_optimizer", "_rest", "_state")

    def __init__(self, optimizer: Optimizer, state: Any, rest: Any) -> None:
        self._optimizer = optimizer
        self._state = state
        self._rest = rest

    def get(self) -> Any:
        """Returns the current model."""
        return self._rest | self._optimizer.hooks[2](self._state)

    def updated(self, i: Any, grad: Any) -> "OptState":
        """Returns the state after one step.

        Args:
            i: the number of the step, from 0; schedules and bias corrections depend on it.
            grad: gradients of the model, with or without keys, in any mode: as :meth:`Module.grad` returns them.

        Raises:
            ArgumentTypeError: ``grad`` is no module.
            StructureError: it has other parameters than the model.
        """
        if not is_module(grad):
            raise ArgumentTypeError(
                "Expecting the gradients of the model.",
                where="OptState.updated, argument `grad`",
                got=describe(grad),
                want="a module",
                fix="state = state.updated(i, layer.grad(x))",
            )
        parameters = self._optimizer.hooks[2](self._state)
        got, want = _outline(grad.parameters()), _outline(parameters)
        if got != want:
            raise StructureError(
                "These gradients do not belong to this model.",
                where="OptState.updated, argument `grad`",
                got=", ".join(sorted(got - want)) or "less",
                want=", ".join(sorted(want - got)) or "nothing besides the parameters of the model",
                fix="differentiate the model that state.get() returns",
            )
        matched = jtu.tree_unflatten(jtu.tree_structure(parameters), jtu.tree_leaves(grad.parameters()))
        return OptState(self._optimizer, self._optimizer.hooks[1](i, matched, self._state), self._rest)

    def __repr__(self) -> str:
        return f"OptState({describe(self._rest)})"


def _flatten(state: OptState) -> Any:
    keys = (jtu.GetAttrKey("state"), jtu.GetAttrKey("rest"))
    return tuple(zip(keys, (state._state, state._rest), strict=True)), state._optimizer


jtu.register_pytree_with_keys(OptState, _flatten, lambda optimizer, children: OptState(optimizer, *children))


def _is_empty(value: Any) -> bool:
    return isinstance(value, pax.EmptyNode)


def _outline(tree: Any) -> set[str]:
    return {f"{jtu.keystr(path)}: {np.shape(leaf)}" for path, leaf in jtu.tree_leaves_with_path(tree)}
