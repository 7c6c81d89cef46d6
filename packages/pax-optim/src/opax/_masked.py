"""A transformation for a part of the parameters."""

from typing import Any

from opax._factory import Factory, TransformationFactory, create
from opax._parts import check_leaves, check_selector, comparable, keep, leaf_paths, part_of, put_back, selected
from opax._transformation import GradientTransformation
from pax.extend import Selector


class Masked(GradientTransformation):
    """Gives some of the updates to a transformation, and returns the others as they are.

    State:
        inner: the transformation; it was created for the selected parameters, with empty nodes in place of the others.
    """

    _factory_name = "masked"

    mask: tuple[bool, ...]
    paths: tuple[str, ...]
    inner: Any

    def __init__(self, params: Any, transformation: TransformationFactory, selector: Selector) -> None:
        """Creates the transformation for the selected parameters.

        Args:
            params: the tree of parameters.
            transformation: the factory.
            selector: which leaves it is for; what counts is what it selects now.
        """
        super().__init__(params)
        self.mask = selected(params, selector, where="masked")
        self.paths = leaf_paths(params)
        with part_of(params, self.mask) as part:
            self.inner = create(transformation, part, where="masked")

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns ``updates``, with those of the selected leaves transformed.

        Raises:
            StructureError: updates or parameters have other leaves than the parameters had at creation.
        """
        check_leaves(updates, self.paths, what="updates", module=self)
        if params is not None:
            check_leaves(params, self.paths, what="parameters", module=self)
            params = keep(params, self.mask)
        return put_back(self.inner(keep(updates, self.mask), params), updates, self.mask, module=self)


def masked(transformation: TransformationFactory, selector: Selector) -> Factory[Masked]:
    """Makes a transformation for a part of the parameters; the other updates stay as they are.

    State is kept for the selected leaves only. Note that updates which "stay as they are" are still subtracted from
    parameters: to hold those still, freeze them; to optimize them otherwise, use :func:`opax.partition`.

    Args:
        transformation: what other functions of opax return, or any function that returns a transformation for a tree
            of parameters. It sees a tree with empty nodes in place of what is not selected.
        selector: which leaves of the parameters, in the language of :func:`pax.filter`: a pattern such as
            ``"encoder/**"``, a module class, a predicate, or a tree of bools. It is looked up once, when the optimizer
            is created.

    Returns:
        A factory: call it with the parameters. ``optimizer.inner`` is the transformation, ``optimizer.mask`` a tuple of
        bools: whether a leaf is selected, in the order of ``jax.tree.leaves(params)``.

    Raises:
        ArgumentTypeError: ``transformation`` makes no transformation, or ``selector`` is no selector.
        SelectorError: (when called with parameters) the selector selects nothing, while there are leaves.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = {"bias": jnp.zeros(1), "weight": jnp.zeros((1, 1))}
    >>> optimizer = opax.masked(opax.clip(1.0), lambda p: p.ndim > 1)(params)
    >>> optimizer({"bias": jnp.array([5.0]), "weight": jnp.array([[5.0]])})
    {'bias': Array([5.], dtype=float32), 'weight': Array([[1.]], dtype=float32)}
    """
    check_selector(selector, where="masked")
    return Factory(Masked, (("transformation", transformation), ("selector", comparable(selector))))
