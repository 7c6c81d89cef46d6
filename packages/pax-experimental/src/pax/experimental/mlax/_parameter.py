"""``Parameter``, and the predicates that tell parameters apart."""

import functools
from typing import TYPE_CHECKING, Any, Self, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

import pax
from pax.errors import ArgumentError, ArgumentTypeError
from pax.experimental.mlax._adopt import adopt
from pax.experimental.mlax._names import check_name
from pax.extend import describe, frozen_paths, is_module, is_mutable

_ARRAY = (jax.Array, np.ndarray)
_NUMBER = (bool, int, float, complex, np.generic)


P = TypeVar("P", bound=pax.Module)


class _NoArithmetic:
    """Operators of arrays, which a parameter does not have."""

    __array_ufunc__ = None  # NumPy leaves the operators to the class, too

    def _refuse(self, *_: Any) -> Any:
        raise ArgumentTypeError(
            "A Parameter is no array: its data are.",
            got="an operator on a Parameter",
            want="an operator on its data",
            fix="x * self.weight.data, instead of x * self.weight",
            module=self,
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __pow__ = __rpow__ = __neg__ = __abs__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse


class Parameter(_NoArithmetic, pax.Module):
    """Data of a module, and whether it is trained.

    A parameter is a pytree with one child, ``data``. ``trainable``, and any other attribute that you set, is static; an
    array in one of those is a leaf that is not trained.

    With ``trainable=None`` it is *structural*: a container for other parameters and modules, through which
    `Module.filter` looks. All others are *leaf parameters*, whose data are kept or dropped as a whole.

    A parameter can change where its module can: in the constructor, in ``setup``, and in ``forward``. It is a module of
    PAX, so `pax.grad`, `opax`, ``state_dict`` and `pax.freeze_parameters` know it: ``parameters()`` keeps the data if
    ``trainable`` is ``True``, drops them if it is anything else, and asks what is inside if it is ``None``.

    Args:
        trainable: ``True``, ``False``, or ``None`` for a container. It is part of the structure: another value is
            another structure, and a new trace.
        data: an array, or any pytree of arrays and numbers; ``None`` if they are not known yet. Numbers become arrays,
            so that another number is no new trace. In a container: a pytree of modules and parameters.

    Raises:
        ArgumentTypeError: ``trainable`` is an array, or the data of a leaf parameter hold something else than arrays
            and numbers.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax import Parameter
    >>> Parameter(trainable=True, data=jnp.ones((2, 3)))
    Parameter(trainable=True, data=float32[2,3])
    >>> Parameter(False).data is None, jax.tree.leaves(Parameter(False))
    (True, [])
    """

    trainable: Any

    def __init__(self, trainable: Any, data: Any = None) -> None:
        super().__init__()
        if isinstance(trainable, _ARRAY):
            raise ArgumentTypeError(
                "`trainable` cannot be an array.",
                where="mlax.Parameter, argument `trainable`",
                got=describe(trainable),
                want="True, False, or None for a container",
                fix="Parameter(trainable=True, data=array)",
                why="it is part of the structure of the module",
            )
        self.trainable = trainable
        self.data = data

    @property
    def data(self) -> Any:
        """The array, or the pytree; ``None`` if there is nothing."""
        value = vars(self).get("data")
        return None if isinstance(value, pax.EmptyNode) else value

    @data.setter
    def data(self, value: Any) -> None:
        vars(self)["data"] = value

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            check_name(self, Parameter, name, value)
            if is_mutable(self):
                if name == "data":
                    value = _stored(self, value)
                value = adopt(self, value)
            super().__setattr__(name, value)

    def parameters(self) -> Self:
        """Returns the parameter itself if it is trained, without its data if it is not.

        A container is returned with the parameters of what is in it.
        """
        if self.trainable is None:
            inside: Self = super().parameters()
            return inside
        return portion(self, data=self.trainable is True, others=False)

    def __repr__(self) -> str:
        data = repr(self.data) if is_module(self.data) else describe(self.data)
        return self._repr({"trainable": repr(self.trainable), "data": data})


# Functions, and no methods: a precision policy would round what goes through a method.
def _stored(parameter: Parameter, value: Any) -> Any:
    """Returns what stands for ``value`` in the pytree: never ``None``, which would be static."""
    if value is None:
        return pax.EmptyNode()
    if parameter.trainable is None or isinstance(value, _ARRAY):
        return value
    return jax.tree.map(functools.partial(_as_leaf, parameter), value, is_leaf=is_module)


def _as_leaf(parameter: Parameter, leaf: Any) -> Any:
    if isinstance(leaf, _ARRAY) or is_module(leaf):
        return leaf
    if isinstance(leaf, _NUMBER):
        try:
            return jnp.asarray(leaf)
        except OverflowError as error:
            raise ArgumentError(
                "This integer is too large.",
                where="attribute `data`",
                got=describe(leaf),
                want="an integer that an array of JAX can hold",
                why=str(error),
                module=parameter,
            ) from None
    raise ArgumentTypeError(
        "The data of a parameter are arrays and numbers.",
        where="attribute `data`",
        got=describe(leaf),
        want="an array, or a pytree of arrays and numbers",
        fix="keep it as an attribute of the module, where it is static",
        module=parameter,
    )


def portion(parameter: P, *, data: bool, others: bool) -> P:
    """Returns a part of a parameter.

    Args:
        parameter: a parameter.
        data: whether the part has its data.
        others: whether the part has the arrays in its other attributes, which are never trained.
    """
    if data and (others or parameter.pytree_attributes in ((), ("data",))):
        return parameter.copy()
    content, structure = jtu.tree_flatten_with_path(parameter, is_leaf=lambda node: node is not parameter)
    kept = [child if (data if path[0].name == "data" else others) else pax.EmptyNode() for path, child in content]
    new: P = jtu.tree_unflatten(structure, kept)
    return new.copy()


def is_trainable_param(x: Any) -> bool:
    """Whether ``x`` is a `Parameter` whose ``trainable`` is ``True``, and which is not frozen.

    A parameter is one unit: if only some of the arrays in its data are frozen, it is trainable. Its ``parameters()``
    leave those out.

    Args:
        x: anything.

    >>> from pax.experimental.mlax import Parameter, is_trainable_param
    >>> is_trainable_param(Parameter(True)), is_trainable_param(Parameter(1)), is_trainable_param("text")
    (True, False, False)
    """
    return isinstance(x, Parameter) and x.trainable is True and frozen_paths(x) is not True


def is_non_trainable_param(x: Any) -> bool:
    """Whether ``x`` is a `Parameter` whose ``trainable`` is ``False``, or one that `pax.freeze_parameters` has frozen.

    Args:
        x: anything.

    >>> from pax.experimental.mlax import Parameter, is_non_trainable_param
    >>> is_non_trainable_param(Parameter(False)), is_non_trainable_param(Parameter(None))
    (True, False)
    """
    if not isinstance(x, Parameter):
        return False
    return x.trainable is False or (x.trainable is True and frozen_paths(x) is True)


def is_leaf_param(x: Any) -> bool:
    """Whether ``x`` is a `Parameter` that holds data, and not a container: its ``trainable`` is not ``None``.

    Args:
        x: anything.

    >>> from pax.experimental.mlax import Parameter, is_leaf_param
    >>> is_leaf_param(Parameter(False)), is_leaf_param(Parameter(None))
    (True, False)
    """
    return isinstance(x, Parameter) and x.trainable is not None
