"""The examples that model language: a few steps of each, as a program."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import character_rnn
import jax
import jax.numpy as jnp
import masked_lm
import numpy as np
import pytest
import python_text
import transformer_lm

import pax
from helpers.traces import TraceCounter

PNG = b"\x89PNG\r\n\x1a\n"
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example with options, and returns what it said; its training step is traced once."""

    def run(example: Any, *options: object) -> str:
        step = TraceCounter(example.train_step.__wrapped__)
        with monkeypatch.context() as patches:
            patches.setattr(example, "train_step", step)
            patches.setattr(sys, "argv", ["example", *map(str, options)])
            example.main()
        assert step.traces == 1
        return capsys.readouterr().out

    return run


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes networks and batches small."""
    for example in (character_rnn, masked_lm, transformer_lm):
        monkeypatch.setattr(example, "SIZE", 32)
        monkeypatch.setattr(example, "LENGTH", 24)
        text, test_text = python_text.load_text()
        monkeypatch.setattr(example, "load_text", lambda text=text, test_text=test_text: (text, test_text[:2000]))


def check_results(folder: Path, loss: str, samples: str) -> str:
    """Checks that the loss fell and what was written, and returns the samples."""
    with np.load(folder / "state.npz") as arrays:
        losses = arrays[f"history/{loss}"]
    assert losses[-5:].mean() < 0.9 * losses[:5].mean()
    assert (folder / "training.png").read_bytes().startswith(PNG)
    assert {path.name for path in folder.iterdir()} == {"state.npz", "training.png", samples}
    return (folder / samples).read_text(encoding="utf-8")


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.usefixtures("small")
def test_the_recurrent_network_learns_and_writes(cell: str, run: Run, tmp_path: Path) -> None:
    said = run(character_rnn, "--steps", 30, "--cell", cell, "--prompt", "Any", "--length", 20, "--out", tmp_path)
    assert f"{cell.upper()}(input_dim=32" in said
    assert "bits per letter" in said
    text = check_results(tmp_path, "bits per letter", "samples.txt")
    parts = text.split("---- temperature ")[1:]
    assert [part[:3] for part in parts] == ["0.3", "0.7", "1.0"]
    samples = [part.split(" ----\n", 1)[1] for part in parts]
    assert all(sample.startswith("Any") and len(sample.removesuffix("\n")) in (23, 24) for sample in samples)


@pytest.mark.usefixtures("small")
def test_the_state_of_another_cell_is_refused(run: Run, tmp_path: Path) -> None:
    run(character_rnn, "--steps", 1, "--length", 1, "--out", tmp_path)
    with pytest.raises(SystemExit, match="--fresh"):
        run(character_rnn, "--steps", 2, "--length", 1, "--out", tmp_path, "--cell", "lstm")


@pytest.mark.usefixtures("small")
def test_the_transformer_learns_and_writes(run: Run, tmp_path: Path) -> None:
    options = ("--steps", 30, "--prompt", "Any", "--length", 20, "--temperature", 1.0, "--out", tmp_path)
    said = run(transformer_lm, *options)
    assert "80 letters: " in said
    assert "; 80 of them are equal" in said
    samples = check_results(tmp_path, "bits per letter", "samples.txt").split("\n\n---- another one ----\n\n")
    assert len(samples) == 4
    assert len(set(samples)) > 1
    assert all(sample.startswith("Any") for sample in samples)


@pytest.mark.usefixtures("small")
def test_the_cache_gives_the_scores_of_the_whole_text() -> None:
    pax.seed_rng_key(0)
    net = transformer_lm.LanguageModel().eval()
    letters = jnp.asarray(python_text.load_text()[0][:20].reshape(2, 10))
    want = jax.jit(lambda net, letters: net(letters))(net, letters)
    decoder = pax.nn.init_cache(net, 2, 10)
    step = jax.jit(pax.purecall)
    decoder, first = step(decoder, letters[:, :6])
    got = [first]
    for position in range(6, 10):
        decoder, scores = step(decoder, letters[:, position : position + 1])
        got.append(scores)
    np.testing.assert_allclose(jnp.concatenate(got, axis=1), want, atol=1e-5)


@pytest.mark.usefixtures("small")
def test_missing_letters_are_learnt_and_filled_in(run: Run, tmp_path: Path) -> None:
    said = run(masked_lm, "--steps", 30, "--out", tmp_path)
    assert "of the chosen letters are right" in said
    saw, filled = check_results(tmp_path, "loss", "filled.txt").split("\n\n---- filled in ----\n")
    assert "▁" in saw
    assert "▁" not in filled


def test_a_masked_letter_is_seen_by_nobody() -> None:
    letters = np.tile(python_text.load_text()[0][:100], (100, 1))
    seen, is_chosen = masked_lm.hide(letters, 0, 0)
    np.testing.assert_array_equal(seen[~is_chosen], letters[~is_chosen])
    assert abs(is_chosen.mean() - 0.15) < 0.02
    assert abs((seen[is_chosen] == masked_lm.MASK).mean() - 0.8) < 0.03
    again, _ = masked_lm.hide(letters, 0, 0)
    other, _ = masked_lm.hide(letters, 0, 1)
    np.testing.assert_array_equal(again, seen)
    assert not np.array_equal(other, seen)


def test_only_chosen_letters_make_the_loss() -> None:
    pax.seed_rng_key(0)
    net: Any = lambda seen: jnp.eye(96)[seen]  # noqa: E731  # says that each letter is what it looks like
    letters = jnp.array([[3, 4, 5, 6]])
    seen = jnp.array([[3, 9, 5, 9]])
    loss, right = masked_lm.loss_fn(net, seen, letters, jnp.array([[True, False, False, True]]))
    each = np.log(95 + np.e)
    np.testing.assert_allclose(loss, (each - 1 + each) / 2, rtol=1e-5)
    assert right == 0.5
    loss, right = masked_lm.loss_fn(net, seen, letters, jnp.zeros((1, 4), bool))
    assert float(loss) == float(right) == 0


def test_the_text_comes_back_from_its_numbers() -> None:
    text, test_text = python_text.load_text()
    assert len(text) > 200_000
    assert len(test_text) > 20_000
    assert (text.min(), text.max()) == (0, 95)
    words = python_text.decode(text)
    assert "The simple form" in words
    np.testing.assert_array_equal(python_text.encode(words), text)
    assert python_text.decode(python_text.encode("it\N{RIGHT SINGLE QUOTATION MARK}s\té\n~ ")) == "it's\n~ "
    # Nothing of the test text was to be learnt.
    paragraphs = [part for part in python_text.decode(test_text).split("\n\n")[1:-1] if len(part) > 100]
    assert len(paragraphs) > 50
    assert not any(part in words for part in paragraphs)


def test_windows_are_pieces_of_the_text() -> None:
    text = np.arange(100, dtype=np.int32)
    windows = python_text.random_windows(text, 5, 8, seed=0, step=3)
    assert windows.shape == (5, 8)
    np.testing.assert_array_equal(windows, windows[:, :1] + np.arange(8)[None])
    assert not np.array_equal(windows, python_text.random_windows(text, 5, 8, seed=0, step=4))
    assert python_text.random_windows(text, 1, 100, seed=0, step=0).tolist() == [text.tolist()]
    np.testing.assert_array_equal(python_text.all_windows(text, 30), text[:90].reshape(3, 30))


@pytest.mark.parametrize("example", [character_rnn, masked_lm, transformer_lm])
def test_options_are_explained_and_checked(
    example: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["example", "--help"])
    with pytest.raises(SystemExit, match="0"):
        example.main()
    said = capsys.readouterr().out
    assert all(option in said for option in ("--steps", "--seed", "--out", "--fresh", "Ctrl-C"))
    refused = [("--steps", "0"), ("--steps", "many")]
    if example is not masked_lm:
        refused += [("--length", "0"), ("--prompt", "é")]
    if example is transformer_lm:
        refused += [("--temperature", "0"), ("--temperature", "nan")]
    for option, value in refused:
        monkeypatch.setattr(sys, "argv", ["example", option, value])
        with pytest.raises(SystemExit, match="2"):
            example.main()
        assert option in capsys.readouterr().err
