"""The examples that draw and read digits: a few steps of each, as a program."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dcgan
import jax
import jax.numpy as jnp
import mixed_precision
import numpy as np
import pytest
import vae

import pax
from helpers.traces import TraceCounter

PNG = b"\x89PNG\r\n\x1a\n"
Run = Callable[..., str]


def counted(monkeypatch: pytest.MonkeyPatch, example: Any) -> TraceCounter:
    """Counts how often the training step of an example is traced."""
    step = TraceCounter(example.train_step.__wrapped__)
    monkeypatch.setattr(example, "train_step", step)
    return step


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example with options, and returns what it said."""

    def run(example: Any, *options: object) -> str:
        monkeypatch.setattr(sys, "argv", ["example", *map(str, options)])
        example.main()
        return capsys.readouterr().out

    return run


def pictures(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.read_bytes().startswith(PNG)}


def history(folder: Path, name: str) -> Any:
    with np.load(folder / "state.npz") as arrays:
        return arrays[f"history/{name}"]


def test_the_autoencoder_learns_and_draws(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = counted(monkeypatch, vae)
    said = run(vae, "--steps", 40, "--out", tmp_path)
    bits = history(tmp_path, "bits per image")
    assert bits[-5:].mean() < 0.85 * bits[:5].mean()
    assert pictures(tmp_path) == {"training.png", "reconstructions.png", "samples.png", "map.png"}
    assert "Test: " in said
    assert step.traces == 1


def test_the_autoencoder_goes_on_where_it_was_stopped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the second of four steps; afterwards all arrays are those of a run in one go, to the last bit."""
    for name in ("draw_reconstructions", "draw_map", "draw_images"):
        monkeypatch.setattr(vae, name, lambda *arguments: None)
    train_step, calls = vae.train_step, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            signal.raise_signal(signal.SIGINT)
        return train_step(*arguments)

    run(vae, "--steps", 4, "--out", tmp_path / "whole")
    monkeypatch.setattr(vae, "train_step", interrupted)
    said = run(vae, "--steps", 4, "--out", tmp_path / "parts")
    assert "Stopped after 2 steps." in said
    said = run(vae, "--steps", 4, "--out", tmp_path / "parts")
    assert "Going on after step 2" in said
    assert calls == 4
    with np.load(tmp_path / "whole/state.npz") as whole, np.load(tmp_path / "parts/state.npz") as parts:
        assert set(whole) == set(parts)
        assert any("rng_seq" in name for name in whole)
        for name in whole:
            np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    said = run(vae, "--steps", 4, "--out", tmp_path / "parts", "--fresh")
    assert "Going on" not in said
    assert calls == 8


def test_the_loss_of_the_autoencoder_is_that_of_a_distribution() -> None:
    """The probabilities of all numbers of dots sum up to 1, and the divergence of a standard normal is 0."""
    dots = jnp.broadcast_to(jnp.arange(17.0)[:, None, None], (17, 1, 1))
    bits = vae.bits_of_images(jnp.full((17, 1, 1), 0.7), dots)
    np.testing.assert_allclose(np.sum(2.0 ** -np.asarray(bits)), 1, rtol=1e-5)
    np.testing.assert_allclose(vae.bits_of_points(jnp.zeros((3, 2)), jnp.zeros((3, 2))), 0)
    # Of a normal with mean 1 and deviation e: (e² + 1 - 1) / 2 - 1 nats.
    got = vae.bits_of_points(jnp.ones((1, 1)), jnp.ones((1, 1)))
    np.testing.assert_allclose(got, (np.e**2 / 2 - 1) / np.log(2), rtol=1e-5)


def test_the_adversaries_learn_and_draw(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = counted(monkeypatch, dcgan)
    said = run(dcgan, "--steps", 8, "--out", tmp_path)
    loss = history(tmp_path, "of discriminator")
    assert loss.min() < loss[0] - 0.08  # for a while: then the generator answers
    assert history(tmp_path, "told apart").max() > 0.58
    assert pictures(tmp_path) == {"training.png", "drawings.png", "ways.png"}
    assert "Of 1000 drawings were read: " in said
    assert step.traces == 1


def test_each_adversary_is_changed_by_its_own_loss_only() -> None:
    pax.seed_rng_key(0)
    generator, discriminator = dcgan.make_generator(), dcgan.make_discriminator()
    noise = jax.random.normal(jax.random.key(0), (4, dcgan.NOISE_SIZE))
    grads, new = pax.grad(dcgan.generator_loss, has_aux=True)(generator, discriminator, noise)
    assert type(grads) is type(generator)
    assert len(jax.tree.leaves(grads)) == len(jax.tree.leaves(generator.parameters()))
    assert not np.array_equal(new[2].ema_mean.averages, generator[2].ema_mean.averages)
    images = dcgan.draw(generator, noise)
    assert images.shape == (4, 8, 8)
    assert bool(((images >= 0) & (images <= 1)).all())


def test_half_precision_learns_and_draws(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = counted(monkeypatch, mixed_precision)
    said = run(mixed_precision, "--steps", 12, "--out", tmp_path)
    loss = history(tmp_path / "float16", "loss")
    assert loss[-3:].mean() < 0.7 * loss[:3].mean()
    np.testing.assert_allclose(history(tmp_path / "float16", "scale (log2)"), 15, atol=1e-5)
    assert pictures(tmp_path / "float16") == {"training.png", "misread.png"}
    assert "float16: test accuracy " in said
    assert step.traces == 1


@pytest.mark.parametrize("example", [dcgan, mixed_precision, vae])
def test_options_are_explained_and_checked(example: Any, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(example, "--help")
    said = capsys.readouterr().out
    assert all(option in said for option in ("--steps", "--seed", "--out", "--fresh", "Ctrl-C"))
    with pytest.raises(SystemExit, match="2"):
        run(example, "--steps", 0)
    assert "has to be at least 1" in capsys.readouterr().err
