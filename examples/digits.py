"""Learn to read handwritten digits: 1,797 images of 8 by 8 pixels, a small convolutional network, about half a minute.

    hatch run demo                          # or: python examples/digits.py
    hatch run demo --steps 200 --seed 1 --out run1

Ctrl-C ends the training early; what was learnt until then is tested and saved.

The weights are saved as `weights.npz`, one array for each entry of `net.state_dict()`. To use them again:

    from digits import load_weights, make_network

    net = load_weights(make_network(), "digits-out/weights.npz").eval()
    digits = net(images).argmax(-1)         # images: float32[N, 8, 8, 1], values from 0 to 1
"""

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import opax
import pax

BATCH_SIZE = 128


# ---- the network ---------------------------------------------------------------------------------


def halve(images: jax.Array) -> jax.Array:
    """Takes the maximum of each 2 by 2 pixels."""
    return pax.max_pool(images, (2, 2, 1), (2, 2, 1), "VALID")


def flatten(images: jax.Array) -> jax.Array:
    """Makes one vector of each image."""
    return images.reshape(len(images), -1)


def make_network() -> pax.Sequential:
    """Returns a network, not trained yet: from images `[N, 8, 8, 1]` to the scores of ten digits `[N, 10]`."""
    return pax.Sequential(
        pax.Conv2D(1, 16, kernel_shape=3, with_bias=False),
        pax.BatchNorm2D(16),
        jax.nn.relu,
        pax.Conv2D(16, 32, kernel_shape=3, with_bias=False),
        pax.BatchNorm2D(32),
        jax.nn.relu,
        halve,
        pax.Conv2D(32, 64, kernel_shape=3, with_bias=False),
        pax.BatchNorm2D(64),
        jax.nn.relu,
        flatten,
        pax.Dropout(0.5),
        pax.Linear(4 * 4 * 64, 10),
    )


# ---- one step of training ------------------------------------------------------------------------


def loss_fn(net: pax.Sequential, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
    """Returns the loss, and as extras the network with its new batch statistics, and the accuracy."""
    net, scores = pax.purecall(net, images)
    # Smooth labels keep the network from being too sure of itself. They leave a loss of 0.5 when all is learnt.
    targets = optax.smooth_labels(jax.nn.one_hot(labels, 10), alpha=0.1)
    loss = optax.softmax_cross_entropy(scores, targets).mean()
    accuracy = jnp.mean(scores.argmax(-1) == labels)
    return loss, (net, accuracy)


@jax.jit
def train_step(net: pax.Sequential, optimizer: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, ...]:
    """Returns the network and the optimizer after one step, the loss and the accuracy."""
    (loss, (net, accuracy)), grads = pax.value_and_grad(loss_fn, has_aux=True)(net, images, labels)
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, loss, accuracy


@jax.jit
def read_digits(net: pax.Sequential, images: jax.Array) -> jax.Array:
    """Returns the digit with the highest score for each image."""
    scores: jax.Array = net.eval()(images)
    return scores.argmax(-1)


# ---- data ----------------------------------------------------------------------------------------


def load_images(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns images for training and for testing (one fifth), then the labels of both."""
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    split = train_test_split(images, digits.target, test_size=0.2, stratify=digits.target, random_state=seed)
    return tuple(split)


def batches(images: np.ndarray, labels: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches without end: all images in a random order, then all of them in another one."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            yield images[chosen], labels[chosen]


# ---- training ------------------------------------------------------------------------------------


@dataclass
class History:
    """Loss and accuracy of each step."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    def add(self, loss: jax.Array, accuracy: jax.Array) -> None:
        """Adds those of one step."""
        self.losses.append(float(loss))
        self.accuracies.append(float(accuracy))

    def recent(self) -> tuple[float, float]:
        """Returns the means of the last 20 steps."""
        return float(np.mean(self.losses[-20:])), float(np.mean(self.accuracies[-20:]))


@contextmanager
def stop_on_interrupt() -> Iterator[list[int]]:
    """Yields a list that gets an entry on Ctrl-C, instead of a `KeyboardInterrupt`; a second one ends the program."""
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGINT, before)


def train(net: pax.Sequential, data: Iterator[Any], steps: int, console: Console) -> tuple[pax.Sequential, History]:
    """Returns the trained network and the history of its training."""
    columns = (
        TextColumn("training"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[live]}"),
        TimeRemainingColumn(),
    )
    history = History()
    with stop_on_interrupt() as interrupts, Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=steps, live="compiling …")
        schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, warmup_steps=steps // 10, decay_steps=steps)
        optimizer = opax.adamw(schedule, weight_decay=1e-2)(net.parameters())
        for images, labels in data:
            if interrupts or len(history.losses) == steps:
                break
            net, optimizer, loss, accuracy = train_step(net, optimizer, images, labels)
            history.add(loss, accuracy)
            recent_loss, recent_accuracy = history.recent()
            progress.update(task, advance=1, live=f"loss {recent_loss:.3f}  accuracy {recent_accuracy:6.1%}")
    if interrupts:
        console.print(f"Stopped after {len(history.losses)} steps.")
    return net, history


# ---- results -------------------------------------------------------------------------------------


def weight_names(state: dict[str, Any]) -> list[str]:
    """Returns the name of each array of a state dictionary, for example `modules.0.weight`."""
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(state)]


def save_weights(net: pax.Sequential, path: Path) -> None:
    """Writes all arrays of a network, trained or counted, into one file."""
    state = net.state_dict()
    np.savez(path, **dict(zip(weight_names(state), jax.tree.leaves(state), strict=True)))


def load_weights(net: pax.Sequential, path: str | Path) -> pax.Sequential:
    """Returns the network with the arrays of a file that `save_weights` wrote."""
    state = net.state_dict()
    with np.load(path) as arrays:
        loaded = [arrays[name] for name in weight_names(state)]
    return net.load_state_dict(jax.tree.unflatten(jax.tree.structure(state), loaded))


def plot_training(history: History, test_accuracy: float, path: Path) -> None:
    """Draws loss and accuracy over the steps."""
    steps = np.arange(1, len(history.losses) + 1)
    window = max(1, min(25, len(steps) // 20))
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, values, color in zip(axes, (history.losses, history.accuracies), ("tab:red", "tab:blue"), strict=True):
        axis.plot(steps, values, color=color, alpha=0.25, linewidth=1, label="each batch")
        smooth = np.convolve(values, np.ones(window) / window, "valid")
        middle = np.convolve(steps, np.ones(window) / window, "valid")
        axis.plot(middle, smooth, color=color, linewidth=2, label=f"mean of {window} batches")
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set(title="training loss", ylim=(0, None))
    axes[1].set(title="training accuracy")
    axes[1].yaxis.set_major_formatter("{x:.0%}")
    axes[1].axhline(test_accuracy, color="black", linestyle="--", linewidth=1, label=f"test: {test_accuracy:.1%}")
    for axis in axes:
        axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def plot_misclassified(images: np.ndarray, labels: np.ndarray, read: np.ndarray, path: Path, limit: int = 40) -> None:
    """Draws the test images that the network read wrongly, with the true digit and what it read."""
    wrong = np.flatnonzero(labels != read)
    shown = wrong[:limit]
    columns = min(8, max(3, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns)
    for axis in axes.flat:
        axis.axis("off")
    for axis, index in zip(axes.flat, shown, strict=False):
        axis.axis("on")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("lightgray")
        axis.imshow(images[index, :, :, 0], cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(f"{labels[index]}, read as {read[index]}", fontsize=10)
    more = f"; the first {limit}" if len(wrong) > limit else ""
    figure.suptitle(f"{len(wrong)} of {len(labels)} test images misread{more}", fontsize=12)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Trains, tests, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help=f"steps of {BATCH_SIZE} images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, split and order (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("digits-out"), help="folder of the results (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.steps < 1:
        parser.error("--steps has to be at least 1")

    console = Console()
    pax.seed_rng_key(options.seed)
    train_images, test_images, train_labels, test_labels = load_images(options.seed)
    net = make_network()
    console.print(net.summary(), highlight=False)

    data = batches(train_images, train_labels, options.seed)
    net, history = train(net, data, options.steps, console)
    read = np.asarray(read_digits(net, test_images))
    accuracy = float(np.mean(read == test_labels))

    options.out.mkdir(parents=True, exist_ok=True)
    save_weights(net, options.out / "weights.npz")
    if history.losses:
        plot_training(history, accuracy, options.out / "training.png")
    plot_misclassified(test_images, test_labels, read, options.out / "misclassified.png")
    console.print(f"Test accuracy: [bold]{accuracy:.2%}[/bold] ({len(test_labels)} images)")
    console.print(f"Weights and pictures are in {options.out}{'/' if options.out.name else ''}", highlight=False)


if __name__ == "__main__":
    main()
