"""One array used at several places of a model."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from pax import EmptyNode, Module
from pax.errors import ArgumentError, ArgumentTypeError, StructureError
from pax.extend import describe
from pax.nn._inner_call import call_and_changes, errors_located_in, path_text, with_changes

_TRANSPOSED = ".T"


class Tied(Module):
    """Calls a model in which one array is used at several places: tied embeddings, for example.

    The array is held once, at its *source*; the other places, the *targets*, are empty (:class:`pax.EmptyNode`) and get
    the array whenever the model is called. So it is one leaf: it gets one gradient (the sum over all its uses) and one
    update, and stands once in the state dictionary. Holding one array object at two places without ``Tied`` is an
    error in PAX, because the next copy would be two arrays.

    Paths are written as in error messages: ``"layers[0].weight"``. ``".T"`` at the end of a source transposes it.

    Shapes:
        input, output: those of the model.
    Parameters, State:
        model: those of the model, without the targets.

    >>> import jax.numpy as jnp
    >>> import pax
    >>> class Autoencoder(pax.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.encoder = pax.nn.Linear(5, 2)
    ...         self.decoder = pax.nn.Linear(2, 5)
    ...
    ...     def __call__(self, x):
    ...         return self.decoder(self.encoder(x))
    >>> net = pax.nn.Tied(Autoencoder(), {"decoder.weight": "encoder.weight.T"})
    >>> print(net.summary())
    Tied(decoder.weight=encoder.weight.T)
    └── Autoencoder
        ├── Linear(in_dim=5, out_dim=2, with_bias=True)
        └── Linear(in_dim=2, out_dim=5, with_bias=True)
    >>> net(jnp.ones((3, 5))).shape, net.model.decoder.weight
    ((3, 5), EmptyNode)

    References:
        Press & Wolf, "Using the Output Embedding to Improve Language Models", 2017, https://arxiv.org/abs/1608.05859
    """

    model: Module
    ties: tuple[tuple[str, str], ...]

    def __init__(self, model: Any, ties: Mapping[str, str], *, name: str | None = None) -> None:
        """Ties arrays of a model; those of the targets are dropped, those of the sources stay.

        Args:
            model: a callable module that holds all the places.
            ties: a source for each target, both as paths below ``model``. If both are submodules, all trained arrays of
                the one are tied to those of the other, while each keeps its states.
            name: shown before the class in summaries.

        Raises:
            ArgumentTypeError: ``model`` is no callable module, or ``ties`` no dictionary.
            ArgumentError: there is nothing at a path, a shape or dtype disagrees, a source is itself a target, or there
                are no ties.
        """
        super().__init__(name=name)
        if not isinstance(model, Module) or not callable(model):
            raise ArgumentTypeError(
                "Expecting a callable module.", where="Tied", got=describe(model), want="a module with a `__call__`"
            )
        if not isinstance(ties, Mapping):
            raise ArgumentTypeError(
                "Expecting a dictionary for `ties`.",
                where="Tied",
                got=describe(ties),
                want="a source for each target",
                fix='Tied(model, {"head.weight": "embed.weight.T"})',
            )
        if not ties:
            raise ArgumentError(
                "There is nothing to tie.",
                where="Tied",
                got="no ties",
                want="a source for each target",
                fix='Tied(model, {"head.weight": "embed.weight.T"})',
            )
        self.ties = tuple((str(target), str(source)) for target, source in ties.items())
        self._arrays = tuple(_Resolver(model).resolve(self.ties))
        targets = {target for target, _, _ in self._arrays}
        self.model = jtu.tree_map_with_path(
            lambda path, leaf: EmptyNode() if path_text(path) in targets else leaf, model
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the model returns.

        Raises:
            MutationError: the model changes its state, outside of ``pax.purecall`` or ``pax.pure``.
            StructureError: a target is not empty, or a source is.
        """
        with errors_located_in(self, "model"):
            changes, output = call_and_changes(self._filled(), *args, **kwargs)
        if changes:
            computed = [target for target, _, _ in self._arrays]
            self.model = with_changes(self.model, changes, computed=computed)
        return output

    def untie(self) -> Any:
        """Returns the model with an array of its own at each place, to train on without ties or to export it."""
        targets = {target for target, _, _ in self._arrays}
        return jtu.tree_map_with_path(
            lambda path, leaf: jnp.copy(leaf) if path_text(path) in targets else leaf, self._filled()
        )

    def _filled(self) -> Any:
        """Returns the model with the arrays of the sources at the targets."""
        content, structure = jtu.tree_flatten_with_path(self.model, is_leaf=lambda node: isinstance(node, EmptyNode))
        found = {path_text(path): leaf for path, leaf in content}
        for target, source, transposed in self._arrays:
            if not isinstance(found.get(target), EmptyNode) or isinstance(found.get(source, EmptyNode()), EmptyNode):
                raise StructureError(
                    "The arrays of the model are not where its ties say.",
                    module=self,
                    where=f"tie of `{target}` to `{source}`",
                    got=f"{describe(found.get(target))} at the target, {describe(found.get(source))} at the source",
                    want="nothing (EmptyNode) at the target, an array at the source",
                    fix="Tied(model, ties)   # again, after arrays of the model were loaded or replaced",
                )
            found[target] = found[source].T if transposed else found[source]
        return jax.tree.unflatten(structure, list(found.values()))

    def __repr__(self) -> str:
        return self._repr(dict(self.ties))


class _Resolver:
    """Finds the arrays that paths stand for."""

    def __init__(self, model: Module) -> None:
        self.arrays = {path_text(path): leaf for path, leaf in jtu.tree_leaves_with_path(model)}
        self.trained = [path_text(path) for path, _ in jtu.tree_leaves_with_path(model.parameters())]

    def resolve(self, ties: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str, bool]]:
        """Yields target, source, and whether the source is transposed, for each array."""
        pairs = [pair for target, source in ties for pair in self._pairs(target, source)]
        sources = {source for _, source, _ in pairs}
        seen: set[str] = set()
        for target, source, transposed in pairs:
            if target in sources or target in seen:
                raise ArgumentError(
                    "An array can be tied to one other array, which is not tied itself.",
                    where=f"Tied, `{target}`",
                    got="it is a source, too" if target in sources else "it is a target twice",
                    want="one source for each target",
                    fix="tie all places to the same source",
                )
            seen.add(target)
            self._check_like(target, source, transposed)
            yield target, source, transposed

    def _pairs(self, target: str, source: str) -> list[tuple[str, str, bool]]:
        transposed = source.endswith(_TRANSPOSED) and source not in self._below(source)
        source = source.removesuffix(_TRANSPOSED) if transposed else source
        targets, sources = self._below(target), self._below(source)
        for path, found in ((target, targets), (source, sources)):
            if not found:
                raise ArgumentError(
                    "There is no array at the path of a tie.",
                    where="Tied",
                    got=f'"{path}"',
                    want="the path of an array, or of a module with trained arrays:\n" + self._listing(),
                    fix=f'"{_without_slashes(path)}"   # the path of a tie is written like Python'
                    if "/" in path
                    else None,
                )
        if [path[len(target) :] for path in targets] != [path[len(source) :] for path in sources]:
            raise ArgumentError(
                "Two modules can only be tied if they have the same trained arrays.",
                where=f"Tied, `{target}`",
                got=", ".join(targets),
                want=f"arrays as below `{source}`: {', '.join(sources)}",
            )
        return [(path, source + path[len(target) :], transposed) for path in targets]

    def _below(self, path: str) -> list[str]:
        if path in self.arrays:
            return [path]
        return [other for other in self.trained if other.startswith((f"{path}.", f"{path}["))]

    def _listing(self, limit: int = 30) -> str:
        lines = [f"{path}: {describe(leaf)}" for path, leaf in self.arrays.items()]
        return "\n".join(lines[:limit] + ["…"] * (len(lines) > limit))

    def _check_like(self, target: str, source: str, transposed: bool) -> None:
        got, want = self.arrays[source], self.arrays[target]
        shape = got.shape[::-1] if transposed else got.shape
        if (shape, got.dtype) != (want.shape, want.dtype):
            fits = not transposed and (got.shape[::-1], got.dtype) == (want.shape, want.dtype)
            raise ArgumentError(
                "Tied arrays need the same shape and dtype.",
                where=f"Tied, `{target}`",
                got=f"{describe(got)} at `{source}`{', transposed' if transposed else ''}",
                want=describe(want),
                fix=f'Tied(model, {{"{target}": "{source}.T"}})' if fits else None,
            )


def _without_slashes(path: str) -> str:
    return re.sub(r"/(\d+)(?=/|$|\.)", r"[\1]", path).replace("/", ".")
