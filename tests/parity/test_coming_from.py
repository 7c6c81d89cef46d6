"""The pages "Coming from …": their programs run, print what they say, and both sides compute the same numbers.

The blocks of a page that are marked by the name of a library, ```` ```torch ````, are one program, and those marked
`python` another one. The latter also run in tests/doctests, on every version of JAX and without the other libraries.
"""

import contextlib
import functools
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opax
import pax
from pax.experimental import load_torch_weights, to_torch_weights

_PAGES = Path(__file__).parents[2] / "docs" / "coming_from"
_KINDS = {"pytorch": "torch", "flax": "flax", "equinox": "equinox", "haiku": "haiku"}
"""What marks the blocks of the other library: also the name under which it is imported."""

_EXPECTED = re.compile(r"^print\(.*\)  # (?P<text>.+)$", re.MULTILINE)

# Sums of some hundred products in float32, in another order.
_TOLERANCES: Any = {"rtol": 1e-4, "atol": 1e-5}


@dataclass(frozen=True)
class Program:
    """A program that was run: what it printed, what it says that it prints, and its names."""

    printed: list[str]
    said: list[str]
    names: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.names[name]
        except KeyError as error:
            raise AttributeError(name) from error


@dataclass(frozen=True)
class Page:
    """Both programs of a page."""

    theirs: Program
    ours: Program


def _source(markdown: str, kind: str) -> str:
    """The blocks of a kind, at their own line numbers."""
    lines = [""] * len(markdown.splitlines())
    for block in re.finditer(rf"^```{kind}\n(?P<text>.*?)^```$", markdown, re.MULTILINE | re.DOTALL):
        first = markdown[: block.start("text")].count("\n")
        code = block["text"].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


def _run(markdown: str, kind: str, name: str, directory: Path) -> Program:
    source, output, main = _source(markdown, kind), io.StringIO(), ModuleType("__main__")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setitem(sys.modules, "__main__", main)  # where dataclasses look for what annotations mean
        patch.chdir(directory)
        exec(compile(source, name, "exec"), vars(main))
    said = [found["text"].partition(";")[0].rstrip() for found in _EXPECTED.finditer(source)]
    return Program(output.getvalue().splitlines(), said, vars(main))


@functools.cache
def _run_page(name: str, directory: Path) -> Page:
    path = _PAGES / f"{name}.md"
    with jax.numpy_rank_promotion("allow"):
        theirs, ours = (_run(path.read_text(), kind, str(path), directory) for kind in (_KINDS[name], "python"))
    return Page(theirs, ours)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs write."""
    return tmp_path_factory.mktemp("coming_from")


@pytest.fixture(autouse=True)
def _promotion_of_ranks(_strict_jax: None) -> Iterator[None]:
    """What users write and other libraries do."""
    with jax.numpy_rank_promotion("allow"):
        yield


def _page(name: str, directory: Path) -> Page:
    pytest.importorskip(_KINDS[name])
    return _run_page(name, directory)


def _assert_same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for name, array in got.items():
        np.testing.assert_allclose(array, want[name], err_msg=name, **_TOLERANCES)


# ---- the programs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _KINDS)
def test_both_programs_print_what_the_page_says(name: str, directory: Path) -> None:
    page = _page(name, directory)
    for program in (page.theirs, page.ours):
        assert len(program.said) > 5
        assert [text for text in program.said if text not in program.printed] == []


@pytest.mark.parametrize("name", _KINDS)
def test_the_layer_of_ones_own_computes_the_same_on_both_sides(name: str, directory: Path) -> None:
    page = _page(name, directory)
    theirs = page.theirs.output.detach() if name == "pytorch" else page.theirs.output
    np.testing.assert_allclose(page.ours.output, theirs, **_TOLERANCES)
    assert page.ours.outputs.shape == tuple(page.theirs.outputs.shape)


@pytest.mark.parametrize("name", _KINDS)
def test_blocks_of_the_page_are_of_known_kinds(name: str) -> None:
    kinds = re.findall(r"^```(\S+)$", (_PAGES / f"{name}.md").read_text(), re.MULTILINE)
    assert set(kinds) == {"python", _KINDS[name]}


# ---- PyTorch ------------------------------------------------------------------------------------------------------


def test_pytorch_model_with_the_same_weights_trains_alike(directory: Path) -> None:
    page = _page("pytorch", directory)
    torch: Any = pytest.importorskip("torch")
    model, images, labels = page.theirs.Net(dropout=0.0), page.ours.images, page.ours.labels
    x, y = page.theirs.x, page.theirs.y
    model(2 * x + 1)  # statistics other than those of the start
    net = load_torch_weights(page.ours.Net(dropout=0.0), model.state_dict())
    with torch.no_grad():
        np.testing.assert_allclose(net.eval()(images), model.eval()(x), **_TOLERANCES)

    model.train()
    before = model.norm.running_var.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    (our_loss, net), gradients = pax.value_and_grad(page.ours.loss_fn, has_aux=True)(net, images, labels)
    net, _ = opax.apply_gradients(net, opax.sgd(0.1, momentum=0.0)(net.parameters()), gradients)

    np.testing.assert_allclose(our_loss, loss.item(), **_TOLERANCES)
    ours = to_torch_weights(net)
    theirs = {name: array.numpy() for name, array in model.state_dict().items() if name in ours}
    count = images[..., 0].size  # PyTorch divides the variance of the batch by one less
    theirs["norm.running_var"] = 0.9 * before + (model.norm.running_var - 0.9 * before) * (count - 1) / count
    _assert_same(ours, theirs)


def test_pytorch_optimizers_of_the_table_make_the_same_updates(directory: Path) -> None:
    page = _page("pytorch", directory)
    assert len(page.ours.trained) == len(page.theirs.trained) == 4
    for ours, theirs in zip(page.ours.trained, page.theirs.trained, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_pytorch_weights_in_a_file_fill_our_model(directory: Path) -> None:
    page = _page("pytorch", directory)
    torch: Any = pytest.importorskip("torch")
    model = page.theirs.model.eval()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    net = load_torch_weights(page.ours.Net(), weights).eval()
    with torch.no_grad():
        np.testing.assert_allclose(net(page.ours.images), model(page.theirs.x), **_TOLERANCES)


def test_pytorch_differs_as_the_page_says() -> None:
    torch: Any = pytest.importorskip("torch")
    nn = torch.nn
    x = np.linspace(-2, 2, 9, dtype="float32")
    exact = nn.functional.gelu(torch.from_numpy(x))
    np.testing.assert_allclose(jax.nn.gelu(x, approximate=False), exact, **_TOLERANCES)
    assert np.abs(jax.nn.gelu(x) - exact.numpy()).max() > 1e-4
    assert torch.optim.SGD([torch.ones(1)]).defaults["momentum"] == 0
    assert torch.optim.Adam([torch.ones(1)]).defaults["lr"] == 1e-3
    assert torch.optim.AdamW([torch.ones(1)]).defaults["weight_decay"] == 1e-2
    assert nn.Linear(100, 50).weight.abs().max() <= 0.1
    assert nn.Embedding(100, 100).weight.std().item() == pytest.approx(1, rel=0.1)
    assert nn.Conv2d(1, 1, 3).padding == (0, 0)
    assert torch.from_numpy(np.ones(2)).dtype == torch.float64
    norm = nn.BatchNorm1d(1)
    norm(torch.tensor([[0.0], [2.0]]))
    assert norm.running_mean.item() == pytest.approx(0.1)
    assert norm.running_var.item() == pytest.approx(0.9 * 1 + 0.1 * 2)
    ours, _ = pax.purecall(pax.BatchNorm1D(1), jnp.array([[[0.0]], [[2.0]]]))
    np.testing.assert_allclose([ours.ema_mean.averages.item(), ours.ema_var.averages.item()], [1, 1], rtol=1e-5)
    with pytest.raises(IndexError):
        nn.Embedding(3, 2)(torch.tensor([5]))
    embed = pax.Embed(3, 2)
    np.testing.assert_array_equal(embed(jnp.array([5])), embed.weight[-1:])


@pytest.mark.parametrize("size", [8, 9])
def test_pytorch_padding_is_not_same_with_a_stride(size: int) -> None:
    torch: Any = pytest.importorskip("torch")
    conv = torch.nn.Conv2d(1, 2, 3, stride=2, padding=1)
    image = np.random.default_rng(0).normal(size=(1, size, size, 1)).astype("float32")
    want = conv(torch.from_numpy(image.transpose(0, 3, 1, 2))).detach().numpy().transpose(0, 2, 3, 1)
    same, ones = (
        load_torch_weights(pax.Conv2D(1, 2, 3, 2, padding=padding), conv.state_dict())(image)
        for padding in ("SAME", [(1, 1), (1, 1)])
    )
    np.testing.assert_allclose(ones, want, **_TOLERANCES)
    assert np.allclose(same, want, **_TOLERANCES) == (size == 9)  # alike by chance


# ---- Flax, Equinox, Haiku: the same model -------------------------------------------------------------------------


def _our_numbers(page: Page, net: Any) -> dict[str, Any]:
    """Outputs, loss, gradients and new statistics of the model of the page."""
    x, y = page.ours.x, page.ours.y
    (loss, new), gradients = pax.value_and_grad(page.ours.loss_fn, has_aux=True)(net, x, y)
    return {
        "outputs": net.eval()(x),
        "loss": loss,
        "hidden": gradients.hidden.weight,
        "offset": gradients.norm.offset.ravel(),
        "out": gradients.out.bias,
        "mean": new.norm.ema_mean.averages.ravel(),
        "variance": new.norm.ema_var.averages.ravel(),
    }


def _cross_entropy(logits: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()


def test_flax_nnx_model_with_the_same_weights_computes_the_same(directory: Path) -> None:
    page = _page("flax", directory)
    nnx, x, y = page.theirs.nnx, page.theirs.x, page.theirs.y
    model = page.theirs.Net(nnx.Rngs(0), dropout=0.0)
    model(2 * x + 1)  # statistics other than those of the start
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    net = page.ours.from_flax(page.ours.Net(dropout=0.0), params, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))
    model.eval()
    outputs = model(x)
    model.train()
    loss, gradients = nnx.value_and_grad(lambda model: _cross_entropy(model(x), y))(model)
    gradients = nnx.to_pure_dict(gradients)
    theirs = {
        "outputs": outputs,
        "loss": loss,
        "hidden": gradients["hidden"]["kernel"],
        "offset": gradients["norm"]["bias"],
        "out": gradients["out"]["bias"],
        "mean": model.norm.mean[...],
        "variance": model.norm.var[...],
    }
    _assert_same(_our_numbers(page, net), theirs)


def test_flax_linen_model_with_the_same_weights_computes_the_same(directory: Path) -> None:
    page = _page("flax", directory)
    x, y = page.theirs.x, page.theirs.y
    model = page.theirs.LinenNet(dropout=0.0)
    variables = model.init(jax.random.key(0), x, train=False)
    _, updated = model.apply(variables, 2 * x + 1, train=True, mutable=["batch_stats"])
    params, statistics = variables["params"], updated["batch_stats"]
    net = page.ours.from_flax(page.ours.Net(dropout=0.0), params, statistics)

    def loss_fn(params: Any) -> Any:
        variables = {"params": params, "batch_stats": statistics}
        logits, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return _cross_entropy(logits, y), updated["batch_stats"]["norm"]

    (loss, norm), gradients = jax.value_and_grad(loss_fn, has_aux=True)(params)
    theirs = {
        "outputs": model.apply({"params": params, "batch_stats": statistics}, x, train=False),
        "loss": loss,
        "hidden": gradients["hidden"]["kernel"],
        "offset": gradients["norm"]["bias"],
        "out": gradients["out"]["bias"],
        "mean": norm["mean"],
        "variance": norm["var"],
    }
    _assert_same(_our_numbers(page, net), theirs)


def test_flax_differs_as_the_page_says() -> None:
    nnx: Any = pytest.importorskip("flax.nnx")
    norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
    assert (norm.momentum, norm.epsilon, nnx.LayerNorm(2, rngs=nnx.Rngs(0)).epsilon) == (0.99, 1e-5, 1e-6)
    assert not nnx.Linear(2, 2, rngs=nnx.Rngs(0)).bias[...].any()
    assert nnx.Embed(200, 100, rngs=nnx.Rngs(0)).embedding[...].std() == pytest.approx(0.1, rel=0.1)
    assert nnx.Linear(2, 2, rngs=nnx.Rngs(0)) != nnx.Linear(2, 2, rngs=nnx.Rngs(0))

    class Layers(nnx.Module):  # type: ignore[misc]  # no types where Flax is not installed
        def __init__(self) -> None:
            self.layers = [nnx.Linear(2, 2, rngs=nnx.Rngs(0))]

    with pytest.raises(ValueError, match="static attribute"):
        Layers()


def test_equinox_model_with_the_same_weights_computes_the_same(directory: Path) -> None:
    page = _page("equinox", directory)
    eqx, x, y = page.theirs.eqx, page.theirs.x, page.theirs.y

    def call(model: Any, state: Any, x: Any) -> Any:
        return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

    model, state = eqx.nn.make_with_state(page.theirs.Net)(jax.random.key(0), dropout=0.0)
    for scale in (1, 2, 3):
        _, state = call(model, state, scale * x + 1)  # statistics other than those of the start
    before, count = state.get(model.norm.batch_state_index), state.get(model.norm.batch_counter)
    net = page.ours.Net(dropout=0.0)
    net = page.ours.from_equinox(net, model.hidden, model.norm, model.out, before, count)
    outputs, _ = call(eqx.nn.inference_mode(model), state, x)

    def loss_fn(model: Any) -> Any:
        logits, new_state = call(model, state, x)
        return _cross_entropy(logits, y), new_state

    (loss, state), gradients = eqx.filter_value_and_grad(loss_fn, has_aux=True)(model)
    # Both move by a tenth of the way to the numbers of the batch; Equinox corrects when it evaluates.
    mean, variance = (
        0.9 * old / (1 - 0.9**count) + new - 0.9 * old
        for old, new in zip(before, state.get(model.norm.batch_state_index), strict=True)
    )
    theirs = {
        "outputs": outputs,
        "loss": loss,
        "hidden": gradients.hidden.weight.T,
        "offset": gradients.norm.bias,
        "out": gradients.out.bias,
        "mean": mean,
        "variance": variance,
    }
    _assert_same(_our_numbers(page, net), theirs)


def test_equinox_differs_as_the_page_says() -> None:
    eqx: Any = pytest.importorskip("equinox")
    key = jax.random.key(0)
    conv = eqx.nn.Conv2d(1, 4, 3, key=key)
    image = np.random.default_rng(0).normal(size=(8, 8, 1)).astype("float32")
    weights = {"weight": conv.weight.transpose(2, 3, 1, 0), "bias": conv.bias.reshape(-1)}
    ours = pax.Conv2D(1, 4, 3, padding="VALID").load_state_dict(weights)(image[None])[0]
    np.testing.assert_allclose(ours.transpose(2, 0, 1), conv(image.transpose(2, 0, 1)), **_TOLERANCES)
    assert jnp.abs(eqx.nn.Linear(100, 50, key=key).weight).max() <= 0.1
    assert eqx.nn.Embedding(100, 100, key=key).weight.std() == pytest.approx(1, rel=0.1)
    assert eqx.nn.BatchNorm(2, "batch", mode="batch").momentum == 0.99
    assert eqx.nn.Linear(2, 2, key=key) == eqx.nn.Linear(2, 2, key=key)
    assert pax.Linear(2, 2, rng_key=key) != pax.Linear(2, 2, rng_key=key)
    with pytest.raises(RuntimeError, match="requires a key"):
        eqx.nn.Dropout(0.5)(jnp.ones(2))
    with pytest.raises(TypeError):
        jax.tree.map(jnp.zeros_like, eqx.nn.MLP(2, 2, 2, 1, key=key))


def test_haiku_model_with_the_same_weights_computes_the_same(directory: Path) -> None:
    page = _page("haiku", directory)
    x, y = page.theirs.x, page.theirs.y
    model = page.theirs.hk.transform_with_state(functools.partial(page.theirs.forward, dropout=0.0))
    params, state = model.init(jax.random.key(0), x, True)

    def loss_fn(params: Any) -> Any:
        logits, new_state = model.apply(params, state, None, x, True)
        return _cross_entropy(logits, y), new_state

    (loss, state), gradients = jax.value_and_grad(loss_fn, has_aux=True)(params)  # the first batch
    outputs, _ = model.apply(params, state, None, x, False)
    theirs = {
        "outputs": outputs,
        "loss": loss,
        "hidden": gradients["hidden"]["w"],
        "offset": gradients["norm"]["offset"].ravel(),
        "out": gradients["out"]["b"],
        "mean": state["norm/~/mean_ema"]["average"].ravel(),
        "variance": state["norm/~/var_ema"]["average"].ravel(),
    }
    net = page.ours.from_haiku(page.ours.Net(dropout=0.0), params, state)
    # With the averages of this very batch as a start, they stay what they are.
    _assert_same(_our_numbers(page, net), theirs)


def test_haiku_differs_as_the_page_says() -> None:
    hk: Any = pytest.importorskip("haiku")

    def init(make: Any, *inputs: Any) -> Any:
        return hk.transform_with_state(lambda *inputs: make()(*inputs)).init(jax.random.key(0), *inputs)

    params, _ = init(lambda: hk.Linear(200), jnp.ones((1, 100)))
    assert jnp.abs(params["linear"]["w"]).max() <= 0.2  # cut off at two standard deviations
    assert not params["linear"]["b"].any()
    params, _ = init(lambda: hk.Embed(100, 100), jnp.array([0]))
    assert params["embed"]["embeddings"].std() == pytest.approx(0.88, rel=0.05)
    _, state = init(lambda: lambda x: hk.BatchNorm(True, True, 0.9)(x, True), jnp.ones((4, 2)))
    assert state["batch_norm/~/mean_ema"]["counter"] == 0  # `init` leaves the statistics as they are
