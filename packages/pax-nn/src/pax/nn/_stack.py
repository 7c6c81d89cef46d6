"""Many equal blocks as one module."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.tree_util as jtu

from pax import Module
from pax.errors import StructureError
from pax.extend import describe
from pax.nn._axes import positive_int
from pax.nn._dtypes import strongly_typed
from pax.nn._inner_call import (
    Changes,
    Skeleton,
    call_and_changes,
    errors_located_in,
    path_text,
    split_arrays,
    with_changes,
)
from pax.nn._remat import Policy, check_policy, checkpoint_policy, policy_text
from pax.nn._stacking import StackedModules, check_leading_axis, make_modules


class Stack(StackedModules):
    """Calls equal blocks in a row, each with the output of the one before; traced and compiled as one.

    The blocks are held as one module whose arrays have a leading axis of length ``num_layers``, and are applied by
    ``jax.lax.scan``: tracing and compilation take as long as for one block, however deep the network is. All blocks
    have the same structure, shapes and dtypes, and a block returns what it takes. Blocks with state (batch
    normalisation, dropout with a key for each block) are called by ``pax.purecall``, as they are alone.

    Shapes:
        carry: an array, or any pytree of arrays, that the block maps to one of the same structure, shapes and dtypes.
        output: the same; with ``has_aux`` the pair of it and the second outputs of all blocks, along a new first axis.
    Parameters:
        block: those of one block, each with a leading axis.
    State:
        block: likewise.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> class Block(pax.Module):
    ...     def __init__(self, size):
    ...         super().__init__()
    ...         self.fc = pax.nn.Linear(size, size)
    ...
    ...     def __call__(self, x):
    ...         return x + jnp.tanh(self.fc(x))
    >>> stack = pax.nn.Stack(lambda: Block(4), 12)
    >>> print(stack.summary())
    Stack(num_layers=12)
    └── Block
        └── Linear(in_dim=4, out_dim=4, with_bias=True)
    >>> stack(jnp.ones((3, 4))).shape, stack.block.fc.weight.shape, stack[0].fc.weight.shape
    ((3, 4), (12, 4, 4), (4, 4))
    """

    _slot = "block"
    _size = "num_layers"

    block: Module
    num_layers: int
    has_aux: bool
    remat: bool | Policy
    unroll: int | bool

    def __init__(
        self,
        make_block: Callable[..., Any],
        num_layers: int,
        *,
        has_aux: bool = False,
        remat: bool | Policy = False,
        unroll: int | bool = 1,
        rng_key: jax.Array | None = None,
        name: str | None = None,
    ) -> None:
        """Makes the blocks one after the other, as a loop would: they draw the keys that they would draw there.

        Args:
            make_block: makes a new block in each call; without arguments, or with ``rng_key=...`` if ``rng_key`` is
                given.
            num_layers: number of blocks, at least 1.
            has_aux: whether a block returns a pair, of which only the first goes on to the next block.
            remat: compute each block again in the backward pass instead of keeping its intermediate results, which then
                take the memory of one block instead of ``num_layers``. ``True``, or what to keep nevertheless: see the
                ``policy`` of :func:`remat`. Default ``False``: it costs time.
            unroll: how many blocks are compiled into one step of the loop; ``True`` for all. More take longer to
                compile, and sometimes run faster.
            rng_key: split into a key for each block; default: blocks draw from the global generator.
            name: shown before the class in summaries.

        Raises:
            ArgumentError: ``num_layers`` or ``unroll`` is below 1, there is no such policy, or ``make_block`` returned
                the same object twice.
            ArgumentTypeError: ``make_block`` is no function, or returns no module, or ``unroll`` is no integer.
            StructureError: the blocks differ in more than the values of their arrays.
        """
        blocks = make_modules(make_block, num_layers, rng_key, what="num_layers", where="Stack")
        super().__init__(blocks, name=name)
        self.has_aux = has_aux
        self.remat = remat if isinstance(remat, bool) else check_policy(remat, what="remat", where="Stack")
        self.unroll = unroll if isinstance(unroll, bool) else positive_int(unroll, what="unroll", where="Stack")

    @classmethod
    def from_modules(
        cls,
        blocks: Sequence[Any],
        *,
        has_aux: bool = False,
        remat: bool | Policy = False,
        unroll: int | bool = 1,
        name: str | None = None,
    ) -> "Stack":
        """Makes a stack of blocks that exist already; the arrays are copied.

        Args:
            blocks: modules that differ in the values of their arrays only.
            has_aux: see the constructor; so for ``remat``, ``unroll`` and ``name``.
            remat: see the constructor.
            unroll: see the constructor.
            name: see the constructor.

        Raises:
            ArgumentError: there is no block, or the same one twice.
            ArgumentTypeError: one is no module.
            StructureError: they differ in more than the values of their arrays.
        """
        blocks = list(blocks)
        made = iter(blocks)
        return cls(lambda: next(made), len(blocks), has_aux=has_aux, remat=remat, unroll=unroll, name=name)

    def __call__(self, carry: Any, *args: Any, per_layer: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        """Returns the output of the last block.

        Args:
            carry: the input of the first block.
            *args: further arguments, the same for all blocks: a mask, for example.
            per_layer: keyword arguments that differ from block to block: trees of arrays ``(num_layers, ...)`` by name.
            **kwargs: keyword arguments that are the same for all blocks.

        Returns:
            What the last block returned; with ``has_aux`` the pair of that and of all second outputs, stacked.

        Raises:
            StructureError: a block returned another structure, shape or dtype than it was given, or an array of
                ``per_layer`` has no first axis of length ``num_layers``.
            MutationError: the blocks have states that change, outside of ``pax.purecall`` or ``pax.pure``.
        """
        per_layer = dict(per_layer or {})
        check_leading_axis(self.block, self.num_layers, what="block", module=self)
        check_leading_axis(per_layer, self.num_layers, what="per_layer", module=self)
        arrays, skeleton = split_arrays((jax.tree.map(strongly_typed, carry), per_layer, args, kwargs))
        with errors_located_in(self, "block"):
            # Outside of `jit` a scan would be compiled in each call. Inside, this one is inlined.
            scan = _scan_jit if skeleton.is_plain else _scan
            carry, aux, changes = scan(self, arrays, skeleton)
        if changes:
            self.block = with_changes(self.block, changes)
        return (carry, aux) if self.has_aux else carry

    def __repr__(self) -> str:
        return self._repr(
            {
                "num_layers": self.num_layers,
                "has_aux": self.has_aux or None,
                "remat": policy_text(self.remat) or None,
                "unroll": None if self.unroll == 1 else self.unroll,
            }
        )


def _scan(stack: Stack, arrays: list[Any], skeleton: Skeleton) -> tuple[Any, Any, Changes]:
    """Returns the last carry, and, of all blocks, the second outputs and what has changed."""
    carry, per_layer, args, kwargs = skeleton.join(arrays)
    leaves, structure = jax.tree.flatten(stack.block)

    def step(carry: Any, own: Any) -> tuple[Any, Any]:
        block = jax.tree.unflatten(structure, own[0])
        changes, output = call_and_changes(block, carry, *args, **kwargs, **own[1])
        new_carry, aux = _split_output(output, block) if stack.has_aux else (output, None)
        new_carry = jax.tree.map(strongly_typed, new_carry)
        _check_carry(new_carry, carry, block)
        return new_carry, (aux, changes)

    if stack.remat is not False:
        policy = None if stack.remat is True else checkpoint_policy(stack.remat)
        # The loop itself keeps the compiler from merging the two computations of a block.
        step = jax.checkpoint(step, prevent_cse=False, policy=policy)
    carry, (aux, changes) = jax.lax.scan(step, carry, (leaves, per_layer), length=stack.num_layers, unroll=stack.unroll)
    return carry, aux, changes


_scan_jit = functools.partial(jax.jit, static_argnums=2, inline=True)(_scan)


def _split_output(output: Any, block: Module) -> tuple[Any, Any]:
    if not isinstance(output, tuple) or len(output) != 2:
        raise StructureError(
            "With `has_aux` a block has to return a pair.",
            module=block,
            got=describe(output),
            want="(output, aux): the first goes on to the next block, the second is collected",
        )
    return output


def _check_carry(new: Any, old: Any, block: Module) -> None:
    headline = "A block has to return what it takes: the same structure, shapes and dtypes."
    got_structure: Any = jax.tree.structure(new)
    if got_structure != jax.tree.structure(old):
        raise StructureError(
            headline,
            module=block,
            got=str(jax.tree.map(describe, new)),
            want=str(jax.tree.map(describe, old)),
            fix="Stack(..., has_aux=True)   # if the block returns (output, aux)",
        )
    pairs = list(zip(jtu.tree_leaves_with_path(new), jax.tree.leaves(old), strict=True))
    wrong = [(path, a, b) for (path, a), b in pairs if (a.shape, a.dtype) != (b.shape, b.dtype)]
    if wrong:
        path, got, want = wrong[0]
        raise StructureError(
            headline,
            module=block,
            where=f"output {path_text(path)}" if path else None,
            got=describe(got),
            want=f"{describe(want)}, as its input",
            fix=f"return y.astype(x.dtype), or pass {got.dtype} into the stack"
            if got.shape == want.shape
            else "project the input of the stack to the size at which the blocks work",
        )
