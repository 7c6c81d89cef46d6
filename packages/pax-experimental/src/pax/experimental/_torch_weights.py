"""Weights of PyTorch: `load_torch_weights` and `to_torch_weights`."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

import pax
from pax.errors import ArgumentError, ArgumentTypeError, SelectorError, StateDictError
from pax.experimental._torch_hints import fix_for
from pax.experimental._torch_links import Leaves, find_links
from pax.experimental._torch_names import TorchNames
from pax.experimental._torch_stacks import restacked, unstacked
from pax.extend import describe, is_tracer

M = TypeVar("M", bound=pax.Module)


@overload
def load_torch_weights(
    module: M,
    state_dict: Mapping[str, Any],
    names: TorchNames | None = None,
    *,
    ignore: Sequence[str] = (),
    strict: Literal[True] = True,
) -> M: ...


@overload
def load_torch_weights(
    module: M,
    state_dict: Mapping[str, Any],
    names: TorchNames | None = None,
    *,
    ignore: Sequence[str] = (),
    strict: Literal[False],
) -> tuple[M, dict[str, str]]: ...


def load_torch_weights(
    module: M,
    state_dict: Mapping[str, Any],
    names: TorchNames | None = None,
    *,
    ignore: Sequence[str] = (),
    strict: bool = True,
) -> M | tuple[M, dict[str, str]]:
    """Returns a module with the weights of a PyTorch model.

    ``names`` says what PyTorch calls the parts of the module. Each entry is a pattern of paths here, with a slash
    between segments and stars for some of them, and a name there, where ``{0}`` is what the first star stands for, and
    ``{0+1}``, ``{0*3}`` or ``{0*3+1}`` what is computed from it::

        net = load_torch_weights(
            pax.nets.ResNet18(3, 1000),
            torchvision.models.resnet18().state_dict(),
            {
                "initial_conv": "conv1",
                "initial_batchnorm": "bn1",
                "block_groups/*/blocks/*/layers/*/0": "layer{0+1}.{1}.conv{2+1}",
                "block_groups/*/blocks/*/layers/*/1": "layer{0+1}.{1}.bn{2+1}",
                "block_groups/*/blocks/*/proj_conv": "layer{0+1}.{1}.downsample.0",
                "block_groups/*/blocks/*/proj_batchnorm": "layer{0+1}.{1}.downsample.1",
                "logits": "fc",
            },
        )

    * What no pattern names is called as it is here, behind the name of what it is in: ``fc1``, ``blocks.0.norm``. The
      layers of a :class:`pax.nn.Sequential` are ``0``, ``1``, …, as in PyTorch. The blocks of a :class:`pax.nn.Stack`
      and the members of a :class:`pax.nn.Ensemble` are named like the modules of a list.
    * A pattern can name modules, lists, and single arrays. The pattern ``""`` names the module itself, and its name is
      put in front of all others: with ``{"": "module", "head": "fc"}`` the head is ``module.fc``. (The names of
      other parts, of ``blocks`` for example, are not put in front of a name that a pattern gives.)
    * ``{"convs/*": "features.{0*3}"}`` is for PyTorch's ``Sequential`` with two layers without arrays behind each
      convolution: ``features.0``, ``features.3``, ``features.6``.
    * A name with a star has the names of the arrays there: ``{"rnn/cell": "lstm.*_l0"}`` for ``lstm.weight_ih_l0``.
    * The name ``None`` says that PyTorch does not have this part. The module keeps what it has.

    The layouts of the layers are known. ``weight`` of :class:`pax.nn.Linear`, of convolutions and of transposed
    convolutions (where PyTorch's kernels are back to front) is transposed; ``scale``, ``offset``, ``ema_mean`` and
    ``ema_var`` of normalisations are ``weight``, ``bias``, ``running_mean`` and ``running_var``, and training goes on
    from these averages; the first three projections of a :class:`pax.nn.MultiHeadAttention` are ``in_proj_weight`` and
    ``in_proj_bias``, unless ``names`` names the projections; the matrix of an :class:`pax.nn.LSTM` or
    :class:`pax.nn.VanillaRNN` is ``weight_ih`` and ``weight_hh``, and its bias the sum of two. Other arrays, those of
    your own classes, have the same shape on both sides. ``num_batches_tracked`` is ignored, and keys of random numbers
    stay as they are.

    Equal weights make equal models only if the layers compute the same: compare ``eps``, ``padding`` and activations,
    and the outputs of both models.

    A ``Linear`` behind flattened images needs care. PyTorch flattens channels first, and a model of PAX, where channels
    are last, has the same number of features in another order: all shapes agree, and the outputs are wrong. Bring the
    channels to the front before you flatten, in the PAX model::

        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # as torch.flatten(x, 1) of N, C, H, W
        x = self.fc(x)

    Args:
        module: a module; it is not changed. A result of ``jax.eval_shape`` will do if PyTorch has all of its arrays.
        state_dict: arrays by name: NumPy arrays, or PyTorch's tensors, on any device. This function does not need
            PyTorch itself.
        names: PyTorch's names by patterns of paths. The first pattern that matches a node names it.
        ignore: patterns of names in ``state_dict`` that have no place in the module: ``"*.attn.mask"``. Each has to
            match something.
        strict: load all or nothing. If false, load what fits, and keep the module's own arrays elsewhere.

    Returns:
        The new module, with the dtypes and in the mode of ``module``. If ``strict`` is false: the new module, and a
        dictionary of what was skipped, with the reason by PyTorch's name.

    Raises:
        ArgumentTypeError: ``module`` is not a module, ``state_dict`` or ``names`` no dictionary.
        ArgumentError: a name of ``names`` is malformed, two arrays get the same name, or PyTorch has no layer like one
            of the module, for example :class:`pax.nn.GRU`.
        SelectorError: a pattern of ``names`` or ``ignore`` matches nothing.
        StateDictError: arrays are missing, unexpected, or of another shape or kind. All of them are listed.

    Example:
        >>> import numpy as np
        >>> import jax, pax
        >>> weights = {"fc.weight": np.ones((3, 2), "float32"), "fc.bias": np.zeros(3, "float32")}
        >>> net = pax.nn.Sequential(jax.nn.relu, pax.nn.Linear(2, 3))
        >>> net = load_torch_weights(net, weights, {"modules/1": "fc"})
        >>> net[1].weight.shape
        (2, 3)
    """
    _check_module(module, "load_torch_weights")
    if not isinstance(state_dict, Mapping):
        raise ArgumentTypeError(
            "Expecting a dictionary for `state_dict`.",
            where="pax.experimental.load_torch_weights",
            got=describe(state_dict),
            want="arrays by name",
            fix="load_torch_weights(module, torch_model.state_dict())",
        )
    patterns = [ignore] if isinstance(ignore, str) else [*ignore]
    _check_all_match(patterns, state_dict)
    rest = {name: value for name, value in state_dict.items() if not _is_ignored(name, patterns)}
    blocks_apart = unstacked(module)
    links, leaves = find_links(blocks_apart, names)
    new: Leaves = {}
    problems: dict[str, str] = {}
    for link in links:
        want = link.pack([_zeros(leaves[place]) for place in link.places])
        target = ", ".join(f"`{place}`" for place in link.places if not place.endswith(".debias"))
        found = {name: _as_numpy(rest.pop(name)) for name in link.names if name in rest}
        wrong = {
            name: f"got {_text(found[name])}{_why_not(found[name])}, want {_text(array)} for {target}"
            if name in found
            else f"missing, want {_text(array)} for {target}"
            for name, array in zip(link.names, want, strict=True)
            if name not in found or not _fits(found[name], array)
        }
        problems |= wrong
        if not wrong:
            loaded = link.unpack([found[name] for name in link.names])
            new |= {place: _like(leaves[place], array) for place, array in zip(link.places, loaded, strict=True)}
    problems |= {name: f"unexpected, got {_text(value)}" for name, value in rest.items()}
    if strict:
        problems |= {
            place: "PyTorch does not have it, and the module has no value to keep"
            for place, leaf in leaves.items()
            if isinstance(leaf, jax.ShapeDtypeStruct) and place not in new and not problems
        }
    if strict and problems:
        raise StateDictError(
            "PyTorch's weights do not fit the module.",
            where="pax.experimental.load_torch_weights",
            module=module,
            got="\n".join(f"{name}: {why}" for name, why in problems.items()),
            want="the names and shapes of pax.experimental.to_torch_weights(module, names)",
            fix=fix_for(state_dict, names, [name for name, why in problems.items() if why.startswith("missing")]),
        )
    arrays = [new.get(place, leaf) for place, leaf in leaves.items()]
    loaded_module = restacked(jax.tree.unflatten(jax.tree.structure(blocks_apart), arrays), module)
    return loaded_module if strict else (loaded_module, problems)


def to_torch_weights(module: pax.Module, names: TorchNames | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the weights of a module as a dictionary that a PyTorch model can load.

    The way back of :func:`load_torch_weights`, with the same map of names. ::

        weights = to_torch_weights(net, names)
        torch_model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})

    Keys of random numbers are left out, and so is ``num_batches_tracked``, which ``load_state_dict`` does not ask for.
    The bias of a recurrent cell becomes the first of PyTorch's two, the second is zero.

    Args:
        module: a module.
        names: PyTorch's names by patterns of paths, see :func:`load_torch_weights`.

    Returns:
        NumPy arrays of their own memory, by name; in the dtype of the module, but for bfloat16 and others that NumPy
        does not have itself, which become float32.

    Raises:
        ArgumentTypeError: ``module`` is not a module, or has a tracer in the place of an array.
        ArgumentError: as :func:`load_torch_weights`; or the module is a result of ``jax.eval_shape``.
        SelectorError: a pattern matches nothing.

    Example:
        >>> import pax
        >>> {name: array.shape for name, array in to_torch_weights(pax.nn.Linear(2, 3), {"": "fc"}).items()}
        {'fc.weight': (3, 2), 'fc.bias': (3,)}
    """
    _check_module(module, "to_torch_weights")
    links, leaves = find_links(unstacked(module), names)
    for place, leaf in leaves.items():
        if is_tracer(leaf) or isinstance(leaf, jax.ShapeDtypeStruct):
            kind = ArgumentTypeError if is_tracer(leaf) else ArgumentError
            raise kind(
                "Only arrays that have values can be given to PyTorch.",
                where=f"pax.experimental.to_torch_weights, array `{place}`",
                got=f"{describe(leaf)} without values",
                want="a module of arrays, outside of jit and other transformations",
            )
    return {
        name: _own(array)
        for link in links
        for name, array in zip(link.names, link.pack([np.asarray(leaves[p]) for p in link.places]), strict=True)
    }


def _check_module(module: Any, where: str) -> None:
    if not isinstance(module, pax.Module):
        raise ArgumentTypeError(
            "Expecting a PAX module.",
            where=f"pax.experimental.{where}, argument `module`",
            got=describe(module),
            want="an instance of pax.Module",
        )


def _check_all_match(patterns: Sequence[str], names: Mapping[str, Any]) -> None:
    unused = [pattern for pattern in patterns if not any(fnmatch.fnmatchcase(name, pattern) for name in names)]
    if unused:
        raise SelectorError(
            "A pattern of `ignore` matches nothing.",
            where="pax.experimental.load_torch_weights",
            got=", ".join(map(repr, unused)),
            want="patterns of names in `state_dict`",
            fix='ignore=["*.attn.mask"]  # a star stands for any text, also with dots in it',
        )


def _is_ignored(name: str, patterns: Sequence[str]) -> bool:
    return name.rpartition(".")[2] == "num_batches_tracked" or any(
        fnmatch.fnmatchcase(name, pattern) for pattern in patterns
    )


def _zeros(leaf: Any) -> Any:
    """Returns zeros of the shape and dtype of a leaf, without memory for them."""
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _as_numpy(value: Any) -> Any:
    """Returns an array or a tensor of PyTorch as a NumPy array, and what is neither as it is."""
    try:
        if hasattr(value, "detach"):  # a tensor, which may be on another device, or need gradients
            value = value.detach().cpu()
            value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return np.asarray(value) if hasattr(value, "shape") or isinstance(value, bool | int | float) else value
    except (TypeError, ValueError, RuntimeError):  # a sparse or quantized tensor, or one without values
        return value


def _fits(value: Any, want: Any) -> bool:
    return isinstance(value, np.ndarray) and value.shape == want.shape and _kind(value.dtype) == _kind(want.dtype)


def _why_not(value: Any) -> str:
    return ", a tensor that is no array" if hasattr(value, "detach") else ""


def _kind(dtype: Any) -> Any:
    """Returns one kind for all floating dtypes, and likewise for integers and complex numbers."""
    kinds = (jnp.floating, jnp.integer, jnp.complexfloating, jnp.bool_)
    return next((kind for kind in kinds if jnp.issubdtype(dtype, kind)), dtype)


def _like(leaf: Any, array: Any) -> Any:
    """Returns a copy of an array as one that can stand for ``leaf``: PyTorch may change its own in place."""
    copied = np.array(array, dtype=leaf.dtype).reshape(leaf.shape)
    return copied if isinstance(leaf, np.ndarray) else jnp.asarray(copied)


def _own(array: Any) -> np.ndarray[Any, Any]:
    is_plain = array.dtype.kind in "biufc"
    return np.array(array, dtype=array.dtype if is_plain else np.float32, order="C")


def _text(value: Any) -> str:
    return describe(value).removeprefix("numpy ").removeprefix("torch.")
