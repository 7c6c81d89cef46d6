"""Computing a module again in the backward pass instead of keeping its intermediate results."""

import difflib
import functools
from collections.abc import Callable
from typing import Any, overload

import jax

from pax import Module
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._inner_call import Changes, call_and_changes, errors_located_in, split_arrays, with_changes

Policy = str | tuple[str, ...] | Callable[..., Any]
"""What to keep: the name of a policy of JAX, names given to values, or a policy itself."""

_POLICIES = ("everything_saveable", "nothing_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable")


def check_policy(policy: Any, *, what: str, where: str) -> Policy:
    """Returns a policy in a form that can be compared.

    Raises:
        ArgumentError: no policy of JAX has this name.
        ArgumentTypeError: it is no policy.
    """
    want = f"one of {', '.join(map(repr, _POLICIES))}, a tuple of names, or a function of jax.checkpoint_policies"
    if isinstance(policy, str):
        if policy not in _POLICIES:
            near = [name for name in _POLICIES if policy and policy.lower() in name]
            near = near or difflib.get_close_matches(policy, _POLICIES)
            fix = "".join(f"{what}={name!r}\n" for name in near)
            fix += f"{what}=({policy!r},)   # to keep what jax.ad_checkpoint.checkpoint_name(x, {policy!r}) marks"
            raise ArgumentError(
                f"There is no policy of this name for `{what}`.", where=where, got=repr(policy), want=want, fix=fix
            )
    elif isinstance(policy, list | tuple) and policy and all(isinstance(name, str) for name in policy):
        policy = tuple(policy)
    elif isinstance(policy, type) or not callable(policy):
        raise ArgumentTypeError(f"Expecting a policy for `{what}`.", where=where, got=describe(policy), want=want)
    known: Policy = policy
    return known


def checkpoint_policy(policy: Policy) -> Callable[..., Any]:
    """Returns the function of JAX for what :func:`check_policy` returned."""
    if isinstance(policy, str):
        found: Callable[..., Any] = getattr(jax.checkpoint_policies, policy)
        return found
    return jax.checkpoint_policies.save_only_these_names(*policy) if isinstance(policy, tuple) else policy


def policy_text(policy: Any) -> Any:
    """Returns what stands for a policy in a ``repr``: its name, without the address of a function."""
    if not callable(policy):
        return policy
    names = [name for name in _POLICIES if getattr(jax.checkpoint_policies, name) == policy]
    return names[0] if names else getattr(policy, "__qualname__", type(policy).__qualname__)


class Remat(Module):
    """Calls a module whose intermediate results are computed again in the backward pass.

    Outputs, gradients and changes of state are those of the module itself. What :func:`remat` makes of a module; see
    there.

    Shapes:
        input, output: those of the module.
    Parameters, State:
        module: those of the module.

    References:
        Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, https://arxiv.org/abs/1604.06174
    """

    module: Module
    policy: Policy | None
    prevent_cse: bool

    def __init__(
        self, module: Any, *, policy: Policy | None = None, prevent_cse: bool = True, name: str | None = None
    ) -> None:
        """Wraps a module.

        Args:
            module: any callable module.
            policy: see :func:`remat`.
            prevent_cse: see :func:`remat`.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: there is no such policy.
            ArgumentTypeError: ``module`` is no callable module, or ``policy`` no policy.
        """
        super().__init__(name=name)
        if not isinstance(module, Module) or not callable(module):
            raise ArgumentTypeError(
                "Expecting a callable module.", where="Remat", got=describe(module), want="a module with a `__call__`"
            )
        self.module = module
        self.policy = None if policy is None else check_policy(policy, what="policy", where="Remat")
        self.prevent_cse = prevent_cse

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the module returns: any pytree of arrays.

        Raises:
            MutationError: the module changes its state, outside of ``pax.purecall`` or ``pax.pure``.
        """
        run = functools.partial(_call, jax.tree.structure(self.module))
        with errors_located_in(self, "module"):
            changes, output = _checkpoint(run, self.policy, self.prevent_cse)(
                jax.tree.leaves(self.module), *args, **kwargs
            )
        if changes:
            self.module = with_changes(self.module, changes)
        return output

    def __repr__(self) -> str:
        info = {"policy": policy_text(self.policy), "prevent_cse": None if self.prevent_cse else False}
        return self._repr(info if any(value is not None for value in info.values()) else None)


def _call(structure: Any, leaves: list[Any], *args: Any, **kwargs: Any) -> tuple[Changes, Any]:
    return call_and_changes(jax.tree.unflatten(structure, leaves), *args, **kwargs)


@overload
def remat(function: Module, *, policy: Policy | None = None, prevent_cse: bool = True) -> Remat: ...
@overload
def remat(
    function: Callable[..., Any], *, policy: Policy | None = None, prevent_cse: bool = True
) -> Callable[..., Any]: ...
def remat(function: Any, *, policy: Policy | None = None, prevent_cse: bool = True) -> Any:
    """Saves memory in training: intermediate results are computed again in the backward pass instead of being kept.

    This is ``jax.checkpoint`` for modules, also for those with state, and for arguments that are no arrays. Values and
    gradients stay the same; a training step takes up to a third longer. Many equal blocks are better put into a
    :class:`Stack` with ``remat=True``.

    Args:
        function: a callable module; or a function, a method of a module for example, which must not change modules
            unless it calls them by ``pax.purecall`` and returns them.
        policy: what to keep nevertheless; default: nothing but the inputs. The name of a policy,
            ``"dots_with_no_batch_dims_saveable"`` (the results of matrix products with weights), ``"dots_saveable"``
            (of all matrix products), ``"everything_saveable"`` or ``"nothing_saveable"``; a tuple of names that the
            code gives to values by ``jax.ad_checkpoint.checkpoint_name``; or any policy function. The policy is part of
            the structure of the module: names are compared by value, while a function made anew is a new one, and a new
            trace of a jitted caller (those that ``jax.checkpoint_policies`` makes, too, in most versions of JAX).
        prevent_cse: keep the compiler from undoing it all by merging the two computations. Needed except inside of
            ``jax.lax.scan``, where ``False`` can be faster.

    Returns:
        A :class:`Remat`, which has ``function`` as its submodule ``module``, and is called like it; for a function, a
        function.

    Raises:
        ArgumentError: there is no such policy.
        ArgumentTypeError: ``function`` is a class or not callable, or ``policy`` is no policy.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> block = pax.nn.remat(pax.nn.Sequential(pax.nn.Linear(4, 16), jnp.tanh, pax.nn.Linear(16, 4)))
    >>> print(block.summary())
    Remat
    └── Sequential
        ├── Linear(in_dim=4, out_dim=16, with_bias=True)
        ├── x => tanh(x)
        └── Linear(in_dim=16, out_dim=4, with_bias=True)
    >>> block(jnp.ones((2, 4))).shape
    (2, 4)

    References:
        Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, https://arxiv.org/abs/1604.06174
    """
    if isinstance(function, Module):
        return Remat(function, policy=policy, prevent_cse=prevent_cse)
    if isinstance(function, type) or not callable(function):
        raise ArgumentTypeError(
            "Expecting a module or a function.",
            where="remat",
            got=describe(function),
            want="a callable module, or a function",
            fix="pax.nn.remat(Block(...))   # of the module, not of its class",
        )
    known = None if policy is None else check_policy(policy, what="policy", where="remat")
    return functools.wraps(function)(_checkpoint(function, known, prevent_cse))


def _checkpoint(function: Callable[..., Any], policy: Policy | None, prevent_cse: bool) -> Callable[..., Any]:
    """Returns ``jax.checkpoint(function)`` that takes arguments of any kind."""

    def call(*args: Any, **kwargs: Any) -> Any:
        arrays, skeleton = split_arrays((args, kwargs))

        def run(*arrays: Any) -> Any:
            args, kwargs = skeleton.join(arrays)
            return function(*args, **kwargs)

        keep = None if policy is None else checkpoint_policy(policy)
        return jax.checkpoint(run, prevent_cse=prevent_cse, policy=keep)(*arrays)

    return call
