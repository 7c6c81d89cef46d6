"""``Module``: layers that are set up by their first input, and return ``(output, module)``."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import pax
from pax.errors import ArgumentTypeError, AttributeNameError, MutationError, PaxError, StateDictError
from pax.experimental.mlax._adopt import adopt
from pax.experimental.mlax._calls import call_method
from pax.experimental.mlax._failures import explain, lacks_data
from pax.experimental.mlax._names import check_name
from pax.experimental.mlax._nesting import Call, add_place, note_set_up
from pax.experimental.mlax._parameter import Parameter, is_trainable_param
from pax.experimental.mlax._replacement import check_replacement
from pax.experimental.mlax._selection import Split, check_predicate, combine, structural
from pax.extend import describe, is_mutable

Axes = Any
"""The name of a mapped axis, or a tuple of names."""


class _NotGivenType:
    def __repr__(self) -> str:
        return "<not given>"


_NOT_GIVEN: Any = _NotGivenType()


class Module(pax.Module):
    """A module whose parameters are created when it sees its first input.

    Subclasses call ``super().__init__()`` first, keep hyperparameters and empty parameters in attributes, and define

    - ``setup(self, x)``: fills the parameters, by the shape of ``x``, and may create submodules; ``pass`` if there is
      nothing to do;
    - ``forward(self, x, rng, inference_mode=False, batch_axis_name=())``: returns the output, and may change
      parameters. Give ``rng`` the default ``None`` if the layer needs no key: containers read it from there.

    Calls never change a module. They return the changed one, *after* the output: ``y, module = module(x, rng)``. It has
    to be rebound; in ``forward``, too: ``y, self.sub = self.sub(x, rng, inference_mode, batch_axis_name)``.

    It is a module of PAX. Called with the input alone it returns the output alone, with no key, in inference mode if it
    is in evaluation mode, and it changes in place, which is possible in `pax.purecall` and `pax.pure` only. So it can
    be a layer of `pax.nn.Sequential`, and PAX modules can be attributes of it.

    Arrays belong into parameters. An array in another attribute is a leaf that is not trained.

    Args:
        training: whether the module starts in training mode: what ``inference_mode`` is when it is left out.
        name: shown in front of the class name.

    Attributes:
        initialized: whether ``setup`` has run; part of the structure.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax import Module, Parameter
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = Parameter(trainable=True)
    ...
    ...     def setup(self, x):
    ...         self.factor.data = jnp.full(x.shape, 2.0)
    ...
    ...     def forward(self, x, rng=None, inference_mode=False, batch_axis_name=()):
    ...         return self.factor.data * x
    >>> scale = Scale()
    >>> y, scale = scale(jnp.arange(3.0), None)
    >>> y, scale.initialized
    (Array([0., 2., 4.], dtype=float32), True)
    >>> trainables, rest = scale.partition()
    >>> jax.grad(lambda trainables: trainables.combine(rest)(y, None)[0].sum())(trainables).factor.data.tolist()
    [0.0, 2.0, 4.0]
    """

    initialized: bool

    def __init__(self, *, training: bool = True, name: str | None = None) -> None:
        super().__init__(training=training, name=name)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # the parameters of subclasses

    else:

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            module = super().__new__(cls, *args, **kwargs)
            vars(module)["initialized"] = False  # also for a class that does not call `super().__init__()`
            return module

        def __setattr__(self, name: str, value: Any) -> None:
            check_name(self, Module, name, value)
            check_replacement(self, Module, name, value)
            super().__setattr__(name, adopt(self, value))

        def __delattr__(self, name: str) -> None:
            if self.initialized:
                raise AttributeNameError(
                    "cannot delete an attribute of an initialized module",
                    where=f"attribute `{name}`",
                    got=f"del module.{name}",
                    want="a deletion in `setup`, or in the constructor",
                    fix=f"self.{name} = None, in `forward`",
                    module=self,
                )
            if name in vars(self) and is_mutable(self):
                setattr(self, name, None)  # an attribute with arrays is not deleted otherwise
            super().__delattr__(name)

    # ---- what subclasses define -------------------------------------------------------------------------------------

    def setup(self, x: Any) -> None:
        """Fills the parameters; runs once, in the first call.

        Args:
            x: the first input. Only its shape and dtype should be used.

        Raises:
            NotImplementedError: the class does not define it.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} has to define setup(self, x); `pass` if there is nothing to set up"
        )

    def forward(self, x: Any, rng: Any, inference_mode: bool = False, batch_axis_name: Axes = ()) -> Any:
        """Computes the output.

        Args:
            x: the input.
            rng: a key, or ``None``.
            inference_mode: whether the module is used, and not trained.
            batch_axis_name: names of the ``vmap`` or ``pmap`` axes over which statistics are taken; ``()`` for none.

        Raises:
            NotImplementedError: the class does not define it.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} has to define forward(self, x, rng, inference_mode=False, batch_axis_name=())"
        )

    # ---- calls ------------------------------------------------------------------------------------------------------

    def __call__(
        self, x: Any, rng: Any = _NOT_GIVEN, inference_mode: bool | None = None, batch_axis_name: Axes = ()
    ) -> Any:
        """Sets the module up if that has not happened, and computes the output.

        Args:
            x: the input; layers of this dialect take one example, without a batch axis. Use ``jax.vmap`` for batches.
            rng: a key, or ``None``. If it is left out, the call is one of PAX: see below.
            inference_mode: default: ``False``, or ``True`` after ``module.eval()``.
            batch_axis_name: names of the ``vmap`` or ``pmap`` axes over which statistics are taken; ``()`` for none.

        Returns:
            ``(output, module)``. With the input alone, the output, while the module changes in place.

        Raises:
            ArgumentTypeError: there is no ``rng``, but there are later arguments.
            MutationError: with the input alone: the call changes the module, outside of `pax.purecall`.
        """
        if rng is not _NOT_GIVEN:
            return self._run(True, x, rng, inference_mode, batch_axis_name)
        if inference_mode is not None or batch_axis_name != ():
            raise ArgumentTypeError(
                "The argument `rng` is missing.",
                where="a call with an input and later arguments",
                want="a key, or None for a module that needs none",
                fix="y, module = module(x, None, inference_mode=True)",
                module=self,
            )
        y, changed = self._run(True, x, None, None, ())
        if changed != self:
            self._become(changed)
        return y

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output, like a call, but does not set the module up.

        Modules that ``forward`` calls are set up all the same, if they are not yet: those are calls.

        ``apply(x, rng, inference_mode=False, batch_axis_name=())`` takes the arguments of a call and returns
        ``(output, module)``. With a function as the only argument it is the method of PAX modules: ``apply(func)`` maps
        ``func`` over all modules of the tree.

        Args:
            *args: the arguments of a call; or one function that takes a module and returns a module.
            **kwargs: the same.

        Raises:
            ArgumentTypeError: ``rng`` is missing, or the module would have to be initialized.
        """
        if len(args) + len(kwargs) == 1:
            func = args[0] if args else kwargs.get("func")
            if callable(func):
                return super().apply(func)
        return self._apply(*args, **kwargs)

    def _apply(
        self,
        x: Any = _NOT_GIVEN,
        rng: Any = _NOT_GIVEN,
        inference_mode: bool | None = None,
        batch_axis_name: Axes = (),
    ) -> Any:
        if x is _NOT_GIVEN or rng is _NOT_GIVEN:
            raise ArgumentTypeError(
                f"The argument `{'x' if x is _NOT_GIVEN else 'rng'}` is missing.",
                where="method `apply`",
                got="no input" if x is _NOT_GIVEN else f"the input {describe(x)}, but no key",
                want="apply(x, rng, inference_mode=False, batch_axis_name=()), or apply(function of a module)",
                fix="y, module = module.apply(x, None)",
                module=self,
            )
        try:
            return self._run(False, x, rng, inference_mode, batch_axis_name)
        except (TypeError, AttributeError, ValueError) as error:
            if isinstance(error, PaxError) or self.initialized or not lacks_data(self):
                raise
            raise ArgumentTypeError(
                "`apply` does not initialize a module.",
                got="parameters without data",
                want="a module that a call has returned",
                fix="y, module = module(x, rng)",
                module=self,
            ) from error

    def _run(
        self, may_set_up: bool, x: Any, rng: Any, inference_mode: bool | None, batch_axis_name: Axes
    ) -> tuple[Any, Self]:
        mode = not self.training if inference_mode is None else inference_mode
        try:
            module, y = _call_copy(self, may_set_up, x, rng, mode, batch_axis_name)
        except PaxError as error:
            add_place(error, self)
            raise
        if may_set_up and not self.initialized:
            note_set_up(self)
        return y, module

    def _become(self, other: Self) -> None:
        """Takes the attributes of another module over."""
        if not is_mutable(self):
            raise MutationError(
                "Cannot modify a module in immutable mode.\n"
                "Please do this computation inside a function decorated by `pax.pure`.",
                got="a call without `rng` that "
                + ("changes parameters" if self.initialized else "has to initialize the module"),
                fix="y, module = module(x, rng)  # and go on with the returned module\n"
                "module, y = pax.purecall(module, x)  # the same, in the words of PAX",
                module=self,
            )
        old, new = vars(self), dict(vars(other))
        for name in old.keys() - new.keys():
            delattr(self, name)
        for name, value in new.items():
            if name not in old or old[name] is not value:
                pax.Module.__setattr__(self, name, adopt(self, value))  # what replaces what has been checked already

    # ---- parts ------------------------------------------------------------------------------------------------------

    def filter(self, f: Callable[[Any], Any] = is_trainable_param, inverse: bool = False) -> Self:
        """Keeps the data of the selected leaf parameters; those of the others become ``None``.

        The arrays of other PAX modules in this one are offered as if each was in a leaf parameter, trainable or not.

        Args:
            f: called once with each leaf `Parameter`, in pytree order; only the truth of what it returns matters.
            inverse: keep the others instead.

        Returns:
            A module of the same class with the same hyperparameters. Arrays are shared, nothing else.

        Raises:
            AttributeNameError: the module is not initialized (it is an ``AttributeError``).
            ArgumentTypeError: ``f`` is no function of these arguments.
        """
        check_predicate(f, "parameter", where="method `filter`", example="module.filter(is_non_trainable_param)")
        return self._split(lambda _, p: f(p), "filter").part(not inverse)  # type: ignore[no-any-return]

    def filter_with_path(self, f: Callable[[Any, Any], Any], inverse: bool = False) -> Self:
        """Does what `filter` does with ``f(path, parameter)``.

        Args:
            f: called once with each leaf `Parameter` and its path, a tuple of JAX's keys, except that names of
                attributes are strings: ``("layers", "data", SequenceKey(0), "linear_kernel")``.
            inverse: keep the others instead.

        Raises:
            AttributeNameError: the module is not initialized.
            ArgumentTypeError: ``f`` is no function of these arguments.
        """
        check_predicate(
            f, "path, parameter", where="method `filter_with_path`", example='lambda path, p: path[-1] == "weight"'
        )
        return self._split(f, "filter").part(not inverse)  # type: ignore[no-any-return]

    def partition(self, f: Callable[[Any], Any] = is_trainable_param) -> tuple[Self, Self]:
        """Returns two modules: with the selected leaf parameters, and with all others; `combine` joins them.

        Args:
            f: see `filter`.

        Raises:
            AttributeNameError: the module is not initialized.
            ArgumentTypeError: ``f`` is no function of these arguments.
        """
        check_predicate(f, "parameter", where="method `partition`", example="module.partition(is_trainable_param)")
        split = self._split(lambda _, p: f(p), "partition")
        return split.part(True), split.part(False)

    def partition_with_path(self, f: Callable[[Any, Any], Any]) -> tuple[Self, Self]:
        """Does what `partition` does with ``f(path, parameter)``.

        Args:
            f: see `filter_with_path`.

        Raises:
            AttributeNameError: the module is not initialized.
            ArgumentTypeError: ``f`` is no function of these arguments.
        """
        check_predicate(
            f, "path, parameter", where="method `partition_with_path`", example='lambda path, p: path[-1] == "weight"'
        )
        split = self._split(f, "partition")
        return split.part(True), split.part(False)

    @structural
    def combine(self, *rest: Self) -> Self:
        """Fills in what this module lacks, from the first of ``rest`` that has it.

        Args:
            *rest: modules of the same structure, up to what they lack.

        Returns:
            A new module; a copy if there is no other.

        Raises:
            StructureError: structures differ (it is a ``ValueError``).
        """
        return combine(self, rest)

    def _split(self, predicate: Callable[[Any, Any], Any], verb: str) -> Split:
        if not self.initialized:
            raise AttributeNameError(
                f"cannot {verb} an uninitialized module",
                got="a module whose `setup` has not run",
                want="the module that a call has returned",
                fix=f"y, module = module(x, rng)  # rebind the returned module, then module.{verb}(...)",
                module=self,
            )
        return Split(self, predicate, (Parameter, Module))

    def load_state_dict(self, state_dict: dict[str, Any], *, strict: bool = True) -> Any:
        """Returns the module with the arrays of a dictionary: `pax.Module.load_state_dict`.

        Raises:
            StateDictError: the module is not initialized, or the dictionary does not fit.
        """
        if not self.initialized:
            raise StateDictError(
                "cannot load a state dictionary into an uninitialized module",
                got="a module whose `setup` has not run",
                fix="_, module = module(x, rng)  # x of the right shape; then load",
                why="the first call would set the parameters up, and overwrite what was loaded",
                module=self,
            )
        return super().load_state_dict(state_dict, strict=strict)  # type: ignore[call-overload]


def _forward(module: Module, may_set_up: bool, x: Any, rng: Any, inference_mode: bool, batch_axis_name: Axes) -> Any:
    is_first = may_set_up and not module.initialized
    with Call(module) as call:
        if is_first:
            call_method(module, Module, "setup", x)
            module.initialized = True
            call.set_up.clear()  # there it is no mistake, if `forward` calls them again
        try:
            y = call_method(module, Module, "forward", x, rng, inference_mode, batch_axis_name)
        except (TypeError, ValueError, AttributeError) as error:
            explain(error, module, rng, was_set_up=is_first)
            raise
    call.check()
    return y


_call_copy = pax.module_and_value(_forward)
