"""Layers of one idea: linear, embedding, dropout, the functions for pooling, and the like."""

from typing import Any

import jax
import numpy as np

import pax
from parity.case import Case, haiku, nnx, normal, torch
from parity.peers import haiku_layer, nnx_layer, torch_layer

_KEY = jax.random.key(3)


def _linear(with_bias: bool = True) -> Any:
    return lambda: pax.nn.Linear(3, 5, with_bias, rng_key=_KEY)


def _torch_linear(w: Any, x: Any) -> Any:
    layer = torch.nn.Linear(3, 5, bias="bias" in w)
    return torch_layer(layer, {**w, "weight": w["weight"].T}, x)


def _haiku_linear(w: Any, x: Any) -> Any:
    weights = {"linear": {"w": w["weight"], **({"b": w["bias"]} if "bias" in w else {})}}
    return haiku_layer(lambda x: haiku.Linear(5, with_bias="bias" in w)(x), weights, x)


def _nnx_linear(w: Any, x: Any) -> Any:
    weights = {"kernel": w["weight"], **({"bias": w["bias"]} if "bias" in w else {})}
    return nnx_layer(lambda rngs: nnx.Linear(3, 5, use_bias="bias" in w, rngs=rngs), weights)(x)


_LINEAR = [
    Case("pax.nn.Linear", peer, _linear(with_bias), theirs, lambda: (normal(2, 4, 3),), variant=variant)
    for peer, theirs in (("PyTorch", _torch_linear), ("Haiku", _haiku_linear), ("Flax NNX", _nnx_linear))
    for variant, with_bias in (("", True), ("without bias", False))
]


# ---- dropout: what is random differs, so all is kept -----------------------------------------------------------------


def _dropout() -> Any:
    pax.seed_rng_key(0)
    return pax.nn.Dropout(0.5).eval()


_DROPOUT = [
    Case("pax.nn.Dropout", peer, _dropout, theirs, lambda: (normal(4, 3),), variant="eval mode")
    for peer, theirs in (
        ("PyTorch", lambda w, x: torch.nn.Dropout(0.5).eval()(x)),
        ("Haiku", lambda w, x: haiku_layer(lambda x: haiku.dropout(haiku.next_rng_key(), 0.0, x), {}, x)),
        ("Flax NNX", lambda w, x: nnx.Dropout(0.5, deterministic=True)(x)),
    )
]


# ---- pooling ---------------------------------------------------------------------------------------------------------


def _pool(of: str, peer: str, theirs: Any, variant: str, *arguments: Any) -> Case:
    function = getattr(pax.nn, of.rpartition(".")[2])
    return Case(
        of,
        peer,
        pax.Module,
        theirs,
        lambda: (normal(2, 7, 6, 3),),
        ours=lambda module, x: function(x, *arguments),
        variant=variant,
    )


def _torch_pool(name: str) -> Any:
    return lambda w, x: getattr(torch.nn, name)(3, 2)(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _haiku_pool(name: str, padding: str) -> Any:
    return lambda w, x: getattr(haiku, name)(x, (1, 3, 2, 1), (1, 2, 2, 1), padding)


def _nnx_pool(name: str, padding: str, **options: Any) -> Any:
    return lambda w, x: getattr(nnx, name)(x, (3, 2), (2, 2), padding, **options)


_POOLS = [
    _pool("pax.nn.max_pool", "PyTorch", _torch_pool("MaxPool2d"), "VALID", 3, 2, "VALID"),
    _pool("pax.nn.avg_pool", "PyTorch", _torch_pool("AvgPool2d"), "VALID", 3, 2, "VALID"),
]
for _padding in ("SAME", "VALID"):
    for _name, _options in (("max_pool", {}), ("avg_pool", {"count_include_pad": False})):
        _arguments = (_padding, (3, 2, 1), (2, 2, 1), _padding)
        _POOLS += [
            _pool(f"pax.nn.{_name}", "Haiku", _haiku_pool(_name, _padding), *_arguments),
            _pool(f"pax.nn.{_name}", "Flax NNX", _nnx_pool(_name, _padding, **_options), *_arguments),
        ]


# ---- tables, slopes, shapes ------------------------------------------------------------------------------------------


def _embed() -> Any:
    return pax.nn.Embed(7, 3, rng_key=_KEY)


def _indices() -> tuple[Any, ...]:
    return (np.array([[0, 6, 2], [2, 2, 5]]),)


def _torch_attend(w: Any, x: Any) -> Any:
    return torch_layer(torch.nn.Linear(3, 7, bias=False), w, x)


def _nnx_embed(w: Any) -> Any:
    dtype = w["weight"].dtype
    return nnx_layer(lambda rngs: nnx.Embed(7, 3, dtype=dtype, rngs=rngs), {"embedding": w["weight"]})


def _haiku_embed(w: Any, x: Any) -> Any:
    return haiku_layer(lambda x: haiku.Embed(7, 3)(x), {"embed": {"embeddings": w["weight"]}}, x)


def _attend(module: Any, x: Any) -> Any:
    return module.attend(x)


def _features() -> tuple[Any, ...]:
    return (normal(2, 3),)


_EMBED = [
    Case("pax.nn.Embed", "PyTorch", _embed, lambda w, x: torch_layer(torch.nn.Embedding(7, 3), w, x), _indices),
    Case("pax.nn.Embed", "Haiku", _embed, _haiku_embed, _indices),
    Case("pax.nn.Embed", "Flax NNX", _embed, lambda w, x: _nnx_embed(w)(x), _indices),
    Case("pax.nn.Embed", "PyTorch", _embed, _torch_attend, _features, _attend, "attend"),
    Case("pax.nn.Embed", "Flax NNX", _embed, lambda w, x: _nnx_embed(w).attend(x), _features, _attend, "attend"),
]


def _torch_prelu(w: Any, x: Any) -> Any:
    return torch_layer(torch.nn.PReLU(3), w, x)


def _nnx_prelu(w: Any, x: Any) -> Any:
    return nnx_layer(lambda rngs: nnx.PReLU(), {"negative_slope": w["weight"]})(x)


_SHAPES = [
    Case("pax.nn.PReLU", "PyTorch", lambda: pax.nn.PReLU(3, axis=1), _torch_prelu, lambda: (normal(2, 3, 4),)),
    Case("pax.nn.PReLU", "Flax NNX", pax.nn.PReLU, _nnx_prelu, lambda: (normal(2, 3, 4),)),
    Case(
        "pax.nn.Flatten",
        "PyTorch",
        lambda: pax.nn.Flatten(1, 2),
        lambda w, x: torch.nn.Flatten(1, 2)(x),
        lambda: (normal(2, 3, 4, 5),),
    ),
    Case(
        "pax.nn.Flatten",
        "Haiku",
        pax.nn.Flatten,
        lambda w, x: haiku_layer(lambda x: haiku.Flatten()(x), {}, x),
        lambda: (normal(2, 3, 4),),
    ),
]


# ---- layers in a row, and products along any axes --------------------------------------------------------------------


def _mlp() -> Any:
    return pax.nn.MLP((3, 5, 4), jax.numpy.tanh, rng_key=_KEY)


def _torch_mlp(w: Any, x: Any) -> Any:
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))
    pairs = ((0, "0"), (1, "2"))
    weights = {f"{there}.weight": w[f"layers[{here}].weight"].T for here, there in pairs}
    return torch_layer(net, weights | {f"{there}.bias": w[f"layers[{here}].bias"] for here, there in pairs}, x)


def _haiku_mlp(w: Any, x: Any) -> Any:
    weights = {f"mlp/~/linear_{i}": {"w": w[f"layers[{i}].weight"], "b": w[f"layers[{i}].bias"]} for i in (0, 1)}
    return haiku_layer(lambda x: haiku.nets.MLP((5, 4), activation=jax.numpy.tanh)(x), weights, x)


def _einsum() -> Any:
    return pax.nn.Einsum("...td,dhk->...thk", (3, 2, 4), "hk", rng_key=_KEY)


def _torch_einsum(w: Any, x: Any) -> Any:
    return torch.einsum("...td,dhk->...thk", x, w["weight"]) + w["bias"]


def _nnx_einsum(w: Any, x: Any) -> Any:
    return nnx_layer(
        lambda rngs: nnx.Einsum("...td,dhk->...thk", (3, 2, 4), (2, 4), rngs=rngs),
        {"kernel": w["weight"], "bias": w["bias"]},
    )(x)


def _sequences() -> tuple[Any, ...]:
    return (normal(2, 5, 3),)


_PRODUCTS = [
    Case("pax.nn.MLP", "PyTorch", _mlp, _torch_mlp, _sequences),
    Case("pax.nn.MLP", "Haiku", _mlp, _haiku_mlp, _sequences),
    Case("pax.nn.Einsum", "PyTorch", _einsum, _torch_einsum, _sequences),
    Case("pax.nn.Einsum", "Flax NNX", _einsum, _nnx_einsum, _sequences),
    Case(
        "pax.nn.LearnedPositions",
        "PyTorch",
        lambda: pax.nn.LearnedPositions(7, 3, rng_key=_KEY),
        lambda w, x: x + torch_layer(torch.nn.Embedding(7, 3), w, torch.arange(5)),
        _sequences,
    ),
]

CASES = [*_PRODUCTS, *_LINEAR, *_DROPOUT, *_POOLS, *_EMBED, *_SHAPES]
EXCUSED = {
    "pax.nn.Ensemble": "calls modules side by side; tests/nn compares it with a loop over them",
    "pax.nn.EMA": "no peer averages like this; tests/nn has the numbers, and the cases of BatchNorm run it",
    "pax.nn.Identity": "returns its input",
    "pax.nn.Lambda": "returns what its function returns",
    "pax.nn.Remat": "calls its module; tests/nn compares both",
    "pax.nn.Sequential": "calls its layers one after another",
    "pax.nn.SinusoidalPositions": "no peer has such a layer; tests/nn has the formula",
    "pax.nn.Stack": "calls its blocks one after another; tests/nn compares it with a loop over them",
    "pax.nn.Tied": "calls its model with arrays at two places; tests/nn compares it with an untied model",
    "pax.nn.dropout": "peers draw other random numbers; tests/nn has its numbers",
    "pax.nn.remat": "makes a pax.nn.Remat",
    "pax.nn.sinusoidal_positions": "no peer has such a function; tests/nn has the formula",
}
