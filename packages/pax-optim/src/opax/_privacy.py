"""Sums of per-example gradients that hide what a single example contributed."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from opax import _arguments
from opax._factory import Factory
from opax._precision import at_least_float32
from opax._transformation import GradientTransformation
from opax._trees import cast_like, check_alike
from pax.errors import ArgumentError
from pax.extend import describe

_FIX = "grads = jax.vmap(pax.grad(loss_fn), in_axes=(None, 0, 0))(model, x, y)"


# Misspelt in the first opax, and since then in users' summaries.
class DifferentiallyPrivateAggreate(GradientTransformation):
    """Averages per-example gradients after clipping each, and adds noise.

    State:
        rng_key: the key of the next noise, ``uint32[2]``; a typed key that takes its place works as well.
    """

    _factory_name = "differentially_private_aggregate"
    _is_first = True

    l2_norm_clip: float
    noise_multiplier: float
    rng_key: jax.Array

    def __init__(self, params: Any, l2_norm_clip: float, noise_multiplier: float, seed: int) -> None:
        """Creates the key.

        Args:
            params: the tree of parameters.
            l2_norm_clip: limit for the norm of an example's gradients.
            noise_multiplier: standard deviation of the noise, in units of the limit.
            seed: seeds the noise.
        """
        super().__init__(params)
        self.l2_norm_clip = l2_norm_clip
        self.noise_multiplier = noise_multiplier
        self.rng_key = jax.random.PRNGKey(seed)

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise that is added to the sum of the clipped gradients."""
        return self.l2_norm_clip * self.noise_multiplier

    def __call__(self, updates: Any, params: Any = None) -> Any:
        """Returns the noisy mean over the batch.

        Args:
            updates: per-example gradients, ``(batch, *shape)`` for a parameter of shape ``shape``.
            params: the current parameters; only their structure and shapes are looked at.

        Returns:
            A tree like ``updates`` without the batch axes, in the same dtypes.

        Raises:
            ArgumentError: a leaf has no batch axis, or the batch axes have different sizes.
            StructureError: ``updates`` and ``params`` have different structures.
        """
        self._check(updates, params)
        leaves, structure = jax.tree.flatten(updates)
        if not leaves:
            return updates
        # A sum over a large batch in half precision would lose what single examples add.
        wide = [at_least_float32(leaf) for leaf in leaves]
        state = optax.contrib.DifferentiallyPrivateAggregateState(self.rng_key)
        # The key it is given here would be for `init`. It sums by a matrix product, which accelerators may round to
        # fewer digits than the limit needs.
        aggregate = optax.contrib.differentially_private_aggregate(self.l2_norm_clip, self.noise_multiplier, 0)
        with jax.numpy_dtype_promotion("standard"), jax.default_matmul_precision("float32"):
            means, state = aggregate.update(wide, state)
        self.rng_key = state.rng_key
        return jax.tree.unflatten(structure, cast_like(means, leaves))

    def _check(self, updates: Any, params: Any) -> None:
        shapes: list[Any] | None = None
        if params is not None:
            structures = [jax.tree.map(lambda leaf: 0, tree) for tree in (updates, params)]
            check_alike(*structures, what="updates and parameters", module=self)
            shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
        size = None
        for index, (path, leaf) in enumerate(jax.tree.leaves_with_path(updates)):
            shape = jnp.shape(leaf)
            if len(shape) == 0 or (shapes is not None and shape[1:] != shapes[index]):
                tail = ", ".join(["batch", *map(str, shapes[index] if shapes is not None else ("...",))])
                self._refuse(path, got=describe(leaf), want=f"an array of shape [{tail}]")
            if shape[0] == 0 or size not in (None, shape[0]):
                self._refuse(path, got=describe(leaf), want=f"a batch of {size or 'at least one'}")
            size = shape[0]

    def _refuse(self, path: Any, *, got: str, want: str) -> None:
        raise ArgumentError(
            "Expecting per-example gradients, the batch being the first axis of every leaf.",
            module=self,
            where=jax.tree_util.keystr(path).removeprefix(".") or None,
            got=got,
            want=want,
            fix=_FIX,
        )


def differentially_private_aggregate(
    l2_norm_clip: float, noise_multiplier: float, seed: int
) -> Factory[DifferentiallyPrivateAggreate]:
    """Makes a transformation that averages per-example gradients with differential privacy (DP-SGD).

    The updates it is called with are gradients of single examples: each leaf has the batch as its first axis. An
    example's gradients are divided by ``max(norm / l2_norm_clip, 1)``, ``norm`` over all its leaves together. The
    updates are their sum plus normal noise of the standard deviation ``l2_norm_clip * noise_multiplier``, divided by
    the number of examples. So it has to be the first of a chain, and gradients must not be averaged before it.

    No example's gradients may depend on other examples: no batch normalization in training mode (use ``GroupNorm`` or
    ``LayerNorm``, or batch norms in eval mode), whose statistics mix the batch and are published unprotected, too.

    Args:
        l2_norm_clip: limit for the norm of an example's gradients, not negative, finite.
        noise_multiplier: ratio of the noise to the limit, not negative, finite; 0 is no privacy. The budget spent
            follows from it, the sampling rate and the number of steps; computing it is left to accounting libraries.
        seed: seeds the noise: an integer, which has to stay secret. Equal seeds give equal noise.

    Returns:
        A factory: call it with the parameters. ``optimizer.noise_std`` is the standard deviation of the noise.

    Raises:
        ArgumentError: an argument out of range.
        ArgumentTypeError: an argument that is no number, or a seed that is no integer.

    Per-example gradients are gradients of the loss of one example, mapped over the batch:

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import opax
    >>> import pax
    >>> model = pax.nn.Linear(3, 1)
    >>> optimizer = opax.chain(opax.differentially_private_aggregate(1.0, 1.1, seed=0), opax.sgd(0.1))
    >>> optimizer = optimizer(model.parameters())
    >>> x, y = jnp.ones((8, 3)), jnp.zeros((8, 1))
    >>> loss_fn = lambda model, x, y: jnp.mean((model(x[None]) - y[None]) ** 2)
    >>> grads = jax.vmap(pax.grad(loss_fn), in_axes=(None, 0, 0))(model, x, y)
    >>> grads.weight.shape
    (8, 3, 1)
    >>> updates, optimizer = opax.transform_gradients(grads, optimizer, model.parameters())
    >>> model = model.update_parameters(opax.apply_updates(model.parameters(), updates))

    The last two lines are also ``model, optimizer = opax.apply_gradients(model, optimizer, grads)``.

    References:
        Abadi et al., "Deep learning with differential privacy", 2016, https://arxiv.org/abs/1607.00133 (algorithm 1);
        computed by ``optax.contrib.differentially_private_aggregate``.
    """
    where = "differentially_private_aggregate"
    clip = _finite(l2_norm_clip, what="l2_norm_clip", where=where)
    multiplier = _finite(noise_multiplier, what="noise_multiplier", where=where)
    return Factory(
        DifferentiallyPrivateAggreate,
        (("l2_norm_clip", clip), ("noise_multiplier", multiplier), ("seed", _arguments.seed(seed, where=where))),
    )


def _finite(value: Any, *, what: str, where: str) -> float:
    # An infinite limit would need infinite noise.
    number = _arguments.number(value, what=what, where=where, low=0)
    if math.isinf(number):
        raise ArgumentError(f"`{what}` is out of range.", where=where, got=f"{what}=inf", want="a finite number")
    return number
