"""Merging two modules of one structure: the right side wins where it has something."""

from typing import Any

import jax.tree_util as jtu

from pax._empty import is_empty
from pax._errors import StructureError
from pax._paths import describe, differences, list_differences, map_pair, path_text


def merge(first: Any, second: Any) -> Any:
    """Returns ``first`` with every leaf that ``second`` has taken from there.

    Args:
        first: a module.
        second: a module of the same structure; an ``EmptyNode`` in it, also in place of a whole submodule, takes
            nothing.

    Raises:
        StructureError: structures or shapes differ; the message names the paths.
    """
    misfits: list[tuple[Any, Any]] = []

    def choose(new: Any, old: Any) -> Any:
        if is_empty(new):
            return old
        shape = getattr(new, "shape", None)
        if shape is not None and not is_empty(old) and shape != getattr(old, "shape", shape):
            misfits.append((new, old))
        return new

    try:
        # `second` goes first, because its empty nodes may stand for whole submodules of `first`.
        merged = map_pair(choose, second, first, is_leaf=is_empty)
    except ValueError as error:
        found = list_differences(differences(second, first))
        raise StructureError(
            "These modules cannot be merged: their structures differ.",
            got=found or str(error),
            want=describe(first),
            fix="merge what comes from the same model: model.update_parameters(new_model)",
            module=first,
        ) from None
    if misfits:
        paths = [
            f"{path_text(path)}: got {describe(new)}, want {describe(old)}"
            for path, leaf in jtu.tree_leaves_with_path(second)
            for new, old in misfits
            if leaf is new
        ]
        raise StructureError(
            "These modules cannot be merged: the shapes of arrays differ.",
            got="\n".join(paths[:10]),
            want="arrays of the same shapes",
            fix="module.replace_node(lambda m: m.layer.weight, new_weight)  # changes a shape on purpose",
            module=first,
        )
    return merged
