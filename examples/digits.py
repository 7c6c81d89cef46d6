"""Learn to read handwritten digits: 1,797 images of 8 by 8 pixels, a small convolutional network, about half a minute.

    hatch run demo                          # or: python examples/digits.py
    hatch run demo --steps 200 --seed 1 --out run1

Ctrl-C stops; the same command goes on. The folder gets the curves of the training, the misread images and the weights.

The weights are saved as `weights.npz`, one array for each entry of `net.state_dict()`. To use them again:

    from digits import load_weights, make_network

    net = load_weights(make_network(), "digits-out/weights.npz").eval()
    digits = net(images).argmax(-1)         # images: float32[N, 8, 8, 1], values from 0 to 1
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from training import Run, choose, draw_misread, options_of

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


# ---- training ------------------------------------------------------------------------------------


def train(net: pax.Sequential, images: np.ndarray, labels: np.ndarray, steps: int, seed: int, run: Run) -> Any:
    """Returns the trained network."""
    schedule = opax.schedule.warmup_cosine_decay(3e-3, warmup_steps=steps // 10, steps=steps)
    optimizer = opax.adamw(schedule, weight_decay=1e-2)(net.parameters())

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        chosen = choose(len(images), BATCH_SIZE, seed, number)
        *state, loss, accuracy = train_step(*state, images[chosen], labels[chosen])
        return tuple(state), {"loss": loss, "accuracy": accuracy}

    net, _ = run.train(step, (net, optimizer))
    return net


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


def main() -> None:
    """Trains, tests, and writes the results."""
    options = options_of(__doc__, steps=300, out="digits-out").parse_args()
    run = Run(options)
    pax.seed_rng_key(options.seed)
    images, test_images, labels, test_labels = load_images(options.seed)
    net = make_network()
    run.console.print(net.summary(), highlight=False)

    net = train(net, images, labels, options.steps, options.seed, run)
    read = np.asarray(read_digits(net, test_images))

    run.plot()
    save_weights(net, run.out / "weights.npz")
    draw_misread(test_images, test_labels, read, run.out / "misread.png")
    accuracy = np.mean(read == test_labels)
    run.console.print(f"Test accuracy: [bold]{accuracy:.2%}[/bold] ({len(test_labels)} images)")
    run.console.print(f"Weights and pictures are in {run.out}{'/' if run.out.name else ''}", highlight=False)


if __name__ == "__main__":
    main()
