"""How PyTorch's layers store what the layers here have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pax import RngSeq, nn

Arrays = Sequence[Any]
"""NumPy arrays."""


@dataclass(frozen=True)
class Link:
    """Some arrays of a module, and the arrays of PyTorch that say the same.

    Args:
        places: paths of the module's arrays, relative to the layer or, once it is known, to the root.
        names: PyTorch's names, likewise.
        pack: makes PyTorch's arrays of the module's.
        unpack: makes the module's arrays of PyTorch's, up to a final ``reshape``.
    """

    places: tuple[str, ...]
    names: tuple[str, ...]
    pack: Callable[[Arrays], Arrays] = tuple
    unpack: Callable[[Arrays], Arrays] = tuple


@dataclass(frozen=True)
class Layout:
    """What is known of a class of layers.

    Args:
        links: those whose places a layer does not have are left out.
        kept: attributes that PyTorch does not have.
        made_of_layers: the layer has other layers as parts; a map that names these makes it a plain module.
        why_not: says why a layer cannot be converted, or returns ``None``.
    """

    links: tuple[Link, ...] = ()
    kept: tuple[str, ...] = ()
    made_of_layers: bool = False
    why_not: Callable[[Any], str | None] = lambda layer: None


def _each(function: Callable[[Any], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: tuple(map(function, arrays))


def _kernel(weight: Any) -> Any:
    """``(*kernel, in, out)`` as ``(out, in, *kernel)``."""
    return weight.transpose(-1, -2, *range(weight.ndim - 2))


def _kernel_back(weight: Any) -> Any:
    return weight.transpose(*range(2, weight.ndim), 1, 0)


def _flipped(weight: Any) -> Any:
    """``(*kernel, out, in)`` as ``(in, out, *kernel)``, every kernel back to front."""
    return _kernel(np.flip(weight, tuple(range(weight.ndim - 2))))


def _flipped_back(weight: Any) -> Any:
    return _kernel_back(np.flip(weight, tuple(range(2, weight.ndim))))


def _stacked(weights: Arrays) -> Arrays:
    return (np.concatenate([weight.T for weight in weights]),)


def _unstacked(weights: Arrays) -> Arrays:
    return tuple(part.T for part in np.split(weights[0], 3))


def _gates_reordered(array: Any, order: Sequence[int]) -> Any:
    """Reorders the gates, which are blocks along the first axis."""
    parts = np.split(array, len(order))
    return np.concatenate([parts[index] for index in order])


def _cell(*order: int) -> tuple[Link, ...]:
    """Links of a recurrent cell: one matrix for inputs and hidden values here, two of each in PyTorch.

    Args:
        *order: where PyTorch's gates are here; the other way round it is the same.
    """

    def pack(weights: Arrays) -> Arrays:
        both = _gates_reordered(weights[0].T, order)
        return tuple(np.split(both, [both.shape[1] - both.shape[0] // len(order)], 1))

    def unpack(weights: Arrays) -> Arrays:
        return (_gates_reordered(np.concatenate(weights, 1), order).T,)

    def pack_bias(biases: Arrays) -> Arrays:
        bias = _gates_reordered(biases[0], order)
        return bias, np.zeros_like(bias)

    def unpack_bias(biases: Arrays) -> Arrays:
        return (_gates_reordered(biases[0] + biases[1], order),)

    return (
        Link(("fc.weight",), ("weight_ih", "weight_hh"), pack, unpack),
        Link(("fc.bias",), ("bias_ih", "bias_hh"), pack_bias, unpack_bias),
    )


def _statistics(place: str, name: str) -> Link:
    """The link of running averages. Those that are loaded are there to go on from, so that ``debias`` is 1."""
    return Link(
        (f"{place}.averages", f"{place}.debias"),
        (name,),
        lambda arrays: (arrays[0].ravel(),),
        lambda arrays: (arrays[0], np.ones(())),
    )


def _never(reason: str) -> Layout:
    return Layout(why_not=lambda layer: reason, made_of_layers=True)


_transpose = _each(lambda array: array.T)
_ravel = _each(lambda array: array.reshape(-1))
_bias = Link(("bias",), ("bias",))
_norm = (Link(("scale",), ("weight",), _ravel), Link(("offset",), ("bias",), _ravel))

_LAYOUTS: tuple[tuple[tuple[type, ...], Layout], ...] = (
    ((nn.Linear,), Layout((Link(("weight",), ("weight",), _transpose, _transpose), _bias))),
    (
        (nn.Conv1D, nn.Conv2D, nn.Conv3D),
        Layout((Link(("weight",), ("weight",), _each(_kernel), _each(_kernel_back)), _bias)),
    ),
    (
        (nn.Conv1DTranspose, nn.Conv2DTranspose, nn.Conv3DTranspose),
        Layout((Link(("weight",), ("weight",), _each(_flipped), _each(_flipped_back)), _bias)),
    ),
    (
        (nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D),
        Layout((*_norm, _statistics("ema_mean", "running_mean"), _statistics("ema_var", "running_var"))),
    ),
    ((nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm, nn.RMSNorm), Layout(_norm)),
    ((nn.PReLU,), Layout((Link(("weight",), ("weight",), _ravel),))),
    (
        (nn.MultiHeadAttention,),
        Layout(
            (
                Link(
                    ("query_projection.weight", "key_projection.weight", "value_projection.weight"),
                    ("in_proj_weight",),
                    _stacked,
                    _unstacked,
                ),
                Link(
                    ("query_projection.bias", "key_projection.bias", "value_projection.bias"),
                    ("in_proj_bias",),
                    _stacked,
                    _unstacked,
                ),
                Link(("output_projection.weight",), ("out_proj.weight",), _transpose, _transpose),
                Link(("output_projection.bias",), ("out_proj.bias",)),
            ),
            kept=("rng_key", "cache"),
            made_of_layers=True,
            why_not=lambda layer: (
                None
                if layer.num_kv_heads == layer.num_heads
                else "torch.nn.MultiheadAttention has as many heads of keys and values as of queries"
            ),
        ),
    ),
    (
        (nn.LSTM,),
        Layout(
            _cell(0, 2, 1, 3),
            made_of_layers=True,
            why_not=lambda layer: (
                None
                if layer.forget_gate_bias == 0
                else "PyTorch has no `forget_gate_bias`; it is a part of the bias there"
            ),
        ),
    ),
    ((nn.VanillaRNN,), Layout(_cell(0), made_of_layers=True)),
    (
        (nn.GRU,),
        _never("PyTorch's multiplies by the reset gate after the matrix, not before: no weights make them equal"),
    ),
    (
        (nn.WeightNorm, nn.SpectralNorm),
        _never("its weight is computed; convert the layer in it, and wrap that afterwards"),
    ),
    ((nn.Tied,), _never("its arrays are not at their places; convert the model in it, and tie that afterwards")),
)

_STATES = (nn.Dropout, nn.KVCache, RngSeq)
"""Modules that hold nothing that PyTorch stores."""


def layout_of(layer: Any) -> Layout | None:
    """Returns what is known of the class of a module."""
    return next((layout for classes, layout in _LAYOUTS if isinstance(layer, classes)), None)


def is_state(module: Any) -> bool:
    """Whether PyTorch stores nothing of such a module."""
    return isinstance(module, _STATES)
