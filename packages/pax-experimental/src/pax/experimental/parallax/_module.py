"""``Module``: declared fields, parameters made in one pass, and a key at every node."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax
import jax.tree_util as jtu
import numpy as np

import pax
from pax.errors import ArgumentError, ArgumentTypeError, MutationError, PaxError, StateDictError, UnsupportedModuleError
from pax.experimental.parallax._declared import (
    READ_ONLY,
    assigned_parameters,
    check_assignment,
    check_names,
    fix_of_late_assignment,
    lacks_parameters,
    parameter_names,
    with_class_defaults,
)
from pax.experimental.parallax._fields import fields_with_modules, own_annotations
from pax.experimental.parallax._keys import batched_like, is_key_state, key_like, split_key, spread
from pax.experimental.parallax._missing_steps import (
    NO_KEY,
    NOT_INITIALIZED,
    explain,
    explain_gradient,
    explain_mutation,
)
from pax.experimental.parallax._modes import read_mode, stored_mode
from pax.experimental.parallax._param_init import ParamInit
from pax.experimental.parallax._printing import as_block, as_line, extra_of, header_of
from pax.extend import check_key, describe, is_module, is_mutable, modules_in


class Module(pax.Module):
    """The base of Parallax modules: fields are declared, parameters come later, and every node has a key.

    A subclass annotates its fields in the class body and assigns them in ``__init__``:

    - `Parameter`: a trained array. Assign a :class:`ParamInit`, or an array.
    - `ParameterTuple`: several of them.
    - a module class: a submodule, of this dialect or any other.
    - `ModuleTuple`: several of them.
    - anything else: a constant, part of the structure. Where an annotation cannot be read, the value decides.

    A model is declared, ``net = Net(...)``; then initialized, ``net = net.initialized(rng)``; and before each use of
    randomness given keys, ``net = net.new_state(rng, mode="train")``. Each step returns a new object. ``net(x)`` runs
    ``forward``, and ``net.grad(x)`` differentiates it.

    It is a :class:`pax.Module` as well: keys are leaves that are not trained, ``parameters()`` are the parameters.

    Args:
        training: whether the module starts in the mode "train"; else in "eval".
        name: shown in front of the class name.

    >>> import jax, jax.numpy as jnp
    >>> import jax.nn.initializers as init
    >>> from pax.experimental.parallax import Module, Parameter, ParamInit
    >>> class Dense(Module):
    ...     weight: Parameter
    ...     bias: Parameter
    ...
    ...     def __init__(self, in_size, out_size):
    ...         super().__init__()
    ...         self.weight = ParamInit((out_size, in_size), init.xavier_normal())
    ...         self.bias = ParamInit((out_size,), init.normal())
    ...
    ...     def forward(self, input):
    ...         return self.weight @ input + self.bias
    ...
    ...     def extra_repr(self):
    ...         return "%d, %d" % (self.weight.shape[1], self.weight.shape[0])
    >>> layer = Dense(5, 1)
    >>> layer
    Dense uninit (5, 1)
    >>> layer = layer.initialized(jax.random.PRNGKey(0))
    >>> layer
    Dense(5, 1)
    >>> layer(jnp.zeros(5)).shape
    (1,)

    References:
        Parallax: Immutable Torch Modules for JAX. https://github.com/srush/parallax
    """

    _declared: ClassVar[frozenset[str]] = frozenset()
    _initialized: bool
    _rng: Any
    _trained: tuple[str, ...]

    if not TYPE_CHECKING:

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            module = super().__new__(cls)
            # The key is always a pytree attribute, so that new keys never change the structure.
            vars(module).update(_rng=pax.EmptyNode(), _initialized=False, _trained=())
            return module

        def __init_subclass__(cls, **kwargs: Any) -> None:
            check_names(cls, Module)
            super().__init_subclass__(**kwargs)
            cls._declared = frozenset(name for base in cls._authored_bases() for name in own_annotations(base))

        def __setattr__(self, name: str, value: Any) -> None:
            if is_mutable(self):
                check_assignment(self, name, value)
            elif self._initialized and not name.startswith("__"):
                raise MutationError(
                    f"Cannot assign `{name}`: this `{type(self).__qualname__}` is already initialized.",
                    where=f"attribute `{name}`",
                    got="an assignment outside of any `pax.pure` function",
                    fix=READ_ONLY.get(name) or fix_of_late_assignment(self, name),
                    why="a module is a value: a change in place would be invisible to jax.jit",
                    module=self,
                )
            super().__setattr__(name, value)

        def __delattr__(self, name: str) -> None:
            raise MutationError(
                f"The field `{name}` of `{type(self).__qualname__}` cannot be deleted.",
                where=f"attribute `{name}`",
                got=f"del module.{name}",
                fix=f"layer = layer.replace({name}=pax.EmptyNode())",
                module=self,
            )

    @classmethod
    def _authored_bases(cls) -> list[type]:
        """Returns the classes whose annotations count, those of the subclass first."""
        return [base for base in cls.__mro__ if base not in Module.__mro__]

    # ---- the state of a node ----------------------------------------------------------------------------------------

    @property
    def rng(self) -> Any:
        """The key of this node, for one use; ``None`` before :meth:`new_state`. Reading it does not change it."""
        return None if isinstance(self._rng, pax.EmptyNode) else self._rng

    @property
    def mode(self) -> str:
        """The mode: "train", "eval", or any other text that :meth:`new_state` was given."""
        return read_mode(super().training)

    @property
    def training(self) -> bool:
        """Whether the mode is "train"."""
        return super().training is True

    def new_state(self, rng: jax.Array, mode: str | None = None) -> Self:
        """Returns the module with new keys, and perhaps another mode, at every node.

        This node keeps ``rng`` itself. The fields with submodules, in alphabetical order, get the keys of one
        ``jax.random.split(rng, n)``, and so on below; a tuple splits its key over its items. A node that uses its own
        key is so the parent of its children's keys: let a module either draw random numbers or have submodules that do.
        Where a module is several stacked along first axes, as `jax.vmap` and `pax.Ensemble` make them, and has keys for
        all of them, each gets one of its own again. A plain PAX module splits its key over the nearest Parallax modules
        below it and the keys of `pax.RngSeq`, `pax.Dropout` and whatever else calls its own key ``rng_key``, in pytree
        order. So these draw anew, too; they keep the kind of key they have, raw or typed.

        Args:
            rng: a key, typed or ``uint32[2]``; it may be traced.
            mode: "train", or any other text; ``None`` leaves each node in the mode it has. Plain PAX modules below
                are set to training or evaluation mode.

        Raises:
            ArgumentTypeError: ``rng`` is no array, or ``mode`` no text.
            ArgumentError: ``rng`` is an array that is no single key; or ``mode`` is "train" misspelt, such as "Train"
                and "training".
        """
        check_key(rng)
        changes: dict[str, Any] = {} if mode is None else {"training": stored_mode(mode)}
        names = fields_with_modules(self)
        for name, key in zip(names, split_key(rng, len(names)), strict=True):
            changes[name] = with_state(getattr(self, name), key, mode)
        return super().replace(_rng=batched_like(self.rng, rng), **changes)

    def split(self, n: int) -> list[Self]:
        """Returns copies that share the parameters, and have different keys: for one that is used several times.

        Args:
            n: how many, at least 1.

        Returns:
            ``n`` modules, as ``new_state`` makes them of the keys ``jax.random.split(module.rng, n)``.

        Raises:
            ArgumentError: the module has no key, or ``n`` is no number ≥ 1.
        """
        count: Any = n
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise ArgumentError("Expecting a number of copies.", got=describe(count), want="an int ≥ 1", module=self)
        if self.rng is None:
            raise ArgumentError(**NO_KEY, got="split, of a module whose `rng` is None", module=self)
        return [self.new_state(key) for key in split_key(self.rng, int(n))]

    # ---- parameters -------------------------------------------------------------------------------------------------

    def initialized(self, rng: jax.Array) -> Self:
        """Returns the module with arrays in the place of all placeholders, here and below; keys and modes stay.

        Equal keys give equal parameters. Each node splits its key into one for its parameters and one for its
        submodules; both are split over the fields in alphabetical order; tuples split theirs over their items. Plain
        PAX modules, and what is there already, stay as they are: where a declared part was put into an initialized
        module, that part gets its parameters.

        Args:
            rng: a key, typed or ``uint32[2]``; it may be traced.

        Raises:
            ArgumentError: nothing is left to initialize; an initialiser fails, or returns an array of another shape.
            AttributeNameError: a declared parameter or submodule was not assigned.
            ArgumentTypeError: ``rng`` is no key; or an initialiser returns no array.
        """
        check_key(rng)
        if _is_complete(self):
            raise ArgumentError(
                f"This `{type(self).__qualname__}` is already initialized.",
                got="a second call of initialized",
                fix="call it on the declared module: Net(...).initialized(rng)",
                module=self,
            )
        module = with_class_defaults(self)
        parameters = parameter_names(module)
        modules = [name for name in fields_with_modules(module) if name not in parameters]
        for_parameters, for_modules = split_key(rng, 2)
        changes: dict[str, Any] = {}
        for name, key in zip(parameters, split_key(for_parameters, len(parameters)), strict=True):
            make = functools.partial(ParamInit.make, where=f"field `{name}` of {type(self).__qualname__}")
            changes[name] = spread(make, getattr(module, name), key, _is_placeholder)
        for name, key in zip(modules, split_key(for_modules, len(modules)), strict=True):
            changes[name] = with_parameters(getattr(module, name), key)
        made: Self = pax.Module.replace(module, _initialized=True, _trained=tuple(parameters), **changes)
        return made

    def load_state_dict(self, state_dict: dict[str, Any], *, strict: bool = True) -> Any:
        """Returns the module with the arrays of a dictionary: `pax.Module.load_state_dict`.

        Raises:
            StateDictError: the module is not initialized, or the dictionary does not fit.
        """
        if not _is_complete(self):
            raise StateDictError(
                "This module is not initialized: call initialized(rng) first, then load_state_dict.",
                got="load_state_dict, of a module with placeholders",
                fix="layer = layer.initialized(jax.random.key(0)).load_state_dict(state_dict)",
                module=self,
            )
        return super().load_state_dict(state_dict, strict=strict)  # type: ignore[call-overload]

    def parameters(self) -> Self:
        """Returns the module with its parameters only; an `EmptyNode` is in the place of keys and other arrays."""
        names = self._trained if self._initialized else assigned_parameters(self)
        new: Self = _parameters_method(names)(self)
        return new

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with other values of fields, which have to be of the declared kinds.

        A declared part that is put into an initialized module gets its parameters by :meth:`initialized`.

        Raises:
            AttributeNameError: there is no such field; or it is `rng` or `mode`, which :meth:`new_state` sets.
            ArgumentTypeError: a field is declared to hold something else.
            SharedNodeError: an array or a module would stand at two places.
        """
        for name, value in changes.items():
            if name in self._declared or name in ("rng", "mode"):
                check_assignment(self, name, value)
        return super().replace(**changes)

    # ---- use --------------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output: defined by subclasses."""
        raise UnsupportedModuleError(
            f"`{type(self).__qualname__}` has no `forward` method.", fix="def forward(self, input): ...", module=self
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns ``forward(*args, **kwargs)``."""
        try:
            return self.forward(*args, **kwargs)
        except (TypeError, AttributeError) as error:
            found = explain(self, error)
            if isinstance(error, PaxError) and error.module is None:
                error.module = self
            if found is None:
                raise
            raise found from error

    def grad(self, *args: Any, **kwargs: Any) -> Self:
        """Returns the gradient of ``module(*args, **kwargs)``, a scalar, with respect to the parameters.

        Args:
            *args: inputs of the module; gradients are not taken of them.
            **kwargs: likewise.

        Returns:
            A module of the same class with gradients in the place of parameters, and an `EmptyNode` in the place of
            keys and whatever else is not trained. So ``jax.tree.map(lambda p, g: p - 0.3 * g, layer, layer.grad(x))``
            is the updated model; the model has to be the first tree.

        Raises:
            ArgumentTypeError: the module is not initialized; or a parameter is no floating-point array.
            MutationError: a plain PAX module below changes itself, as batch norm does in training mode: its new state
                would be lost. ``pax.grad(lambda net: pax.purecall(net, x)[1])(net)`` differentiates it.
            TypeError: the output is not a scalar.
        """
        if not self._initialized:
            raise ArgumentTypeError(**NOT_INITIALIZED, got="grad", module=self)
        try:
            gradient: Self = _grad(self, *args, **kwargs)
        except TypeError as error:
            found = explain_gradient(self, error)
            if found is None:
                raise
            raise found from error
        return gradient

    # ---- text -------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Returns what to show in the brackets after the class name: nothing, unless a subclass says so."""
        return ""

    def __repr__(self) -> str:
        children = [(name, getattr(self, name)) for name in fields_with_modules(self)]
        return as_block(header_of(self), extra_of(self), children)

    def summary(self, return_list: bool = False) -> Any:
        """Returns the tree of modules as text, a line each; as a list of lines if ``return_list``."""
        lines = super().summary(return_list=True)
        lines[0] = as_line(header_of(self), extra_of(self))
        return lines if return_list else "\n".join(lines)


def is_dialect(value: Any) -> bool:
    """Whether a value is a Parallax module."""
    return isinstance(value, Module)


def with_state(value: Any, key: jax.Array, mode: str | None) -> Any:
    """Returns a tree of modules with keys, and perhaps another mode, in all Parallax modules; see ``new_state``."""
    if mode is not None:
        is_training = stored_mode(mode) is True
        value = jtu.tree_map(functools.partial(_set_training, is_training), value, is_leaf=is_module)

    def with_key(node: Any, part: jax.Array) -> Any:
        return node.new_state(part, mode) if is_dialect(node) else key_like(node, part)

    return spread(with_key, value, key, is_dialect, is_key_state)


def _set_training(is_training: bool, node: Any) -> Any:
    if not is_module(node) or is_dialect(node):
        return node
    return node.train() if is_training else node.eval()


def with_parameters(value: Any, key: jax.Array) -> Any:
    """Returns a tree of modules with parameters in all Parallax modules that have none yet; see ``initialized``."""
    return spread(lambda node, part: node if _is_complete(node) else node.initialized(part), value, key, is_dialect)


def _is_complete(module: Module) -> bool:
    return not any(lacks_parameters(node) for node in modules_in(module) if is_dialect(node))


def _is_placeholder(value: Any) -> bool:
    return isinstance(value, ParamInit)


def _value(module: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return module(*args, **kwargs)
    except MutationError as error:
        if is_dialect(error.module):
            raise  # an assignment in `forward`, which says all
        raise explain_mutation(module, error) from error


_grad = pax.grad(_value)


@functools.lru_cache(maxsize=1024)
def _parameters_method(names: tuple[str, ...]) -> Callable[[Any], Any]:
    return pax.parameters_method(*names)
