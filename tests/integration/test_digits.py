"""examples/digits.py: a few steps of it, as a program."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import digits
import jax
import numpy as np
import pytest

import pax

SCRIPT = Path(digits.__file__)
PNG = b"\x89PNG\r\n\x1a\n"
FILES = {"misread.png", "state.npz", "training.png", "weights.npz"}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["digits.py", *map(str, arguments)])
    digits.main()


def test_it_learns_and_saved_weights_give_the_same_predictions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--steps", 30, "--seed", 3, "--out", tmp_path)
    said = capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == FILES
    for picture in ("misread.png", "training.png"):
        assert (tmp_path / picture).read_bytes().startswith(PNG)
    with np.load(tmp_path / "state.npz") as arrays:
        losses = arrays["history/loss"]
        trained = arrays["state[0].modules[0].weight"]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])

    _, images, _, labels = digits.load_images(seed=3)
    net = digits.load_weights(digits.make_network(), tmp_path / "weights.npz")
    np.testing.assert_array_equal(net[0].weight, trained)
    accuracy = np.mean(digits.read_digits(net, images) == labels)
    assert accuracy > 0.5  # guessing would get 10%
    assert f"Test accuracy: {accuracy:.2%}" in said


def test_all_arrays_are_saved(tmp_path: Path) -> None:
    pax.seed_rng_key(0)
    net = digits.make_network()
    digits.save_weights(net, tmp_path / "weights.npz")
    loaded = digits.load_weights(digits.make_network(), tmp_path / "weights.npz")
    jax.tree.map(np.testing.assert_array_equal, loaded, net)


def test_the_split_is_stratified_and_complete() -> None:
    images, test_images, labels, test_labels = digits.load_images(seed=0)
    assert (len(images), len(test_images)) == (1437, 360)
    assert images.shape[1:] == (8, 8, 1)
    assert (images.min(), images.max()) == (0, 1)
    shares = np.bincount(labels) / len(labels) - np.bincount(test_labels) / len(test_labels)
    assert np.abs(shares).max() < 0.005


@pytest.mark.skipif(sys.platform == "win32", reason="a process gets no SIGINT there")
def test_ctrl_c_saves_what_was_learnt(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, str(SCRIPT), "--steps", "1000000", "--out", str(tmp_path / "run")]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TERM": "dumb", "COLUMNS": "120"},
        )
        try:
            wait_for((tmp_path / "run" / "state.npz").exists, process)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=120) == 0, log.read_text()
        finally:
            process.kill()
    text = log.read_text()
    assert "x => flatten(x)" in text
    assert "Stopped after " in text
    assert "Test accuracy: " in text
    assert "Traceback" not in text
    with np.load(tmp_path / "run" / "weights.npz") as arrays:
        assert arrays["modules.0.weight"].shape == (3, 3, 1, 16)


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the program ended early"
        assert time.monotonic() < deadline, "the program did not start"
        time.sleep(0.1)


def test_help_tells_how_to_use_the_weights(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(monkeypatch, "--help")
    text = capsys.readouterr().out
    assert "load_weights(make_network()" in text
    assert all(option in text for option in ("--steps", "--seed", "--out"))


def test_steps_have_to_be_positive(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--steps", 0)
    assert "has to be at least 1" in capsys.readouterr().err
