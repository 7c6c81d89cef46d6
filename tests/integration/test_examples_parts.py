"""A few steps of the examples about diffusion, parts of models, graphs, lazy modules, privacy, and ensembles."""

import math
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusion
import ensemble
import finetune_resnet
import graph_resnet
import jax
import jax.numpy as jnp
import lazy_model
import numpy as np
import private_gradients
import pytest

import pax
from pax.experimental.graph import build_graph_module

PNG = b"\x89PNG\r\n\x1a\n"


def run(monkeypatch: pytest.MonkeyPatch, example: ModuleType, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [f"{example.__name__}.py", *map(str, arguments)])
    example.main()


def saved(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "state.npz") as file:
        return dict(file)


def losses(folder: Path) -> np.ndarray:
    return saved(folder)["history/loss"]


def assert_pictures(folder: Path, *names: str) -> None:
    for name in names:
        assert (folder / name).read_bytes().startswith(PNG)


# ---- diffusion ------------------------------------------------------------------------------------------------------


def test_diffusion_learns_to_tell_noise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, diffusion, "--steps", 12, "--samples", 1, "--out", tmp_path)
    found = losses(tmp_path)
    assert len(found) == 12
    assert found[-3:].mean() < 0.95 * found[0]
    assert_pictures(tmp_path, "samples.png", "path.png", "training.png")
    assert "of 10 samples are read as the digit asked for" in capsys.readouterr().out


class _Knows(pax.Module):
    """A denoiser that knows the image."""

    def __init__(self, image: jax.Array) -> None:
        super().__init__()
        self.image = image

    def __call__(self, noisy: jax.Array, levels: jax.Array, digits: jax.Array) -> jax.Array:
        share = jnp.asarray(diffusion.SHARES)[levels][:, None, None, None]
        return (noisy - jnp.sqrt(share) * self.image) / jnp.sqrt(1 - share)


def test_diffusion_samples_the_image_that_the_denoiser_knows(key: jax.Array) -> None:
    image = jax.random.uniform(key, (2, 8, 8, 1), minval=-1)
    denoiser: Any = _Knows(image)
    samples, path = diffusion.sample(denoiser, jnp.zeros(2, int), key)
    np.testing.assert_allclose(samples, image, atol=1e-3)
    assert path.shape == (diffusion.LEVELS, 2, 8, 8, 1)
    # What it starts from is noise, and every level has the variance that training shows the network.
    middle = diffusion.LEVELS // 2
    share = diffusion.SHARES[diffusion.LEVELS - middle]
    noise = (path[middle] - np.sqrt(share) * image) / np.sqrt(1 - share)
    assert 0.8 < noise.std() < 1.2


# ---- fine-tuning ----------------------------------------------------------------------------------------------------


def test_fine_tuning_leaves_the_first_layers_as_they_were(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_network = finetune_resnet.make_network

    def with_fewer_blocks() -> Any:
        net = make_network()
        return net.replace(block_groups=[group.replace(blocks=group.blocks[:1]) for group in net.block_groups])

    monkeypatch.setattr(finetune_resnet, "make_network", with_fewer_blocks)  # compiles in half the time
    run(monkeypatch, finetune_resnet, "--pretraining-steps", 4, "--steps", 4, "--images", 2, "--out", tmp_path)
    before, after = saved(tmp_path / "pretrained"), saved(tmp_path / "finetuned")
    network = [name for name in before if name.startswith("state[0]") and not name.endswith("debias")]  # a flag
    frozen = [name for name in network if "initial" in name or "block_groups[0]" in name]
    assert len(frozen) > 10
    for name in network:
        unchanged = np.array_equal(before[name], after[name])
        assert unchanged == (name in frozen), name
    for part in ("pretrained", "finetuned", "scratch"):
        assert_pictures(tmp_path / part, "training.png")
        assert losses(tmp_path / part)[-1] < losses(tmp_path / part)[0]
    assert_pictures(tmp_path, "comparison.png")
    match = re.search(r"Trained parameters in fine-tuning: ([0-9,]+) of ([0-9,]+)", capsys.readouterr().out)
    assert match is not None
    trained, everything = (int(number.replace(",", "")) for number in match.groups())
    # The first convolution, its norm, and two convolutions and norms of the first block.
    assert everything - trained == 64 * (9 + 2) + 2 * 64 * (9 * 64 + 2)
    shutil.rmtree(tmp_path)  # some 30 MB


# ---- graphs and lazy modules ----------------------------------------------------------------------------------------


def test_the_graph_trains_and_is_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, graph_resnet, "--steps", 4, "--out", tmp_path)
    found = losses(tmp_path)
    assert found[-1] < 0.9 * found[0]
    assert_pictures(tmp_path, "training.png", "features.png")
    mermaid = (tmp_path / "graph.mmd").read_text(encoding="utf-8")
    assert mermaid.startswith("flowchart TD")
    assert mermaid.count("shortcut") == 2
    assert (tmp_path / "graph.dot").read_text(encoding="utf-8").startswith("digraph {")
    text = capsys.readouterr().out
    assert "graph(images: float32[128,8,8,1]):" in text
    assert "Test accuracy: " in text


def test_graphs_that_are_built_alike_have_one_structure() -> None:
    images = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    build = build_graph_module(graph_resnet.residual_network)
    nets: list[Any] = [jax.eval_shape(lambda: build(images)) for _ in range(2)]  # draws no weights
    structures: list[Any] = [jax.tree.structure(net) for net in nets]
    assert structures[0] == structures[1]


def test_the_lazy_model_reads_sequences(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, lazy_model, "--steps", 4, "--data", "sequences", "--out", tmp_path)
    found = losses(tmp_path)
    assert found[-1] < 0.9 * found[0]
    assert_pictures(tmp_path, "training.png", "misread.png")
    text = capsys.readouterr().out
    before, after = text.split("After a look at the shape of the inputs:")
    assert "Conv1D" not in before
    assert "Conv1D(in_features=1, out_features=32" in after
    assert "Test accuracy on sequences: " in after


@pytest.mark.parametrize(("shape", "flat"), [((1, 8, 8, 3), 4 * 4 * 8), ((1, 20, 2), 10 * 8)])
def test_the_lazy_model_fits_any_shape(shape: tuple[int, ...], flat: int) -> None:
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    net = jax.eval_shape(lambda: lazy_model.Classifier([8], num_classes=5).init(images))
    assert net.conv0.in_features == shape[-1]
    assert (net.head.in_dim, net.head.out_dim) == (flat, 5)


# ---- privacy --------------------------------------------------------------------------------------------------------


def test_private_training_compares_noises(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, private_gradients, "--steps", 12, "--noise", 0, 1, "--out", tmp_path)
    without, noisy = losses(tmp_path / "noise-0"), losses(tmp_path / "noise-1")
    assert without[-1] < without[0]
    assert without[0] == noisy[0]  # the same weights, the same images
    assert without[-1] != noisy[-1]
    assert_pictures(tmp_path, "privacy.png")
    text = capsys.readouterr().out
    assert "noise 0: ε = inf" in text
    assert "noise 1: ε = " in text


def test_epsilon_is_that_of_the_literature() -> None:
    """Abadi et al., 2016, section 3.2: 1.26 for 10,000 steps with 1 % of the examples and a noise of 4."""
    assert private_gradients.epsilon(4.0, 0.01, 10_000, delta=1e-5) == pytest.approx(1.26, abs=0.03)
    assert private_gradients.epsilon(0.5, 0.1, 300) > private_gradients.epsilon(1.0, 0.1, 300)
    assert math.isinf(private_gradients.epsilon(0.0, 0.1, 300))


def test_private_batches_hold_each_image_by_itself() -> None:
    numbers = []
    for step in range(200):
        chosen, present = private_gradients.draw_batch(1437, 0, step)
        numbers.append(present.sum())
        counted = chosen[present == 1]
        assert len(set(counted)) == len(counted)
    # A binomial distribution.
    assert np.mean(numbers) == pytest.approx(private_gradients.EXPECTED, abs=3)
    assert np.std(numbers) == pytest.approx(math.sqrt(128 * (1 - 128 / 1437)), rel=0.2)


def test_gradients_of_single_images_are_those_of_the_batch(key: jax.Array) -> None:
    pax.seed_rng_key(0)
    net = private_gradients.make_network()
    images, labels = jax.random.uniform(key, (4, 8, 8, 1)), jnp.arange(4)
    present = jnp.array([1.0, 1.0, 0.0, 1.0])
    _, grads = private_gradients.per_image_grads(net, images, labels, present)
    assert all((leaf[2] == 0).all() for leaf in jax.tree.leaves(grads.parameters()))

    def total(net: Any) -> jax.Array:
        losses = [private_gradients.loss_fn(net, *place) for place in zip(images, labels, present, strict=True)]
        return sum(losses, jnp.zeros(()))

    expected = pax.grad(total)(net)
    jax.tree.map(
        lambda one, all_: np.testing.assert_allclose(one.sum(0), all_, atol=1e-5),
        grads.parameters(),
        expected.parameters(),
    )


# ---- ensembles ------------------------------------------------------------------------------------------------------


def test_the_ensemble_goes_on_exactly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, ensemble, "--steps", 6, "--members", 3, "--out", tmp_path / "whole")
    found = losses(tmp_path / "whole")
    assert found[-1] < found[0]
    assert_pictures(tmp_path / "whole", "training.png", "uncertainty.png")
    assert "Entropy of shuffled pixels: " in capsys.readouterr().out

    monkeypatch.setattr(ensemble, "plot", lambda *_: None)
    for steps in (2, 6):
        run(monkeypatch, ensemble, "--steps", steps, "--members", 3, "--out", tmp_path / "parts")
    assert "Going on after step 2" in capsys.readouterr().out
    whole, parts = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(parts[name], array, err_msg=name)


def test_members_of_the_ensemble_learn_as_they_would_alone(key: jax.Array) -> None:
    keys = jax.random.split(key, 2)
    images, labels = jax.random.uniform(key, (2, 5, 8, 8, 1)), jnp.zeros((2, 5), int)
    nets = ensemble.make_networks(keys)
    nets, _, losses = ensemble.train_steps(nets, ensemble.make_optimizers(nets), images, labels)
    alone = ensemble.make_network(keys[1])
    alone, _, loss = ensemble.train_step(alone, ensemble.make_optimizer(alone), images[1], labels[1])
    np.testing.assert_allclose(losses[1], loss, rtol=1e-5)
    jax.tree.map(lambda many, one: np.testing.assert_allclose(many[1], one, atol=1e-4), nets, alone)


# ---- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "arguments", "message"),
    [
        (diffusion, ("--samples", 0), "--samples has to be at least 1"),
        (ensemble, ("--members", 1), "--members has to be at least 2"),
        (finetune_resnet, ("--images", 0), "--pretraining-steps and --images have to be at least 1"),
        (graph_resnet, ("--steps", 0), "has to be at least 1"),
        (lazy_model, ("--data", "words"), "invalid choice"),
        (private_gradients, ("--noise", 1, -1), "--noise has to be at least 0"),
    ],
)
def test_options_are_checked(
    example: ModuleType,
    arguments: tuple[object, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, example, *arguments, "--out", tmp_path / "run")
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
