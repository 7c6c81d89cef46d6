"""`apply_mp_policy` and `unwrap_mp_policy`: in which precision a module stores, computes and answers."""

from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import jax.tree_util as jtu
import jmp

import pax
from pax.errors import ArgumentError, ArgumentTypeError, SelectorError
from pax.experimental._flattener import Flattener
from pax.experimental._policy_arrays import POLICY, map_own
from pax.experimental._policy_casts import (
    Names,
    cast_array,
    dtypes_of,
    is_array,
    is_floating,
    policy_letters,
    policy_names,
)
from pax.experimental._policy_class import policy_class, without_policy
from pax.extend import Selector, describe, is_module, select, with_class

M = TypeVar("M", bound=pax.Module)

_UNWRAP_ALL = 'module.apply(lambda m: pax.unwrap_mp_policy(m) if hasattr(m, "mp_policy") else m)  # for all below'


def apply_mp_policy(module: M, mp_policy: jmp.Policy | str, where: Selector = None) -> M:
    """Gives a module a mixed-precision policy: the dtypes in which it stores, computes and answers.

    The result stores its own floating arrays in ``param_dtype``: those in its attributes, in lists, dictionaries and
    other containers, too, but not those of its submodules, which follow their own policies. A call of ``__call__`` or
    of any other method that its class defines

    1. sees these arrays, and the floating arrays in its arguments, in ``compute_dtype``;
    2. returns the floating arrays of its result in ``output_dtype``;
    3. if it assigned a new array to an attribute, stores that in ``param_dtype``. All others stay the very objects.

    The module itself never has other arrays than its own, also not while a method runs, or after one has failed.
    Methods that a method calls on ``self`` cast nothing again. Special methods other than ``__call__``, methods of
    `pax.Module`, properties, static and class methods run as they are. Integers, keys, Python numbers, and modules
    among arguments and results, are never cast; nor is what a generator yields.

    Gradients have the parameter dtype. Modules with equal policies have equal structures; freezing, `eval`,
    `replace_method` and this can be done in any order. ``module.mp_policy`` is the policy.

    Args:
        module: a module without a policy.
        mp_policy: a policy of ``jmp`` whose dtypes are floating, in any form; or a text as ``jmp.get_policy`` takes it:
            ``"p=f32,c=bf16,o=f32"``.
        where: gives the policy to modules *below* ``module``, and to itself, instead of to ``module`` alone. A selector
            of leaves, as `pax.filter` takes it: the policy is given to every module that has a selected floating array
            of its own, and holds for all of that module. Modules without floating arrays of their own (activations,
            pooling, containers) get none: they compute in the dtype they are given. Neither do a `pax.StateModule`,
            such as the running averages of a batch norm, whose numbers are accumulated, and a `Flattener`.

    Returns:
        A new module; an instance of the same class, whose ``repr`` ends with three letters for the dtypes of
        parameters, computation and output: ``F`` for 32 and 64 bits, ``H`` for 16, ``Q`` for fewer.

    Raises:
        ArgumentTypeError: ``module`` is no module, or ``mp_policy`` is no policy.
        ArgumentError: a module has a policy already, or a dtype is not floating; or ``module`` is a `Flattener`, whose
            entries can have policies.
        SelectorError: ``where`` selects no module.

    Example:
        >>> import jax.numpy as jnp, jmp, pax
        >>> policy = jmp.Policy(param_dtype=jnp.float32, compute_dtype=jnp.float16, output_dtype=jnp.float32)
        >>> linear = pax.apply_mp_policy(pax.nn.Linear(3, 3), policy)
        >>> linear
        Linear(in_dim=3, out_dim=3, with_bias=True, mp_policy=FHF)
        >>> linear.weight.dtype, linear(jnp.ones((1, 3))).dtype
        (dtype('float32'), dtype('float32'))
        >>> net = pax.nn.Sequential(pax.nn.Linear(2, 4), pax.nn.LayerNorm(4, -1, True, True), pax.nn.Linear(4, 1))
        >>> half = pax.apply_mp_policy(net, "p=f32,c=bf16", where=pax.nn.Linear)
        >>> [getattr(layer, "mp_policy", None) is not None for layer in half.modules]
        [True, False, True]

    References:
        Micikevicius et al., "Mixed Precision Training", 2017, https://arxiv.org/abs/1710.03740.
    """
    _require_module(module, "apply_mp_policy")
    if isinstance(module, Flattener):
        entry = next(iter(module.treedef_dict), "model")
        raise ArgumentError(
            "A flattener computes nothing, so it cannot have a mixed-precision policy: its entries can.",
            where="pax.apply_mp_policy",
            got="a Flattener",
            want="the module that is stored in it",
            fix=f"flattener.update({entry}=pax.apply_mp_policy(flattener.{entry}, policy))",
            module=module,
        )
    names = policy_names(mp_policy, where="pax.apply_mp_policy")
    if where is None:
        _require_no_policy(module, "")
        new: M = _with_policy(module, names)
        return new
    chosen = _Chosen(module, where, names)
    new = chosen.visit(module, ())
    if not chosen.found:
        raise SelectorError(
            "The selector selects no module that can have a mixed-precision policy.",
            where="pax.apply_mp_policy, argument `where`",
            got=repr(where) if isinstance(where, str) else describe(where),
            want="at least one floating array of a module that is no pax.StateModule",
            fix="module.apply(lambda m: pax.apply_mp_policy(m, policy) if isinstance(m, MyState) else m)",
        )
    return new


def unwrap_mp_policy(module: M) -> M:
    """Takes the mixed-precision policy of a module away; its submodules keep theirs.

    Args:
        module: a module with a policy.

    Returns:
        A new module of the original class, with the arrays that ``module`` has now, in parameter dtype.

    Raises:
        ArgumentError: ``module`` has no policy.
        ArgumentTypeError: ``module`` is no module.

    Example:
        >>> import pax
        >>> linear = pax.nn.Linear(3, 3)
        >>> pax.unwrap_mp_policy(pax.apply_mp_policy(linear, "p=f32,c=f16,o=f32")) == linear
        True
    """
    _require_module(module, "unwrap_mp_policy")
    cls = without_policy(type(module))
    if cls is None:
        raise ArgumentError(
            "Expected a mixed-precision module.",
            where="pax.unwrap_mp_policy",
            got="a module without a policy",
            want="what pax.apply_mp_policy has returned",
            fix=_UNWRAP_ALL,
            module=module,
        )
    new: M = with_class(module, cls, **{POLICY: ...})
    return new


def _with_policy(module: Any, names: Names) -> Any:
    dtype = dtypes_of(names).param
    stored = map_own(lambda leaf: _stored(leaf, dtype), module)
    return with_class(stored, policy_class(type(module)), **{POLICY: names})


def _stored(leaf: Any, dtype: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):  # of a module that `jax.eval_shape` has returned
        return leaf.update(dtype=dtype) if is_floating(leaf.dtype) else leaf
    return cast_array(leaf, dtype) if is_array(leaf) else leaf


class _Chosen:
    """One call of `apply_mp_policy` for parts of a tree.

    Args:
        root: the tree.
        selector: what selects leaves of it.
        names: the policy.
    """

    def __init__(self, root: Any, selector: Selector, names: Names) -> None:
        self.found = False
        self._flags: Iterator[bool] = iter(select(root, selector))  # of the leaves in pytree order: that of the visits
        self._names = names

    def visit(self, module: Any, path: tuple[Any, ...]) -> Any:
        """Returns a copy of a module in which the chosen ones have the policy."""
        own, structure = jtu.tree_flatten_with_path(module, is_leaf=lambda node: node is not module and is_module(node))
        wanted = False
        changed = []
        for key, node in own:
            if is_module(node):
                changed.append(self.visit(node, path + key))
            else:
                floating = (is_array(node) or isinstance(node, jax.ShapeDtypeStruct)) and is_floating(node.dtype)
                wanted = (next(self._flags) and floating) or wanted
                changed.append(node)
        new = jtu.tree_unflatten(structure, changed)
        if not wanted or isinstance(module, pax.StateModule | Flattener):
            return new
        self.found = True
        _require_no_policy(module, jtu.keystr(path))
        return _with_policy(new, self._names)


def _require_module(module: Any, function: str) -> None:
    if not is_module(module):
        raise ArgumentTypeError(
            "Expecting a PAX module.",
            where=f"pax.{function}, argument `module`",
            got=describe(module),
            want="an instance of pax.Module",
        )


def _require_no_policy(module: Any, path: str) -> None:
    if without_policy(type(module)) is not None:
        raise ArgumentError(
            "Cannot apply multiple mixed-precision policies on an object.\n"
            "Call `pax.unwrap_mp_policy(...)` to remove the policy first.",
            where="pax.apply_mp_policy",
            got=f"a module with the policy {policy_letters(getattr(module, POLICY))}",
            fix=_UNWRAP_ALL,
            module=module,
            path=path.removeprefix(".") or None,
        )
