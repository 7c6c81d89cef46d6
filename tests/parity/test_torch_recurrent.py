"""Recurrent networks against PyTorch, and GRU against Haiku: the same numbers from the same weights.

Both sides compute in float64. What differs is the order of sums, so that 1e-12 is a wide margin.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.precision import x64

_INPUT, _HIDDEN, _BATCH, _TIME = 3, 4, 3, 5
_LENGTHS = np.array([5, 2, 4])
_TOLERANCES: Any = {"rtol": 1e-12, "atol": 1e-12}


def _reordered(array: np.ndarray, blocks: list[int]) -> np.ndarray:
    """Reorders the gates, which are blocks along the first axis in PyTorch's weights."""
    parts = np.split(array, len(blocks), 0)
    return np.concatenate([parts[block] for block in blocks], 0)


def _lstm_weights(module: Any, suffix: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weight and the bias of ``LSTM.fc``; PyTorch has the order i, f, g, o and two biases."""
    w_x, w_h, b_x, b_h = (
        _reordered(getattr(module, f"{name}_{suffix}").detach().numpy(), [0, 2, 1, 3])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return np.concatenate([w_x, w_h], 1).T, b_x + b_h


def _lstm(module: Any, suffix: str) -> Any:
    weight, bias = _lstm_weights(module, suffix)
    cell = pax.nn.LSTM(weight.shape[0] - _HIDDEN, _HIDDEN)
    return cell.replace(fc=cell.fc.replace(weight=jnp.asarray(weight), bias=jnp.asarray(bias)))


def _inputs(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def _run_torch(torch: Any, module: Any, x: np.ndarray, lengths: np.ndarray | None = None) -> tuple[Any, Any, Any]:
    """Returns input, outputs and last hidden values after the backward pass of the loss ``(y**2).sum()``."""
    x_torch = torch.tensor(x, requires_grad=True)
    if lengths is None:
        y, state = module(x_torch)
    else:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        packed, state = module(pack(x_torch, torch.tensor(lengths), batch_first=True, enforce_sorted=False))
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    (y**2).sum().backward()
    return x_torch, y.detach().numpy(), state


def _loss_and_gradients(rnn: Any, x: np.ndarray, **options: Any) -> Any:
    def loss(rnn: Any, x: jax.Array) -> Any:
        y = rnn(x, **options)
        return (y**2).sum(), y

    def both(rnn: Any, x: jax.Array) -> Any:
        (_, y), of_rnn = pax.value_and_grad(loss, has_aux=True)(rnn, x)
        return y, of_rnn, jax.grad(lambda x: loss(rnn, x)[0])(x)

    return jax.jit(both)(rnn, jnp.asarray(x))


def _assert_lstm_gradients(cell: Any, module: Any, torch_module: Any, suffix: str) -> None:
    of_weights = {
        name: getattr(torch_module, f"{name}_{suffix}").grad.numpy() for name in ("weight_ih", "weight_hh", "bias_ih")
    }
    of_weights = {name: _reordered(value, [0, 2, 1, 3]) for name, value in of_weights.items()}
    want = np.concatenate([of_weights["weight_ih"], of_weights["weight_hh"]], 1).T
    np.testing.assert_allclose(module.fc.weight, want, **_TOLERANCES)
    np.testing.assert_allclose(module.fc.bias, of_weights["bias_ih"], **_TOLERANCES)


@pytest.mark.parametrize("lengths", [None, _LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["ahead", "both"])
def test_lstm_against_torch(bidirectional: bool, lengths: np.ndarray | None) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    peer = torch.nn.LSTM(_INPUT, _HIDDEN, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
    x = _inputs(_BATCH, _TIME, _INPUT)
    x_torch, want, (hidden, cell_values) = _run_torch(torch, peer, x, lengths)
    with x64():
        ahead = _lstm(peer, "l0")
        rnn: Any = pax.nn.Bidirectional(ahead, _lstm(peer, "l0_reverse")) if bidirectional else pax.nn.RNN(ahead)
        options: dict[str, Any] = {} if lengths is None else {"lengths": jnp.asarray(lengths)}
        y, gradients, of_x = _loss_and_gradients(rnn, x, **options)
        np.testing.assert_allclose(y, want, **_TOLERANCES)
        np.testing.assert_allclose(of_x, x_torch.grad.numpy(), **_TOLERANCES)
        state, _ = rnn(jnp.asarray(x), return_state=True, **options)
        states = state if bidirectional else (state,)
        np.testing.assert_allclose([s.hidden for s in states], hidden.detach().numpy(), **_TOLERANCES)
        np.testing.assert_allclose([s.cell for s in states], cell_values.detach().numpy(), **_TOLERANCES)
        if bidirectional:
            _assert_lstm_gradients(ahead, gradients.forward.cell, peer, "l0")
            _assert_lstm_gradients(ahead, gradients.backward.cell, peer, "l0_reverse")
        else:
            _assert_lstm_gradients(ahead, gradients.cell, peer, "l0")


def test_two_bidirectional_layers_against_torch() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    peer = torch.nn.LSTM(_INPUT, _HIDDEN, 2, batch_first=True, bidirectional=True, dtype=torch.float64)
    x = _inputs(_BATCH, _TIME, _INPUT)
    x_torch, want, _ = _run_torch(torch, peer, x)
    with x64():
        rnn = pax.nn.Sequential(
            *(pax.nn.Bidirectional(_lstm(peer, f"l{i}"), _lstm(peer, f"l{i}_reverse")) for i in range(2))
        )
        y, _, of_x = _loss_and_gradients(rnn, x)
        np.testing.assert_allclose(y, want, **_TOLERANCES)
        np.testing.assert_allclose(of_x, x_torch.grad.numpy(), **_TOLERANCES)


def test_stacked_lstm_cells_against_torch() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    peer = torch.nn.LSTM(_INPUT, _HIDDEN, 2, batch_first=True, dtype=torch.float64)
    x = _inputs(_BATCH, _TIME, _INPUT)
    x_torch, want, (hidden, _) = _run_torch(torch, peer, x)
    with x64():
        rnn = pax.nn.RNN(pax.nn.StackedCells(_lstm(peer, "l0"), _lstm(peer, "l1")))
        y, _, of_x = _loss_and_gradients(rnn, x)
        np.testing.assert_allclose(y, want, **_TOLERANCES)
        np.testing.assert_allclose(of_x, x_torch.grad.numpy(), **_TOLERANCES)
        states, _ = rnn(jnp.asarray(x), return_state=True)
        np.testing.assert_allclose([s.hidden for s in states], hidden.detach().numpy(), **_TOLERANCES)


def test_vanilla_rnn_against_torch() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    peer = torch.nn.RNN(_INPUT, _HIDDEN, batch_first=True, dtype=torch.float64)
    x = _inputs(_BATCH, _TIME, _INPUT)
    x_torch, want, _ = _run_torch(torch, peer, x)
    weights = {name: value.detach().numpy() for name, value in peer.named_parameters()}
    with x64():
        cell = pax.nn.VanillaRNN(_INPUT, _HIDDEN)
        weight = jnp.asarray(np.concatenate([weights["weight_ih_l0"], weights["weight_hh_l0"]], 1).T)
        bias = jnp.asarray(weights["bias_ih_l0"] + weights["bias_hh_l0"])
        rnn = pax.nn.RNN(cell.replace(fc=cell.fc.replace(weight=weight, bias=bias)))
        y, gradients, of_x = _loss_and_gradients(rnn, x)
        np.testing.assert_allclose(y, want, **_TOLERANCES)
        np.testing.assert_allclose(of_x, x_torch.grad.numpy(), **_TOLERANCES)
        of_weight = np.concatenate([peer.weight_ih_l0.grad.numpy(), peer.weight_hh_l0.grad.numpy()], 1).T
        np.testing.assert_allclose(gradients.cell.fc.weight, of_weight, **_TOLERANCES)
        np.testing.assert_allclose(gradients.cell.fc.bias, peer.bias_ih_l0.grad.numpy(), **_TOLERANCES)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["ahead", "both"])
def test_gru_against_torch_where_the_two_are_the_same(bidirectional: bool) -> None:
    """PyTorch resets ``W h + b``, PAX ``h``: the same if ``W`` is diagonal and ``b`` zero. And ``z`` is ``1 - z``."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    peer = torch.nn.GRU(_INPUT, _HIDDEN, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
    suffixes = ["l0", "l0_reverse"][: 1 + bidirectional]
    with torch.no_grad():
        for suffix in suffixes:
            getattr(peer, f"weight_hh_{suffix}")[2 * _HIDDEN :].mul_(torch.eye(_HIDDEN))
            getattr(peer, f"bias_hh_{suffix}")[2 * _HIDDEN :] = 0
    x = _inputs(_BATCH, _TIME, _INPUT)
    x_torch, want, hidden = _run_torch(torch, peer, x, _LENGTHS)

    def split(name: str, suffix: str, gradient: bool = False) -> list[np.ndarray]:
        array = getattr(peer, f"{name}_{suffix}")
        return np.split((array.grad if gradient else array.detach()).numpy(), 3, 0)

    def cell(suffix: str) -> Any:
        (r_x, z_x, n_x), (r_h, z_h, n_h) = split("weight_ih", suffix), split("weight_hh", suffix)
        (r_b, z_b, n_b), (r_c, z_c, _) = split("bias_ih", suffix), split("bias_hh", suffix)
        gru = pax.nn.GRU(_INPUT, _HIDDEN)
        zr_weight = np.block([[-z_x, -z_h], [r_x, r_h]]).T
        zr_bias = np.concatenate([-z_b - z_c, r_b + r_c])
        return gru.replace(
            xh_zr_fc=gru.xh_zr_fc.replace(weight=jnp.asarray(zr_weight), bias=jnp.asarray(zr_bias)),
            xh_h_fc=gru.xh_h_fc.replace(weight=jnp.asarray(np.concatenate([n_x, n_h], 1).T), bias=jnp.asarray(n_b)),
        )

    with x64():
        cells = [cell(suffix) for suffix in suffixes]
        rnn: Any = pax.nn.Bidirectional(*cells) if bidirectional else pax.nn.RNN(*cells)
        lengths = jnp.asarray(_LENGTHS)
        y, gradients, of_x = _loss_and_gradients(rnn, x, lengths=lengths)
        np.testing.assert_allclose(y, want, **_TOLERANCES)
        np.testing.assert_allclose(of_x, x_torch.grad.numpy(), **_TOLERANCES)
        state, _ = rnn(jnp.asarray(x), lengths=lengths, return_state=True)
        states = state if bidirectional else (state,)
        np.testing.assert_allclose([s.hidden for s in states], hidden.detach().numpy(), **_TOLERANCES)
        of_cells = [gradients.forward.cell, gradients.backward.cell] if bidirectional else [gradients.cell]
        for of_cell, suffix in zip(of_cells, suffixes, strict=True):
            of_r, of_z, of_n = (
                np.concatenate(pair, 1)
                for pair in zip(split("weight_ih", suffix, True), split("weight_hh", suffix, True), strict=True)
            )
            np.testing.assert_allclose(of_cell.xh_zr_fc.weight, np.concatenate([-of_z, of_r]).T, **_TOLERANCES)
            np.testing.assert_allclose(of_cell.xh_h_fc.weight[:_INPUT], of_n[:, :_INPUT].T, **_TOLERANCES)
            np.testing.assert_allclose(of_cell.xh_h_fc.bias, split("bias_ih", suffix, True)[2], **_TOLERANCES)


def test_gru_against_haiku() -> None:
    hk = pytest.importorskip("haiku")
    x = _inputs(_BATCH, _TIME, _INPUT)
    with x64():
        peer = hk.without_apply_rng(
            hk.transform(
                lambda x: hk.dynamic_unroll(hk.GRU(_HIDDEN), x, jnp.zeros((_BATCH, _HIDDEN)), time_major=False)[0]
            )
        )
        weights = peer.init(jax.random.key(0), jnp.asarray(x))
        zr_and_h = {name: np.split(np.asarray(array), [2 * _HIDDEN], -1) for name, array in weights["gru"].items()}
        bias = jnp.asarray(np.arange(3.0 * _HIDDEN) / 10)
        weights = {"gru": {**weights["gru"], "b": bias}}
        gru = pax.nn.GRU(_INPUT, _HIDDEN)
        zr, h = (np.concatenate([zr_and_h["w_i"][part], zr_and_h["w_h"][part]], 0) for part in (0, 1))
        rnn = pax.nn.RNN(
            gru.replace(
                xh_zr_fc=gru.xh_zr_fc.replace(weight=jnp.asarray(zr), bias=bias[: 2 * _HIDDEN]),
                xh_h_fc=gru.xh_h_fc.replace(weight=jnp.asarray(h), bias=bias[2 * _HIDDEN :]),
            )
        )
        y, gradients, of_x = _loss_and_gradients(rnn, x)
        np.testing.assert_allclose(y, peer.apply(weights, jnp.asarray(x)), **_TOLERANCES)
        want, want_x = jax.jit(jax.grad(lambda weights, x: (peer.apply(weights, x) ** 2).sum(), argnums=(0, 1)))(
            weights, jnp.asarray(x)
        )
        np.testing.assert_allclose(of_x, want_x, **_TOLERANCES)
        of_weights = jnp.concatenate([want["gru"]["w_i"], want["gru"]["w_h"]])
        got = jnp.concatenate([gradients.cell.xh_zr_fc.weight, gradients.cell.xh_h_fc.weight], -1)
        np.testing.assert_allclose(got, of_weights, **_TOLERANCES)
