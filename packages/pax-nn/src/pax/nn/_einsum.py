"""A linear layer over any axes, written as an einsum equation."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from pax import ParameterModule
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._axes import positive_int
from pax.nn._dtypes import AnyArray, as_array, optional_float_dtype, to_common_dtype
from pax.nn._initialize import initialize, key_or_next, split_key
from pax.nn.initializers import Initializer, Normal


class _Terms(NamedTuple):
    """The three parts of an equation; ``...`` stands for the axes that are only passed through."""

    x: str
    weight: str
    y: str


@functools.partial(jax.jit, static_argnames=("equation", "bias_shape"), inline=True)
def _contract(
    x: jax.Array, weight: jax.Array, bias: jax.Array | None, *, equation: str, bias_shape: tuple[int, ...]
) -> jax.Array:
    """One compiled call instead of several when the layer runs outside of ``jit``; inside, it leaves no trace."""
    y = jnp.einsum(equation, *to_common_dtype(x, weight))
    if bias is None:
        return y
    y, bias = to_common_dtype(y, bias)
    return y + bias.reshape(bias_shape)


class Einsum(ParameterModule):
    """Multiplies by a weight over any axes, and adds a bias: a linear layer for inputs with several feature axes.

    ``y = einsum(equation, x, weight) + bias``. An axis is summed over if the output does not have it; one that input,
    weight and output have is a batch axis: each of its positions has a weight of its own.

    Shapes:
        input: as the first part of the equation says; ``...`` stands for any number of axes, none included.
        output: as the last part says, in ``dtype``; by default in the promoted dtype of input and weight.
    Parameters:
        weight: ``shape``, in ``param_dtype``; JAX's default float dtype by default.
        bias: one axis for each letter of ``bias_axes``, same dtype; there is no such attribute without bias axes.
    State:
        none.

    The axes of features (here ``d``) projected to heads (``h``), each of size ``k``, and back:

    >>> import jax.numpy as jnp
    >>> import pax
    >>> split = pax.nn.Einsum("...td,dhk->...htk", (8, 2, 4), bias_axes="hk")
    >>> split
    Einsum(equation=...td,dhk->...htk, shape=(8, 2, 4), bias_axes=hk)
    >>> heads = split(jnp.ones((3, 5, 8)))
    >>> heads.shape, split.bias.shape
    ((3, 2, 5, 4), (2, 4))
    >>> pax.nn.Einsum("...htk,hkd->...td", (2, 4, 8))(heads).shape
    (3, 5, 8)
    """

    equation: str
    shape: tuple[int, ...]
    bias_axes: str | None
    dtype: jnp.dtype | None
    weight: Float[Array, "..."]
    bias: Float[Array, "..."]

    def __init__(
        self,
        equation: str,
        shape: Sequence[int],
        bias_axes: str | None = None,
        w_init: Initializer | None = None,
        b_init: Initializer | None = None,
        *,
        rng_key: jax.Array | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
    ) -> None:
        """Draws the weights. ``Einsum("...i,io->...o", (i, o), "o")`` draws those of ``Linear(i, o)``.

        Args:
            equation: ``"input,weight->output"``, a letter for each axis; ``...`` in input and output for more axes.
            shape: the shape of the weight, a size for each of its letters.
            bias_axes: the axes of the output along which the bias varies, letters of the weight; default: no bias.
            w_init: initializer of the weight; default: normal with standard deviation ``1 / sqrt(fan_in)``, where
                ``fan_in`` is the product of the sizes of the axes that are summed over.
            b_init: initializer of the bias; default: the same distribution.
            rng_key: the key to draw from; default: the next key of the global generator.
            name: shown before the class in summaries.
            dtype: dtype of computation and output; default: the promoted dtype of input and weight.
            param_dtype: dtype in which the weights are stored; default: what the initializer returns.

        Raises:
            ArgumentError: a malformed equation, or a shape or bias axes that do not fit it.
            ArgumentTypeError: an argument of another type, no key for ``rng_key``, or no floating dtype.
        """
        super().__init__(name=name)
        if not isinstance(equation, str):
            raise ArgumentTypeError(
                "Expecting a string for `equation`.", where="Einsum", got=describe(equation), want=_FORM
            )
        terms = _parse(equation)
        self.equation = f"{terms.x},{terms.weight}->{terms.y}"
        self.shape = _check_shape(shape, terms)
        self.bias_axes = _check_bias_axes(bias_axes, terms)
        self.dtype = optional_float_dtype(dtype, what="dtype", where="Einsum")
        sizes = self._sizes()
        fan_in = math.prod(sizes[axis] for axis in terms.weight if axis not in terms.y)
        default = Normal(1 / math.sqrt(fan_in))
        draw = functools.partial(
            initialize,
            where="Einsum",
            param_dtype=optional_float_dtype(param_dtype, what="param_dtype", where="Einsum"),
        )
        w_key, b_key = split_key(key_or_next(rng_key, where="Einsum"))
        self.weight = draw(default if w_init is None else w_init, w_key, self.shape, what="weight")
        if self.bias_axes is not None:
            b_shape = tuple(sizes[axis] for axis in self.bias_axes)
            self.bias = draw(default if b_init is None else b_init, b_key, b_shape, what="bias")

    def __call__(self, x: Num[AnyArray, "..."]) -> Num[Array, "..."]:
        """Applies the layer.

        Args:
            x: an array with the axes of the equation's first part.

        Returns:
            An array with the axes of its last part.

        Raises:
            ArgumentError: another number of axes, or an axis of another size than that of the weight.
        """
        x = as_array(x, module=self)
        self._check_input(x)
        weight, bias = self.weight, None if self.bias_axes is None else self.bias
        if self.dtype is not None:
            x, weight = to_common_dtype(x, weight, dtype=self.dtype)
            bias = None if bias is None else bias.astype(self.dtype)
        y: Array = _contract(x, weight, bias, equation=self.equation, bias_shape=self._bias_shape(x.ndim))
        return y

    def _sizes(self) -> dict[str, int]:
        return dict(zip(_parse(self.equation).weight, self.shape, strict=True))

    def _bias_shape(self, num_input_axes: int) -> tuple[int, ...]:
        """Returns the shape of the bias with as many axes as the output: 1 along those that it does not have."""
        if self.bias_axes is None:
            return ()
        terms, sizes = _parse(self.equation), self._sizes()
        num_passed = num_input_axes - len(terms.x.replace("...", ""))
        axes = terms.y.replace("...", "." * num_passed)
        return tuple(sizes[axis] if axis in self.bias_axes else 1 for axis in axes)

    def _check_input(self, x: jax.Array) -> None:
        term, sizes = _parse(self.equation).x, self._sizes()
        head, ellipsis, tail = term.partition("...")
        expected = [*head, *(["..."] if ellipsis else []), *tail]
        fits = x.ndim >= len(head) + len(tail) if ellipsis else x.ndim == len(head)
        if not fits:
            number = f"at least {len(head) + len(tail)}" if ellipsis else str(len(head))
            headline = f"Expecting an input with {number} axes. Get {x.ndim} axes."
        else:
            named = [*zip(head, x.shape, strict=False), *zip(tail, x.shape[x.ndim - len(tail) :], strict=True)]
            wrong = [(axis, size) for axis, size in named if sizes.get(axis, size) != size]
            if not wrong:
                return
            axis, size = wrong[0]
            headline = f"Expecting size {sizes[axis]} for the axis `{axis}`. Get {size}."
        raise ArgumentError(
            headline,
            module=self,
            got=describe(x),
            want=f"{self.weight.dtype}[{','.join(str(sizes.get(axis, axis)) for axis in expected)}]",
        )

    def __repr__(self) -> str:
        info = {"equation": self.equation, "shape": self.shape, "bias_axes": self.bias_axes, "dtype": self.dtype}
        return self._repr(info)


_FORM = '"input,weight->output", for example "...td,dhk->...htk"'


def _wrong(headline: str, equation: str, **lines: str) -> ArgumentError:
    return ArgumentError(headline, where="Einsum", got=f'equation="{equation}"', **lines)


@functools.lru_cache(maxsize=256)
def _parse(equation: str) -> _Terms:
    """Takes an equation apart.

    Raises:
        ArgumentError: it is malformed, or does not say what the layer should do.
    """
    compact = equation.replace(" ", "")
    inputs, arrow, y = compact.partition("->")
    parts = inputs.split(",")
    if not arrow or len(parts) != 2:
        raise _wrong("Expecting an equation of an input, a weight and an output.", equation, want=_FORM)
    terms = _Terms(parts[0], parts[1], y)
    for what, term in zip(("input", "weight", "output"), terms, strict=True):
        letters = term.replace("...", "", 1)
        if not all(letter.isascii() and letter.isalpha() for letter in letters):
            raise _wrong(f"Expecting letters for the axes of the {what}.", equation, want=_FORM)
        if len(set(letters)) != len(letters):
            raise _wrong(f"An axis of the {what} has the letter of another one.", equation, want="a letter for each")
    if "." in terms.weight:
        raise _wrong("The weight cannot have `...`.", equation, want="a letter for each axis of the weight")
    if ("..." in terms.x) != ("..." in terms.y):
        raise _wrong("Expecting `...` in both input and output, or in none.", equation, want=_FORM)
    for axis in terms.y.replace("...", ""):
        if axis not in terms.x + terms.weight:
            raise _wrong(f"The output has an axis `{axis}` that input and weight have not.", equation, want=_FORM)
    for axis in terms.weight:
        if axis not in terms.x + terms.y:
            raise _wrong(f"The weight has an axis `{axis}` that input and output have not.", equation, want=_FORM)
    return terms


def _check_shape(shape: Sequence[int], terms: _Terms) -> tuple[int, ...]:
    sizes = list(shape) if isinstance(shape, list | tuple) else [shape]
    if len(sizes) != len(terms.weight):
        raise ArgumentError(
            "Expecting a size for each axis of the weight.",
            where="Einsum",
            got=f"shape={shape} for the axes {terms.weight}",
            want=f"{len(terms.weight)} sizes",
        )
    return tuple(positive_int(size, what="shape", where="Einsum") for size in sizes)


def _check_bias_axes(bias_axes: Any, terms: _Terms) -> str | None:
    if bias_axes is None:
        return None
    legal = "".join(axis for axis in terms.weight if axis in terms.y)
    text = bias_axes if isinstance(bias_axes, str) else ""
    if not text or len(set(text)) != len(text) or not set(text) <= set(legal):
        raise ArgumentError(
            "Expecting axes that weight and output have for `bias_axes`.",
            where="Einsum",
            got=f"bias_axes={bias_axes!r}",
            want=f"some of the letters {legal!r}, or None for no bias",
        )
    return "".join(axis for axis in terms.y if axis in text)
