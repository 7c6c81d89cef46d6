"""``Series`` and ``Parallel``, with and without keys: layers that consist of layers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pax.errors import ArgumentTypeError
from pax.experimental.mlax._module import Axes, Module
from pax.experimental.mlax.nn._children import as_layers, call_layer, hand_out
from pax.extend import describe


class _Container(Module):
    """A list of layers.

    Args:
        layers: any iterable of layers: modules of this dialect, modules of PAX, or functions.

    Raises:
        ArgumentTypeError: it is no iterable, or something in it is no layer.
    """

    def __init__(self, layers: Iterable[Any]) -> None:
        super().__init__()
        self.layers = as_layers(layers, where=f"mlax.nn.{type(self).__name__}")

    def setup(self, x: Any) -> None:
        """Does nothing: each layer is set up by the input that it gets in the first call."""

    def _in_series(self, x: Any, keys: list[Any], inference_mode: bool, batch_axis_name: Axes) -> Any:
        for index, (layer, key) in enumerate(zip(self.layers.data, keys, strict=True)):
            x, self.layers.data[index] = call_layer(layer, x, key, inference_mode, batch_axis_name)
        return x

    def _in_parallel(self, xs: Any, keys: list[Any], inference_mode: bool, batch_axis_name: Axes) -> tuple[Any, ...]:
        outputs = []
        for index, (layer, key, x) in enumerate(zip(self.layers.data, keys, self._inputs(xs), strict=False)):
            y, self.layers.data[index] = call_layer(layer, x, key, inference_mode, batch_axis_name)
            outputs.append(y)
        return tuple(outputs)

    def _inputs(self, xs: Any) -> Iterator[Any]:
        try:
            if isinstance(xs, Mapping | str):
                raise TypeError
            return iter(xs)
        except TypeError:
            raise ArgumentTypeError(
                "Expecting an input for each layer.",
                got=describe(xs),
                want="a tuple, or any other iterable, of inputs",
                fix="ys, net = net((x, x), None)",
                module=self,
            ) from None

    def _no_keys(self) -> list[Any]:
        return [None] * len(self.layers.data)


class Series(_Container):
    """Calls layers one after another, each with the output of the one before. They get no keys: see `SeriesRng`.

    Parameters:
        layers: a structural parameter with the list of layers: ``module.layers.data[0]``.

    Args:
        layers: any iterable of layers: modules of this dialect, modules of PAX, or functions (see `F`).

    Raises:
        ArgumentTypeError: it is no iterable, or something in it is no layer.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import Bias, Linear, Series
    >>> keys = jax.random.split(jax.random.key(0))
    >>> y, net = Series([Linear(keys[0], 2), Bias(keys[1], -1), jax.nn.relu])(jnp.ones(3), None)
    >>> y.shape, net.layers.data[0].linear_kernel
    ((2,), Parameter(trainable=True, data=float32[3,2]))
    """

    def forward(self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Axes = ()) -> Any:
        """Returns the output of the last layer; ``x`` if there is none."""
        return self._in_series(x, self._no_keys(), inference_mode, batch_axis_name)


class SeriesRng(_Container):
    """Calls layers one after another, and gives keys to those that need one.

    A layer needs a key if its ``forward`` has no ``rng=None``. A single such layer gets the key itself; of several the
    j-th, counted among them, gets ``jax.random.fold_in(rng, j)``. In inference mode ``rng`` may be ``None``.

    Parameters:
        layers: a structural parameter with the list of layers.

    Args:
        layers: as in `Series`.

    Raises:
        ArgumentTypeError: it is no iterable, or something in it is no layer.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import FRng, SeriesRng
    >>> noise = SeriesRng([FRng(lambda x, rng: x + jax.random.normal(rng, x.shape)), jnp.abs])
    >>> y, noise = noise(jnp.zeros(2), jax.random.key(0))
    >>> bool(jnp.all(y == abs(jax.random.normal(jax.random.key(0), (2,)))))
    True
    """

    def forward(self, x: Any, rng: Any, inference_mode: bool = False, batch_axis_name: Axes = ()) -> Any:
        """Returns the output of the last layer; ``x`` if there is none.

        Raises:
            ArgumentTypeError: several layers need a key, and there is none, in training.
        """
        keys = hand_out(rng, self.layers.data, inference_mode, owner=self)
        return self._in_series(x, keys, inference_mode, batch_axis_name)


class Parallel(_Container):
    """Calls each layer with an input of its own. They get no keys: see `ParallelRng`.

    If there are more layers than inputs, or more inputs than layers, the surplus ones are left out; such layers are not
    set up.

    Parameters:
        layers: a structural parameter with the list of layers.

    Args:
        layers: as in `Series`.

    Raises:
        ArgumentTypeError: it is no iterable, or something in it is no layer.

    >>> import jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import Parallel
    >>> Parallel([jnp.sin, jnp.cos])((0.0, 0.0), None)[0]
    (Array(0., dtype=float32, weak_type=True), Array(1., dtype=float32, weak_type=True))
    """

    def forward(
        self, x: Any, rng: Any = None, inference_mode: bool = False, batch_axis_name: Axes = ()
    ) -> tuple[Any, ...]:
        """Returns the tuple of outputs.

        Args:
            x: an iterable of inputs.
            rng: not used.
            inference_mode: handed on.
            batch_axis_name: handed on.

        Raises:
            ArgumentTypeError: ``x`` is no iterable, or a dictionary.
        """
        return self._in_parallel(x, self._no_keys(), inference_mode, batch_axis_name)


class ParallelRng(_Container):
    """Calls each layer with an input of its own, and gives keys to those that need one, as `SeriesRng` does.

    Parameters:
        layers: a structural parameter with the list of layers.

    Args:
        layers: as in `Series`.

    Raises:
        ArgumentTypeError: it is no iterable, or something in it is no layer.

    >>> import jax, jax.numpy as jnp
    >>> from pax.experimental.mlax.nn import FRng, ParallelRng
    >>> both = ParallelRng([FRng(lambda x, rng: rng), FRng(lambda x, rng: rng)])
    >>> (first, second), both = both((1.0, 1.0), jax.random.key(0))
    >>> bool(first == jax.random.fold_in(jax.random.key(0), 0)), bool(first == second)
    (True, False)
    """

    def forward(self, x: Any, rng: Any, inference_mode: bool = False, batch_axis_name: Axes = ()) -> tuple[Any, ...]:
        """Returns the tuple of outputs.

        Args:
            x: an iterable of inputs.
            rng: a key; ``None`` in inference mode, or if at most one layer needs one, and can do without.
            inference_mode: handed on.
            batch_axis_name: handed on.

        Raises:
            ArgumentTypeError: several layers need a key, and there is none, in training; or ``x`` is no iterable, or a
                dictionary.
        """
        keys = hand_out(rng, self.layers.data, inference_mode, owner=self)
        return self._in_parallel(x, keys, inference_mode, batch_axis_name)
