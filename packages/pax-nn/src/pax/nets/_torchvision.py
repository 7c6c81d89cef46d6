"""Weights of torchvision's residual networks."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from pax.errors import ArgumentTypeError, StateDictError
from pax.extend import describe
from pax.nets._resnet import ResNetNN

Net = TypeVar("Net", bound=ResNetNN)

# Attribute path here -> name there, from left to right, one piece after another.
_PLACES = (
    (r"^\.initial_conv", "conv1"),
    (r"^\.initial_batchnorm", "bn1"),
    (r"^\.logits", "fc"),
    (r"^\.block_groups\[(\d)\]\.blocks\[(\d+)\]", lambda found: f"layer{int(found[1]) + 1}.{found[2]}"),
    (r"\.proj_conv", ".downsample.0"),
    (r"\.proj_batchnorm", ".downsample.1"),
    (r"\.layers\[(\d)\]\[0\]", lambda found: f".conv{int(found[1]) + 1}"),
    (r"\.layers\[(\d)\]\[1\]", lambda found: f".bn{int(found[1]) + 1}"),
    (r"\.scale$", ".weight"),
    (r"\.offset$", ".bias"),
    (r"\.ema_mean\.averages$", ".running_mean"),
    (r"\.ema_var\.averages$", ".running_var"),
)


def load_torchvision_weights(net: Net, state_dict: Mapping[str, Any]) -> Net:
    """Returns a residual network with the weights and statistics of one of torchvision's layout.

    The names are torchvision's: ``conv1``, ``bn1``, ``layer1.0.conv1``, ``layer1.0.downsample.0``, …, ``fc``. Kernels
    are transposed from ``(out, in, height, width)`` to ``(height, width, in, out)``, the matrix of ``fc`` from
    ``(out, in)`` to ``(in, out)``. torchvision's names for the depths are those here: ``resnet50`` fits
    :class:`ResNet50`. ::

        weights = torchvision.models.resnet50(weights="DEFAULT").state_dict()
        net = pax.nets.load_torchvision_weights(pax.nets.ResNet50(3, 1000), weights)
        logits = net.eval()(images)

    In eval mode the outputs are equal but for rounding. In train mode they are, too, while the running statistics are
    updated in another way: PyTorch multiplies the variance of the batch by ``N / (N - 1)`` before it enters the
    average. Its ``momentum`` of 0.1 is the ``decay_rate`` of 0.9 here. The first call in train mode averages with the
    loaded statistics; it would replace those of a new network.

    Args:
        net: a network of the same depth, channels and classes; a result of ``jax.eval_shape`` will do.
        state_dict: names and arrays, NumPy's or whatever ``numpy.asarray`` takes, such as PyTorch tensors on the CPU.
            ``num_batches_tracked`` is ignored.

    Returns:
        A copy of ``net``, in the same mode and with the same dtypes.

    Raises:
        ArgumentTypeError: ``net`` is no residual network of this package, or ``state_dict`` no dictionary.
        StateDictError: a name is missing or left over, or an array has another shape.
    """
    if not isinstance(net, ResNetNN):
        raise ArgumentTypeError(
            "Expecting a residual network.",
            where="load_torchvision_weights",
            got=describe(net),
            want="ResNet18, ResNet34, ResNet50, ResNet101, ResNet152 or ResNet200 of pax.nets",
        )
    if not isinstance(state_dict, Mapping):
        raise ArgumentTypeError(
            "Expecting a dictionary for `state_dict`.",
            where="load_torchvision_weights",
            got=describe(state_dict),
            want="arrays by name",
            fix="load_torchvision_weights(net, model.state_dict())",
        )
    rest = {name: value for name, value in state_dict.items() if not name.endswith("num_batches_tracked")}
    paths, structure = jax.tree_util.tree_flatten_with_path(net)
    leaves, problems = [], []
    for path, leaf in paths:
        name = _torch_name(jax.tree_util.keystr(path))
        if name is None:  # `debias`: there are averages to go on from
            leaves.append(jnp.ones(leaf.shape, leaf.dtype))
        elif name not in rest:
            problems.append(f"{name} is missing")
        else:
            value = np.asarray(rest.pop(name))
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
            if value.ndim == 1 and leaf.ndim == 4:
                value = value.reshape(1, -1, 1, 1)
            if value.shape != leaf.shape:
                problems.append(f"{name} has shape {value.shape} after transposition, not {leaf.shape}")
            leaves.append(jnp.asarray(value, leaf.dtype))
    problems += [f"{name} has no place in the network" for name in rest]
    if problems:
        shown = problems[:10] + ([f"… {len(problems) - 10} more"] if len(problems) > 10 else [])
        raise StateDictError(
            "The state dictionary does not fit the network.",
            module=net,
            got="\n".join(shown),
            want="the names and shapes of torchvision's network of the same depth",
            fix="load_torchvision_weights(ResNet50(3, 1000), resnet50.state_dict())   # the same depth and classes",
        )
    loaded: Net = jax.tree.unflatten(structure, leaves)
    return loaded


def _torch_name(path: str) -> str | None:
    if path.endswith(".debias"):
        return None
    for pattern, name in _PLACES:
        path = re.sub(pattern, name, path)
    return path
