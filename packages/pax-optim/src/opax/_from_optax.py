"""Any gradient transformation of optax, as a module."""

import re
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from opax import _arguments
from opax._direction import try_out
from opax._factory import Factory
from opax._optax_recipe import Recipe, recipe_of
from opax._optax_state import (
    as_arrays,
    from_modules,
    get_fields,
    implicit_promotion,
    in_dtypes_of_state,
    is_named_tuple,
    keep_kinds,
    set_fields,
    to_modules,
)
from opax._parts import naming, tree_of
from opax._transformation import GradientTransformation
from opax._trees import cast_like, check_alike, same_structure
from pax.errors import ArgumentError, ArgumentTypeError, PaxError, StructureError
from pax.extend import describe

# What Python and optax say if an argument like the loss is missing.
_MISSING = re.compile(
    r"missing \d+ required keyword-only arguments?: (.+)|(\S+) must be provided|pass the latest (\w+)"
)
_WHAT_NEGATE_MEANS = (
    "negate=True for a complete optimizer, such as optax.adam(1e-3): optax adds its updates to the parameters, opax\n"
    "    subtracts them;\n"
    "negate=False for a transformation that returns something like gradients: optax.scale_by_adam(), optax.clip(1.0)"
)


class FromOptax(GradientTransformation):
    """A gradient transformation of optax.

    State:
        What optax keeps. The fields of a named tuple are attributes: ``optimizer.mu``; one with a name that modules
        have already gets an underscore: ``name_``. Named tuples below are modules with such attributes. State of
        another kind, such as the tuple of ``optax.chain``, is the attribute ``state``, whose items are
        ``optimizer[i]``.
    """

    _factory_name = "from_optax"

    # No field of a named tuple starts with an underscore.
    _recipe: Recipe
    _negate: bool
    _kind: Any
    state: Any

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self, params: Any, recipe: Recipe, negate: bool | None = None, state_dtype: DTypeLike | None = None
    ) -> None:
        """Lets optax create its state.

        Args:
            params: the tree of parameters.
            recipe: makes the transformation.
            negate: whether to change the sign of optax's updates; ``None``: yes, if they go downhill.
            state_dtype: dtype of those parts of the state that have the dtypes of the parameters.

        Raises:
            ArgumentError: ``negate`` is ``None``, and updates do not go downhill.
        """
        super().__init__(params)
        self._recipe = recipe
        self._negate = _sign_of(recipe) if negate is None else negate
        wide = in_dtypes_of_state(params, state_dtype)
        # Transformations of opax inside of it select parameters by their names in the model.
        with implicit_promotion(), naming(wide, tree_of(params)):
            state = recipe.make().init(wide)
        self._kind = type(state) if is_named_tuple(state) else None
        self._set_state(as_arrays(state, apart_from=params))

    def _set_state(self, state: Any) -> None:
        if self._kind is None:
            self.state = to_modules(state)
        else:
            set_fields(self, FromOptax, state)

    def optax_state(self) -> Any:
        """Returns the state as optax has it, a pytree of the class that its ``init`` returns."""
        return from_modules(self.state) if self._kind is None else get_fields(self, FromOptax, self._kind)

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns optax's updates, with the sign that they have in opax, in the dtypes of ``updates``.

        optax computes in float32 where updates, parameters or state have half precision.
        """
        if params is not None and not _are_of_examples(updates, params):
            check_alike(updates, params, what="updates and parameters", module=self)
        old = self.optax_state()
        transformation = self._recipe.make()
        inputs = [in_dtypes_of_state(tree) for tree in (updates, old, params)]
        try:
            with implicit_promotion():
                new_updates, new = transformation.update(*inputs)
        except (TypeError, ValueError, AttributeError) as error:
            self._explain(error, transformation, inputs)
            raise
        self._check_state(new, old)
        leaves, structure = jax.tree.flatten(as_arrays(new, apart_from=updates))
        self._set_state(jax.tree.unflatten(structure, keep_kinds(leaves, jax.tree.leaves(old))))
        like = updates if params is None else params
        if not _are_alike(new_updates, like):
            self._check_state(_new_state(transformation, like), old)
        check_alike(new_updates, like, what="new updates and parameters", module=self)
        if self._negate:
            new_updates = jax.tree.map(jnp.negative, new_updates)
        return cast_like(new_updates, updates)

    def _explain(self, error: Exception, transformation: Any, inputs: list[Any]) -> None:
        """Raises an error that says what was wrong with a call that optax refused, if that can be told."""
        updates, state, params = inputs
        if isinstance(error, PaxError):  # of an inner transformation; it says all
            return
        _explain_missing(error, module=self)
        self._check_state(_new_state(transformation, updates if params is None else params), state)
        _arguments.need_params(params, self)

    def _check_state(self, found: Any, want: Any) -> None:
        """Checks that two states have the same structure and shapes.

        Raises:
            StructureError: they differ: the updates are not for the parameters that the optimizer was created for.
        """
        if _are_alike(found, want):
            return
        shapes, wanted = _shapes(found), _shapes(want)
        paths = [path for path in {**wanted, **shapes} if shapes.get(path) != wanted.get(path)]
        first = paths[0] if paths else "other static parts"
        raise StructureError(
            "The updates do not fit the optimizer's state.",
            module=self,
            got=f"updates for a state with {first}: {shapes[first]}" if first in shapes else f"no {first}",
            want=f"{first}: {wanted[first]}" if first in wanted else f"no {first}",
            fix="create the optimizer for the parameters that it updates: opax.from_optax(...)(model.parameters()),\n"
            "and anew after freezing, unfreezing or replacing a part of the model",
        )

    def __getitem__(self, index: Any) -> Any:
        """Returns an item of a state that is a tuple, a list or a dictionary, as that of ``optax.chain`` is."""
        if self._kind is not None or not isinstance(self.state, tuple | list | dict):
            raise ArgumentTypeError(
                "The state of this transformation has no items.",
                module=self,
                got=f"optimizer[{index!r}]",
                want=f"one of its attributes: {', '.join(self.pytree_attributes)}",
            )
        return self.state[index]

    def __repr__(self) -> str:
        return f"{super().__repr__()}({self._recipe.name})"


def _sign_of(recipe: Recipe) -> bool:
    descends, error = try_out(recipe)
    if descends:
        return True
    if error is not None:
        _explain_missing(error, where="from_optax")
        reason = f"which did not work on a small example: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    elif descends is None:
        reason = "whose updates have no sure direction"
    else:
        reason = "whose updates point along the gradients"
    raise ArgumentError(
        "Expecting `negate` for a transformation that is not clearly an optimizer.",
        where="from_optax",
        got=f"`{recipe.name}`, {reason}",
        want=_WHAT_NEGATE_MEANS,
        fix="opax.from_optax(..., negate=True)   or   opax.from_optax(..., negate=False)",
    ) from error


def _explain_missing(
    error: Exception, *, where: str | None = None, module: GradientTransformation | None = None
) -> None:
    """Raises an error that says so if a call failed for want of the loss, or of other things than parameters."""
    missing = _MISSING.search(str(error))
    if missing is None or missing[2] == "params":
        return
    raise ArgumentError(
        "This transformation of optax needs more than gradients and parameters.",
        module=module,
        where=where,
        got=f"no {next(name for name in missing.groups() if name)}",
        want="a transformation whose `update` takes gradients, state and parameters",
        fix="use optax itself for it: line searches, and methods that look at the loss",
    ) from error


def _are_of_examples(updates: Any, params: Any) -> bool:
    """Whether there is an update for each example of a batch, as differential privacy needs them."""
    found, wanted = jax.tree.leaves(updates), jax.tree.leaves(params)
    if not found or not same_structure(updates, params):
        return False
    return all(jnp.shape(x)[1:] == jnp.shape(p) != jnp.shape(x) for x, p in zip(found, wanted, strict=True))


def _are_alike(a: Any, b: Any) -> bool:
    return same_structure(a, b) and list(map(_shape, jax.tree.leaves(a))) == list(map(_shape, jax.tree.leaves(b)))


def _shape(leaf: Any) -> Any:
    return getattr(leaf, "shape", ())


def _shapes(tree: Any) -> dict[str, str]:
    """Returns the shapes of all leaves by their path."""
    return {
        jax.tree_util.keystr(path).removeprefix("."): f"[{','.join(map(str, _shape(leaf)))}]"
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _new_state(transformation: Any, params: Any) -> Any:
    """Returns the state for ``params``, with tracers for arrays: of use are its structure and shapes."""
    states = []

    def look(params: Any) -> None:  # a state may hold what no compiled function can return
        states.append(transformation.init(params))

    with implicit_promotion():
        jax.eval_shape(look, params)
    return states[0]


def from_optax(
    tx: Any, *args: Any, negate: bool | None = None, state_dtype: DTypeLike | None = None, **kwargs: Any
) -> Factory[FromOptax]:
    """Makes a transformation of any ``optax.GradientTransformation``.

    Its state is visible under optax's names: ``optimizer.mu``, ``optimizer.count``; that of ``optax.chain`` under
    ``optimizer[0].mu``.

    optax *adds* updates to the parameters, opax *subtracts* them. So the sign of a complete optimizer's updates has to
    be changed, and that of a transformation of gradients has not. By default, ``tx`` is tried on a small example: if
    its updates point against the gradients the sign is changed, otherwise there is an error that asks for ``negate``.

    Hyper-parameters stay optax's: the schedules among them see step 0 first, and there is no
    ``optimizer.learning_rate``. For these use ``opax.chain(opax.from_optax(optax.scale_by_lion, negate=False),
    opax.scale_by_schedule(...))``, or :func:`opax.lion` and its like.

    Args:
        tx: a function that makes the transformation, such as ``optax.lion``; then equal calls of ``from_optax`` are
            equal, and can be pickled. Or the transformation itself; it is compared by what it holds, as far as
            possible, and cannot be pickled by ``pickle`` (it can be by cloudpickle).
        *args: the arguments of the function; numbers, schedules, other transformations of optax.
        negate: ``True`` for a complete optimizer (``optax.adam(1e-3)``), ``False`` for a transformation that returns
            something like gradients (``optax.clip(1.0)``); ``None``: ``True``, if it goes downhill.
        state_dtype: dtype of those parts of the state that have the dtypes of the parameters; by default float32 for
            half precision, otherwise the dtypes of the parameters. (optax alone would keep half precision.)
        **kwargs: more arguments of the function.

    Returns:
        A factory: call it with the parameters. Updates have the dtypes that they come with.

    Raises:
        ArgumentTypeError: ``tx`` makes no transformation of optax, or does not take the arguments.
        ArgumentError: (when called with parameters) ``negate`` is needed; (when updating) the transformation needs
            more than gradients and parameters, as line searches do.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import optax
    >>> import pax
    >>> optimizer = opax.from_optax(optax.adan, 1e-3)(pax.nn.Linear(3, 3).parameters())
    >>> optimizer[0].m
    Linear(in_dim=3, out_dim=3, with_bias=True)
    >>> optimizer = opax.from_optax(optax.scale_by_yogi, b1=0.8, negate=False)({"w": jnp.ones(2)})
    >>> updates, optimizer = opax.transform_gradients({"w": jnp.ones(2)}, optimizer, {"w": jnp.ones(2)})
    >>> int(optimizer.count)
    1
    """
    if negate is not None and not isinstance(negate, bool):
        raise ArgumentTypeError(
            "Expecting True, False or None for `negate`.",
            where="from_optax",
            got=describe(negate),
            want=_WHAT_NEGATE_MEANS,
        )
    dtype = _arguments.dtype(state_dtype, where="from_optax")
    return Factory(FromOptax, (("recipe", recipe_of(tx, args, kwargs)), ("negate", negate), ("state_dtype", dtype)))
