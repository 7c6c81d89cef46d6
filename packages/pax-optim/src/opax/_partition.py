"""Several transformations, each for a part of the parameters."""

from typing import Any

from opax._factory import Factory, TransformationFactory, create
from opax._parts import (
    check_leaves,
    check_selector,
    comparable,
    describe_leaves,
    keep,
    leaf_paths,
    part_of,
    put_back,
    selected,
)
from opax._transformation import GradientTransformation
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import Selector, describe

Part = tuple[Selector, TransformationFactory]
"""A selector, and the factory of the transformation for what it selects."""

_FIX = 'opax.partition(("encoder/**", opax.adam(1e-4)), rest=opax.adam(1e-3))(model.parameters())'


class Partition(GradientTransformation):
    """Gives each leaf of the updates to one of several transformations. ``optimizer[i]`` is the i-th of them.

    State:
        parts: list of the transformations, that for the rest last; each was created for its own parameters, with empty
            nodes in place of the others.
    """

    _factory_name = "partition"

    owners: tuple[int, ...]
    paths: tuple[str, ...]
    parts: list[GradientTransformation]

    def __init__(self, params: Any, parts: tuple[Part, ...], rest: TransformationFactory | None = None) -> None:
        """Creates the transformations.

        Args:
            params: the tree of parameters.
            parts: selectors and factories; what counts is what the selectors select now.
            rest: the factory for the leaves that no selector selects.
        """
        super().__init__(params)
        factories = [factory for _, factory in parts] + ([] if rest is None else [rest])
        self.owners = self._owners(params, [selector for selector, _ in parts], has_rest=rest is not None)
        self.paths = leaf_paths(params)
        transformations = []
        for index, factory in enumerate(factories):
            with part_of(params, self._mask(index)) as part:
                transformations.append(create(factory, part, where="partition"))
        self.parts = transformations

    def _owners(self, params: Any, selectors: list[Selector], *, has_rest: bool) -> tuple[int, ...]:
        masks = [selected(params, selector, where=_place(index)) for index, selector in enumerate(selectors)]
        last = len(masks)
        owners = tuple(
            next((index for index, mask in enumerate(masks) if mask[leaf]), last)
            for leaf in range(len(leaf_paths(params)))
        )
        for index, mask in enumerate(masks):
            if owners and index not in owners:
                takers = sorted({owner for owner, flag in zip(owners, mask, strict=True) if flag})
                raise ArgumentError(
                    "Nothing is left for a part: earlier ones take all that it selects.",
                    where=_place(index),
                    got=f"these leaves, taken by {', '.join(f'part {taker}' for taker in takers)}:\n"
                    + describe_leaves(params, mask),
                    want="at least one leaf that no earlier part selects",
                    fix="put the part before those, or leave it out",
                )
        if last in owners and not has_rest:
            raise ArgumentError(
                "Some parameters belong to no part.",
                where="partition",
                got="no part selects\n" + describe_leaves(params, [owner == last for owner in owners]),
                want="a part for each parameter, or a transformation for the rest",
                fix="opax.partition(..., rest=opax.adam(1e-3))   or, to leave them as they are,\n"
                "model = pax.freeze_parameters(model, selector)   before the optimizer is created, or\n"
                "opax.partition(..., rest=opax.scale(0.0))",
            )
        return owners

    def _mask(self, index: int) -> list[bool]:
        return [owner == index for owner in self.owners]

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns the updates, each as the transformation of its part returns it.

        Raises:
            StructureError: updates or parameters have other leaves than the parameters had at creation.
        """
        check_leaves(updates, self.paths, what="updates", module=self)
        if params is not None:
            check_leaves(params, self.paths, what="parameters", module=self)
        for index, part in enumerate(self.parts):
            mask = self._mask(index)
            part_params = None if params is None else keep(params, mask)
            updates = put_back(part(keep(updates, mask), part_params), updates, mask, module=self)
        return updates

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: Any) -> Any:
        """Returns the transformation of a part, or a list of them for a slice; the one for the rest is the last."""
        return self.parts[index]


def partition(*parts: Part, rest: TransformationFactory | None = None) -> Factory[Partition]:
    """Makes an optimizer that treats parts of a model differently, for example with other learning rates.

    A leaf goes to the first part whose selector selects it. What is frozen (:func:`pax.freeze_parameters`) is no
    parameter, so it belongs to no part, and has no state; to freeze or unfreeze something later takes a new optimizer,
    in chains with ``strict=False``, too. In a model without any parameters all parts are empty.

    Args:
        *parts: pairs ``(selector, transformation)``. The selector is what :func:`pax.filter` takes: a pattern such as
            ``"encoder/**"``, a module class, a predicate, or a tree of bools; it is looked up once, when the optimizer
            is created. The transformation sees a tree with empty nodes in place of the other parts.
        rest: the transformation for the leaves that no selector selects; ``opax.scale(0.0)`` leaves these parameters as
            they are. If there may be none, it may be left out.

    Returns:
        A factory: call it with the parameters. ``optimizer[i]`` is the transformation of the i-th part, for example
        ``optimizer[0].learning_rate``, and ``optimizer[-1]`` that of the rest; ``optimizer.owners`` is a tuple of ints:
        the part of a leaf, in the order of ``jax.tree.leaves(params)``.

    Raises:
        ArgumentTypeError: a part is no such pair.
        ArgumentError: (when called with parameters) leaves are left and there is no ``rest``, or none for some part.
        SelectorError: (when called with parameters) a selector selects nothing, while there are leaves.

    >>> import jax.numpy as jnp
    >>> import opax
    >>> params = {"encoder": jnp.ones(1), "head": jnp.ones(1)}
    >>> optimizer = opax.partition(("encoder", opax.sgd(0.1)), rest=opax.sgd(1.0))(params)
    >>> updates, optimizer = opax.transform_gradients({"encoder": jnp.ones(1), "head": jnp.ones(1)}, optimizer, params)
    >>> updates
    {'encoder': Array([0.1], dtype=float32), 'head': Array([1.], dtype=float32)}
    >>> optimizer[0][0].trace
    {'encoder': Array([1.], dtype=float32), 'head': EmptyNode}
    """
    return Factory(
        Partition,
        (("parts", tuple(_checked(index, part) for index, part in enumerate(parts))), ("rest", rest)),
    )


def _checked(index: int, part: Any) -> Part:
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise ArgumentTypeError(
            "A part is a pair of a selector and a transformation.",
            where=_place(index),
            got=describe(part),
            want='for example ("encoder/**", opax.adam(1e-4))',
            fix=_FIX,
        )
    selector, factory = part
    check_selector(selector, where=_place(index))
    return comparable(selector), factory


def _place(index: int) -> str:
    return f"partition, part {index}"
