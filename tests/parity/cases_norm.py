"""Normalisation: outputs, and the running statistics."""

from typing import Any

import jax
import jax.numpy as jnp

import pax
from parity.case import Case, haiku, nnx, normal, torch
from parity.cases_conv import x_first, x_last
from parity.peers import haiku_layer, nnx_layer, torch_layer

# ---- batch normalisation: with averages that are no longer the initial ones ------------------------------------------


def in_use(module: Any) -> Any:
    """Returns a module whose averages count: in a new one the first batch replaces them."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.ones_like(leaf) if jax.tree_util.keystr(path).endswith(".debias") else leaf, module
    )


class _BatchNorm:
    def __init__(self, axes: int, training: bool, first: bool = False) -> None:
        self.axes, self.training, self.first = axes, training, first
        letters = "DHW"[3 - axes :]
        self.data_format = f"NC{letters}" if first else f"N{letters}C"

    def make(self) -> Any:
        norm = in_use(getattr(pax.nn, f"BatchNorm{self.axes}D")(3, data_format=self.data_format))
        return norm if self.training else norm.eval()

    def inputs(self) -> tuple[Any, ...]:
        sizes = (4, 3, 5)[: self.axes]
        return (3 + 2 * normal(2, 3, *sizes) if self.first else 3 + 2 * normal(2, *sizes, 3),)

    def ours(self, module: Any, x: Any) -> Any:
        module, y = pax.purecall(module, x)
        # The peers do not differentiate statistics.
        averages = jax.lax.stop_gradient((module.ema_mean.averages, module.ema_var.averages))
        return y, *(average.reshape(-1) for average in averages)

    def torch(self, w: Any, x: Any) -> Any:
        layer = getattr(torch.nn, f"BatchNorm{self.axes}d")(3).train(self.training)
        mean, variance = w["ema_mean.averages"].flatten().clone(), w["ema_var.averages"].flatten().clone()
        buffers = {"running_mean": mean, "running_var": variance.clone()}
        weights = {"weight": w["scale"].flatten(), "bias": w["offset"].flatten(), **buffers}
        y = x_last(torch_layer(layer, weights, x_first(x, self.first)), self.first)
        # PyTorch averages the unbiased variance of a batch, we the biased one.
        n = x.numel() / 3
        batch_part = buffers["running_var"] - 0.9 * variance
        new_variance = 0.9 * variance + batch_part * (n - 1) / n if self.training else variance
        return y, buffers["running_mean"], new_variance

    def haiku(self, w: Any, x: Any) -> Any:
        def call(x: Any) -> Any:
            return haiku.BatchNorm(True, True, 0.9, data_format=self.data_format)(x, self.training)

        state = {
            f"batch_norm/~/{name}_ema": {"counter": jnp.array(7), "hidden": average, "average": average}
            for name, average in (("mean", w["ema_mean.averages"]), ("var", w["ema_var.averages"]))
        }
        # Its averages have no initial value to go on from: those of the two libraries differ.
        return haiku_layer(call, {"batch_norm": {"scale": w["scale"], "offset": w["offset"]}}, x, state=state)

    def nnx(self, w: Any, x: Any) -> Any:
        weights = {
            "scale": w["scale"],
            "bias": w["offset"],
            "mean": w["ema_mean.averages"],
            "var": w["ema_var.averages"],
        }
        layer = nnx_layer(
            lambda rngs: nnx.BatchNorm(
                3, axis=self.data_format.index("C"), use_running_average=not self.training, momentum=0.9, rngs=rngs
            ),
            {name: value.reshape(-1) for name, value in weights.items()},
        )
        y = layer(x)
        return y, *jax.lax.stop_gradient((layer.mean[...], layer.var[...]))

    def cases(self) -> list[Case]:
        of, variant = f"pax.nn.BatchNorm{self.axes}D", "train mode" if self.training else "eval mode"
        variant += ", channels first" if self.first else ""
        return [
            Case(of, "PyTorch", self.make, self.torch, self.inputs, self.ours, variant),
            Case(of, "Flax NNX", self.make, self.nnx, self.inputs, self.ours, variant),
            Case(of, "Haiku", self.make, self.haiku, self.inputs, lambda m, x: pax.purecall(m, x)[1], variant),
        ]


_BATCH_NORMS = [
    _BatchNorm(axes, training, first)
    for axes, training, first in (
        (1, True, False),
        (1, False, True),
        (2, True, True),
        (2, False, False),
        (3, True, False),
        (3, False, True),
    )
]


# ---- of each example -------------------------------------------------------------------------------------------------


def _features() -> tuple[Any, ...]:
    return (3 + 2 * normal(2, 3, 6),)


def _images(first: bool) -> Any:
    return lambda: (3 + 2 * (normal(2, 6, 3, 4) if first else normal(2, 3, 4, 6)),)


def _haiku_norm(make: Any, scope: str) -> Any:
    return lambda w, x: haiku_layer(lambda x: make()(x), {scope: w}, x)


def _nnx_norm(make: Any) -> Any:
    def theirs(w: Any, x: Any) -> Any:
        names = {"scale": "scale", "offset": "bias"}
        return nnx_layer(make, {names[name]: array for name, array in w.items()})(x)

    return theirs


def _torch_norm(make: Any) -> Any:
    def theirs(w: Any, x: Any) -> Any:
        names = {"scale": "weight", "offset": "bias"}
        return torch_layer(make(), {names[name]: array for name, array in w.items()}, x)

    return theirs


def _layer_norm() -> Any:
    return pax.nn.LayerNorm(6, -1, True, True)


def _layer_norm_of_two_axes() -> Any:
    return pax.nn.LayerNorm(6, (1, 2), False, False)


def _group_norm(first: bool) -> Any:
    return lambda: pax.nn.GroupNorm(2, 6, data_format="channels_first" if first else "channels_last")


def _instance_norm(first: bool) -> Any:
    return lambda: pax.nn.InstanceNorm(6, data_format="channels_first" if first else "channels_last")


_OF_EXAMPLES = [
    Case("pax.nn.LayerNorm", "PyTorch", _layer_norm, _torch_norm(lambda: torch.nn.LayerNorm(6)), _features),
    Case(
        "pax.nn.LayerNorm",
        "PyTorch",
        _layer_norm_of_two_axes,
        _torch_norm(lambda: torch.nn.LayerNorm((3, 6), elementwise_affine=False)),
        _features,
        variant="two axes, no parameters",
    ),
    Case(
        "pax.nn.LayerNorm",
        "Haiku",
        _layer_norm,
        _haiku_norm(lambda: haiku.LayerNorm(-1, True, True), "layer_norm"),
        _features,
    ),
    Case(
        "pax.nn.LayerNorm",
        "Flax NNX",
        _layer_norm,
        _nnx_norm(lambda rngs: nnx.LayerNorm(6, epsilon=1e-5, rngs=rngs)),
        _features,
    ),
    Case(
        "pax.nn.GroupNorm",
        "PyTorch",
        _group_norm(True),
        _torch_norm(lambda: torch.nn.GroupNorm(2, 6)),
        _images(True),
        variant="channels first",
    ),
    Case(
        "pax.nn.GroupNorm",
        "Haiku",
        _group_norm(False),
        _haiku_norm(lambda: haiku.GroupNorm(2), "group_norm"),
        _images(False),
    ),
    Case(
        "pax.nn.GroupNorm",
        "Haiku",
        lambda: pax.nn.GroupNorm(2, 6, axis=(1, 3)),
        _haiku_norm(lambda: haiku.GroupNorm(2, axis=(1, 3)), "group_norm"),
        _images(False),
        variant="axes 1 and 3",
    ),
    Case(
        "pax.nn.GroupNorm",
        "Flax NNX",
        _group_norm(False),
        _nnx_norm(lambda rngs: nnx.GroupNorm(6, num_groups=2, epsilon=1e-5, rngs=rngs)),
        _images(False),
    ),
    Case(
        "pax.nn.InstanceNorm",
        "PyTorch",
        _instance_norm(True),
        _torch_norm(lambda: torch.nn.InstanceNorm2d(6, affine=True)),
        _images(True),
        variant="channels first",
    ),
    Case(
        "pax.nn.InstanceNorm",
        "Haiku",
        _instance_norm(False),
        _haiku_norm(lambda: haiku.InstanceNorm(True, True), "instance_norm"),
        _images(False),
    ),
    Case(
        "pax.nn.InstanceNorm",
        "Flax NNX",
        _instance_norm(False),
        _nnx_norm(lambda rngs: nnx.InstanceNorm(6, epsilon=1e-5, rngs=rngs)),
        _images(False),
    ),
    Case(
        "pax.nn.RMSNorm",
        "PyTorch",
        lambda: pax.nn.RMSNorm(6),
        _torch_norm(lambda: torch.nn.RMSNorm(6, eps=1e-6)),
        _features,
    ),
    Case(
        "pax.nn.RMSNorm",
        "Haiku",
        lambda: pax.nn.RMSNorm(6),
        _haiku_norm(lambda: haiku.RMSNorm(-1, eps=1e-6), "rms_norm"),
        _features,
    ),
    Case(
        "pax.nn.RMSNorm",
        "Flax NNX",
        lambda: pax.nn.RMSNorm(6),
        _nnx_norm(lambda rngs: nnx.RMSNorm(6, epsilon=1e-6, rngs=rngs)),
        _features,
    ),
]


# ---- of weights ------------------------------------------------------------------------------------------------------


def _conv() -> Any:
    return pax.nn.Conv2D(3, 6, 2, padding="VALID", data_format="NCHW", rng_key=jax.random.key(3))


def _pixels() -> tuple[Any, ...]:
    return (normal(2, 3, 4, 4),)


def _torch_weight_norm(w: Any, x: Any) -> Any:
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(3, 6, 2))
    weights = {
        "bias": w["layer.bias"],
        "parametrizations.weight.original0": w["g"].reshape(-1, 1, 1, 1),
        "parametrizations.weight.original1": w["v"].permute(3, 2, 0, 1),
    }
    return torch_layer(layer, weights, x)


def _torch_spectral_norm(training: bool) -> Any:
    def theirs(w: Any, x: Any) -> Any:
        layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 6)).train(training)
        u, v = w["u"].clone(), w["v"].clone()
        weights = {
            "bias": w["layer.bias"],
            "parametrizations.weight.original": w["layer.weight"].T,
            "parametrizations.weight.0._u": u,
            "parametrizations.weight.0._v": v,
        }
        return torch_layer(layer, weights, x), u, v

    return theirs


def _spectral_norm(training: bool) -> Any:
    def make() -> Any:
        layer = pax.nn.SpectralNorm(pax.nn.Linear(3, 6, rng_key=jax.random.key(3)), rng_key=jax.random.key(4))
        return layer if training else layer.eval()

    return make


def _with_vectors(module: Any, x: Any) -> Any:
    module, y = pax.purecall(module, x)
    return y, *jax.lax.stop_gradient((module.u, module.v))


_OF_WEIGHTS = [
    Case("pax.nn.WeightNorm", "PyTorch", lambda: pax.nn.WeightNorm(_conv()), _torch_weight_norm, _pixels),
    *(
        Case(
            "pax.nn.SpectralNorm",
            "PyTorch",
            _spectral_norm(training),
            _torch_spectral_norm(training),
            lambda: (normal(4, 3),),
            _with_vectors,
            variant="train mode" if training else "eval mode",
        )
        for training in (True, False)
    ),
]

CASES = [*(case for norm in _BATCH_NORMS for case in norm.cases()), *_OF_EXAMPLES, *_OF_WEIGHTS]
EXCUSED: dict[str, str] = {}
