"""``Flattener``: pytrees kept as flat lists of leaves, which cost next to nothing in a call of a compiled function."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import jax

import pax
from pax.errors import ArgumentError, ArgumentTypeError, AttributeNameError, MutationError, UnsupportedModuleError
from pax.experimental._module_trees import map_modules
from pax.experimental._treedefs import intern_treedefs
from pax.extend import describe, frozen_paths, is_module


class Flattener(pax.Module):
    """Keeps pytrees (models, optimizers, dictionaries, …) as flat lists of leaves.

    ``jax.jit`` takes all its arguments apart at every call, and puts its results together. With a model of many modules
    that takes longer than with a list of its arrays, which is what a flattener holds. Reading an entry rebuilds it: in
    a compiled function that happens while it is traced, not when it runs.

    A flattener is a module: it passes through ``jit``, ``scan``, ``vmap`` and the rest, it pickles, and it never
    changes; :meth:`update` returns a new one.

    - ``train()``, ``eval()`` and ``apply(func)`` reach the stored modules, but not from a module that holds the
      flattener. So does ``pax.freeze_parameters(flattener)``: what is read from the flattener is frozen from then on,
      until ``pax.unfreeze_parameters(flattener)``. Paths of selectors are those of the flat lists here; a part is
      frozen by ``flattener.update(model=pax.freeze_parameters(flattener.model, "encoder"))``.
    - It has no parameters: those of ``flattener.model`` are trained.
    - Leaves that are no arrays, such as the number in ``Flattener(rate=0.1)``, are static.

    Args:
        **kwargs: the pytrees. A name is refused if it is an attribute of modules (``map``, ``name``, ``training``, …),
            or if it begins with an underscore.

    Attributes:
        leaves_dict (dict[str, list[Any]]): the leaves of each entry.
        treedef_dict (Mapping[str, Any]): the structure of each entry; read-only.

    Raises:
        ArgumentTypeError: a positional argument was given.
        ArgumentError: a name cannot be used.
        SharedNodeError: an array or a module stands at two places.

    >>> import jax, opax, pax
    >>> from pax.experimental import Flattener
    >>> net = pax.Linear(3, 3)
    >>> flats = Flattener(model=net, optimizer=opax.adam(1e-3)(net.parameters()))
    >>> print(flats.model.summary())
    Linear(in_dim=3, out_dim=3, with_bias=True)
    >>> flats = flats.update(net=pax.Linear(4, 4))
    >>> print(flats.net.summary())
    Linear(in_dim=4, out_dim=4, with_bias=True)

    A train step:

    >>> @jax.jit
    ... def train_step(flats, x):
    ...     loss_fn = lambda model: (model(x) ** 2).mean()
    ...     loss, grads = pax.value_and_grad(loss_fn)(flats.model)
    ...     model, optimizer = opax.apply_gradients(flats.model, flats.optimizer, grads)
    ...     return flats.update(model=model, optimizer=optimizer), loss
    >>> flats, loss = train_step(flats, jax.numpy.ones((1, 3)))
    """

    leaves_dict: dict[str, list[Any]]
    treedef_dict: Mapping[str, Any]

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        if args:
            raise ArgumentTypeError(
                "A flattener takes keyword arguments only: each entry needs a name.",
                got=", ".join(map(describe, args)),
                fix="Flattener(model=model, optimizer=optimizer)",
            )
        self._check_names(kwargs)
        self.leaves_dict, self.treedef_dict = _flatten(kwargs)

    def update(self, /, **kwargs: Any) -> Self:
        """Returns a new flattener in which entries are replaced or added.

        Args:
            **kwargs: the new pytrees, of any structure. Inside of ``scan`` and ``while_loop``, which want the same
                structure in every round, it has to be that of the old one.

        Raises:
            ArgumentError: a name cannot be used.
            SharedNodeError: an array or a module stands at two places.
        """
        self._check_names(kwargs)
        leaves, treedefs = _flatten(kwargs)
        return self.replace(
            leaves_dict={**self.leaves_dict, **leaves}, treedef_dict=intern_treedefs({**self.treedef_dict, **treedefs})
        )

    def replace(self, **changes: Any) -> Self:
        """Does what `pax.Module.replace` does, for attributes; entries are replaced by :meth:`update`.

        Raises:
            MutationError: a name is that of an entry.
        """
        for name in changes:
            self._check_is_no_entry(name, f"replace({name}=...)")
        return super().replace(**changes)

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            self._check_is_no_entry(name, "an assignment")
            super().__setattr__(name, value)

    def parameters(self) -> Self:
        """Always raises an error: the stored leaves are not trainable.

        Raises:
            UnsupportedModuleError: (a ``ValueError``) in every case.
        """
        raise UnsupportedModuleError(
            "A flattener only stores ndarray leaves as non-trainable states.\n"
            "Reconstruct the original module before getting parameters.",
            got="parameters() of a Flattener",
            fix=f"flattener.{next(iter(self.treedef_dict), 'model')}.parameters()",
            module=self,
        )

    def train(self) -> Self:
        """Returns a copy in which the stored modules are in training mode."""
        return super().train()._map_modules(lambda module: module.train())

    def eval(self) -> Self:
        """Returns a copy in which the stored modules are in evaluation mode."""
        return super().eval()._map_modules(lambda module: module.eval())

    def apply(self, func: Callable[[Any], Any]) -> Any:
        """Applies ``func`` to all modules in the entries, submodules first, and then to the flattener itself.

        Args:
            func: takes a module, returns a module.

        Returns:
            What ``func`` returns for the flattener.
        """
        return super().apply(lambda flattener: func(flattener.apply_submodules(func)))

    def apply_submodules(self, func: Callable[[Any], Any]) -> Self:
        """Does what :meth:`apply` does, but not to the flattener itself."""
        return self._map_modules(lambda module: module.apply(func))

    def _check_names(self, names: Iterable[str]) -> None:
        for name in names:
            own = name in ("leaves_dict", "treedef_dict") or name in vars(self) or hasattr(type(self), name)
            if own or name.startswith("_"):
                raise ArgumentError(
                    f"`{name}` cannot be the name of an entry of a flattener.",
                    where=f"argument `{name}`",
                    got="an attribute that flatteners have themselves" if own else "a name with an underscore in front",
                    want="a name that modules do not use",
                    fix=f"{name.strip('_') or 'entry'}_=...",
                    module=self,
                )

    def _check_is_no_entry(self, name: str, got: str) -> None:
        """An attribute would hide the entry of its name."""
        if name in vars(self).get("treedef_dict", ()):
            raise MutationError(
                f"`{name}` is an entry of a flattener: entries are replaced by `update`, which returns a new one.",
                where=f"entry `{name}`",
                got=got,
                fix=f"flat = flat.update({name}=...)",
                module=self,
            )

    def _map_modules(self, func: Callable[[Any], Any]) -> Self:
        return self.update(**{name: map_modules(func, self._stored(name)) for name in self.treedef_dict})

    def _stored(self, name: str) -> Any:
        return jax.tree.unflatten(self.treedef_dict[name], self.leaves_dict[name])

    def __getattr__(self, name: str) -> Any:
        treedefs: Iterable[str] = vars(self).get("treedef_dict", ())
        if name not in treedefs:
            similar = difflib.get_close_matches(name, treedefs, 1)
            raise AttributeNameError(
                f"{type(self).__qualname__!r} object has no attribute {name!r}",
                want=", ".join(treedefs) or "(it has no entries)",
                fix=f"flattener.{similar[0]}  # a similar name" if similar else f"flat = flat.update({name}=...)",
                module=self,
            )
        return self._frozen_like_this(name, self._stored(name))

    def _frozen_like_this(self, name: str, entry: Any) -> Any:
        """Returns an entry in which the modules are frozen where the stored leaves are."""
        frozen = frozen_paths(self)
        if frozen is True:
            return map_modules(pax.freeze_parameters, entry)
        if not frozen:
            return entry
        flags = [f"leaves_dict[{name!r}][{index}]" in frozen for index in range(len(self.leaves_dict[name]))]
        mask = jax.tree.unflatten(self.treedef_dict[name], flags)
        return jax.tree.map(_freeze, entry, mask, is_leaf=is_module)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *vars(self).get("treedef_dict", ())})


def _flatten(entries: Mapping[str, Any]) -> tuple[dict[str, list[Any]], Mapping[str, Any]]:
    flat = {name: jax.tree.flatten(tree) for name, tree in entries.items()}
    treedefs = intern_treedefs({name: treedef for name, (_, treedef) in flat.items()})
    return {name: leaves for name, (leaves, _) in flat.items()}, treedefs


def _freeze(node: Any, mask: Any) -> Any:
    return pax.freeze_parameters(node, mask) if is_module(node) and any(jax.tree.leaves(mask)) else node
