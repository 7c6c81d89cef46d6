"""examples/digits.py: a few steps of it, as a program."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

import pax

SCRIPT = Path(__file__).parents[2] / "examples" / "digits.py"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    spec = spec_from_file_location("digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["digits"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def run(digits: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["digits.py", *map(str, arguments)])
    digits.main()


def test_it_writes_its_results(
    digits: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    run(digits, monkeypatch, "--steps", 3, "--seed", 3, "--out", out)
    assert "Test accuracy: " in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"misclassified.png", "training.png", "weights.npz"}
    for picture in ("misclassified.png", "training.png"):
        assert (out / picture).read_bytes().startswith(PNG)


def test_it_learns_and_saved_weights_give_the_same_predictions(digits: ModuleType, tmp_path: Path) -> None:
    images, test_images, labels, test_labels = digits.load_images(seed=0)
    pax.seed_rng_key(0)
    data = digits.batches(images, labels, seed=0)
    net, history = digits.train(digits.make_network(), data, 30, digits.Console(quiet=True))
    assert len(history.losses) == 30
    assert np.mean(history.losses[-5:]) < 0.7 * np.mean(history.losses[:5])

    digits.save_weights(net, tmp_path / "weights.npz")
    loaded = digits.load_weights(digits.make_network(), tmp_path / "weights.npz")
    jax.tree.map(np.testing.assert_array_equal, loaded, net)
    read = digits.read_digits(loaded, test_images)
    np.testing.assert_array_equal(read, digits.read_digits(net, test_images))
    # Guessing would get 10%.
    assert np.mean(read == test_labels) > 0.5


def test_the_split_is_stratified_and_complete(digits: ModuleType) -> None:
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
            wait_for(lambda: "x => flatten(x)" in log.read_text(), process)
            time.sleep(1)  # into the compilation, or the first steps
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=120) == 0, log.read_text()
        finally:
            process.kill()
    text = log.read_text()
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


def test_help_tells_how_to_use_the_weights(
    digits: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(digits, monkeypatch, "--help")
    text = capsys.readouterr().out
    assert "load_weights(make_network()" in text
    assert all(option in text for option in ("--steps", "--seed", "--out"))


def test_steps_have_to_be_positive(
    digits: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(digits, monkeypatch, "--steps", 0)
    assert "--steps has to be at least 1" in capsys.readouterr().err
