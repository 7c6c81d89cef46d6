"""Whole networks, in train mode with their running statistics, and in eval mode."""

import importlib
import re
from typing import Any

import jax
import numpy as np

import pax
from parity.case import Case, normal, torch
from parity.peers import torch_layer

_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class _ResNet:
    def __init__(self, depth: int, training: bool) -> None:
        self.depth, self.training = depth, training

    def peer(self) -> Any:
        torch.manual_seed(0)
        module = importlib.import_module("parity.torch_resnet")
        return module.ResNet(_BLOCKS[self.depth], self.depth >= 50, 10).train(self.training)

    def make(self) -> Any:
        """The network, with the first weights of PyTorch's; the harness moves all of them a little."""
        net = jax.eval_shape(lambda: getattr(pax.nets, f"ResNet{self.depth}")(3, 10))
        net = pax.nets.load_torchvision_weights(net, self.peer().state_dict())
        return net if self.training else net.eval()

    def ours(self, module: Any, x: Any) -> Any:
        module, logits = pax.purecall(module, x)
        paths = jax.tree_util.tree_leaves_with_path(jax.lax.stop_gradient(module))
        leaves = {jax.tree_util.keystr(path).removeprefix("."): leaf for path, leaf in paths}
        return logits, {name: leaf.reshape(-1) for name, leaf in leaves.items() if name.endswith(".averages")}

    def theirs(self, w: Any, x: Any) -> Any:
        names = {name: _torch_name(name) for name in w if not name.endswith(".debias")}
        buffers = {name: w[name].flatten().clone() for name in names if name.endswith(".averages")}
        weights = {names[name]: buffers[name] if name in buffers else _torch_layout(w[name]) for name in names}
        net = self.peer()
        assert {name for name in net.state_dict() if not name.endswith("num_batches_tracked")} == set(weights)
        return torch_layer(net, weights, x), buffers

    def case(self) -> Case:
        return Case(
            f"pax.nets.ResNet{self.depth}",
            "PyTorch",
            self.make,
            self.theirs,
            lambda: (normal(4, 3, 32, 32),),
            self.ours,
            variant="train mode" if self.training else "eval mode",
            tolerances={"float64": 1e-9},
            dtypes=("float64",),  # 18 or 50 layers in a row amplify the rounding of float32
        )


def _torch_layout(weight: Any) -> Any:
    if weight.ndim == 4 and weight.shape[0] == 1 and weight.shape[2:] == (1, 1) and weight.shape[1] > 1:
        return weight.flatten()  # scale or offset of a normalisation
    return weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight.T if weight.ndim == 2 else weight


def _torch_name(name: str) -> str:
    """Returns the name that torchvision has for one of our arrays."""
    for ours, theirs in (("initial_conv", "conv1"), ("initial_batchnorm", "bn1"), ("logits", "fc")):
        name = name.replace(ours, theirs)
    block = re.fullmatch(r"block_groups\[(\d)\]\.blocks\[(\d+)\]\.(.*)", name)
    if block is not None:
        group, number, rest = block.groups()
        rest = rest.replace("proj_conv", "downsample.0").replace("proj_batchnorm", "downsample.1")
        rest = re.sub(r"layers\[(\d)\]\[(\d)\]", lambda m: f"{('conv', 'bn')[int(m[2])]}{int(m[1]) + 1}", rest)
        name = f"layer{int(group) + 1}.{number}.{rest}"
    endings = {".scale": ".weight", ".offset": ".bias", ".ema_mean.averages": ".running_mean"}
    for ours, theirs in (endings | {".ema_var.averages": ".running_var"}).items():
        name = name.removesuffix(ours) + theirs if name.endswith(ours) else name
    return name


# ---- the transformer, against PyTorch's encoder with a causal mask ---------------------------------------------------

_DIM, _LAYERS, _TIME = 8, 2, 5


def _transformer() -> Any:
    return pax.nets.Transformer(_DIM, 2, _LAYERS, 0.0)


def _torch_transformer(w: Any, x: Any, mask: Any = None) -> Any:
    layer = torch.nn.TransformerEncoderLayer(
        _DIM,
        2,
        4 * _DIM,
        0.0,
        lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        batch_first=True,
        norm_first=True,
    )
    net = torch.nn.TransformerEncoder(layer, _LAYERS, torch.nn.LayerNorm(_DIM), enable_nested_tensor=False)
    weights = {"norm.weight": w["layer_norm_output.scale"], "norm.bias": w["layer_norm_output.offset"]}
    for index in range(_LAYERS):
        here, there = f"layers[{index}]", f"layers.{index}"
        attention = [f"{here}['attention'].{name}_projection" for name in ("query", "key", "value", "output")]
        weights |= {
            f"{there}.self_attn.in_proj_weight": torch.cat([w[f"{part}.weight"].T for part in attention[:3]]),
            f"{there}.self_attn.in_proj_bias": torch.cat([w[f"{part}.bias"] for part in attention[:3]]),
            f"{there}.self_attn.out_proj.weight": w[f"{attention[3]}.weight"].T,
            f"{there}.self_attn.out_proj.bias": w[f"{attention[3]}.bias"],
        }
        for number, norm, fc in ((1, "attn_layer_norm", "fc1"), (2, "dense_layer_norm", "fc2")):
            weights |= {
                f"{there}.norm{number}.weight": w[f"{here}['{norm}'].scale"],
                f"{there}.norm{number}.bias": w[f"{here}['{norm}'].offset"],
                f"{there}.linear{number}.weight": w[f"{here}['dense_block'].{fc}.weight"].T,
                f"{there}.linear{number}.bias": w[f"{here}['dense_block'].{fc}.bias"],
            }
    hidden = torch.ones(_TIME, _TIME, dtype=torch.bool).triu(1)
    padding = None if mask is None else torch.tensor(~mask)
    return torch.func.functional_call(net.to(x.dtype), weights, (x, hidden, padding))


# Padding at the end: a position that sees nothing is another thing in each library.
_MASK = np.arange(_TIME) < np.array([[5], [3]])
_TRANSFORMERS = [
    Case("pax.nets.Transformer", "PyTorch", _transformer, _torch_transformer, lambda: (normal(2, _TIME, _DIM),)),
    Case(
        "pax.nets.Transformer",
        "PyTorch",
        _transformer,
        lambda w, x: _torch_transformer(w, x, _MASK),
        lambda: (normal(2, _TIME, _DIM),),
        lambda module, x: module(x, _MASK),
        variant="mask",
    ),
]

CASES = [*_TRANSFORMERS, *(_ResNet(depth, training).case() for depth in _BLOCKS for training in (True, False))]
EXCUSED = {
    **{f"pax.nets.ResNet{depth}": "has the blocks of ResNet18 or ResNet50" for depth in (34, 101, 152, 200)},
    "pax.nets.load_torchvision_weights": "loads the weights in the cases of ResNet18 and ResNet50",
}
