"""``LazyModule``: modules that create their parts in the first call, and ``lazy_init``, which does without a call."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pax
from pax.errors import ArgumentError, ArgumentTypeError, MutationError
from pax.experimental._lazy_init import create, lazy_init
from pax.experimental._module_trees import map_modules
from pax.extend import describe, frozen_paths, is_module, is_mutable, join_session

T = TypeVar("T")


class LazyModule(pax.Module):
    """A module whose parts are created in its first call, when the shapes of the inputs are known.

    Subclasses call :meth:`get_or_create` in ``__call__``, in place of making layers in ``__init__``. Creating changes
    the module, so the first call has to be a pure one, ``net, y = net % x``. Or let :meth:`init` create everything from
    the shapes of the inputs alone. Do either before you make an optimizer: later calls leave the structure of the
    module as it is.

    Args:
        training: whether the module starts in training mode.
        name: shown in front of the class name.

    Subclasses can be dataclasses:

    >>> from dataclasses import dataclass
    >>> from typing import Sequence
    >>> import jax, jax.numpy as jnp, pax
    >>> from pax.experimental import LazyModule
    >>> @dataclass
    ... class MLP(LazyModule):
    ...     features: Sequence[int]
    ...
    ...     def __call__(self, x):
    ...         sizes = zip(self.features[:-1], self.features[1:])
    ...         for i, (in_dim, out_dim) in enumerate(sizes):
    ...             fc = self.get_or_create(f"fc{i}", lambda: pax.Linear(in_dim, out_dim))
    ...             x = jax.nn.relu(fc(x))
    ...         return x
    >>> mlp, _ = MLP([1, 2, 3]) % jnp.ones((1, 1))
    >>> print(mlp.summary())
    MLP(features=[1, 2, 3])
    ├── Linear(in_dim=1, out_dim=2, with_bias=True)
    └── Linear(in_dim=2, out_dim=3, with_bias=True)
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # the parts

    def __init__(self, *, training: bool = True, name: str | None = None) -> None:
        super().__init__(training=training, name=name)

    def get_or_create(self, name: str, create_fn: Callable[[], T]) -> T:
        """Returns the attribute of this name, which is created if there is none.

        Created modules may change in the call that creates them: a ``Dropout`` or ``BatchNorm`` can be called at once.
        What a module in evaluation mode creates is in that mode, too, and what a module that is frozen as a whole
        creates is frozen.

        Args:
            name: of the attribute. Any that exists is returned, whoever made it.
            create_fn: a function without arguments that returns the new value: a module, an array, a container of such,
                or anything else. It is called at once, so it may use loop variables.

        Returns:
            The attribute. Modules are copies of those that ``create_fn`` returned.

        Raises:
            ArgumentError: ``name`` is that of a method.
            ArgumentTypeError: the attribute has to be created, and ``create_fn`` is not callable, or is a module.
            MutationError: the attribute has to be created, and the module is immutable.
        """
        _check_name(self, name)
        if hasattr(self, name):
            found: T = getattr(self, name)
            return found
        if not _is_function(create_fn):
            raise ArgumentTypeError(
                "Expect a callable function",
                where=f"get_or_create({name!r}, ...)",
                got=describe(create_fn),
                want="a function without arguments",
                fix=f"self.get_or_create({name!r}, lambda: pax.Linear(3, 4))",
                module=self,
            )
        if not is_mutable(self):
            raise MutationError(
                "Cannot modify a module in immutable mode.\n"
                "Please do this computation inside a function decorated by `pax.pure`.",
                where=f"attribute `{name}`",
                got=f"the first get_or_create({name!r}, ...), outside of any `pax.pure` function that got this module, "
                "or in a JAX transformation inside of it",
                fix="net, y = net % x  # creates all that is missing, and goes on with the returned module\n"
                "net = net.init(x)  # the same, from the shape of x alone\n"
                f"part = self.get_or_create({name!r}, ...)  # before jax.lax.scan and the like in a method, not in it",
                module=self,
            )
        part = create(self, name, lambda: _call(create_fn, name))
        if not self.training:
            part = map_modules(lambda module: module.eval(), part)
        if frozen_paths(self) is True:
            part = map_modules(pax.freeze_parameters, part)
        created: T = join_session(self, part)
        setattr(self, name, created)
        return created

    def init(self, *args: Any, **kwargs: Any) -> Self:
        """Returns the module with everything created that a call with such inputs creates: :func:`lazy_init`.

        >>> import jax, jax.numpy as jnp, pax
        >>> class Head(pax.experimental.LazyModule):
        ...     def __call__(self, x):
        ...         return self.get_or_create("fc", lambda: pax.Linear(x.shape[-1], 2))(x)
        >>> Head().init(jax.ShapeDtypeStruct((8, 3), jnp.float32)).fc
        Linear(in_dim=3, out_dim=2, with_bias=True)
        """
        return lazy_init(self, *args, **kwargs)


def _is_function(value: Any) -> bool:
    return callable(value) and not is_module(value)  # a module is called with inputs


def _call(create_fn: Callable[[], T], name: str) -> T:
    try:
        return create_fn()
    except TypeError as error:
        if not _takes_nothing(create_fn):
            text = getattr(create_fn, "__name__", "create")
            error.add_note(
                f"get_or_create calls the function without arguments: self.get_or_create({name!r}, lambda: {text}(...))"
            )
        raise


def _takes_nothing(function: Callable[..., Any]) -> bool:
    """Whether a function can be called without arguments, as far as that is known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind()
    except TypeError:
        return False
    return True


def _check_name(module: LazyModule, name: Any) -> None:
    if not isinstance(name, str):
        raise ArgumentTypeError(
            "The name of an attribute is a string.",
            where="get_or_create, argument `name`",
            got=describe(name),
            fix='self.get_or_create("fc", lambda: pax.Linear(3, 4))',
            module=module,
        )
    if inspect.isroutine(getattr(type(module), name, None)):
        raise ArgumentError(
            f"`{name}` is a method of this class, so it cannot be created.",
            where=f"get_or_create({name!r}, ...)",
            want="a name that no method has",
            fix=f"self.get_or_create({name + '_'!r}, ...)",
            module=module,
        )
