"""examples/mixed_precision.py: half precision learns as well as float32 does."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jmp
import mixed_precision
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import pax

STEPS = 200


@cache
def data(seed: int) -> Any:
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    return train_test_split(images, digits.target, test_size=0.5, stratify=digits.target, random_state=seed)


def network(kind: str, seed: int) -> Any:
    pax.seed_rng_key(seed)
    net = mixed_precision.make_network()
    if kind == "float32":
        return net
    if kind == "float16":
        return net.apply(pax.experimental.default_mp_policy)
    return mixed_precision.computing_in(net, jnp.dtype(kind))


def accuracy(net: Any, seed: int) -> float:
    _, images, _, labels = data(seed)
    read = jax.jit(lambda net: net(images).argmax(-1))(net.eval())
    return float(np.mean(read == labels))


@cache
def trained(kind: str, seed: int, scale: Any) -> tuple[float, Any, Any]:
    images, _, labels, _ = data(seed)
    loss_scale = jmp.NoOpLossScale() if scale is None else jmp.DynamicLossScale(scale)
    net, loss_scale = mixed_precision.train(network(kind, seed), loss_scale, images, labels, STEPS, seed)
    return accuracy(net, seed), net, loss_scale


SCALES = {"float16": np.float16(2**15), "bfloat16": None, "float32": None}


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_reaches_the_accuracy_of_float32(kind: str) -> None:
    want = trained("float32", 0, None)[0]
    got, net, loss_scale = trained(kind, 0, SCALES[kind])
    assert want >= 0.97
    assert abs(got - want) <= 0.005
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(net.parameters()))
    if kind == "float16":
        assert loss_scale.loss_scale.dtype == jnp.float16


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_the_convolutions_and_matrices_do_compute_in_half_precision(kind: str) -> None:
    net, images = network(kind, 0), data(0)[0][:2]
    program = str(jax.make_jaxpr(lambda net: net(images))(net.eval()))
    short = {"float16": "f16", "bfloat16": "bf16"}[kind]
    for operation in ("conv_general_dilated", "dot_general"):
        lines = [line for line in program.splitlines() if f"= {operation}[" in line]
        assert lines
        assert all(f":{short}[" in line for line in lines)


def test_a_loss_scale_that_is_too_large_at_first_falls_until_it_fits() -> None:
    """Some steps are left out, and the result is the same."""
    got, net, loss_scale = trained("float16", 0, np.float32(2.0**40))
    assert abs(got - trained("float32", 0, None)[0]) <= 0.005
    assert 1 < float(loss_scale.loss_scale) < 2.0**30
    assert int(loss_scale.counter) < STEPS - 10
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(net))


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_the_program_says_what_it_reached(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["example", "--compute", kind, "--steps", "10", "--out", str(tmp_path)])
    mixed_precision.main()
    said = capsys.readouterr().out
    assert f"{kind}: test accuracy " in said
    assert f"loss scale {32768 if kind == 'float16' else 1}" in said
