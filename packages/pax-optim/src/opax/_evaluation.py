"""The parameters for evaluation that an optimizer keeps beside those for training."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax

import pax
from opax._chain import Chain
from opax._masked import Masked
from opax._partition import Partition
from opax._parts import keep, put_back
from opax._transformation import GradientTransformation
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe

Model = TypeVar("Model", bound=pax.Module)


def evaluation_model(model: Model, optimizer: GradientTransformation) -> Model:
    """Returns the model with the parameters for evaluation that its optimizer keeps.

    One transformation of the optimizer, at any depth, has to keep some: :func:`opax.params_ema`,
    :func:`opax.lookahead`, or any class with a method ``evaluation_params(params)``, which returns a tree like
    ``params``. Frozen parts, and states such as moving averages of batch normalization, are those of ``model``; so is
    the mode: for evaluation mode call ``.eval()`` on the result. Arrays may be shared with ``model`` and ``optimizer``:
    if the train step donates these, use the result before the next one.

    Args:
        model: the model that is trained; it is not changed, and training goes on with it.
        optimizer: its optimizer, after the last step.

    Returns:
        A new model.

    Raises:
        ArgumentTypeError: ``model`` is no module, or ``optimizer`` no optimizer.
        ArgumentError: no transformation keeps parameters for evaluation, or several do.
        StructureError: the optimizer was created for other parameters.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> model = pax.nn.Linear(2, 1)
    >>> optimizer = opax.chain(opax.sgd(0.1), opax.params_ema(0.99))(model.parameters())
    >>> grads = pax.grad(lambda model, x: jnp.mean(model(x) ** 2))(model, jnp.ones((4, 2)))
    >>> model, optimizer = opax.apply_gradients(model, optimizer, grads)
    >>> smooth = opax.evaluation_model(model, optimizer).eval()
    >>> bool(jnp.allclose(smooth.weight, model.weight))  # after one step the average is the parameters
    True
    """
    if not isinstance(model, pax.Module):
        raise ArgumentTypeError("Expecting a PAX Module.", where="evaluation_model, `model`", got=describe(model))
    if not isinstance(optimizer, GradientTransformation):
        raise ArgumentTypeError(
            "Expecting an OPAX optimizer.",
            where="evaluation_model, `optimizer`",
            got=describe(optimizer),
            want="the optimizer of the model",
            fix="opax.evaluation_model(model, optimizer)",
        )
    found = list(_keepers(_Place(optimizer, "", model.parameters(), lambda params: params)))
    if len(found) != 1:
        raise ArgumentError(
            "Several transformations keep parameters for evaluation."
            if found
            else "No transformation of the optimizer keeps parameters for evaluation.",
            where="evaluation_model",
            got=", ".join(map(str, found)) or f"`{optimizer!r}`",
            want="exactly one",
            fix="model.update_parameters(transformation.evaluation_params(model.parameters()))  # with one of them"
            if found
            else "optimizer = opax.chain(opax.adam(1e-3), opax.params_ema(0.999))(model.parameters())",
        )
    place = found[0]
    return model.update_parameters(place.put_back(place.transformation.evaluation_params(place.params)))


@dataclass(frozen=True)
class _Place:
    """A transformation inside of an optimizer.

    Attributes:
        transformation: what stands there.
        path: where it is below the optimizer.
        params: the parameters in the form in which it knows them.
        put_back: from that form to the one of the model.
    """

    transformation: Any
    path: str
    params: Any
    put_back: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"`{self.path or 'the optimizer'}` ({type(self.transformation).__qualname__})"


def _keepers(place: _Place) -> Iterator[_Place]:
    """Yields the transformations that keep parameters for evaluation, outer ones first."""
    if callable(getattr(type(place.transformation), "evaluation_params", None)):
        yield place
    for below in _directly_below(place):
        yield from _keepers(below)


def _directly_below(place: _Place) -> Iterator[_Place]:
    outer = place.transformation
    below = [
        (f"{place.path}{jax.tree_util.keystr(path)}".removeprefix("."), node)
        for path, node in jax.tree.leaves_with_path(outer, is_leaf=lambda node: node is not outer and _transforms(node))
        if _transforms(node)
    ]
    if isinstance(outer, Masked):
        masks: list[Any] = [outer.mask]
    elif isinstance(outer, Partition):
        masks = [outer._mask(index) for index in range(len(outer))]
    else:
        masks = [None] * len(below)
    for (path, node), mask in zip(below, masks, strict=True):
        if mask is not None:
            yield _part(place, node, path, mask)
        elif isinstance(outer, Chain) and outer._keeps_leaves:
            yield _leaves(place, node, path)
        else:
            yield _Place(node, path, place.params, place.put_back)


def _leaves(outer: _Place, node: GradientTransformation, path: str) -> _Place:
    leaves, structure = jax.tree.flatten(outer.params)
    return _Place(node, path, leaves, lambda new: outer.put_back(jax.tree.unflatten(structure, new)))


def _part(outer: _Place, node: GradientTransformation, path: str, mask: Sequence[bool]) -> _Place:
    def fill(part: Any) -> Any:
        return outer.put_back(put_back(part, outer.params, mask, module=outer.transformation))

    return _Place(node, path, keep(outer.params, mask), fill)


def _transforms(node: Any) -> bool:
    return isinstance(node, GradientTransformation)
